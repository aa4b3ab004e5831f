package posture_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/measure"
	"holdfast/posture"
)

// TestDecideOnOneRow holds one row against one requirement.
func TestDecideOnOneRow(t *testing.T) {
	attested := posture.Requirement{Measure: measure.AppDebug, Grade: measure.Attested, MaxAge: posture.Duration(25 * time.Hour)}
	anyAge := posture.Requirement{Measure: measure.AppDebug, Grade: measure.Attested}
	grace := posture.Requirement{Measure: measure.AppDebug, Grade: measure.Attested, GraceUnknown: true}
	tests := []struct {
		name   string
		q      posture.Requirement
		row    measure.Row
		want   posture.Standing
		reason string
	}{
		{"passes", attested, row(measure.Pass, measure.Attested, time.Hour, "locked"), posture.Met, "locked"},
		{"passes at a better grade", attested, row(measure.Pass, measure.Observed, time.Hour, "seen"), posture.Met, "seen"},
		{"as old as allowed", attested, row(measure.Pass, measure.Attested, 25*time.Hour, "locked"), posture.Met, ""},
		{"a second too old", attested, row(measure.Pass, measure.Attested, 25*time.Hour+time.Second, "locked"), posture.Weak, "stale: the evidence is 25h0m1s old"},
		{"old without limit", anyAge, row(measure.Pass, measure.Attested, 9000*time.Hour, "locked"), posture.Met, ""},
		{"from a clock slightly ahead", attested, row(measure.Pass, measure.Attested, -posture.Skew, "locked"), posture.Met, ""},
		{"from the future", attested, row(measure.Pass, measure.Attested, -posture.Skew-time.Second, "locked"), posture.Weak, "ahead of the hub's clock"},
		{"from the future, without limit", anyAge, row(measure.Pass, measure.Attested, -time.Hour, "locked"), posture.Weak, "ahead of the hub's clock"},
		{"passes at a lower grade", attested, row(measure.Pass, measure.Audited, time.Hour, "scanned"), posture.Weak, "only audited, the policy demands attested"},
		{"claimed", attested, row(measure.Pass, measure.Claimed, time.Hour, "says so"), posture.Weak, "only claimed"},
		{"fails", attested, row(measure.Fail, measure.Attested, time.Hour, "open"), posture.Unmet, "fails: open"},
		{"fails at a low grade", attested, row(measure.Fail, measure.Claimed, time.Hour, "open"), posture.Unmet, "fails: open"},
		{"fails, long ago", attested, row(measure.Fail, measure.Attested, 9000*time.Hour, "open"), posture.Unmet, "fails: open"},
		{"fails, with grace", grace, row(measure.Fail, measure.Claimed, time.Hour, "open"), posture.Unmet, "fails: open"},
		{"unknown", attested, row(measure.Unknown, measure.None, 0, "no log"), posture.Unmet, "unknown: no log"},
		{"unknown, with grace", grace, row(measure.Unknown, measure.None, 0, "no log"), posture.Weak, "grace"},
		{"passes, with grace", grace, row(measure.Pass, measure.Attested, 0, "locked"), posture.Met, ""},
		{"no row", attested, measure.Row{}, posture.Unmet, "unknown: nothing attests that its debug access is locked"},
		{"no row, with grace", grace, measure.Row{}, posture.Weak, "grace"},
		{"a pass without grade", attested, row(measure.Pass, measure.None, 0, "bare"), posture.Unmet, "unknown"},
		{"a pass with a grade that is none", attested, row(measure.Pass, "golden", 0, "bare"), posture.Unmet, "unknown"},
		{"a verdict that is none", attested, row("passed", measure.Observed, 0, "bare"), posture.Unmet, "unknown"},
	}
	lifetime := map[posture.Standing]time.Duration{posture.Met: 24 * time.Hour, posture.Weak: time.Hour, posture.Unmet: 0}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := posture.Decide(posture.Policy{Require: []posture.Requirement{tt.q}}, posture.Subject{}, []measure.Row{tt.row}, now, false)
			if len(d.Outcomes) != 1 || d.Outcomes[0].Standing != tt.want || d.Standing != tt.want {
				t.Fatalf("decision %+v, want %s", d, tt.want)
			}
			if !strings.Contains(d.Outcomes[0].Reason, tt.reason) {
				t.Errorf("reason %q, want %q in it", d.Outcomes[0].Reason, tt.reason)
			}
			if got := time.Duration(d.Lifetime); got != lifetime[tt.want] {
				t.Errorf("lifetime %s", got)
			}
		})
	}
}

// healthy is the posture of a healthy board under the standard policy.
func healthy(t *testing.T) []measure.Row {
	p := builtin(t, posture.Standard)
	var rows []measure.Row
	for _, q := range p.Require {
		rows = append(rows, measure.Row{Measure: q.Measure, Verdict: measure.Pass, Grade: q.Grade, Reason: "ok", Time: now.Add(-time.Minute)})
	}
	return posture.Combine(map[posture.Source][]measure.Row{"all": rows})
}

func builtin(t *testing.T, name string) posture.Policy {
	t.Helper()
	p, err := posture.Builtin(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// set returns rows with one of them changed.
func set(rows []measure.Row, id measure.ID, v measure.Verdict, g measure.Grade) []measure.Row {
	out := append([]measure.Row(nil), rows...)
	for i := range out {
		if out[i].Measure == id {
			out[i].Verdict, out[i].Grade = v, g
		}
	}
	return out
}

// onFail are the rows that the standard policy does not demand and that may not
// fail all the same, of firmware.update not for long.
var onFail = map[measure.ID]posture.Standing{
	measure.FirmwareSigning: posture.Weak, measure.FirmwareDowngrade: posture.Unmet, measure.FirmwareUpdate: posture.Weak,
}

// TestDecideTurnsOnEveryRequirement breaks each demanded row of a healthy
// board in turn: no demand of the built-in policies is without effect, and no
// row that is not demanded has one, but for the standard's conditions.
func TestDecideTurnsOnEveryRequirement(t *testing.T) {
	for _, name := range []string{posture.Standard, posture.Bench, posture.Lenient} {
		p := builtin(t, name)
		for _, id := range measure.IDs() {
			t.Run(name+"/"+string(id), func(t *testing.T) {
				fails := posture.Decide(p, posture.Subject{}, set(healthy(t), id, measure.Fail, measure.Claimed), now, false)
				unknown := posture.Decide(p, posture.Subject{}, set(healthy(t), id, measure.Unknown, measure.None), now, false)
				want, onFailure := posture.Met, posture.Met
				if p.Demands(id) {
					want, onFailure = posture.Unmet, posture.Unmet
				}
				if s, ok := onFail[id]; ok && name == posture.Standard {
					onFailure = s
				}
				if fails.Standing != onFailure || unknown.Standing != want {
					t.Errorf("fail gives %s, want %s; unknown gives %s, want %s", fails.Standing, onFailure, unknown.Standing, want)
				}
				if (fails.Lifetime == 0) != (onFailure == posture.Unmet) {
					t.Errorf("lifetime %v", fails.Lifetime)
				}
			})
		}
	}
}

func TestTheFirstCertificateIsAlwaysShort(t *testing.T) {
	for _, name := range []string{posture.Standard, posture.Bench, posture.Lenient} {
		p := builtin(t, name)
		if d := posture.Decide(p, posture.Subject{}, healthy(t), now, true); d.Standing != posture.Met || time.Duration(d.Lifetime) != time.Hour {
			t.Errorf("%s: first decision on a healthy board: %s for %v, want met for 1h", name, d.Standing, d.Lifetime)
		}
		if d := posture.Decide(p, posture.Subject{}, healthy(t), now, false); d.Standing != posture.Met || time.Duration(d.Lifetime) != 24*time.Hour {
			t.Errorf("%s: decision on a healthy board: %s for %v, want met for 24h", name, d.Standing, d.Lifetime)
		}
	}
}

// TestFirstDecisionExcusesOnlyWhatASessionProves takes each demanded row away
// before the first session.
func TestFirstDecisionExcusesOnlyWhatASessionProves(t *testing.T) {
	p := builtin(t, posture.Standard)
	session := map[measure.ID]bool{
		measure.IdentityCertificates: true, measure.CredentialsRenewable: true, measure.CryptoAlgorithms: true,
		measure.ProtocolTLS: true, measure.ProtocolX509: true, measure.ProtocolCipherSuites: true,
		measure.ProtocolMutualTLS: true, measure.ProtocolMQTTTLS: true, measure.AppErrorLogging: true,
	}
	for _, q := range p.Require {
		t.Run(string(q.Measure), func(t *testing.T) {
			unknown := posture.Decide(p, posture.Subject{}, set(healthy(t), q.Measure, measure.Unknown, measure.None), now, true)
			want, lifetime := posture.Unmet, time.Duration(0)
			if session[q.Measure] {
				want, lifetime = posture.Weak, time.Hour
			}
			if unknown.Standing != want || time.Duration(unknown.Lifetime) != lifetime {
				t.Errorf("unknown: %s for %v, want %s for %s", unknown.Standing, unknown.Lifetime, want, lifetime)
			}
			fails := posture.Decide(p, posture.Subject{}, set(healthy(t), q.Measure, measure.Fail, measure.Observed), now, true)
			if fails.Standing != posture.Unmet || fails.Lifetime != 0 {
				t.Errorf("a fail is excused: %s for %v", fails.Standing, fails.Lifetime)
			}
		})
	}
}

func TestOneUnmetOutweighsAnyWeak(t *testing.T) {
	p := builtin(t, posture.Standard)
	rows := set(healthy(t), measure.IdentityHardwareRoot, measure.Pass, measure.Claimed)
	if d := posture.Decide(p, posture.Subject{}, rows, now, false); d.Standing != posture.Weak || time.Duration(d.Lifetime) != time.Hour {
		t.Errorf("one weak row: %s for %v", d.Standing, d.Lifetime)
	}
	rows = set(rows, measure.AppDebug, measure.Fail, measure.Attested)
	d := posture.Decide(p, posture.Subject{}, rows, now, false)
	if d.Standing != posture.Unmet || d.Lifetime != 0 {
		t.Errorf("a weak and an unmet row: %s for %v", d.Standing, d.Lifetime)
	}
	got := d.Reasons()
	if len(got) != 2 || !strings.HasPrefix(got[0], "app.debug: fails") || !strings.HasPrefix(got[1], "identity.hardware-root: only claimed") {
		t.Errorf("reasons %q, want the unmet one first", got)
	}
	if len(d.Outcomes) != len(p.Require)+len(p.Conditions) {
		t.Errorf("%d outcomes for %d requirements and %d conditions", len(d.Outcomes), len(p.Require), len(p.Conditions))
	}
}

// TestBehindForTooLongIsWeak: a device is given time to take an update, by the
// age of the row that says that it is behind; the gauge foresees the moment.
func TestBehindForTooLongIsWeak(t *testing.T) {
	p := builtin(t, posture.Standard)
	late := func(since time.Time) []measure.Row {
		rows := set(healthy(t), measure.FirmwareUpdate, measure.Fail, measure.Attested)
		for i := range rows {
			if rows[i].Measure == measure.FirmwareUpdate {
				rows[i].Time = since
			} else {
				rows[i].Time = now
			}
		}
		return rows
	}
	for _, c := range []struct {
		behind time.Duration
		want   posture.Standing
	}{{0, posture.Met}, {29 * 24 * time.Hour, posture.Met}, {posture.BehindGrace, posture.Met}, {posture.BehindGrace + 1, posture.Weak}, {1000 * time.Hour, posture.Weak}} {
		rows := late(now.Add(-c.behind))
		d := posture.Decide(p, posture.Subject{}, rows, now, false)
		read := posture.NewGauge(p).Read(posture.View{Marks: posture.MarksOf(rows), Now: now}, false)
		if d.Standing != c.want || read.Standing != c.want {
			t.Errorf("behind for %s: %s, the gauge reads %s, want %s", c.behind, d.Standing, read.Standing, c.want)
		}
		turns := now.Add(posture.BehindGrace + 1 - c.behind)
		if fresh := now.Add(25*time.Hour + 1); c.want == posture.Weak || turns.After(fresh) {
			turns = fresh // when the appraisal is too old
		}
		if !read.Until.Equal(turns) {
			t.Errorf("behind for %s: the gauge reads it until %s, want %s", c.behind, read.Until, turns)
		}
	}
}
