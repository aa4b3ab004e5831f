// Package verifier is the hub's Verifier (RFC 9334): it gives devices nonces,
// takes their evidence, has it appraised and remembers what must never go back.
//
// Invariants:
//   - A nonce is spent by the first evidence that names it, whatever becomes of
//     that evidence. Nonces are in memory alone: none survives a restart.
//   - An appraisal, the TPM's clock and counters and the certified next key are
//     on disk, in one transaction, before the device has its answer.
//   - Evidence speaks for nobody but the device whose connection it came over.
//     Once it has spent that device's nonce, a failure is that device's own and
//     changes its rows; before, it is refused and changes nothing.
package verifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"holdfast/appraise"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/measure"
	"holdfast/release"
)

// Peer is the authenticated device at the other end of a connection.
type Peer struct {
	Device   identity.Device
	Session  string // names the connection, never used twice
	Exporter []byte // of its TLS session (RFC 9266), evidence.ExporterSize bytes
}

// Attester is what the registry knows of a device's ability to attest.
type Attester struct {
	AK         []byte // TPMT_PUBLIC, as activated at birth
	Group      identity.Group
	Class      appraise.Class // of the endorsement root of its TPM
	Simulation bool           // the group is marked so
}

// Attesters finds devices in the registry.
type Attesters interface {
	// Attester returns a device's attestation key and group, or a fault: Denied
	// where it has no key or may not attest.
	Attester(ctx context.Context, device identity.Device) (Attester, error)
}

// Reporter takes what an appraisal has established of a device. The rows
// replace those of the appraisal before; facts are zero where the evidence did
// not verify.
type Reporter interface {
	Report(ctx context.Context, device identity.Device, rows []measure.Row, facts appraise.Facts) error
}

// Releases knows which releases a group's devices may run.
type Releases interface {
	// Of returns the published releases of a group's product, the withdrawn ones
	// too; none where the group names no product.
	Of(ctx context.Context, g identity.Group) ([]release.Release, error)
}

// Ledger records what is relevant to security; details marshal to an object.
type Ledger interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}

// Config has what a Verifier works with. All but Releases, Log and Now is
// required.
type Config struct {
	Attesters Attesters
	Store     Store
	Reporter  Reporter
	Ledger    Ledger
	Releases  Releases // nil: nothing is published
	Log       *slog.Logger
	Now       func() time.Time // default time.Now
}

// Verifier appraises devices. It is safe for concurrent use.
type Verifier struct {
	cfg    Config
	nonces *nonces
	budget budget
}

// New returns a Verifier that has given no nonce yet.
func New(cfg Config) (*Verifier, error) {
	if cfg.Attesters == nil || cfg.Store == nil || cfg.Reporter == nil || cfg.Ledger == nil {
		return nil, errors.New("verifier: attesters, store, reporter and ledger are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{cfg: cfg, nonces: newNonces()}, nil
}

// Nonce gives a device that can attest a nonce for this connection, good for
// NonceLifetime. It is refused (Unavailable) where the device or all of them
// have too many.
func (v *Verifier) Nonce(ctx context.Context, p Peer) (evidence.Nonce, error) {
	if err := p.check(); err != nil {
		return evidence.Nonce{}, err
	}
	if _, err := v.cfg.Attesters.Attester(ctx, p.Device); err != nil {
		return evidence.Nonce{}, fmt.Errorf("nonce for %s: %w", p.Device, err)
	}
	return v.nonces.give(p, v.cfg.Now())
}

func (p Peer) check() error {
	if p.Device == "" || p.Session == "" || len(p.Exporter) != evidence.ExporterSize {
		return fmt.Errorf("peer %q: its connection is not bound", p.Device)
	}
	return nil
}

// Attest appraises the evidence that a device sent over a connection. Evidence
// that does not verify is an Integrity fault, a nonce that is not good here a
// Conflict, malformed evidence Invalid; none of them tells the device more.
func (v *Verifier) Attest(ctx context.Context, p Peer, e evidence.Attestation) (evidence.Result, error) {
	if err := p.check(); err != nil {
		return evidence.Result{}, err
	}
	now := v.cfg.Now()
	if err := v.nonces.spend(p, e.Nonce, now); err != nil {
		v.refused(ctx, p.Device, now, err)
		return evidence.Result{}, fault.Hide(fault.Conflict, "the nonce is not good here: ask for another", err)
	}
	a, err := v.cfg.Attesters.Attester(ctx, p.Device)
	if err != nil {
		return evidence.Result{}, fmt.Errorf("attest %s: %w", p.Device, err)
	}
	o, err := v.appraise(ctx, p, a, e, now)
	if err != nil {
		return evidence.Result{}, fmt.Errorf("attest %s: %w", p.Device, err)
	}
	switch {
	case o.Failure == nil:
		return o.Result, nil
	case o.Failure.Step == appraise.StepForm:
		return evidence.Result{}, fault.Hide(fault.Invalid, "the evidence is malformed", o.Failure)
	}
	return evidence.Result{}, fault.Hide(fault.Integrity, "the evidence does not verify", o.Failure)
}

// appraise appraises, stores and reports. A refusal is an Outcome too.
func (v *Verifier) appraise(ctx context.Context, p Peer, a Attester, e evidence.Attestation, now time.Time) (appraise.Outcome, error) {
	references, err := v.references(ctx, a.Group)
	if err != nil {
		return appraise.Outcome{}, fmt.Errorf("reference values: %w", err)
	}
	ak := identity.Sum(a.AK)
	previous, err := v.cfg.Store.Memory(ctx, p.Device, ak)
	if err != nil {
		return appraise.Outcome{}, err
	}
	o := appraise.Appraise(appraise.Input{
		Evidence:    e,
		Binding:     evidence.Binding(e.Nonce, p.Device, p.Exporter, e.Claims),
		AK:          a.AK,
		Endorsement: a.Class,
		Simulation:  a.Simulation,
		References:  references,
		Previous:    previous.State,
	}, now)
	if o.Failure != nil {
		v.refused(ctx, p.Device, now, o.Failure)
		if o.Failure.Step == appraise.StepForm {
			return o, nil // it says nothing, not even that something is wrong
		}
	}
	if err := v.cfg.Store.SaveAppraisal(ctx, appraisalOf(p.Device, ak, o), previous.Version); err != nil {
		return o, err
	}
	if err := v.cfg.Reporter.Report(ctx, p.Device, o.Result.Rows, o.Facts); err != nil {
		return o, fmt.Errorf("report: %w", err)
	}
	return o, nil
}

func appraisalOf(device identity.Device, ak identity.Digest, o appraise.Outcome) Appraisal {
	a := Appraisal{Device: device, AK: ak, Result: o.Result, Facts: o.Facts, NextKey: o.NextKey}
	if o.Failure != nil {
		a.Step = o.Failure.Step
	} else {
		a.State = &o.State
	}
	return a
}

// refused puts a refusal of evidence in the ledger. Past the device's budget it
// is only logged (by the edge that answers): a device cannot flood the ledger.
func (v *Verifier) refused(ctx context.Context, device identity.Device, now time.Time, why error) {
	if !v.budget.spend(device, now) {
		return
	}
	if err := v.cfg.Ledger.Record(ctx, string(ledger.Evidence), device, map[string]any{"reason": why.Error()}); err != nil {
		v.cfg.Log.ErrorContext(ctx, "refusal is not in the ledger", "device", device, "err", err)
	}
}

// Certified reports whether the AK that the device has now certified a key in
// evidence that verified within the last age. Evidence from the future, seen
// before the hub's clock was set back, does not count.
func (v *Verifier) Certified(ctx context.Context, device identity.Device, key identity.Digest, age time.Duration) (bool, error) {
	a, err := v.cfg.Attesters.Attester(ctx, device)
	if err != nil {
		return false, fmt.Errorf("certified key of %s: %w", device, err)
	}
	now := v.cfg.Now()
	return v.cfg.Store.Certified(ctx, device, identity.Sum(a.AK), key, now.Add(-age), now)
}

// Latest returns the newest appraisal of a device, or a fault of kind NotFound.
func (v *Verifier) Latest(ctx context.Context, device identity.Device) (Appraisal, error) {
	return v.cfg.Store.Latest(ctx, device)
}
