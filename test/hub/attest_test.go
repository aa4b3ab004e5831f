package hub_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/internal/swtpm"
	"holdfast/internal/swtpm/swtpmtest"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// modified is the digest of a firmware that nobody signed.
var modified = identity.Sum([]byte("modified firmware"))

// pumpHouse is a world with group "pumps", a simulation that knows the bench's
// boot, and the TPMs of one maker.
type pumpHouse struct {
	*world
	ca swtpm.CA
}

func newPumpHouse(t *testing.T) *pumpHouse {
	t.Helper()
	first := swtpmtest.New(t) // skips where there is none
	p := &pumpHouse{world: newWorld(t), ca: first.CA}
	p.group("pumps", operator.SetGroup{PolicyName: "standard", Simulation: true})
	p.expect("pumps")
	p.simulated(first)
	return p
}

// pump is a device that is born and has booted image.
func (p *pumpHouse) pump(id identity.Device, image identity.Digest) *device {
	p.t.Helper()
	d := p.boot(swtpmtest.NewUnder(p.t, p.ca), image)
	must(p.api.AddDevice(p.t.Context(), operator.AddDevice{ID: id, Group: "pumps", EK: d.keys.EKPublic()}))(p.t)
	if err := d.makeBirth(""); err != nil {
		p.t.Fatal(err)
	}
	return d
}

// attempt opens a connection as d, asks for a nonce, has make forge evidence
// for it, and sends that.
func (d *device) attempt(forge func(nonce, exporter []byte) (evidence.Attestation, error)) error {
	_, err := on(d.w, d.birth, func(x *wire) (evidence.Result, error) {
		var none, out evidence.Result
		nonce, err := x.nonce()
		if err != nil {
			return none, err
		}
		exporter, err := x.exporter()
		if err != nil {
			return none, err
		}
		e, err := forge(nonce, exporter)
		if err != nil {
			return none, err
		}
		return out, x.json("/attest/evidence", e, &out)
	})
	return err
}

// TestEvidenceIsRefused has a board that lies in each way over the wire. What
// fails after the nonce was spent counts against the device, until it attests
// truly.
func TestEvidenceIsRefused(t *testing.T) {
	p := newPumpHouse(t)
	honest, sick, forms := p.pump("pump-01", firmware), p.pump("pump-02", modified), p.pump("pump-03", firmware)
	if err := honest.renew(); err != nil {
		t.Fatal(err)
	}
	var recording evidence.Attestation // evidence that was good once
	type forgery = func(nonce, exporter []byte) (evidence.Attestation, error)
	truth := func(d *device, spoil func(*evidence.Attestation)) forgery {
		return func(nonce, exporter []byte) (evidence.Attestation, error) {
			e, err := d.evidence(d.id, nonce, exporter, nil)
			if err == nil {
				spoil(&e)
			}
			return e, err
		}
	}
	elsewhere := make([]byte, evidence.ExporterSize) // the binding of some other channel
	for _, tc := range []struct {
		name   string
		as     *device
		forge  forgery
		status int
		log    string // and in the ledger
	}{
		{"a quote by another board's key", sick, func(nonce, exporter []byte) (evidence.Attestation, error) {
			return honest.evidence(sick.id, nonce, exporter, nil)
		}, 422, "signature"},
		{"relayed: a healthy board's answer to its own name", sick, func(nonce, exporter []byte) (evidence.Attestation, error) {
			return honest.evidence(honest.id, nonce, exporter, nil)
		}, 422, "signature"},
		{"relayed: a healthy board's answer over its own channel", sick, func(nonce, _ []byte) (evidence.Attestation, error) {
			return honest.evidence(honest.id, nonce, elsewhere, nil)
		}, 422, "signature"},
		{"relayed: a healthy board's nonce and answer", sick, func(_, exporter []byte) (evidence.Attestation, error) {
			x, err := p.https(honest.birth)
			if err != nil {
				return evidence.Attestation{}, err
			}
			defer x.close()
			nonce, err := x.nonce()
			if err != nil {
				return evidence.Attestation{}, err
			}
			return honest.evidence(honest.id, nonce, exporter, nil)
		}, 409, "given to device pump-01"},
		{"made for another channel", forms, func(nonce, _ []byte) (evidence.Attestation, error) {
			return forms.evidence(forms.id, nonce, elsewhere, nil)
		}, 422, "qualifying"},
		{"made for another device", forms, func(nonce, exporter []byte) (evidence.Attestation, error) {
			return forms.evidence(honest.id, nonce, exporter, nil)
		}, 422, "qualifying"},
		{"made for another nonce", forms, func(nonce, exporter []byte) (evidence.Attestation, error) {
			e, err := forms.evidence(forms.id, make([]byte, evidence.NonceSize), exporter, nil)
			e.Nonce = nonce
			return e, err
		}, 422, "qualifying"},
		{"other claims than were signed", forms, truth(forms, func(e *evidence.Attestation) { e.Claims = []byte(`{"runtime":"other"}`) }), 422, "qualifying"},
		{"a log that does not replay", sick, truth(sick, func(e *evidence.Attestation) { e.EventLog = honest.log.Bytes() }), 422, "log"},
		{"other registers than were quoted", sick, truth(sick, func(e *evidence.Attestation) { e.PCRs[4].SHA256 = identity.Digest{1} }), 422, "PCR"},
		{"a nonce that the hub never gave", forms, truth(forms, func(e *evidence.Attestation) { e.Nonce = make([]byte, evidence.NonceSize) }), 409, "not given by this hub"},
		{"a nonce that is none", forms, truth(forms, func(e *evidence.Attestation) { e.Nonce = nil }), 409, "nonce: 0 bytes"},
		{"the first of a replay", honest, truth(honest, func(e *evidence.Attestation) { recording = *e }), 0, ""},
		{"a replay", honest, func(_, _ []byte) (evidence.Attestation, error) { return recording, nil }, 409, "another session"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.as.attempt(tc.forge)
			if tc.status == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refusedWith(t, err, tc.status, "")
			p.logged(t, "request refused", string(tc.as.id), tc.log)
			p.recorded(t, "evidence.refuse", tc.as.id, tc.log)
			if tc.status == 422 {
				if r := row(p.device(tc.as.id), measure.IdentityAttestation); r.Verdict != measure.Fail {
					t.Errorf("identity.attestation is %+v", r)
				}
			}
			if err := honest.attempt(truth(honest, func(*evidence.Attestation) {})); err != nil {
				t.Errorf("a healthy board is refused then: %v", err)
			}
		})
	}
	if err := errors.Join(forms.renew(), honest.renew()); err != nil {
		t.Errorf("boards that told the truth again: %v", err)
	}
}

// TestNonceIsGoodOnce: on one connection, and not for a hub that was started
// again.
func TestNonceIsGoodOnce(t *testing.T) {
	p := newPumpHouse(t)
	d := p.pump("pump-01", firmware)
	x := must(p.https(d.birth))(t)
	defer x.close()
	nonce, exporter := must(x.nonce())(t), must(x.exporter())(t)
	e := must(d.evidence(d.id, nonce, exporter, nil))(t)
	var result evidence.Result
	if err := x.json("/attest/evidence", e, &result); err != nil || !result.Verified {
		t.Fatalf("%+v, %v", result, err)
	}
	refusedWith(t, x.json("/attest/evidence", e, &result), http.StatusConflict, "nonce")
	p.logged(t, "request refused", "used before")
	p.recorded(t, "evidence.refuse", "pump-01", "used before")

	y := must(p.https(d.birth))(t)
	nonce = must(y.nonce())(t)
	y.close()
	p.restart()
	y = must(p.https(d.birth))(t)
	defer y.close()
	e = must(d.evidence(d.id, nonce, must(y.exporter())(t), nil))(t)
	refusedWith(t, y.json("/attest/evidence", e, &result), http.StatusConflict, "nonce")
	p.logged(t, "request refused", "not given by this hub since it started")
	p.recorded(t, "evidence.refuse", "pump-01", "not given by this hub")
	if err := d.renew(); err != nil {
		t.Error(err)
	}
	p.goesOn(t)
}

// TestModifiedFirmwareIsQuarantined: the evidence is true, and shows what
// nobody signed.
func TestModifiedFirmwareIsQuarantined(t *testing.T) {
	p := newPumpHouse(t)
	d := p.pump("pump-01", firmware)
	if err := d.renew(); err != nil {
		t.Fatal(err)
	}
	m := must(p.mqtt(d.ldevid))(t)
	defer m.close()
	if err := errors.Join(m.open("pump-01"), m.publish("devices/pump-01/messages/events/", "{}")); err != nil {
		t.Fatal(err)
	}
	d.reboot(modified)
	err := d.renew()
	refusedWith(t, err, http.StatusForbidden, "identity.attestation")
	if s := p.device("pump-01"); s.Status != posture.Quarantined || !strings.Contains(s.Reason, "identity.attestation") {
		t.Errorf("it is %s: %s", s.Status, s.Reason)
	}
	p.logged(t, "request refused", "pump-01", "identity.attestation")
	p.recorded(t, "verdict", "pump-01", "identity.attestation", "fail")
	p.recorded(t, "certificate.refuse", "pump-01", "identity.attestation")
	if err := m.publish("devices/pump-01/messages/events/", "{}"); err == nil {
		t.Error("its open session still sends telemetry")
	}
	p.recorded(t, "session.violation", "pump-01", "quarantine")
	d.reboot(firmware)
	if err := d.renew(); err != nil {
		t.Errorf("healed, yet %v", err)
	}
	p.goesOn(t)
}

// TestTPMStateThatGoesBackIsRefused: whoever restores an old state of a
// software TPM rolls back its clock and its resets.
func TestTPMStateThatGoesBackIsRefused(t *testing.T) {
	p := newPumpHouse(t)
	d := p.pump("pump-01", firmware)
	state := filepath.Join(d.machine.Dir, "tpm2-00.permall")
	if err := d.machine.Stop(); err != nil {
		t.Fatal(err)
	}
	old := must(os.ReadFile(state))(t)
	d.machine.Cut()
	d.reboot(firmware)
	if err := d.renew(); err != nil {
		t.Fatal(err)
	}
	d.machine.Kill()
	if err := os.WriteFile(state, old, 0o600); err != nil {
		t.Fatal(err)
	}
	d.machine.Cut()
	d.boot(firmware)
	refusedWith(t, d.renew(), http.StatusUnprocessableEntity, "does not verify")
	p.logged(t, "request refused", "pump-01", "clock: ")
	p.recorded(t, "evidence.refuse", "pump-01", "clock: ")
	p.goesOn(t)
}

func TestMalformedEvidenceIsRefused(t *testing.T) {
	p := newPumpHouse(t)
	d := p.pump("pump-01", firmware)
	for name, tc := range map[string]struct {
		body   string
		status int
		log    string
	}{
		"nothing":      {"", 400, "malformed"},
		"not JSON":     {"{", 400, "malformed"},
		"a wrong type": {`{"nonce":7}`, 400, "malformed"},
		"empty":        {`{}`, 409, "nonce: 0 bytes"},
		"too long":     {`{"event_log":"` + strings.Repeat("A", 300<<10) + `"}`, 400, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			x := must(p.https(d.birth))(t)
			defer x.close()
			status, answer, err := x.do("POST", "/attest/evidence", "application/json", []byte(tc.body))
			if err != nil || status != tc.status {
				t.Errorf("%d %s, %v; want %d", status, answer, err, tc.status)
			}
			p.logged(t, "request refused", tc.log)
		})
	}
	if err := d.renew(); err != nil {
		t.Errorf("a healthy board is refused then: %v", err)
	}
}

// TestAttestingNeedsADevicesCertificate refuses who has none, and who has no
// TPM to attest with.
func TestAttestingNeedsADevicesCertificate(t *testing.T) {
	w := newWorld(t)
	_, err := on(w, nil, func(x *wire) ([]byte, error) { return x.nonce() })
	refusedWith(t, err, http.StatusForbidden, "certificate is needed")
	w.logged(t, "request refused", "/attest/nonce")
	for _, cert := range []string{"birth", "operational"} {
		c := w.healthy.birth
		if cert == "operational" {
			c = w.healthy.ldevid
		}
		_, err = on(w, c, func(x *wire) ([]byte, error) { return x.nonce() })
		refusedWith(t, err, http.StatusForbidden, "no attestation key")
	}
	w.logged(t, "request refused", "no attestation key")
	w.goesOn(t)
}
