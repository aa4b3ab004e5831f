// Package provision is the device provisioning service: with it a device that
// knows only an id scope finds its hub, is entered into the registry, and may
// get its first operational certificate. It also issues the certificates that
// devices ask for over their sessions.
//
// Who may come is said by enrolments; one for a single device beats one for
// many, and where none speaks of a device the makers' CAs and ids of the groups
// decide. A device is known by its certificate and by nothing else: shared
// keys, tokens made of them and DPS's attestation by TPM, which ends in one, are
// refused.
//
// Invariants:
//   - What a device was answered is stored before: it may ask again after a
//     restart of the hub.
//   - One certificate is of one device: an enrolment may give a device another id
//     than its certificate has, and then nobody else comes by either.
//   - A disabled enrolment keeps a device out that the registry does not know,
//     also where an enrolment for many, or its group, would let it in.
package provision

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"time"

	"holdfast/dps"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

// Registry is the fleet.
type Registry interface {
	// Enter admits a device that provisions itself, into group where that is not
	// empty. A fault of kind Denied says why not.
	Enter(ctx context.Context, p pki.Peer, group identity.Group, by string) (isNew bool, err error)
	// MakerCA returns the name of the maker's CA with that certificate.
	MakerCA(ctx context.Context, anchor identity.Digest) (string, error)
	// Group returns a group.
	Group(ctx context.Context, id identity.Group) (operator.Group, error)
}

// Issuer issues operational certificates.
type Issuer interface {
	// Issue grants and issues a certificate for the key of csr, which has been
	// checked. The result has the leaf and the intermediate.
	Issue(ctx context.Context, p pki.Peer, key identity.Digest, csr []byte) ([]*x509.Certificate, error)
	// Held returns the certificate in force that the device was issued for key,
	// as Issue did, or nil.
	Held(ctx context.Context, id identity.Device, key identity.Digest) ([]*x509.Certificate, error)
}

// Twins gives devices their initial twin.
type Twins interface {
	// Begin writes an initial twin: in place of what is there with reset, merged
	// into it otherwise.
	Begin(ctx context.Context, id identity.Device, t operator.SetTwin, reset bool) error
}

// Ledger records what is relevant to security.
type Ledger interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}

// The kinds of the ledger's records.
const (
	KindEnrollment = "enrollment.set"
	KindRemove     = "enrollment.remove"
	KindProvision  = "device.provision"
)

// Config has what a Service works with. All but Now is required.
type Config struct {
	Store    Store
	Registry Registry
	Issuer   Issuer
	Twins    Twins
	Ledger   Ledger
	Scope    dps.Scope
	Hub      string            // host that devices are assigned to, with its port where it is not 8883
	Root     *x509.Certificate // ends the chains of renewed certificates
	Log      *slog.Logger
	Now      func() time.Time // default time.Now
}

// Service provisions devices. It is safe for concurrent use.
type Service struct {
	cfg   Config
	edits sync.Mutex // one at a time changes enrolments
	rates rates
	runs  renewals
	names *names
}

// New makes a Service; Load has to follow.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Registry == nil || cfg.Issuer == nil || cfg.Twins == nil || cfg.Ledger == nil ||
		cfg.Scope == "" || cfg.Hub == "" || cfg.Root == nil || cfg.Log == nil {
		return nil, errors.New("provision: config lacks a collaborator")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, names: newNames(), rates: rates{seen: map[identity.Device]int{}}, runs: renewals{running: map[identity.Device]*renewal{}}}, nil
}

// Scope returns the id scope of this hub.
func (s *Service) Scope() dps.Scope { return s.cfg.Scope }

func (s *Service) now() time.Time { return s.cfg.Now().UTC() }
