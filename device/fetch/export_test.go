package fetch

// ContentRange is contentRange, for its fuzz target.
var ContentRange = contentRange
