package verifier_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/appraise"
	"holdfast/appraise/appraisetest"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/hub/verifier"
	"holdfast/identity"
	"holdfast/internal/swtpm/swtpmtest"
	"holdfast/measure"
	"holdfast/test/evidence/attester"
)

// board is a booted virtual board with a software TPM.
type board struct {
	*swtpmtest.Machine
	t   testing.TB
	tpm transport.TPMCloser
	*attester.Attester
	events    []appraise.Event
	hierarchy tpm2.TPMHandle // of the AK
}

func newBoard(t testing.TB, hierarchy tpm2.TPMHandle) *board {
	t.Helper()
	b := &board{Machine: swtpmtest.New(t), t: t, hierarchy: hierarchy}
	b.boot(appraisetest.Log(true, true, "deployed", appraisetest.Image))
	if err := b.Increment(); err != nil {
		t.Fatal(err)
	}
	return b
}

// boot measures what a boot measures, after the TPM got power.
func (b *board) boot(events []appraise.Event) {
	b.t.Helper()
	var err error
	b.tpm, b.events = b.Connect(), events
	if err = attester.Measure(b.tpm, events); err == nil {
		b.Attester, err = attester.New(b.tpm, b.hierarchy)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// attest makes evidence with a next key of a template.
func (b *board) attest(nonce []byte, d identity.Device, exporter []byte, template tpm2.TPMTPublic) evidence.Attestation {
	b.t.Helper()
	claims, err := json.Marshal(appraisetest.Claims())
	if err != nil {
		b.t.Fatal(err)
	}
	binding := evidence.Binding(nonce, d, exporter, claims)
	e := evidence.Attestation{Nonce: nonce, EventLog: appraisetest.Encode(b.events), Claims: claims}
	if e.Quote, e.PCRs, err = b.Quote(binding, 0, 4, 7, 11); err != nil {
		b.t.Fatal(err)
	}
	counter, err := b.Counter(binding)
	if err != nil {
		b.t.Fatal(err)
	}
	e.Counters = []evidence.Counter{counter}
	if e.NextKey, err = b.NextKey(binding, template); err != nil {
		b.t.Fatal(err)
	}
	return e
}

// send attests over a connection.
func (h *hub) send(b *board, p verifier.Peer) error {
	h.t.Helper()
	_, err := h.Attest(h.t.Context(), p, b.attest(h.nonce(p), p.Device, p.Exporter, attester.Template(false)))
	return err
}

// TestSoftwareTPM lives the life of a board with a TPM that we did not write:
// healthy, rebooted, without power, relayed, tampered with and restored.
func TestSoftwareTPM(t *testing.T) {
	b := newBoard(t, tpm2.TPMRHOwner)
	h := newHub(t)
	h.enrol(pump, b.Public)
	if err := h.send(b, peer(pump, 1)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []measure.ID{measure.IdentityAttestation, measure.FirmwareSecureBoot, measure.AppDebug} {
		if got := h.row(pump, id); got.Verdict != measure.Pass || got.Grade != measure.Attested {
			t.Errorf("%+v", got)
		}
	}

	b.Reset()
	b.boot(b.events)
	if err := h.send(b, peer(pump, 2)); err != nil {
		t.Errorf("after a reset: %v", err)
	}
	b.Cut()
	b.boot(b.events)
	if err := h.send(b, peer(pump, 3)); err != nil {
		t.Errorf("after a power cut: %v", err)
	}
	if err := b.Increment(); err != nil {
		t.Fatal(err)
	}
	if err := h.send(b, peer(pump, 4)); err != nil {
		t.Errorf("after counting: %v", err)
	}

	other := newBoard(t, tpm2.TPMRHOwner)
	p := peer(pump, 5)
	plain := attester.Template(false)
	for name, c := range map[string]struct {
		evidence func(nonce []byte) evidence.Attestation
		step     appraise.Step
	}{
		"healthy board answers for a sick one": {func(n []byte) evidence.Attestation {
			return other.attest(n, pump, p.Exporter, plain)
		}, appraise.StepSignature},
		"for another device": {func(n []byte) evidence.Attestation {
			return b.attest(n, "pump-02", p.Exporter, plain)
		}, appraise.StepBinding},
		"over another session": {func(n []byte) evidence.Attestation {
			return b.attest(n, pump, peer(pump, 9).Exporter, plain)
		}, appraise.StepBinding},
		"counter of another TPM": {func(n []byte) evidence.Attestation {
			e := b.attest(n, pump, p.Exporter, plain)
			e.Counters = other.attest(n, pump, p.Exporter, plain).Counters
			return e
		}, appraise.StepCounter},
		"next key of another TPM": {func(n []byte) evidence.Attestation {
			e := b.attest(n, pump, p.Exporter, plain)
			e.NextKey = other.attest(n, pump, p.Exporter, plain).NextKey
			return e
		}, appraise.StepNextKey},
		"restricted next key": {func(n []byte) evidence.Attestation {
			return b.attest(n, pump, p.Exporter, attester.Template(true))
		}, appraise.StepNextKey},
		"next key that may leave": {func(n []byte) evidence.Attestation {
			template := attester.Template(false)
			template.ObjectAttributes.FixedTPM, template.ObjectAttributes.FixedParent = false, false
			return b.attest(n, pump, p.Exporter, template)
		}, appraise.StepNextKey},
		"log of another boot": {func(n []byte) evidence.Attestation {
			e := b.attest(n, pump, p.Exporter, plain)
			e.EventLog = appraisetest.Encode(appraisetest.Log(false, true, "deployed", appraisetest.Image))
			return e
		}, appraise.StepReplay},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.Attest(t.Context(), p, c.evidence(h.nonce(p)))
			h.refused(err, fault.Integrity, string(c.step))
		})
	}

	// Firmware that nobody signed boots where nothing verifies it, and tries to
	// hide behind a second, better policy.
	b.Reset()
	lie := appraisetest.Measured(7, evidence.EventVariableConfig, evidence.Variable(evidence.VariableVerification, []byte{1}))
	b.boot(append(appraisetest.Log(false, true, "deployed", appraisetest.NewImage), lie))
	if err := h.send(b, peer(pump, 6)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []measure.ID{measure.IdentityAttestation, measure.FirmwareSecureBoot} {
		if got := h.row(pump, id); got.Verdict != measure.Fail {
			t.Errorf("%+v", got)
		}
	}
}

// A TPM whose owner cleared it has forgotten how often it was reset: its word
// is worth nothing until it is born anew.
func TestClearedTPM(t *testing.T) {
	b := newBoard(t, tpm2.TPMRHEndorsement)
	h := newHub(t)
	h.enrol(pump, b.Public)
	for n := range byte(3) { // leave the counts above those of a new TPM
		if err := h.send(b, peer(pump, n+1)); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		b.boot(b.events)
	}
	if err := b.Attester.Close(); err != nil {
		t.Fatal(err)
	}
	lockout := tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.Clear{AuthHandle: lockout}).Execute(b.tpm); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.Attester, err = attester.New(b.tpm, b.hierarchy); err != nil {
		t.Fatal(err)
	}
	if err := b.Increment(); err != nil {
		t.Fatal(err)
	}
	h.refused(h.send(b, peer(pump, 9)), fault.Integrity, string(appraise.StepClock))
}
