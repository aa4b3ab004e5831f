package posture_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/measure"
	"holdfast/posture"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func row(v measure.Verdict, g measure.Grade, age time.Duration, reason string) measure.Row {
	return measure.Row{Measure: measure.AppDebug, Verdict: v, Grade: g, Reason: reason, Time: now.Add(-age)}
}

func TestCombineChoosesTheRowThatCounts(t *testing.T) {
	type by = map[posture.Source][]measure.Row
	tests := []struct {
		name string
		in   by
		want string // the reason of the row that counts
	}{
		{"nothing at all", by{}, "nothing attests that its debug access is locked"},
		{"an empty reason", by{"a": {row(measure.Unknown, measure.None, 0, "")}}, "nothing attests that its debug access is locked"},
		{"why it is unknown", by{"a": {row(measure.Unknown, measure.None, 0, "no debug lock")}}, "no debug lock"},
		{"pass over unknown", by{"a": {row(measure.Unknown, measure.None, 0, "u")}, "b": {row(measure.Pass, measure.Claimed, time.Hour, "p")}}, "p"},
		{"fail over pass", by{"a": {row(measure.Pass, measure.Observed, 0, "p")}, "b": {row(measure.Fail, measure.Claimed, time.Hour, "f")}}, "f"},
		{"fail over unknown", by{"a": {row(measure.Fail, measure.Claimed, time.Hour, "f")}, "b": {row(measure.Unknown, measure.None, 0, "u")}}, "f"},
		{"better grade of two passes", by{"a": {row(measure.Pass, measure.Attested, time.Hour, "old")}, "b": {row(measure.Pass, measure.Claimed, 0, "new")}}, "old"},
		{"newer of equal grades", by{"a": {row(measure.Pass, measure.Attested, time.Hour, "old")}, "b": {row(measure.Pass, measure.Attested, 0, "new")}}, "new"},
		{"better grade of two fails", by{"a": {row(measure.Fail, measure.Claimed, 0, "new")}, "b": {row(measure.Fail, measure.Observed, time.Hour, "old")}}, "old"},
		{"newer of two fails", by{"a": {row(measure.Fail, measure.Claimed, 0, "new")}, "b": {row(measure.Fail, measure.Claimed, time.Hour, "old")}}, "new"},
		{"first source of equals", by{"b": {row(measure.Pass, measure.Claimed, 0, "b")}, "a": {row(measure.Pass, measure.Claimed, 0, "a")}}, "a"},
		{"two rows of one source", by{"a": {row(measure.Pass, measure.Claimed, 0, "p"), row(measure.Fail, measure.Claimed, 0, "f")}}, "f"},
		{"a pass without grade is none", by{"a": {row(measure.Pass, measure.None, 0, "bare")}, "b": {row(measure.Pass, measure.Claimed, time.Hour, "claimed")}}, "claimed"},
		{"a pass of a grade that is none", by{"a": {row(measure.Pass, "golden", 0, "bare")}, "b": {row(measure.Pass, measure.Claimed, time.Hour, "claimed")}}, "claimed"},
		{"a fail without grade is none", by{"a": {row(measure.Fail, "", 0, "bare")}, "b": {row(measure.Pass, measure.Claimed, time.Hour, "claimed")}}, "claimed"},
		{"a verdict that is none", by{"a": {row("fine", measure.Observed, 0, "bare")}, "b": {row(measure.Pass, measure.Claimed, time.Hour, "claimed")}}, "claimed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rows := posture.Combine(tt.in)
			got := find(t, rows, measure.AppDebug)
			if got.Reason != tt.want {
				t.Errorf("row %+v counts, want %q", got, tt.want)
			}
			if evidence := got.Verdict != measure.Unknown; evidence == got.Time.IsZero() || evidence == (got.Grade == measure.None) {
				t.Errorf("%+v: want a time and a grade exactly where there is evidence", got)
			}
		})
	}
}

func TestCombineHasEveryMeasureInOrderAndNoOther(t *testing.T) {
	rows := posture.Combine(map[posture.Source][]measure.Row{"a": {
		{Measure: "app.made-up", Verdict: measure.Pass, Grade: measure.Observed, Time: now},
		{Measure: measure.AppDebug, Verdict: measure.Pass, Grade: measure.Observed, Time: now.In(time.FixedZone("x", 3600))},
	}})
	var ids []measure.ID
	for _, r := range rows {
		if r.Reason == "" && r.Verdict == measure.Unknown {
			t.Errorf("%s does not say why it is unknown", r.Measure)
		}
		ids = append(ids, r.Measure)
		if r.Measure == measure.AppDebug && r.Time.Location() != time.UTC {
			t.Errorf("time %s is not UTC", r.Time)
		}
	}
	if d := cmp.Diff(measure.IDs(), ids); d != "" {
		t.Error(d)
	}
}

func find(t *testing.T, rows []measure.Row, id measure.ID) measure.Row {
	t.Helper()
	for _, r := range rows {
		if r.Measure == id {
			return r
		}
	}
	t.Fatalf("no row of %s", id)
	return measure.Row{}
}

func TestChanged(t *testing.T) {
	pass := row(measure.Pass, measure.Attested, 0, "p")
	older := row(measure.Pass, measure.Attested, time.Hour, "other words")
	weaker := row(measure.Pass, measure.Claimed, 0, "c")
	fail := row(measure.Fail, measure.Attested, 0, "f")
	unknown := row(measure.Unknown, measure.None, 0, "u")
	tests := []struct {
		name          string
		before, after []measure.Row
		want          []posture.Change
	}{
		{"nothing", nil, nil, nil},
		{"same", []measure.Row{pass}, []measure.Row{pass}, nil},
		{"only time and words", []measure.Row{older}, []measure.Row{pass}, nil},
		{"new and unknown", nil, []measure.Row{unknown}, nil},
		{"new pass", nil, []measure.Row{pass}, []posture.Change{{measure.AppDebug, measure.Unknown, measure.Pass, measure.None, measure.Attested, "p"}}},
		{"pass to fail", []measure.Row{pass}, []measure.Row{fail}, []posture.Change{{measure.AppDebug, measure.Pass, measure.Fail, measure.Attested, measure.Attested, "f"}}},
		{"grade sinks", []measure.Row{pass}, []measure.Row{weaker}, []posture.Change{{measure.AppDebug, measure.Pass, measure.Pass, measure.Attested, measure.Claimed, "c"}}},
		{"forgotten", []measure.Row{pass}, []measure.Row{unknown}, []posture.Change{{measure.AppDebug, measure.Pass, measure.Unknown, measure.Attested, measure.None, "u"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, posture.Changed(tt.before, tt.after)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAsOfDatesWhatNothingProves(t *testing.T) {
	proved := row(measure.Pass, measure.Attested, time.Hour, "p")
	rows := []measure.Row{proved, {Measure: measure.AppCompiler, Verdict: measure.Unknown, Grade: measure.None, Reason: "u"}}
	got := posture.AsOf(rows, now.In(time.FixedZone("x", 3600)))
	if got[0] != proved {
		t.Errorf("evidence became %+v", got[0])
	}
	if !got[1].Time.Equal(now) || got[1].Time.Location() != time.UTC {
		t.Errorf("a row without evidence is of %s, want %s", got[1].Time, now)
	}
	if !rows[1].Time.IsZero() {
		t.Error("the rows that were given have changed")
	}
}
