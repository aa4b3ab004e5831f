package update

import (
	"slices"
	"time"

	"holdfast/release"
)

// open reports whether a trial may start now. A window that cannot be read is
// never open; without a trusted clock none is.
func open(windows []release.Window, now time.Time) bool {
	return len(windows) == 0 || !now.IsZero() && slices.ContainsFunc(windows, func(w release.Window) bool { return within(w, now) })
}

func within(w release.Window, now time.Time) bool {
	from, err := time.Parse("15:04", w.From)
	to, err2 := time.Parse("15:04", w.To)
	if err != nil || err2 != nil {
		return false
	}
	day := now.UTC().Hour()*60 + now.UTC().Minute()
	begin, end := from.Hour()*60+from.Minute(), to.Hour()*60+to.Minute()
	if begin < end {
		return begin <= day && day < end
	}
	return day >= begin || day < end
}
