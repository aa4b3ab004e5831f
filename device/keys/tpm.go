package keys

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/evidence"
)

// Config says where the keys are.
type Config struct {
	// TPM is the connection to the TPM: /dev/tpmrm0, or a TPM that nobody
	// else uses. Open flushes the transient objects and sessions that it can
	// see, which a crashed predecessor left behind. Required.
	TPM transport.TPM
	// Dir is the state directory for key blobs and certificates. Required;
	// it is made where needed.
	Dir string
	// OwnerAuth is the authorisation value of the owner hierarchy; empty when
	// none is set. It is needed once, to make the storage root key and
	// counters, and to increment counters.
	OwnerAuth []byte
	// EndorsementAuth is that of the endorsement hierarchy.
	EndorsementAuth []byte
}

// TPM has keys in a TPM. Its methods are safe for concurrent use.
type TPM struct {
	state
	owner       []byte
	endorsement []byte
	ekPublic    []byte
	ekChain     [][]byte

	mu  sync.Mutex // one command sequence at a time; guards the fields below
	tpm transport.TPM
	srk tpm2.NamedHandle
	ek  ekSource
}

// Open opens the keys of a TPM, making its storage root key where it has none.
func Open(cfg Config) (*TPM, error) {
	if cfg.TPM == nil {
		return nil, errors.New("open keys: no TPM")
	}
	s, err := openState(cfg.Dir)
	if err != nil {
		return nil, err
	}
	t := &TPM{state: s, owner: cfg.OwnerAuth, endorsement: cfg.EndorsementAuth, tpm: cfg.TPM}
	if err := flushAll(t.tpm); err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	if t.srk, err = t.storageRoot(); err != nil {
		return nil, fmt.Errorf("open keys: storage root key: %w", err)
	}
	if err := t.findEK(); err != nil {
		return nil, fmt.Errorf("open keys: endorsement key: %w", err)
	}
	return t, nil
}

// EKPublic returns the endorsement key's public area (TPMT_PUBLIC).
func (t *TPM) EKPublic() []byte { return t.ekPublic }

// EKChain returns the endorsement key's certificate and those above it that
// the TPM holds (DER, leaf first). It is empty where the maker stored none.
func (t *TPM) EKChain() [][]byte { return t.ekChain }

const (
	tpmBirth       = "birth.json"
	tpmOperational = "operational.json"
)

// birthFile is the file of attestation key and birth key.
type birthFile struct {
	AK    blob `json:"ak"`
	Birth blob `json:"birth"`
}

// operationalFile is the file of an operational key and its certificates.
type operationalFile struct {
	Key   blob     `json:"key"`
	Chain [][]byte `json:"chain"`
}

// Birth returns what the TPM shows to be born and the birth key, making that
// and the attestation key when there are none.
func (t *TPM) Birth() (*evidence.Birth, *Key, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, err := t.birth()
	if errors.Is(err, ErrNone) {
		b, err = t.makeBirth()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("birth keys: %w", err)
	}
	certify, err := t.certify(b.AK, b.Birth, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("birth keys: %w", err)
	}
	key, err := t.key(b.Birth)
	if err != nil {
		return nil, nil, fmt.Errorf("birth keys: %w", err)
	}
	return &evidence.Birth{EKPublic: t.ekPublic, EKChain: t.ekChain, AKPublic: b.AK.Public,
		BirthPublic: b.Birth.Public, Certify: certify}, key, nil
}

func (t *TPM) birth() (birthFile, error) {
	var b birthFile
	err := t.load(tpmBirth, &b)
	return b, err
}

func (t *TPM) makeBirth() (birthFile, error) {
	var b birthFile
	var err error
	if b.AK, err = t.create(attestationTemplate()); err != nil {
		return b, err
	}
	if b.Birth, err = t.create(signingTemplate()); err != nil {
		return b, err
	}
	return b, t.save(tpmBirth, b)
}

// RenewBirth makes a new birth key in place of the old one, whose certificate
// it deletes. The attestation key stays: what the hub remembers of it goes on.
func (t *TPM) RenewBirth() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, err := t.birth()
	if errors.Is(err, ErrNone) {
		return nil // Birth makes both
	}
	if err == nil {
		b.Birth, err = t.create(signingTemplate())
	}
	if err == nil {
		err = t.dropIssued()
	}
	if err == nil {
		err = t.save(tpmBirth, b)
	}
	if err != nil {
		return fmt.Errorf("new birth key: %w", err)
	}
	return nil
}

// BirthKey returns the birth key, or ErrNone before Birth.
func (t *TPM) BirthKey() (*Key, error) {
	b, err := t.birth()
	if err != nil {
		return nil, fmt.Errorf("birth key: %w", err)
	}
	return t.key(b.Birth)
}

// NewOperational makes a key for the next operational certificate. It is lost
// unless it is promoted.
func (t *TPM) NewOperational() (*Key, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, err := t.create(signingTemplate())
	if err != nil {
		return nil, fmt.Errorf("make operational key: %w", err)
	}
	return t.key(b)
}

// Promote stores a key of NewOperational and its certificate chain (DER, leaf
// first) in place of the old ones, both or neither.
func (t *TPM) Promote(key *Key, chain [][]byte) error {
	if len(key.blob.Private) == 0 {
		return errors.New("store operational key: not a key of a TPM")
	}
	if err := checkChain(key, chain); err != nil {
		return fmt.Errorf("store operational key: %w", err)
	}
	if err := t.save(tpmOperational, operationalFile{Key: key.blob, Chain: chain}); err != nil {
		return fmt.Errorf("store operational key: %w", err)
	}
	return nil
}

// Operational returns the current operational key and chain, or ErrNone.
func (t *TPM) Operational() (*Operational, error) {
	var o operationalFile
	if err := t.load(tpmOperational, &o); err != nil {
		return nil, fmt.Errorf("operational key: %w", err)
	}
	key, err := t.key(o.Key)
	if err != nil {
		return nil, fmt.Errorf("operational key: %w", err)
	}
	return &Operational{Key: key, Chain: o.Chain}, nil
}
