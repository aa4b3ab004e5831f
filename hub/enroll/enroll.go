// Package enroll is the birth of devices: POST /enroll/begin and
// /enroll/finish of docs/PROTOCOL.md. A device shows its TPM; the hub checks
// all of it (package birth), asks the registry who the device is, and puts it
// to the proof with a challenge that only this TPM can answer. Only then are
// the keys bound to the device and its birth certificate issued.
//
// The order of the last steps makes a crash between any two harmless:
//
//  1. the challenge is spent, whatever follows;
//  2. EK and AK are noted, so that no other device can ever show them;
//  3. the registry binds EK, birth key and claim token to the device;
//  4. the certificate is issued, unless there is one for this key already;
//  5. the registry takes in the birth, which supersedes an earlier one;
//  6. the device gets its certificate.
//
// A device that got no answer begins again with the same keys and is given the
// same certificate.
package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"holdfast/birth"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/pki"
)

// Registry says who may be born as whom, and keeps what was born.
type Registry interface {
	// EndorsementRoots returns the registered endorsement roots.
	EndorsementRoots(ctx context.Context) ([]birth.Root, error)
	// Claim says who the device is that shows s: a fault of kind Pending when
	// an operator has to decide, Denied when nobody will have it.
	Claim(ctx context.Context, s birth.Showing) (birth.Entry, error)
	// Bind reserves the device for what it showed, durably.
	Bind(ctx context.Context, id identity.Device, s birth.Showing) error
	// Born takes in a completed birth.
	Born(ctx context.Context, b birth.Born) error
	// RefuseBirth records that whoever showed s was refused, and why.
	RefuseBirth(ctx context.Context, s birth.Showing, reason string) error
}

// Issuer issues birth certificates. Chains have the leaf first.
type Issuer interface {
	// IssueBirth issues the certificate of a device, by the rules of requests.
	IssueBirth(ctx context.Context, id identity.Device, group identity.Group, csr []byte) ([]*x509.Certificate, error)
	// BirthOf returns the device's birth certificate in force if it is for that
	// key, or nil.
	BirthOf(ctx context.Context, id identity.Device, key identity.Digest) ([]*x509.Certificate, error)
	// NoteKey refuses a public key that another device has shown.
	NoteKey(ctx context.Context, key identity.Digest, id identity.Device, kind string) error
}

// Config has what an Enroller works with.
type Config struct {
	Registry Registry         // required
	Issuer   Issuer           // required
	Log      *slog.Logger     // required
	Now      func() time.Time // default time.Now
}

// Enroller lets devices be born. It is safe for concurrent use.
type Enroller struct {
	cfg        Config
	challenges challenges
	busy       chan struct{} // one for each request that is being verified
}

// maxBusy bounds how many requests are verified at the same time: strangers
// may ask, and verifying costs milliseconds.
const maxBusy = 16

// New makes an Enroller.
func New(cfg Config) (*Enroller, error) {
	if cfg.Registry == nil || cfg.Issuer == nil || cfg.Log == nil {
		return nil, errors.New("enroll: registry, issuer and log are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Enroller{cfg: cfg, busy: make(chan struct{}, maxBusy)}, nil
}

// Begin verifies what a device shows and answers with a challenge; a device
// without a TPM, where its group has such, is born at once. remote is the
// network address it came from. Errors are faults, and recorded.
func (e *Enroller) Begin(ctx context.Context, req evidence.BeginRequest, remote string) (evidence.BeginResponse, error) {
	select {
	case e.busy <- struct{}{}:
		defer func() { <-e.busy }()
	default:
		return evidence.BeginResponse{}, fault.New(fault.Unavailable, "too many devices enrol at once")
	}
	roots, err := e.cfg.Registry.EndorsementRoots(ctx)
	if err != nil {
		return evidence.BeginResponse{}, err
	}
	v, err := birth.Verify(req, roots, e.cfg.Now())
	v.Remote = remote
	if fault.Of(err) == fault.Invalid {
		return evidence.BeginResponse{}, err // malformed: it says nothing of any device
	}
	if err != nil {
		return evidence.BeginResponse{}, e.refuse(ctx, v.Showing, err)
	}
	entry, err := e.admit(ctx, v)
	if err != nil {
		return evidence.BeginResponse{}, e.refuse(ctx, v.Showing, err)
	}
	if req.TPM == nil {
		issued, err := e.complete(ctx, entry, v)
		if err != nil {
			return evidence.BeginResponse{}, e.refuse(ctx, v.Showing, err)
		}
		return evidence.BeginResponse{Issued: &issued}, nil
	}
	return e.challenge(entry, v)
}

// admit finds out who the device is, whether its group lets it be born, and
// whether its request is one that the issuer will serve.
func (e *Enroller) admit(ctx context.Context, v *birth.Verified) (birth.Entry, error) {
	entry, err := e.cfg.Registry.Claim(ctx, v.Showing)
	if err != nil {
		return entry, err
	}
	if err := birth.Welcome(v.Class, entry.Group); err != nil {
		return entry, err
	}
	if _, err := pki.CheckCSR(v.CSR, entry.Device); err != nil {
		return entry, fault.New(fault.Invalid, "%w", err)
	}
	return entry, nil
}

func (e *Enroller) challenge(entry birth.Entry, v *birth.Verified) (evidence.BeginResponse, error) {
	secret, credential, encrypted, err := v.Challenge()
	if err != nil {
		return evidence.BeginResponse{}, err
	}
	session, err := e.challenges.add(challenge{entry: entry, shown: v, secret: secret}, e.cfg.Now())
	if err != nil {
		return evidence.BeginResponse{}, err
	}
	return evidence.BeginResponse{Session: session, Credential: credential, Secret: encrypted}, nil
}

// Finish takes the answer to a challenge and lets the device be born. Whatever
// comes of it, the challenge is spent.
func (e *Enroller) Finish(ctx context.Context, req evidence.FinishRequest) (evidence.Issued, error) {
	c, err := e.challenges.spend(req.Session, e.cfg.Now())
	if err != nil {
		return evidence.Issued{}, err
	}
	if !c.answered(req.Secret) {
		err := fault.New(fault.Integrity, "the challenge was not answered: EK and attestation key are not of one TPM")
		return evidence.Issued{}, e.refuse(ctx, c.shown.Showing, err)
	}
	issued, err := e.complete(ctx, c.entry, c.shown)
	if err != nil {
		return evidence.Issued{}, e.refuse(ctx, c.shown.Showing, err)
	}
	return issued, nil
}

// complete carries out a birth whose evidence has been verified.
func (e *Enroller) complete(ctx context.Context, entry birth.Entry, v *birth.Verified) (evidence.Issued, error) {
	none := evidence.Issued{}
	id := entry.Device
	if v.AK != nil {
		if err := e.cfg.Issuer.NoteKey(ctx, v.EKKey, id, "ek"); err != nil {
			return none, err
		}
		if err := e.cfg.Issuer.NoteKey(ctx, v.AKKey, id, "ak"); err != nil {
			return none, err
		}
	}
	if err := e.cfg.Registry.Bind(ctx, id, v.Showing); err != nil {
		return none, err
	}
	chain, err := e.cfg.Issuer.BirthOf(ctx, id, v.Key)
	if err == nil && len(chain) == 0 {
		chain, err = e.cfg.Issuer.IssueBirth(ctx, id, entry.Group.ID, v.CSR)
	}
	if err != nil {
		return none, err
	}
	born := birth.Born{Device: id, Showing: v.Showing, AK: v.AK, Serial: pki.SerialText(chain[0]), Time: e.cfg.Now()}
	if err := e.cfg.Registry.Born(ctx, born); err != nil {
		return none, err
	}
	e.cfg.Log.InfoContext(ctx, "device born", "device", id, "group", entry.Group.ID, "class", v.Class, "serial", born.Serial)
	return evidence.Issued{Device: id, Group: entry.Group.ID, Chain: pki.RawChain(chain)}, nil
}

// refuse has a refusal recorded and returns it. What says nothing against the
// device (pending, overload, our own failure) is not recorded.
func (e *Enroller) refuse(ctx context.Context, s birth.Showing, why error) error {
	switch fault.Of(why) {
	case fault.Denied, fault.Integrity, fault.Invalid:
	default:
		return why
	}
	if err := e.cfg.Registry.RefuseBirth(ctx, s, fault.Public(why)); err != nil {
		return errors.Join(why, err)
	}
	return why
}
