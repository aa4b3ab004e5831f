package fleet_test

import (
	"testing"
	"time"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/measure"
	"holdfast/pki"
	"holdfast/posture"
)

// TestLifeOfAHealthyBoard: a short first certificate, then the full lifetime.
func TestLifeOfAHealthyBoard(t *testing.T) {
	w := newWorld(t)
	const id = "pump-01"
	w.addByEK(id, "pumps")
	w.status(id, posture.Offline)
	w.born(tpm(id), "b1")
	w.status(id, posture.Offline)
	_, err := w.Grant(t.Context(), id, pki.Birth)
	w.refused(err, fault.Denied) // not attested yet

	w.report(id, posture.Attestation, w.appraisal())
	if life := w.certify(peer(pki.Birth, id, "b1"), "c1"); life != time.Hour {
		t.Errorf("first certificate for %s, want 1h", life)
	}
	op := peer(pki.Operational, id, "c1")
	if mode := w.connect(op, "s1"); mode != access.Full {
		t.Errorf("first session is %s", mode)
	}
	w.status(id, posture.Degraded) // no logs yet
	if w.gate.last[id].Renew {
		t.Error("told to renew before it stands better")
	}
	w.report(id, posture.Logs, w.rows(measure.Pass, measure.Observed, measure.AppErrorLogging))
	w.status(id, posture.Trusted)
	if r := w.gate.last[id]; !r.Renew || r.Status != posture.Trusted || time.Duration(r.Decision.Lifetime) != 24*time.Hour {
		t.Errorf("last report %+v, want a better certificate to wait", r)
	}
	if life := w.certify(op, "c2"); life != 24*time.Hour {
		t.Errorf("second certificate for %s, want 24h", life)
	}
	if r := w.gate.last[id]; r.Renew {
		t.Error("told to renew though it has the best certificate")
	}
	d := w.status(id, posture.Trusted)
	if d.Certificate == nil || d.Certificate.Lifetime != 24*3600 || d.Certificate.Serial != "c2" {
		t.Errorf("certificate %+v", d.Certificate)
	}
	for i := 1; i < len(w.gate.reports); i++ {
		if w.gate.reports[i].Version <= w.gate.reports[i-1].Version {
			t.Errorf("report versions %d, %d", w.gate.reports[i-1].Version, w.gate.reports[i].Version)
		}
	}
	if len(w.gate.acts) > 0 {
		t.Errorf("acted on a healthy session: %v", w.gate.acts)
	}
}
