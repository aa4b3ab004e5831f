package policy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/measure"
	"holdfast/posture"
	"holdfast/posture/policy"
)

// conditional is a policy with one condition.
func conditional(t testing.TB, expression, then string) posture.Policy {
	t.Helper()
	p, err := policy.Parse([]byte("policy p\nwhen " + expression + " " + then + ` "because"`))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return p
}

func TestConditions(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	rows := posture.Combine(map[posture.Source][]measure.Row{posture.Attestation: {
		{Measure: measure.AppDebug, Verdict: measure.Fail, Grade: measure.Attested, Time: now.Add(-time.Hour), Reason: "open"},
		{Measure: measure.FirmwareSecureBoot, Verdict: measure.Pass, Grade: measure.Attested, Time: now.Add(-2 * time.Hour)},
	}})
	s := posture.Subject{Device: "pump-01", Group: "pumps", Release: "pump 2.1"}
	for _, tt := range []struct {
		expression string
		holds      bool
	}{
		{`true`, true},
		{`false`, false},
		{`rows["app.debug"].verdict == "fail"`, true},
		{`rows["app.debug"].verdict == "fail" && device.group == "valves"`, false},
		{`rows["firmware.secure-boot"].verdict != "pass"`, false},
		{`rows["app.watchdog"].verdict == "unknown"`, true},
		{`rows["app.watchdog"].grade == "none"`, true},
		{`rows["app.debug"].grade.meets("attested")`, true},
		{`rows["app.debug"].grade.meets("observed")`, false},
		{`rows["firmware.secure-boot"].age > duration("1h")`, true},
		{`rows["firmware.secure-boot"].age > duration("3h")`, false},
		{`rows["app.watchdog"].age > duration("24000h")`, true},
		{`device.id.startsWith("pump-")`, true},
		{`device.id.matches("^pump-[0-9]+$")`, true},
		{`device.release in ["pump 2.0", "pump 2.1"]`, true},
		{`device.release == ""`, false},
		{`now > timestamp("2026-11-01T00:00:00Z")`, true},
		{`now > timestamp("2027-11-01T00:00:00Z")`, false},
		{`"app.debug" in ["app.debug"]`, true},
	} {
		for _, then := range []posture.Standing{posture.Weak, posture.Unmet} {
			p := conditional(t, tt.expression, string(then))
			want := posture.Met
			if tt.holds {
				want = then
			}
			d := posture.Decide(p, s, rows, now, false)
			if d.Standing != want || len(d.Outcomes) != 1 || !strings.HasSuffix(d.Outcomes[0].Reason, "because") {
				t.Errorf("%s %s: %+v, want %s", tt.expression, then, d, want)
			}
			read := posture.NewGauge(p).Read(posture.View{Subject: s, Marks: posture.MarksOf(rows), Now: now}, false)
			if read.Standing != want {
				t.Errorf("%s %s: the gauge reads %s, want %s", tt.expression, then, read.Standing, want)
			}
			timed := strings.Contains(tt.expression, ".age") || strings.HasPrefix(tt.expression, "now ")
			if read.Until.IsZero() == timed {
				t.Errorf("%s: what the gauge reads is right until %v", tt.expression, read.Until)
			}
		}
	}
}

// TestWhatCannotBeEvaluatedIsUnmet: an error gives a device nothing.
func TestWhatCannotBeEvaluatedIsUnmet(t *testing.T) {
	now := time.Unix(1<<30, 0)
	for name, p := range map[string]posture.Policy{
		"division by nothing":   conditional(t, `1 / (size(device.id) - 1) > 5`, "weak"),
		"no such number":        conditional(t, `int(device.id) > 5`, "weak"),
		"it was never compiled": {Name: "p", Conditions: []posture.Condition{{When: "false", Then: posture.Weak, Reason: "because"}}},
	} {
		d := posture.Decide(p, posture.Subject{Device: "x"}, nil, now, false)
		if d.Standing != posture.Unmet || d.Lifetime != 0 || !strings.Contains(strings.Join(d.Reasons(), ""), "because") {
			t.Errorf("%s: %+v, want unmet", name, d)
		}
	}
	broken, err := posture.Policy{Name: "p", Conditions: []posture.Condition{{When: "x", Then: posture.Weak, Reason: "because"}}}.Compile(
		func(string) (posture.Test, error) {
			return posture.Test{Holds: func(posture.View) (bool, error) { return false, errors.New("broken") }}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if d := posture.Decide(broken, posture.Subject{}, nil, now, false); d.Standing != posture.Unmet {
		t.Errorf("a condition that breaks: %+v, want unmet", d)
	}
}

func BenchmarkCondition(b *testing.B) {
	p := conditional(b, `rows["app.debug"].verdict == "fail" && device.group == "pumps"`, "unmet")
	v := posture.View{Subject: posture.Subject{Group: "pumps"}, Now: time.Unix(1<<30, 0), Marks: posture.MarksOf([]measure.Row{
		{Measure: measure.AppDebug, Verdict: measure.Fail, Grade: measure.Attested, Time: time.Unix(1<<30, 0)}})}
	g := posture.NewGauge(p)
	b.ReportAllocs()
	for b.Loop() {
		if g.Read(v, false).Standing != posture.Unmet {
			b.Fatal("does not hold")
		}
	}
}
