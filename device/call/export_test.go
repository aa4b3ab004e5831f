package call

// ParseCerts is parseCerts, for its fuzz target.
var ParseCerts = parseCerts
