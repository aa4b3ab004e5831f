package fleet_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

func TestAdmitRefuses(t *testing.T) {
	w := newWorld(t)
	of := w.addMaker("acme", "meters", "meter-*", "gauge-1")
	other := w.addMaker("other", "others", "other-*")
	w.must1(w.AddDevice(t.Context(), "admin", operator.AddDevice{ID: "special", Group: "meters"}))
	w.addByEK("pump-01", "pumps")
	w.addByEK("meter-tpm", "meters") // inside acme's pattern, but admitted by its TPM
	w.addByEK("pump-02", "pumps")
	w.born(tpm("pump-02"), "b2")
	w.addByEK("pump-03", "pumps")
	w.born(tpm("pump-03"), "b3")
	w.must1(w.Act(t.Context(), "admin", "pump-03", fleet.Revoke, "stolen"))
	stranger := peer(pki.Maker, "meter-9", "m1")
	stranger.Anchor = digest("some CA")

	for name, p := range map[string]pki.Peer{
		"unknown device":                 peer(pki.Operational, "nobody", "1"),
		"unknown device, birth":          peer(pki.Birth, "nobody", "1"),
		"not born":                       peer(pki.Birth, "pump-01", "1"),
		"not born, empty serial":         peer(pki.Birth, "pump-01", ""),
		"superseded birth certificate":   peer(pki.Birth, "pump-02", "b1"),
		"operational never issued":       peer(pki.Operational, "pump-02", "c1"),
		"revoked":                        peer(pki.Birth, "pump-03", "b3"),
		"maker for a TPM device":         of("pump-02"),
		"maker for an id outside":        of("pump-07"),
		"maker for another maker's id":   of("other-1"),
		"maker for a TPM device inside":  of("meter-tpm"),
		"maker's pattern alone":          of("meter-"),
		"other maker for this one's id":  other("meter-1"),
		"other maker for a registered":   other("special"),
		"CA that is not registered":      stranger,
		"an operator":                    peer(pki.Operator, "pump-02", "b2"),
		"a server":                       peer(pki.Server, "pump-02", "b2"),
		"class of none":                  peer("", "pump-02", "b2"),
		"birth certificate of a meter":   peer(pki.Birth, "special", ""),
		"operational of a maker's meter": peer(pki.Operational, "special", ""),
	} {
		t.Run(name, func(t *testing.T) {
			a, err := w.Admit(t.Context(), p)
			if fault.Of(err) != fault.Denied {
				t.Errorf("admitted as %+v, %v", a, err)
			}
			if _, err := w.SessionOpened(t.Context(), p, "s", access.Full, nil); fault.Of(err) != fault.Denied {
				t.Errorf("session opened: %v", err)
			}
			if w.Connected() != 0 {
				t.Error("a session is open")
			}
		})
	}
	for _, id := range []identity.Device{"meter-1", "gauge-1", "special"} {
		if a, err := w.Admit(t.Context(), of(id)); err != nil || a.Mode != access.Full || a.Group.ID != "meters" {
			t.Errorf("%s: %+v, %v", id, a, err)
		}
	}
	if n := w.ledger.count("device.add meter-1"); n != 1 {
		t.Errorf("the first connection was recorded %d times", n)
	}
}

func TestMakersDeviceIsConnectedAndProvesNothing(t *testing.T) {
	w := newWorld(t)
	of := w.addMaker("acme", "sensors", "sensor-*")
	w.connect(of("sensor-01"), "s1")
	d := w.status("sensor-01", posture.Connected)
	for _, r := range d.Posture {
		if r.Measure == measure.IdentityHardwareRoot && (r.Verdict != measure.Unknown || r.Grade != measure.None) {
			t.Errorf("%+v", r)
		}
	}
	w.SessionClosed(t.Context(), "sensor-01", "s1")
	w.status("sensor-01", posture.Offline)
	if _, err := w.Grant(t.Context(), "sensor-01", pki.Maker); err != nil {
		t.Errorf("EST with a maker's certificate: %v", err)
	}
	w.must1(w.SetGroup(t.Context(), "admin", "sensors", operator.SetGroup{PolicyName: posture.Standard, MakerCAs: []string{"acme"}, IDs: []string{"sensor-*"}}))
	_, err := w.Grant(t.Context(), "sensor-01", pki.Maker)
	w.refused(err, fault.Denied)
}

// TestMakersDeviceCannotStayProvisional: a policy that demands what the device
// never proves takes effect although it never has a first certificate.
func TestMakersDeviceCannotStayProvisional(t *testing.T) {
	w := newWorld(t)
	of := w.addMaker("acme", "sensors", "sensor-*")
	w.must1(w.SetGroup(t.Context(), "admin", "sensors", operator.SetGroup{MakerCAs: []string{"acme"}, IDs: []string{"sensor-*"},
		Policy: []byte(`{"name":"logs","require":[{"measure":"app.error-logging","grade":"observed"}]}`)}))
	if mode := w.connect(of("sensor-01"), "s1"); mode != access.Full {
		t.Errorf("first session is %s", mode)
	}
	w.status("sensor-01", posture.Degraded)
	w.pass(2 * time.Hour)
	w.status("sensor-01", posture.Quarantined)
	if mode := w.connect(of("sensor-01"), "s2"); mode != access.Quarantine {
		t.Errorf("later session is %s", mode)
	}
}

// TestFailCutsTheSessionAndPassRestoresIt breaks each row of each source.
func TestFailCutsTheSessionAndPassRestoresIt(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	good := map[posture.Source][]measure.Row{
		posture.Attestation: w.appraisal(), posture.Session: w.handshake(),
		posture.Logs: w.rows(measure.Pass, measure.Observed, measure.AppErrorLogging),
	}
	for s, rows := range good {
		for i, r := range rows {
			for _, v := range []measure.Verdict{measure.Fail, measure.Unknown} {
				bad := slices.Clone(rows)
				bad[i].Verdict = v
				if d := w.report("pump-01", s, bad); d.Standing != posture.Unmet || d.Lifetime != 0 {
					t.Errorf("%s %s: decision %s for %v", r.Measure, v, d.Standing, d.Lifetime)
				}
				w.status("pump-01", posture.Quarantined)
				if w.gate.mode("pump-01") != access.Quarantine {
					t.Errorf("%s %s: session is still open", r.Measure, v)
				}
				if got := w.gate.last["pump-01"]; got.Status != posture.Quarantined || len(got.Decision.Reasons()) == 0 {
					t.Errorf("%s %s: device was told %s: %q", r.Measure, v, got.Status, got.Decision.Reasons())
				}
				_, err := w.Grant(t.Context(), "pump-01", pki.Operational)
				w.refused(err, fault.Denied)
				w.report("pump-01", s, rows)
				w.status("pump-01", posture.Trusted)
				if w.gate.mode("pump-01") != access.Full {
					t.Errorf("%s: session is not open again", r.Measure)
				}
			}
		}
	}
	if n := w.ledger.count("verdict pump-01"); n < 40 {
		t.Errorf("%d verdict changes recorded", n)
	}
}

func TestQuarantineDoesNotEndByWaitingOrReconnecting(t *testing.T) {
	w := newWorld(t)
	p := w.healthy("pump-01", "pumps")
	w.report("pump-01", posture.Attestation, w.rows(measure.Fail, measure.Attested, measure.FirmwareSecureBoot))
	for range 3 {
		w.SessionClosed(t.Context(), "pump-01", "s1")
		w.status("pump-01", posture.Quarantined) // also without a session
		w.pass(10 * time.Minute)
		if mode := w.connect(p, "s1"); mode != access.Quarantine {
			t.Errorf("session is %s", mode)
		}
		w.status("pump-01", posture.Quarantined)
	}
	w.restart()
	w.status("pump-01", posture.Quarantined)
	if mode := w.connect(p, "s2"); mode != access.Quarantine {
		t.Errorf("session after a restart is %s", mode)
	}
	w.report("pump-01", posture.Attestation, w.appraisal())
	w.status("pump-01", posture.Trusted)
}

func TestBirthSessionIsAlwaysQuarantine(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	w.SessionClosed(t.Context(), "pump-01", "s1")
	p := peer(pki.Birth, "pump-01", "b-pump-01")
	if mode := w.connect(p, "s2"); mode != access.Quarantine {
		t.Errorf("session is %s", mode)
	}
	w.status("pump-01", posture.Quarantined)
	w.report("pump-01", posture.Attestation, w.appraisal())
	if w.gate.mode("pump-01") != access.Quarantine {
		t.Error("a birth session was opened")
	}
}

// TestStaleEvidenceShortensTheCertificate: an attestation of yesterday is weak.
func TestStaleEvidenceShortensTheCertificate(t *testing.T) {
	w := newWorld(t)
	p := w.healthy("pump-01", "pumps")
	w.certify(p, "c2")
	w.pass(23 * time.Hour)
	w.certify(peer(pki.Operational, "pump-01", "c2"), "c3")
	w.pass(3 * time.Hour)
	w.status("pump-01", posture.Degraded)
	if life, err := w.Grant(t.Context(), "pump-01", pki.Operational); err != nil || life != time.Hour {
		t.Errorf("granted %s, %v", life, err)
	}
	w.report("pump-01", posture.Attestation, w.appraisal())
	if life, err := w.Grant(t.Context(), "pump-01", pki.Operational); err != nil || life != 24*time.Hour {
		t.Errorf("granted %s, %v after an appraisal", life, err)
	}
}

// TestComingBackWithTheBirthCertificate: the first certificate after a long
// absence is short, and nothing is excused any more.
func TestComingBackWithTheBirthCertificate(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	w.SessionClosed(t.Context(), "pump-01", "s1")
	w.pass(2 * 365 * 24 * time.Hour)
	w.report("pump-01", posture.Attestation, w.appraisal())
	if life := w.certify(peer(pki.Birth, "pump-01", "b-pump-01"), "c9"); life != time.Hour {
		t.Errorf("granted %s", life)
	}
	w.connect(peer(pki.Operational, "pump-01", "c9"), "s2")
	if r := w.gate.last["pump-01"]; !r.Renew {
		t.Errorf("not told to renew: %+v", r)
	}
	w.report("pump-01", posture.Logs, w.rows(measure.Unknown, measure.None, measure.AppErrorLogging))
	w.status("pump-01", posture.Quarantined)
}

// TestFirstCertificateRunsOut: what a session proves is excused for one
// certificate, not for as many as a device can get.
func TestFirstCertificateRunsOut(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	w.born(tpm("pump-01"), "b1")
	w.report("pump-01", posture.Attestation, w.appraisal())
	w.certify(peer(pki.Birth, "pump-01", "b1"), "c1")
	w.connect(peer(pki.Operational, "pump-01", "c1"), "s1")
	w.status("pump-01", posture.Degraded)
	w.pass(50 * time.Minute)
	w.certify(peer(pki.Operational, "pump-01", "c1"), "c2")
	w.pass(20 * time.Minute)
	_, err := w.Grant(t.Context(), "pump-01", pki.Operational)
	w.refused(err, fault.Denied)
	_, err = w.Grant(t.Context(), "pump-01", pki.Birth)
	w.refused(err, fault.Denied)
	w.status("pump-01", posture.Quarantined)
}

func TestRevokeRestoreQuarantine(t *testing.T) {
	w := newWorld(t)
	p := w.healthy("pump-01", "pumps")
	d, err := w.Act(t.Context(), "ada", "pump-01", fleet.Quarantine, "looks odd")
	w.must(err)
	if d.Status != posture.Quarantined || d.Reason != "quarantined by ada: looks odd" || w.gate.mode("pump-01") != access.Quarantine {
		t.Errorf("%s (%s), session %s", d.Status, d.Reason, w.gate.mode("pump-01"))
	}
	w.report("pump-01", posture.Attestation, w.appraisal()) // an appraisal does not end what an operator began
	w.status("pump-01", posture.Quarantined)
	_, err = w.Grant(t.Context(), "pump-01", pki.Operational)
	w.refused(err, fault.Denied)
	_, err = w.Act(t.Context(), "ada", "pump-01", fleet.Quarantine, "again")
	w.refused(err, fault.Conflict)
	w.must1(w.Act(t.Context(), "ada", "pump-01", fleet.Restore, "is fine"))
	w.status("pump-01", posture.Trusted)
	if w.gate.mode("pump-01") != access.Full {
		t.Error("session is not open again")
	}
	_, err = w.Act(t.Context(), "ada", "pump-01", fleet.Restore, "again")
	w.refused(err, fault.Conflict)

	d, err = w.Act(t.Context(), "ada", "pump-01", fleet.Revoke, "stolen")
	w.must(err)
	if d.Status != posture.Revoked || d.Reason != "revoked by ada: stolen" || d.Certificate != nil {
		t.Errorf("%+v", d)
	}
	if last := w.gate.acts[len(w.gate.acts)-1]; last != "pump-01 revoked" {
		t.Errorf("last act on the session: %s", last)
	}
	if want := []string{"pump-01 birth b-pump-01", "pump-01 operational 1-pump-01"}; !slices.Equal(w.crl, want) {
		t.Errorf("withdrawn %q, want %q", w.crl, want)
	}
	w.SessionClosed(t.Context(), "pump-01", "s1")
	for _, c := range []pki.Peer{p, peer(pki.Birth, "pump-01", "b-pump-01")} {
		_, err = w.Admit(t.Context(), c)
		w.refused(err, fault.Denied)
		_, err = w.Grant(t.Context(), "pump-01", c.Class)
		w.refused(err, fault.Denied)
	}
	_, err = w.Report(t.Context(), "pump-01", posture.Attestation, w.appraisal())
	w.refused(err, fault.Denied)
	w.refused(w.Certificate(t.Context(), "pump-01", fleet.Certificate{Serial: "x", NotAfter: w.clock().Add(time.Hour)}), fault.Denied)
	_, _, _, err = w.Attester(t.Context(), "pump-01")
	w.refused(err, fault.Denied)
	_, err = w.Claim(t.Context(), tpm("pump-01"))
	w.refused(err, fault.Denied)
	w.restart()
	_, err = w.Claim(t.Context(), tpm("pump-01"))
	w.refused(err, fault.Denied)
	w.status("pump-01", posture.Revoked)

	w.must1(w.Act(t.Context(), "ada", "pump-01", fleet.Restore, "found"))
	_, err = w.Admit(t.Context(), p) // what was withdrawn stays worthless
	w.refused(err, fault.Denied)
	w.born(tpm("pump-01"), "b9")
	w.must1(w.Admit(t.Context(), peer(pki.Birth, "pump-01", "b9")))
	_, err = w.Act(t.Context(), "ada", "pump-01", "delete", "x")
	w.refused(err, fault.Invalid)
	_, err = w.Act(t.Context(), "ada", "nobody", fleet.Revoke, "x")
	w.refused(err, fault.NotFound)
	for _, kind := range []string{"device.quarantine", "device.restore", "device.revoke"} {
		if w.ledger.count(kind+" pump-01") == 0 {
			t.Errorf("no %s in the ledger", kind)
		}
	}
}

// TestRevokedBetweenAdmitAndOpen: the session is registered, then read again.
func TestRevokedBetweenAdmitAndOpen(t *testing.T) {
	w := newWorld(t)
	p := w.healthy("pump-01", "pumps")
	w.SessionClosed(t.Context(), "pump-01", "s1")
	a, err := w.Admit(t.Context(), p)
	w.must(err)
	w.must1(w.Act(t.Context(), "ada", "pump-01", fleet.Revoke, "stolen"))
	_, err = w.SessionOpened(t.Context(), p, "s2", a.Mode, w.handshake())
	w.refused(err, fault.Denied)
	if w.Connected() != 0 {
		t.Error("the session counts as open")
	}
}

// TestQuarantinedBetweenAdmitAndOpen: the session is cut down as it opens.
func TestQuarantinedBetweenAdmitAndOpen(t *testing.T) {
	w := newWorld(t)
	p := w.healthy("pump-01", "pumps")
	w.SessionClosed(t.Context(), "pump-01", "s1")
	a, err := w.Admit(t.Context(), p)
	w.must(err)
	w.report("pump-01", posture.Attestation, w.rows(measure.Fail, measure.Attested, measure.AppDebug))
	w.gate.modes["pump-01"] = a.Mode
	w.must1(w.SessionOpened(t.Context(), p, "s2", a.Mode, w.handshake()))
	if a.Mode != access.Full || w.gate.mode("pump-01") != access.Quarantine {
		t.Errorf("admitted %s, then %s", a.Mode, w.gate.mode("pump-01"))
	}
}

func TestEndOfAnOldSessionLeavesTheNewOne(t *testing.T) {
	w := newWorld(t)
	p := w.healthy("pump-01", "pumps")
	w.connect(p, "s2")
	w.SessionClosed(t.Context(), "pump-01", "s1")
	w.status("pump-01", posture.Trusted)
	w.SessionClosed(t.Context(), "pump-01", "s2")
	w.status("pump-01", posture.Offline)
}

// TestTighteningDoesNotWaitForTheDisk: a session is cut down even when the
// verdict cannot be written, and is not opened before one could be.
func TestTighteningDoesNotWaitForTheDisk(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	w.report("pump-01", posture.Logs, w.rows(measure.Pass, measure.Observed, measure.AppErrorLogging))
	broken := &noWrites{Store: w.store.Fleet()}
	f := w.over(broken)
	p := peer(pki.Operational, "pump-01", "1-pump-01")
	broken.ok = true
	w.gate.modes["pump-01"] = access.Full
	w.must1(f.SessionOpened(t.Context(), p, "s9", access.Full, w.handshake()))
	broken.ok = false
	if _, err := f.Report(t.Context(), "pump-01", posture.Attestation, w.rows(measure.Fail, measure.Attested, measure.AppDebug)); err == nil {
		t.Error("reported without being written")
	}
	if w.gate.mode("pump-01") != access.Quarantine {
		t.Error("session is still open")
	}
	broken.ok = true
	w.must1(f.Report(t.Context(), "pump-01", posture.Attestation, w.rows(measure.Fail, measure.Attested, measure.AppDebug)))
	broken.ok = false
	if _, err := f.Report(t.Context(), "pump-01", posture.Attestation, w.appraisal()); err == nil {
		t.Error("reported without being written")
	}
	if w.gate.mode("pump-01") != access.Quarantine {
		t.Error("session was opened though nothing was written")
	}
	if _, err := f.Act(t.Context(), "ada", "pump-01", fleet.Revoke, "stolen"); err == nil {
		t.Error("revoked without being written")
	}
	if last := w.gate.acts[len(w.gate.acts)-1]; last != "pump-01 revoked" {
		t.Errorf("last act: %s", last)
	}
}

// TestLedgerOutOfOrderLosesNothing: events stay in the store, in order, until
// the ledger takes them, also over a restart.
func TestLedgerOutOfOrderLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.ledger.broken = true
	w.addByEK("pump-01", "pumps")
	w.addByEK("pump-02", "pumps")
	if n := w.ledger.count("device.add pump-01"); n != 0 {
		t.Fatal("recorded by a broken ledger")
	}
	w.restart()
	w.ledger.broken = false
	w.addByEK("pump-03", "pumps")
	var got []string
	for _, l := range w.ledger.lines {
		if len(l) > 10 && l[:10] == "device.add" {
			got = append(got, l)
		}
	}
	if want := []string{"device.add pump-01", "device.add pump-02", "device.add pump-03"}; !slices.Equal(got, want) {
		t.Errorf("ledger has %q, want %q", got, want)
	}
}

// TestSameAgainCostsNoWrite: a device that connects and reports the same does
// not make the disk turn.
func TestSameAgainCostsNoWrite(t *testing.T) {
	w := newWorld(t)
	p := w.healthy("pump-01", "pumps")
	counter := &noWrites{Store: w.store.Fleet(), ok: true}
	f := w.over(counter)
	w.must1(f.SessionOpened(t.Context(), p, "s1", access.Full, w.handshake()))
	counter.writes = 0
	for i := range 10 {
		w.pass(time.Second)
		w.must1(f.Report(t.Context(), "pump-01", posture.Logs, w.rows(measure.Pass, measure.Observed, measure.AppErrorLogging)))
		w.must1(f.SessionOpened(t.Context(), p, fmt.Sprint(i), access.Full, w.handshake()))
	}
	if counter.writes != 0 {
		t.Errorf("%d writes", counter.writes)
	}
	w.pass(time.Minute)
	w.must1(f.Report(t.Context(), "pump-01", posture.Logs, w.rows(measure.Pass, measure.Observed, measure.AppErrorLogging)))
	if counter.writes != 1 {
		t.Errorf("%d writes after a minute, want 1", counter.writes)
	}
}

// TestConcurrentReportsAndRevoke: whatever the order, a revoked device has no
// open session at the end, and its versions never repeat.
func TestConcurrentReportsAndRevoke(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				rows := w.appraisal()
				if (i+j)%2 == 0 {
					rows = w.rows(measure.Fail, measure.Attested, measure.AppDebug)
				}
				_, err := w.Report(t.Context(), "pump-01", posture.Attestation, rows)
				if err != nil && fault.Of(err) != fault.Denied {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() { w.must1(w.Act(t.Context(), "ada", "pump-01", fleet.Revoke, "stolen")) })
	wg.Wait()
	w.status("pump-01", posture.Revoked)
	if last := w.gate.acts[len(w.gate.acts)-1]; last != "pump-01 revoked" {
		t.Errorf("last act: %s", last)
	}
	for i := 1; i < len(w.gate.reports); i++ {
		if w.gate.reports[i].Version <= w.gate.reports[i-1].Version {
			t.Errorf("version %d follows %d", w.gate.reports[i].Version, w.gate.reports[i-1].Version)
		}
	}
}

func TestReportRefusesRowsOfNoCatalogue(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	for _, r := range []measure.Row{{Measure: "app.made-up", Grade: measure.None}, {Measure: measure.AppDebug, Grade: "golden"}} {
		_, err := w.Report(t.Context(), "pump-01", posture.Attestation, []measure.Row{r})
		w.refused(err, fault.Internal)
	}
	_, err := w.Report(t.Context(), "nobody", posture.Attestation, nil)
	w.refused(err, fault.NotFound)
}

// TestRestartForgetsOnlySessions compares what operators see before and after.
func TestRestartForgetsOnlySessions(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	before := w.status("pump-01", posture.Trusted)
	w.restart()
	after := w.status("pump-01", posture.Offline)
	if after.Certificate == nil || *after.Certificate != *before.Certificate || !slices.Equal(after.Posture, before.Posture) || !after.Born.Equal(before.Born) || after.LastSeen.IsZero() {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if ak, _, _, err := w.Attester(t.Context(), "pump-01"); err != nil || string(ak) != "ak b-pump-01" {
		t.Errorf("AK %q, %v", ak, err)
	}
}

func TestCertificatesThatWereNeverFetched(t *testing.T) {
	w := newWorld(t)
	p := w.healthy("pump-01", "pumps")
	for i := range 40 { // answers that were lost: the device still has its old one
		if i < 10 {
			w.must1(w.Admit(t.Context(), p))
		}
		w.must(w.Certificate(t.Context(), "pump-01", fleet.Certificate{Serial: fmt.Sprint("n", i), NotAfter: w.clock().Add(time.Hour), Lifetime: time.Hour}))
	}
	w.must1(w.Admit(t.Context(), peer(pki.Operational, "pump-01", "n39")))
	_, err := w.Admit(t.Context(), p)
	w.refused(err, fault.Denied)
}

func TestLongCertificatesAreNotRenewable(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	w.born(tpm("pump-01"), "b1")
	w.must(w.Certificate(t.Context(), "pump-01", fleet.Certificate{Serial: "c1", NotAfter: w.clock().Add(8 * 24 * time.Hour), Lifetime: 8 * 24 * time.Hour}))
	d, err := w.Device(t.Context(), "pump-01")
	w.must(err)
	for _, r := range d.Posture {
		if r.Measure == measure.CredentialsRenewable && r.Verdict != measure.Fail {
			t.Errorf("%+v", r)
		}
		if r.Measure == measure.IdentityCertificates && r.Verdict != measure.Pass {
			t.Errorf("%+v", r)
		}
	}
}

// TestRunActsOnWhatTimeChanges: it hands over what an earlier process left
// behind, and decides again on live devices.
func TestRunActsOnWhatTimeChanges(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	w.born(tpm("pump-01"), "b1")
	w.report("pump-01", posture.Attestation, w.appraisal())
	w.certify(peer(pki.Birth, "pump-01", "b1"), "c1")
	w.connect(peer(pki.Operational, "pump-01", "c1"), "s1")
	w.ledger.broken = true
	w.addByEK("pump-02", "pumps")
	w.ledger.broken = false
	w.pass(2 * time.Hour) // its first certificate has ended, and it never shipped logs
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for w.ledger.count("device.add pump-02") == 0 || w.gate.mode("pump-01") != access.Quarantine {
		runtime.Gosched()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
