package console

import (
	"time"

	"holdfast/operator"
)

// timeline draws certificates over time, in hundredths of its width.
type timeline struct {
	Rows       []timelineRow
	Height     int
	Now        float64
	Start, End time.Time
}

// timelineRow is one certificate.
type timelineRow struct {
	operator.Issued
	X, W float64
	Y    int
}

// maxTimeline is how many certificates are drawn, the newest.
const maxTimeline = 12

// rowHeight is that of a certificate, in pixels.
const rowHeight = 14

// newTimeline draws operational certificates: birth certificates outlive every
// scale.
func newTimeline(all []operator.Issued, now time.Time) timeline {
	var t timeline
	for _, c := range all {
		if c.Class != "birth" && len(t.Rows) < maxTimeline {
			t.Rows = append(t.Rows, timelineRow{Issued: c, Y: rowHeight*len(t.Rows) + 5})
		}
	}
	if len(t.Rows) == 0 {
		return t
	}
	t.Start, t.End = now, now
	for _, r := range t.Rows {
		if r.NotBefore.Before(t.Start) {
			t.Start = r.NotBefore
		}
		if r.NotAfter.After(t.End) {
			t.End = r.NotAfter
		}
	}
	whole := float64(max(t.End.Sub(t.Start), time.Second))
	at := func(when time.Time) float64 { return 100 * float64(when.Sub(t.Start)) / whole }
	for i := range t.Rows {
		r := &t.Rows[i]
		r.X, r.W = at(r.NotBefore), max(0.5, at(r.NotAfter)-at(r.NotBefore))
	}
	t.Now, t.Height = at(now), rowHeight*len(t.Rows)+4
	return t
}

// State says in a word what a certificate is good for.
func (r timelineRow) State() string { return stateOf(r.Issued) }

func stateOf(c operator.Issued) string {
	switch {
	case !c.Revoked.IsZero():
		return "revoked"
	case time.Now().After(c.NotAfter):
		return "expired"
	}
	return "valid"
}
