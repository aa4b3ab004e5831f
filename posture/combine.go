package posture

import (
	"maps"
	"slices"
	"time"

	"holdfast/measure"
)

// Combine makes a device's posture of what each source says: one row for every
// measure, in the catalogue's order. Where sources differ the row that counts is
//
//  1. a fail rather than a pass, and a pass rather than an unknown: whoever saw
//     it broken is believed, whoever saw nothing is not;
//  2. then the one with the better grade;
//  3. then the newer one; and at last the one whose source's name sorts first,
//     so that the same evidence always gives the same posture.
//
// A pass or fail without a grade is no evidence and counts as unknown. Unknown
// rows have grade none, the zero time, and a reason that says why. Rows of
// measures that are not in the catalogue are dropped.
func Combine(bySource map[Source][]measure.Row) []measure.Row {
	ids := measure.IDs()
	rows, judged := make([]measure.Row, len(ids)), make([]bool, len(ids))
	for _, s := range slices.Sorted(maps.Keys(bySource)) {
		for _, r := range bySource[s] {
			i := slices.Index(ids, r.Measure) // there are few
			if i < 0 {
				continue
			}
			if r = normal(r); !judged[i] || beats(r, rows[i]) {
				rows[i], judged[i] = r, true
			}
		}
	}
	for i, id := range ids {
		if !judged[i] {
			rows[i] = measure.Row{Measure: id, Verdict: measure.Unknown, Grade: measure.None, Reason: missing[id]}
		}
	}
	return rows
}

// AsOf returns rows for whoever looks at now: a row that rests on no evidence
// gets that time, up to which nothing proves it.
func AsOf(rows []measure.Row, now time.Time) []measure.Row {
	rows = slices.Clone(rows)
	for i := range rows {
		if rows[i].Time.IsZero() {
			rows[i].Time = now.UTC()
		}
	}
	return rows
}

// normal gives a row the form that rows without evidence have.
func normal(r measure.Row) measure.Row {
	if judged := r.Verdict == measure.Pass || r.Verdict == measure.Fail; judged && r.Grade.Meets(measure.Claimed) {
		r.Time = r.Time.UTC()
		return r
	}
	r.Verdict, r.Grade, r.Time = measure.Unknown, measure.None, time.Time{}
	if r.Reason == "" {
		r.Reason = missing[r.Measure]
	}
	return r
}

// beats reports whether a counts rather than b, by the order of Combine.
func beats(a, b measure.Row) bool {
	if x, y := rank(a.Verdict), rank(b.Verdict); x != y {
		return x > y
	}
	if a.Grade != b.Grade {
		return a.Grade.Meets(b.Grade)
	}
	return a.Time.After(b.Time)
}

func rank(v measure.Verdict) int {
	return slices.Index([]measure.Verdict{measure.Unknown, measure.Pass, measure.Fail}, v)
}

// Change is a measure whose verdict or grade is no longer what it was.
type Change struct {
	Measure measure.ID      `json:"measure"`
	From    measure.Verdict `json:"from"`
	To      measure.Verdict `json:"to"`
	Was     measure.Grade   `json:"was"` // grade of From
	Grade   measure.Grade   `json:"grade"`
	Reason  string          `json:"reason"`
}

// Changed says which verdicts and grades differ between two postures, in the
// order of after. A measure that before lacks was unknown.
func Changed(before, after []measure.Row) []Change {
	was := make(map[measure.ID]measure.Row, len(before))
	for _, r := range before {
		was[r.Measure] = r
	}
	var cs []Change
	for _, r := range after {
		old, ok := was[r.Measure]
		if !ok {
			old = measure.Row{Verdict: measure.Unknown, Grade: measure.None}
		}
		if r.Verdict != old.Verdict || r.Grade != old.Grade {
			cs = append(cs, Change{r.Measure, old.Verdict, r.Verdict, old.Grade, r.Grade, r.Reason})
		}
	}
	return cs
}
