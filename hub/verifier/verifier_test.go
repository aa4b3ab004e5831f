package verifier_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/appraise"
	"holdfast/appraise/appraisetest"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/hub/store"
	"holdfast/hub/verifier"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/release"
)

// registry is the hub around the verifier: devices, posture and ledger.
type registry struct {
	mu        sync.Mutex
	attesters map[identity.Device]verifier.Attester
	rows      map[identity.Device][]measure.Row
	facts     map[identity.Device]appraise.Facts
	ledger    []string
	broken    error // of Report
	full      error // of Record
	released  map[identity.Group][]release.Release
	unread    error // of Of
}

func (r *registry) Of(_ context.Context, g identity.Group) ([]release.Release, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.released[g], r.unread
}

func (r *registry) Attester(_ context.Context, d identity.Device) (verifier.Attester, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.attesters[d]
	if !ok {
		return a, fault.New(fault.Denied, "device %s has no attestation key", d)
	}
	return a, nil
}

func (r *registry) Report(_ context.Context, d identity.Device, rows []measure.Row, facts appraise.Facts) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		return r.broken
	}
	r.rows[d], r.facts[d] = rows, facts
	return nil
}

func (r *registry) Record(_ context.Context, kind string, d identity.Device, details any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full != nil {
		return r.full
	}
	b, err := json.Marshal(details)
	r.ledger = append(r.ledger, fmt.Sprintf("%s %s %s", kind, d, b))
	return err
}

// hub is a verifier with a real store, at a time that the test moves.
type hub struct {
	*verifier.Verifier
	*registry
	t     testing.TB
	store *store.Store
	log   bytes.Buffer
	now   time.Time
}

func newHub(t testing.TB) *hub {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	h := &hub{t: t, store: s, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), registry: &registry{
		attesters: make(map[identity.Device]verifier.Attester),
		rows:      make(map[identity.Device][]measure.Row),
		facts:     make(map[identity.Device]appraise.Facts),
	}}
	h.restart()
	for _, r := range appraisetest.References("pumps") {
		op := operator.Reference{Group: r.Group, Kind: string(r.Kind), PCR: r.PCR, Digest: r.Digest, Name: r.Name, Version: r.Version}
		if err := h.AddReference(t.Context(), "ops", op); err != nil {
			t.Fatal(err)
		}
	}
	h.ledger = nil
	return h
}

// restart replaces the verifier by one that has only the store.
func (h *hub) restart() {
	v, err := verifier.New(verifier.Config{Attesters: h.registry, Store: h.store.Verifier(), Reporter: h.registry, Ledger: h.registry, Releases: h.registry,
		Log: slog.New(slog.NewTextHandler(&h.log, nil)), Now: func() time.Time { return h.now }})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Verifier = v
}

// enrol puts a device into the registry.
func (h *hub) enrol(d identity.Device, ak []byte) {
	h.attesters[d] = verifier.Attester{AK: ak, Group: "pumps", Class: appraise.Software, Simulation: true}
}

// peer is a device's connection number n.
func peer(d identity.Device, n byte) verifier.Peer {
	return verifier.Peer{Device: d, Session: fmt.Sprintf("s%d", n), Exporter: bytes.Repeat([]byte{n}, evidence.ExporterSize)}
}

func (h *hub) nonce(p verifier.Peer) []byte {
	h.t.Helper()
	n, err := h.Nonce(h.t.Context(), p)
	if err != nil {
		h.t.Fatal(err)
	}
	return n.Nonce
}

// row returns what was last reported of a measure.
func (h *hub) row(d identity.Device, id measure.ID) measure.Row {
	i := slices.IndexFunc(h.rows[d], func(r measure.Row) bool { return r.Measure == id })
	if i < 0 {
		return measure.Row{}
	}
	return h.rows[d][i]
}

// refused checks an error of Attest: its kind, its cause in the log's text and
// in the ledger, and that the peer learns nothing of it.
func (h *hub) refused(err error, kind fault.Kind, cause string) {
	h.t.Helper()
	if fault.Of(err) != kind {
		h.t.Errorf("kind %s of %v, want %s", fault.Of(err), err, kind)
		return
	}
	if !strings.Contains(err.Error(), cause) {
		h.t.Errorf("error %q does not name %q", err, cause)
	}
	if strings.Contains(fault.Public(err), cause) {
		h.t.Errorf("the peer learns %q", fault.Public(err))
	}
	if n := len(h.ledger); n == 0 || !strings.HasPrefix(h.ledger[n-1], "evidence.refuse ") || !strings.Contains(h.ledger[n-1], cause) {
		h.t.Errorf("ledger %q does not name %q", h.ledger, cause)
	}
}

const pump = identity.Device("pump-01")

// forged returns a hub and an enrolled board whose evidence can be shaped.
func forged(t testing.TB) (*hub, *appraisetest.Board) {
	h, b := newHub(t), appraisetest.New(t)
	h.enrol(pump, b.Key.Public())
	return h, b
}

func (h *hub) attest(b *appraisetest.Board, p verifier.Peer) (evidence.Result, error) {
	return h.Attest(h.t.Context(), p, b.Attest(h.t, h.nonce(p), p.Device, p.Exporter))
}

func TestAttest(t *testing.T) {
	h, b := forged(t)
	r, err := h.attest(b, peer(pump, 1))
	if err != nil || !r.Verified {
		t.Fatal(r, err)
	}
	if got := h.row(pump, measure.IdentityAttestation); got.Verdict != measure.Pass || !got.Time.Equal(h.now) {
		t.Errorf("row %+v", got)
	}
	if c, ok := h.facts[pump].Firmware(); !ok || c.Version != "1.2.0" {
		t.Errorf("facts %+v", h.facts[pump])
	}
	latest, err := h.Latest(t.Context(), pump)
	if err != nil || !latest.Result.Verified || latest.Facts.Platform != appraise.Board || latest.Step != "" {
		t.Errorf("latest %+v, %v", latest, err)
	}
	if len(h.ledger) != 0 {
		t.Errorf("ledger %q", h.ledger)
	}
}

func TestCertifiedKeyIsGoodForItsTime(t *testing.T) {
	h, b := forged(t)
	key := b.Next.Digest(t)
	certified := func(d identity.Device, k identity.Digest) bool {
		ok, err := h.Certified(t.Context(), d, k, 10*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if certified(pump, key) {
		t.Error("a key is certified before any evidence")
	}
	if _, err := h.attest(b, peer(pump, 1)); err != nil {
		t.Fatal(err)
	}
	h.restart()
	if !certified(pump, key) {
		t.Error("the key is not certified")
	}
	h.attesters["pump-02"] = h.attesters[pump]
	if certified("pump-02", key) || certified(pump, identity.Digest{}) {
		t.Error("another device's or another key is certified")
	}
	if _, err := h.Certified(t.Context(), "pump-03", key, 10*time.Minute); fault.Of(err) != fault.Denied {
		t.Errorf("of a device that cannot attest: %v", err)
	}
	own := h.attesters[pump]
	h.enrol(pump, []byte("the AK of a later birth"))
	if certified(pump, key) {
		t.Error("the word of an AK that was superseded counts")
	}
	h.attesters[pump] = own
	h.now = h.now.Add(-time.Hour)
	if certified(pump, key) {
		t.Error("evidence from the future counts, after the clock was set back")
	}
	h.now = h.now.Add(time.Hour)
	h.now = h.now.Add(10*time.Minute + time.Microsecond)
	if certified(pump, key) {
		t.Error("the key is certified for longer than asked")
	}
}

func TestNonceIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(*hub, *appraisetest.Board) error
		kind  fault.Kind
		cause string
	}{
		"never given": {func(h *hub, b *appraisetest.Board) error {
			p := peer(pump, 1)
			_, err := h.Attest(h.t.Context(), p, b.Attest(h.t, make([]byte, 32), pump, p.Exporter))
			return err
		}, fault.Conflict, "not given"},
		"short": {func(h *hub, b *appraisetest.Board) error {
			p := peer(pump, 1)
			_, err := h.Attest(h.t.Context(), p, b.Attest(h.t, []byte{1}, pump, p.Exporter))
			return err
		}, fault.Conflict, "1 bytes"},
		"used twice": {func(h *hub, b *appraisetest.Board) error {
			p := peer(pump, 1)
			e := b.Attest(h.t, h.nonce(p), pump, p.Exporter)
			if _, err := h.Attest(h.t.Context(), p, e); err != nil {
				return err
			}
			_, err := h.Attest(h.t.Context(), p, e)
			return err
		}, fault.Conflict, "used before"},
		"used by a failure": {func(h *hub, b *appraisetest.Board) error {
			p := peer(pump, 1)
			e := b.Attest(h.t, h.nonce(p), pump, p.Exporter)
			broken := e
			broken.Quote.Signature = nil
			if _, err := h.Attest(h.t.Context(), p, broken); err == nil {
				return errors.New("a quote without signature is accepted")
			}
			_, err := h.Attest(h.t.Context(), p, e)
			return err
		}, fault.Conflict, "used before"},
		"expired": {func(h *hub, b *appraisetest.Board) error {
			p := peer(pump, 1)
			e := b.Attest(h.t, h.nonce(p), pump, p.Exporter)
			h.now = h.now.Add(verifier.NonceLifetime)
			_, err := h.Attest(h.t.Context(), p, e)
			return err
		}, fault.Conflict, "expired"},
		"after a restart": {func(h *hub, b *appraisetest.Board) error {
			p := peer(pump, 1)
			e := b.Attest(h.t, h.nonce(p), pump, p.Exporter)
			h.restart()
			_, err := h.Attest(h.t.Context(), p, e)
			return err
		}, fault.Conflict, "since it started"},
		"of another session": {func(h *hub, b *appraisetest.Board) error {
			p := peer(pump, 2)
			_, err := h.Attest(h.t.Context(), p, b.Attest(h.t, h.nonce(peer(pump, 1)), pump, p.Exporter))
			return err
		}, fault.Conflict, "another session"},
		"of another device": {func(h *hub, b *appraisetest.Board) error {
			h.enrol("pump-02", b.Key.Public())
			p := peer(pump, 1)
			_, err := h.Attest(h.t.Context(), p, b.Attest(h.t, h.nonce(peer("pump-02", 2)), pump, p.Exporter))
			return err
		}, fault.Conflict, "given to device pump-02"},
	} {
		t.Run(name, func(t *testing.T) {
			h, b := forged(t)
			err := c.do(h, b)
			if err == nil {
				t.Fatal("evidence is accepted")
			}
			h.refused(err, c.kind, c.cause)
		})
	}
}

// A stranger who learns a nonce cannot use it up for its owner, and cannot
// change the owner's posture.
func TestNonceStaysWithItsOwner(t *testing.T) {
	h, b := forged(t)
	thief := appraisetest.New(t)
	h.enrol("pump-02", thief.Key.Public())
	owner, other := peer(pump, 1), peer("pump-02", 2)
	n := h.nonce(owner)
	if _, err := h.Attest(t.Context(), other, thief.Attest(t, n, "pump-02", other.Exporter)); err == nil {
		t.Fatal("another's nonce is accepted")
	}
	if len(h.rows) != 0 {
		t.Errorf("rows changed: %v", h.rows)
	}
	if _, err := h.Attest(t.Context(), owner, b.Attest(t, n, pump, owner.Exporter)); err != nil {
		t.Error(err)
	}
}

func TestEvidenceIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*hub, *appraisetest.Board, verifier.Peer, []byte) evidence.Attestation
		step   appraise.Step
	}{
		"relayed over another session": {func(h *hub, b *appraisetest.Board, p verifier.Peer, n []byte) evidence.Attestation {
			return b.Attest(h.t, n, pump, peer(pump, 9).Exporter)
		}, appraise.StepBinding},
		"made for another device": {func(h *hub, b *appraisetest.Board, p verifier.Peer, n []byte) evidence.Attestation {
			return b.Attest(h.t, n, "pump-02", p.Exporter)
		}, appraise.StepBinding},
		"made for another nonce": {func(h *hub, b *appraisetest.Board, p verifier.Peer, n []byte) evidence.Attestation {
			e := b.Attest(h.t, make([]byte, 32), pump, p.Exporter)
			e.Nonce = n
			return e
		}, appraise.StepBinding},
		"made by another TPM": {func(h *hub, b *appraisetest.Board, p verifier.Peer, n []byte) evidence.Attestation {
			return appraisetest.New(h.t).Attest(h.t, n, pump, p.Exporter)
		}, appraise.StepSignature},
		"claims changed": {func(h *hub, b *appraisetest.Board, p verifier.Peer, n []byte) evidence.Attestation {
			e := b.Attest(h.t, n, pump, p.Exporter)
			e.Claims = json.RawMessage(`{}`)
			return e
		}, appraise.StepBinding},
		"log changed": {func(h *hub, b *appraisetest.Board, p verifier.Peer, n []byte) evidence.Attestation {
			e := b.Attest(h.t, n, pump, p.Exporter)
			e.EventLog = appraisetest.Encode(appraisetest.Log(true, true, "deployed", appraisetest.NewImage))
			return e
		}, appraise.StepReplay},
	} {
		t.Run(name, func(t *testing.T) {
			h, b := forged(t)
			if _, err := h.attest(b, peer(pump, 1)); err != nil {
				t.Fatal(err)
			}
			p := peer(pump, 2)
			_, err := h.Attest(t.Context(), p, c.change(h, b, p, h.nonce(p)))
			if err == nil {
				t.Fatal("evidence is accepted")
			}
			h.refused(err, fault.Integrity, string(c.step))
			if got := h.row(pump, measure.IdentityAttestation); got.Verdict != measure.Fail {
				t.Errorf("row %+v", got)
			}
			if latest, err := h.Latest(t.Context(), pump); err != nil || latest.Step != c.step || latest.Result.Verified {
				t.Errorf("latest %+v, %v", latest, err)
			}
			if _, err := h.attest(b, peer(pump, 3)); err != nil {
				t.Errorf("healthy evidence after it: %v", err)
			}
		})
	}
}

// Malformed evidence says nothing of the device: rows stay as they are.
func TestMalformedEvidenceChangesNothing(t *testing.T) {
	h, b := forged(t)
	p := peer(pump, 1)
	e := b.Attest(t, h.nonce(p), pump, p.Exporter)
	e.Claims = nil
	_, err := h.Attest(t.Context(), p, e)
	h.refused(err, fault.Invalid, "claims")
	if len(h.rows) != 0 {
		t.Errorf("rows %v", h.rows)
	}
	if _, err := h.Latest(t.Context(), pump); fault.Of(err) != fault.NotFound {
		t.Errorf("latest: %v", err)
	}
}

// What must not go back is remembered over a restart, for this AK.
func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*appraisetest.Board)
		step   appraise.Step
	}{
		"counter back": {func(b *appraisetest.Board) { b.Counter-- }, appraise.StepCounter},
		"clock back":   {func(b *appraisetest.Board) { b.Clock.Clock-- }, appraise.StepClock},
		"reset back":   {func(b *appraisetest.Board) { b.Clock.ResetCount-- }, appraise.StepClock},
	} {
		t.Run(name, func(t *testing.T) {
			h, b := forged(t)
			if _, err := h.attest(b, peer(pump, 1)); err != nil {
				t.Fatal(err)
			}
			h.restart()
			c.change(b)
			_, err := h.attest(b, peer(pump, 2))
			h.refused(err, fault.Integrity, string(c.step))

			h.restart() // the refused state is not remembered
			_, err = h.attest(b, peer(pump, 3))
			h.refused(err, fault.Integrity, string(c.step))

			b.Key = appraisetest.NewKey(t, true) // born anew
			h.enrol(pump, b.Key.Public())
			if _, err := h.attest(b, peer(pump, 4)); err != nil {
				t.Errorf("under a new AK: %v", err)
			}
		})
	}
}

func TestUnknownMeasurementIsReported(t *testing.T) {
	h, b := forged(t)
	b.Events = appraisetest.Log(false, true, "deployed", appraisetest.NewImage)
	if r, err := h.attest(b, peer(pump, 1)); err != nil || !r.Verified {
		t.Fatal(r, err)
	}
	if got := h.row(pump, measure.IdentityAttestation); got.Verdict != measure.Fail || !strings.Contains(got.Reason, appraisetest.NewImage.String()) {
		t.Errorf("row %+v", got)
	}
}

// The device is told only what is on disk and reported.
func TestNoAnswerBeforeTheReport(t *testing.T) {
	h, b := forged(t)
	h.broken = errors.New("no room")
	if _, err := h.attest(b, peer(pump, 1)); fault.Of(err) != fault.Internal {
		t.Errorf("error %v", err)
	}
	h.broken = nil
	h.store.Close()
	if _, err := h.attest(b, peer(pump, 2)); fault.Of(err) != fault.Internal {
		t.Errorf("error %v", err)
	}
	if len(h.rows) != 0 {
		t.Error("rows were reported that are not on disk")
	}
}

func TestDeviceWithoutKeyCannotAttest(t *testing.T) {
	h, _ := forged(t)
	if _, err := h.Nonce(t.Context(), peer("valve-01", 1)); fault.Of(err) != fault.Denied {
		t.Errorf("error %v", err)
	}
	if _, err := h.Nonce(t.Context(), verifier.Peer{Device: pump, Session: "s"}); fault.Of(err) != fault.Internal {
		t.Errorf("a connection without exporter: %v", err)
	}
}

func TestNoncesAreLimited(t *testing.T) {
	h, b := forged(t)
	h.enrol("pump-02", b.Key.Public())
	p := peer(pump, 1)
	for range 32 {
		h.nonce(p)
	}
	if _, err := h.Nonce(t.Context(), p); fault.Of(err) != fault.Unavailable {
		t.Errorf("nonce 33: %v", err)
	}
	h.nonce(peer("pump-02", 2)) // another device is not held up
	h.now = h.now.Add(verifier.NonceLifetime)
	h.nonce(p)
}

func TestLedgerIsNotFlooded(t *testing.T) {
	h, b := forged(t)
	p := peer(pump, 1)
	e := b.Attest(t, make([]byte, 32), pump, p.Exporter)
	for range 100 {
		if _, err := h.Attest(t.Context(), p, e); err == nil {
			t.Fatal("evidence is accepted")
		}
	}
	if len(h.ledger) != 10 {
		t.Errorf("%d records", len(h.ledger))
	}
	h.now = h.now.Add(time.Minute)
	_, err := h.Attest(t.Context(), p, e)
	h.refused(err, fault.Conflict, "not given")
	if len(h.ledger) != 11 {
		t.Errorf("%d records", len(h.ledger))
	}
}

// Of two appraisals that began with the same memory only one is kept.
func TestConcurrentAppraisals(t *testing.T) {
	h, b := forged(t)
	s := h.store.Verifier()
	a := verifier.Appraisal{Device: pump, AK: identity.Sum(b.Key.Public()), State: &appraise.State{}}
	for version := range int64(2) {
		if err := s.SaveAppraisal(t.Context(), a, version); err != nil {
			t.Fatal(err)
		}
		if err := s.SaveAppraisal(t.Context(), a, version); fault.Of(err) != fault.Conflict {
			t.Errorf("second writer of version %d: %v", version, err)
		}
	}
}

func TestAppraisalsAreBounded(t *testing.T) {
	h, b := forged(t)
	for i := range 40 {
		h.now = h.now.Add(time.Minute)
		b.Clock.Clock++
		if _, err := h.attest(b, peer(pump, byte(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	latest, err := h.Latest(t.Context(), pump)
	if err != nil || !latest.Result.Time.Equal(h.now) {
		t.Errorf("latest is of %s, %v", latest.Result.Time, err)
	}
}

func TestReferences(t *testing.T) {
	h, _ := forged(t)
	refs, err := h.References(t.Context(), "pumps")
	if err != nil || len(refs) != 2 {
		t.Fatal(refs, err)
	}
	if err := h.AddReference(t.Context(), "ops", operator.Reference{Group: "pumps", Kind: "firmware", PCR: 5, Name: "x"}); fault.Of(err) != fault.Invalid {
		t.Errorf("wrong register: %v", err)
	}
	again := refs[1]
	again.Version = "1.2.1"
	if err := h.AddReference(t.Context(), "ops", again); err != nil {
		t.Fatal(err)
	}
	if refs, _ = h.References(t.Context(), "pumps"); len(refs) != 2 || refs[1].Version != "1.2.1" {
		t.Errorf("references %+v", refs)
	}
	if err := h.RemoveReference(t.Context(), "ops", "bench", again.Digest); fault.Of(err) != fault.NotFound {
		t.Errorf("another group's: %v", err)
	}
	if err := h.RemoveReference(t.Context(), "ops", "pumps", again.Digest); err != nil {
		t.Fatal(err)
	}
	if refs, _ = h.References(t.Context(), "pumps"); len(refs) != 1 {
		t.Errorf("references %+v", refs)
	}
	if n := len(h.ledger); n != 2 || !strings.HasPrefix(h.ledger[0], "reference.add ") || !strings.HasPrefix(h.ledger[1], "reference.remove ") {
		t.Errorf("ledger %q", h.ledger)
	}
}

func TestNewWantsItsParts(t *testing.T) {
	if _, err := verifier.New(verifier.Config{}); err == nil {
		t.Error("a verifier of nothing")
	}
}

// TestReferencesNeverChangeWithoutARecord: when the ledger takes nothing, what
// firmware is good stays what it was.
func TestReferencesNeverChangeWithoutARecord(t *testing.T) {
	h := newHub(t)
	references := func() []operator.Reference {
		refs, err := h.References(t.Context(), "pumps")
		if err != nil {
			t.Fatal(err)
		}
		return refs
	}
	before := references()
	h.full = errors.New("ledger is full")
	again := before[1]
	again.Digest = identity.Sum([]byte("an evil image"))
	if err := h.AddReference(t.Context(), "ops", again); err == nil {
		t.Error("added without a record")
	}
	if err := h.RemoveReference(t.Context(), "ops", "pumps", before[1].Digest); err == nil {
		t.Error("removed without a record")
	}
	if after := references(); !slices.Equal(after, before) {
		t.Errorf("references are %+v, were %+v", after, before)
	}
}

// TestReleasesAreReferences: the published releases of a group's product are
// known good without an operator's word, the withdrawn ones known.
func TestReleasesAreReferences(t *testing.T) {
	h, b := forged(t)
	b.Events = appraisetest.Log(true, true, "deployed", appraisetest.NewImage)
	attest := func(n byte) measure.Row {
		t.Helper()
		if _, err := h.attest(b, peer(pump, n)); err != nil {
			t.Fatal(err)
		}
		return h.row(pump, measure.IdentityAttestation)
	}
	of := release.Release{Target: release.Target{Product: "pump", Version: mcuboot.Version{Major: 1, Minor: 4}, Measured: appraisetest.NewImage}}
	h.released = map[identity.Group][]release.Release{"valves": {of}}
	if r := attest(1); r.Verdict != measure.Fail {
		t.Errorf("a release of another group's product is known: %+v", r)
	}
	for n, why := range []string{"", "it leaks"} {
		of.Withdrawn = why
		h.released = map[identity.Group][]release.Release{"pumps": {of}}
		if r := attest(byte(2 + n)); r.Verdict != measure.Pass {
			t.Errorf("row %+v", r)
		}
		f := h.facts[pump]
		if c, ok := f.Firmware(); !ok || c.Name != "pump" || c.Version != "1.4.0" || f.Running == nil || f.Running.Digest != appraisetest.NewImage || f.Running.Reference != "" {
			t.Errorf("facts %+v", f)
		}
	}

	refs, err := h.References(t.Context(), "pumps")
	if err != nil || len(refs) != 3 || !refs[2].Released || refs[0].Released || refs[2].Name != "pump" || refs[2].PCR != 4 {
		t.Fatalf("references %+v, %v", refs, err)
	}
	records := len(h.ledger)
	if err := h.RemoveReference(t.Context(), "ops", "pumps", appraisetest.NewImage); fault.Of(err) != fault.Conflict || !strings.Contains(fault.Public(err), "pump 1.4.0") || len(h.ledger) != records {
		t.Errorf("removing what signers said: %v", err)
	}

	// Said by both: the operator's word can go, the signers' stays.
	said := operator.Reference{Group: "pumps", Kind: "firmware", PCR: 4, Digest: appraisetest.NewImage, Name: "own", Version: "9", Released: true}
	if err := h.AddReference(t.Context(), "ops", said); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(h.ledger[len(h.ledger)-1], "released") {
		t.Errorf("an operator spoke for the signers: %s", h.ledger[len(h.ledger)-1])
	}
	attest(4)
	if f := h.facts[pump]; f.Running == nil || f.Running.Reference != "own 9" || f.Booted[0].Name != "pump" {
		t.Errorf("facts %+v", f)
	}
	if err := h.RemoveReference(t.Context(), "ops", "pumps", appraisetest.NewImage); err != nil {
		t.Error(err)
	}
	if r := attest(5); r.Verdict != measure.Pass || h.facts[pump].Running.Reference != "" {
		t.Errorf("row %+v, facts %+v", r, h.facts[pump])
	}

	h.unread = errors.New("no disk")
	if _, err := h.attest(b, peer(pump, 6)); err == nil {
		t.Error("an appraisal was made without the releases")
	}
	if _, err := h.References(t.Context(), "pumps"); err == nil {
		t.Error("references without the releases")
	}
}
