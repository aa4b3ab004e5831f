package posture_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/measure"
	"holdfast/posture"
)

// anyRows makes rows of every kind, around now.
func anyRows(r *rand.Rand, now time.Time) []measure.Row {
	ages := []time.Duration{0, time.Minute, time.Hour, 25 * time.Hour, 25*time.Hour + 1, 300 * 24 * time.Hour, -time.Minute, -posture.Skew, -posture.Skew - 1, -time.Hour}
	var rows []measure.Row
	for _, id := range measure.IDs() {
		if r.IntN(8) == 0 {
			continue
		}
		verdicts := []measure.Verdict{measure.Pass, measure.Pass, measure.Pass, measure.Fail, measure.Unknown, "odd"}
		grades := []measure.Grade{measure.Observed, measure.Attested, measure.Audited, measure.Claimed, measure.None, "odd"}
		rows = append(rows, measure.Row{Measure: id, Verdict: verdicts[r.IntN(len(verdicts))], Grade: grades[r.IntN(len(grades))],
			Reason: "because", Time: now.Add(-ages[r.IntN(len(ages))])})
	}
	return rows
}

// anyPolicy makes a policy that demands this and that.
func anyPolicy(r *rand.Rand) posture.Policy {
	p := posture.Policy{Name: "any", Version: 1}
	for _, id := range measure.IDs() {
		if r.IntN(24) > 0 {
			continue
		}
		p.Require = append(p.Require, posture.Requirement{Measure: id, GraceUnknown: r.IntN(2) == 0,
			Grade:  []measure.Grade{measure.Observed, measure.Attested, measure.Audited, measure.Claimed, "odd"}[r.IntN(5)],
			MaxAge: posture.Duration([]time.Duration{0, time.Minute, time.Hour, 25 * time.Hour}[r.IntN(4)])})
	}
	return p
}

func TestGaugeReadsWhatDecideSays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	seen := map[posture.Standing]int{}
	for range 3000 {
		p, rows, first := anyPolicy(r), posture.Combine(map[posture.Source][]measure.Row{posture.Session: anyRows(r, now)}), r.IntN(3) == 0
		v := posture.View{Marks: posture.MarksOf(rows), Now: now}
		want := posture.Decide(p, v.Subject, rows, now, first)
		got := posture.NewGauge(p).Read(v, first)
		failed := slices.ContainsFunc(rows, func(r measure.Row) bool { return r.Verdict == measure.Fail && p.Demands(r.Measure) })
		if got.Standing != want.Standing || got.Failed != failed {
			t.Fatalf("read %+v, want %s and failed=%v: %v", got, want.Standing, failed, want.Reasons())
		}
		seen[want.Standing]++
		if got.Until.IsZero() {
			continue
		}
		if !got.Until.After(now) {
			t.Fatalf("right until %s, which is past", got.Until)
		}
		v.Now = got.Until.Add(-1)
		if before := posture.NewGauge(p).Read(v, first); before.Standing != got.Standing {
			t.Fatalf("%s before its time is over, was %s", before.Standing, got.Standing)
		}
	}
	for _, s := range []posture.Standing{posture.Met, posture.Weak, posture.Unmet} {
		if seen[s] < 100 {
			t.Errorf("only %d decisions are %s: the test shows little", seen[s], s)
		}
	}
}

func TestMarksReadBack(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	now := time.Date(2026, 11, 20, 12, 0, 0, 5, time.UTC)
	for range 500 {
		rows := posture.Combine(map[posture.Source][]measure.Row{posture.Session: anyRows(r, now)})
		m := posture.MarksOf(rows)
		back, err := posture.ParseMarks([]byte(m))
		if err != nil || back != m {
			t.Fatalf("%x does not read back: %v", m, err)
		}
		for _, row := range rows {
			v, g, at, ok := back.Of(row.Measure)
			if !ok || v != row.Verdict || g != row.Grade || !at.Equal(row.Time) {
				t.Fatalf("%+v came back as %s, %s, %s", row, v, g, at)
			}
		}
	}
	if _, _, _, ok := posture.MarksOf(nil).Of("no.such"); ok {
		t.Error("a measure that does not exist has a mark")
	}
}

func TestParseMarksRefuses(t *testing.T) {
	good := string(posture.MarksOf([]measure.Row{{Measure: measure.AppDebug, Verdict: measure.Pass, Grade: measure.Attested, Time: time.Unix(1, 0)}}))
	for name, bad := range map[string]string{
		"nothing": "", "a piece": good[:4], "cut short": good[:len(good)-1], "too long": good + "x",
		"another catalogue": "\xff" + good[1:], "more times": good[:4] + "\xff" + good[5:],
		"no such verdict": strings.Replace(good, "\x13\x00", "\x33\x00", 1),
		"no such grade":   strings.Replace(good, "\x13\x00", "\x1f\x00", 1),
		"no such time":    strings.Replace(good, "\x13\x00", "\x13\x01", 1),
	} {
		if m, err := posture.ParseMarks([]byte(bad)); err == nil {
			t.Errorf("%s: taken as %x", name, m)
		}
	}
}

func FuzzParseMarks(f *testing.F) {
	f.Add([]byte(posture.MarksOf(nil)))
	f.Add([]byte(posture.MarksOf([]measure.Row{{Measure: measure.AppDebug, Verdict: measure.Pass, Grade: measure.Attested, Time: time.Unix(1, 0)}})))
	p, err := posture.Builtin(posture.Standard)
	if err != nil {
		f.Fatal(err)
	}
	g := posture.NewGauge(p)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := posture.ParseMarks(b)
		if err != nil {
			return
		}
		for _, id := range measure.IDs() {
			m.Of(id)
		}
		g.Read(posture.View{Marks: m, Now: time.Unix(0, 0)}, false)
	})
}

func BenchmarkGauge(b *testing.B) {
	p, err := posture.Builtin(posture.Standard)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Unix(1<<30, 0)
	var rows []measure.Row
	for _, q := range p.Require {
		rows = append(rows, measure.Row{Measure: q.Measure, Verdict: measure.Pass, Grade: q.Grade, Time: now})
	}
	g, v := posture.NewGauge(p), posture.View{Marks: posture.MarksOf(rows), Now: now}
	b.ReportAllocs()
	for b.Loop() {
		if g.Read(v, false).Standing != posture.Met {
			b.Fatal("not met")
		}
	}
}
