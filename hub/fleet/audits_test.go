package fleet_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/access"
	"holdfast/appraise"
	"holdfast/finding"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// lab is what auditors said.
type lab struct {
	mu   sync.Mutex
	said map[identity.Digest][]appraise.Audit
}

func (l *lab) Of(d identity.Digest) []appraise.Audit {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said[d]
}

func (l *lab) Epoch() identity.Digest {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.said) == 0 {
		return identity.Digest{}
	}
	return digest(fmt.Sprint(l.said))
}

// say replaces what was said of an image; nothing takes it away.
func (l *lab) say(of identity.Digest, verdicts map[measure.ID]measure.Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said == nil {
		l.said = map[identity.Digest][]appraise.Audit{}
	}
	if delete(l.said, of); len(verdicts) == 0 {
		return
	}
	a := appraise.Audit{Auditor: "lab", Program: "holdfast 1", Time: time.Date(2026, 11, 19, 0, 0, 0, 0, time.UTC)}
	for _, id := range measure.IDs() {
		if v := verdicts[id]; v != "" {
			a.Rows = append(a.Rows, finding.Row{Measure: id, Verdict: v, Applies: true, Reason: "XYZ-01: seen"})
		}
	}
	l.said[of] = []appraise.Audit{a}
}

// row checks a row of a device: verdict, grade and a part of its reason.
func (w *world) row(id identity.Device, m measure.ID, v measure.Verdict, g measure.Grade, reason string) {
	w.t.Helper()
	d, err := w.Device(w.t.Context(), id)
	w.must(err)
	i := slices.IndexFunc(d.Posture, func(r measure.Row) bool { return r.Measure == m })
	if r := d.Posture[i]; r.Verdict != v || r.Grade != g || !strings.Contains(r.Reason, reason) {
		w.t.Errorf("%s of %s: %s %s %q, want %s %s %q", m, id, r.Verdict, r.Grade, r.Reason, v, g, reason)
	}
}

// TestAuditsJudgeWhatRuns: rows come with the digest that is attested and go
// with it, at once when auditors say something else.
func TestAuditsJudgeWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	w.lab.say(image("pump", 3), map[measure.ID]measure.Verdict{measure.MemoryStack: measure.Pass, measure.AppCompiler: measure.Fail, measure.IdentityDeviceID: measure.Fail})
	w.must(w.AuditsChanged(t.Context()))
	w.row("pump-01", measure.MemoryStack, measure.Unknown, measure.None, "has not been audited") // nothing attests what it runs

	w.runs("pump-01", "pump", 3, 3)
	w.row("pump-01", measure.MemoryStack, measure.Pass, measure.Audited, "auditor lab (holdfast 1, 2026-11-19T00:00:00Z): XYZ-01")
	w.row("pump-01", measure.AppCompiler, measure.Fail, measure.Audited, "XYZ-01: seen")
	w.row("pump-01", measure.AppAlignment, measure.Unknown, measure.None, "does not speak of it")
	if d := w.must2(w.Device(t.Context(), "pump-01")); slices.ContainsFunc(d.Posture, func(r measure.Row) bool {
		return r.Grade == measure.Audited && !slices.Contains(appraise.AuditedMeasures(), r.Measure)
	}) {
		t.Errorf("an audit proves what no audit can: %+v", d.Posture)
	}

	w.runs("pump-01", "pump", 4, 4) // nobody audited that one
	w.row("pump-01", measure.MemoryStack, measure.Unknown, measure.None, "has not been audited")
	w.runs("pump-01", "pump", 3, 4)
	w.row("pump-01", measure.MemoryStack, measure.Pass, measure.Audited, "")

	w.lab.say(image("pump", 3), map[measure.ID]measure.Verdict{measure.MemoryStack: measure.Fail})
	w.must(w.AuditsChanged(t.Context()))
	w.row("pump-01", measure.MemoryStack, measure.Fail, measure.Audited, "XYZ-01")
	w.lab.say(image("pump", 3), nil)
	w.must(w.AuditsChanged(t.Context()))
	w.row("pump-01", measure.MemoryStack, measure.Unknown, measure.None, "has not been audited")
	if n := w.ledger.count("verdict pump-01"); n == 0 {
		t.Error("the ledger has nothing of it")
	}
}

// TestAuditsNeedAttestation: a digest that only the device claims, or that is in
// doubt, is no proof of what runs.
func TestAuditsNeedAttestation(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	w.lab.say(image("pump", 3), map[measure.ID]measure.Verdict{measure.MemoryStack: measure.Pass})
	for name, r := range map[string]*appraise.Running{
		"a claim":          {Digest: image("pump", 3), Grade: measure.Claimed, Time: w.clock()},
		"doubt":            {Digest: image("pump", 3), Grade: measure.Attested, Time: w.clock(), Doubt: "no boot ROM"},
		"broken evidence":  nil,
		"another firmware": {Digest: digest("x"), Grade: measure.Attested, Time: w.clock()},
	} {
		w.runs("pump-01", "pump", 3, 3)
		w.row("pump-01", measure.MemoryStack, measure.Pass, measure.Audited, "")
		w.must1(w.Appraised(t.Context(), "pump-01", "", r, w.appraisal()))
		if d := w.must2(w.Device(t.Context(), "pump-01")); slices.ContainsFunc(d.Posture, func(r measure.Row) bool { return r.Grade == measure.Audited }) {
			t.Errorf("%s: rows are audited", name)
		}
	}
}

// TestAuditsCombine with what was attested: a fail counts whoever says so, and of
// passes the better grade.
func TestAuditsCombine(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	w.lab.say(image("pump", 3), map[measure.ID]measure.Verdict{measure.AppDebug: measure.Pass})
	w.runs("pump-01", "pump", 3, 3)
	w.row("pump-01", measure.AppDebug, measure.Pass, measure.Attested, "")
	w.lab.say(image("pump", 3), map[measure.ID]measure.Verdict{measure.AppDebug: measure.Fail})
	w.must(w.AuditsChanged(t.Context()))
	w.row("pump-01", measure.AppDebug, measure.Fail, measure.Audited, "XYZ-01")
	w.must1(w.Appraised(t.Context(), "pump-01", "", &appraise.Running{Digest: image("pump", 3), Grade: measure.Attested, Time: w.clock()},
		append(w.rows(measure.Pass, measure.Attested, measure.IdentityAttestation), w.rows(measure.Unknown, measure.None, measure.AppDebug)...)))
	w.lab.say(image("pump", 3), map[measure.ID]measure.Verdict{measure.AppDebug: measure.Pass})
	w.must(w.AuditsChanged(t.Context()))
	w.row("pump-01", measure.AppDebug, measure.Pass, measure.Audited, "")
}

// TestAuditsAreFeltAtOnce by sessions, and after a restart by devices that are
// away.
func TestAuditsAreFeltAtOnce(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	w.addByEK("pump-02", "pumps")
	w.born(tpm("pump-02"), "b-2")
	for _, id := range []identity.Device{"pump-01", "pump-02"} {
		w.runs(id, "pump", 3, 3)
	}
	w.lab.say(image("pump", 3), map[measure.ID]measure.Verdict{measure.MemoryStack: measure.Pass})
	w.must(w.AuditsChanged(t.Context()))
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Simulation: true, Text: "policy strict\nrequire memory.stack audited 25h"}))
	w.status("pump-01", posture.Trusted)

	w.lab.say(image("pump", 3), nil) // the auditor was removed
	w.must(w.AuditsChanged(t.Context()))
	w.status("pump-01", posture.Quarantined)
	if m := w.gate.mode("pump-01"); m != access.Quarantine {
		t.Errorf("the session is %s", m)
	}
	w.row("pump-02", measure.MemoryStack, measure.Unknown, measure.None, "")

	w.lab.say(image("pump", 3), map[measure.ID]measure.Verdict{measure.MemoryStack: measure.Pass})
	w.restart() // before anybody acted on it
	w.must(w.AuditsChanged(t.Context()))
	w.row("pump-02", measure.MemoryStack, measure.Pass, measure.Audited, "")
	before := w.ledger.count("verdict pump-02")
	w.must(w.AuditsChanged(t.Context()))
	w.restart()
	w.must(w.AuditsChanged(t.Context()))
	if n := w.ledger.count("verdict pump-02"); n != before {
		t.Errorf("%d verdicts more, though nothing changed", n-before)
	}
}
