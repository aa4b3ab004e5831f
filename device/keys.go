package device

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"holdfast/device/board"
	"holdfast/device/keys"
	"holdfast/evidence"
	"holdfast/identity"
)

// store is what both kinds of keys keep.
type store interface {
	Issued() (*evidence.Issued, error)
	SaveIssued(evidence.Issued) error
	RenewBirth() error
	NewOperational() (*keys.Key, error)
	Operational() (*keys.Operational, error)
	Promote(key *keys.Key, chain [][]byte) error
}

// keyring gives the agent its view of a store.
type keyring struct{ store }

// Issued returns nil where there is none.
func (k keyring) Issued() (*evidence.Issued, error) {
	issued, err := k.store.Issued()
	if errors.Is(err, keys.ErrNone) {
		return nil, nil
	}
	return issued, err
}

// NewOperational returns a *keys.Key.
func (k keyring) NewOperational() (crypto.Signer, error) { return k.store.NewOperational() }

// Operational returns nil where there is none.
func (k keyring) Operational() (*tls.Certificate, error) {
	o, err := k.store.Operational()
	if errors.Is(err, keys.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(o.Chain) == 0 {
		return nil, errors.New("operational certificate: the chain is empty")
	}
	leaf, err := x509.ParseCertificate(o.Chain[0])
	if err != nil {
		return nil, fmt.Errorf("operational certificate: %w", err)
	}
	return &tls.Certificate{Certificate: o.Chain, PrivateKey: o.Key, Leaf: leaf}, nil
}

// Promote takes a key of NewOperational.
func (k keyring) Promote(key crypto.Signer, chain [][]byte) error {
	own, ok := key.(*keys.Key)
	if !ok {
		return errors.New("promote: not a key of this device")
	}
	return k.store.Promote(own, chain)
}

// tpmKeys are the keys of a device with a TPM.
type tpmKeys struct {
	keyring
	tpm      *keys.TPM
	pcrs     []int
	counters []uint32         // certified in each attestation
	missing  map[uint32]error // those that are not there any more
}

// openTPM opens the keys of a board with a TPM. It makes no counter: a board is
// provisioned with them. One that is gone is left out of what the device
// attests, so that the hub hears of it, and nothing is installed by it.
func openTPM(dir string, b *board.Board) (*tpmKeys, error) {
	tpm, err := keys.Open(keys.Config{TPM: b.TPM, Dir: dir})
	if err != nil {
		return nil, err
	}
	k := &tpmKeys{keyring: keyring{tpm}, tpm: tpm, pcrs: b.Boot.PCRs, missing: map[uint32]error{}}
	for _, index := range b.Counters {
		if _, err := tpm.ReadCounter(index); err != nil {
			k.missing[index] = err
			continue
		}
		k.counters = append(k.counters, index)
	}
	return k, nil
}

// Birth implements agent.Birth.
func (k *tpmKeys) Birth() (*evidence.Birth, crypto.Signer, error) {
	shown, key, err := k.tpm.Birth()
	if err != nil {
		return nil, nil, err
	}
	return shown, key, nil
}

// Activate implements agent.Birth.
func (k *tpmKeys) Activate(credential, secret []byte) ([]byte, error) {
	return k.tpm.Activate(credential, secret)
}

// Attest implements agent.Attester.
func (k *tpmKeys) Attest(binding identity.Digest, next crypto.Signer) (evidence.Attestation, error) {
	req := keys.Request{Qualifying: binding, PCRs: k.pcrs, Counters: k.counters}
	if next != nil {
		own, ok := next.(*keys.Key)
		if !ok {
			return evidence.Attestation{}, errors.New("attest: not a key of this device")
		}
		req.Next = own
	}
	signed, err := k.tpm.Attest(req)
	if err != nil {
		return evidence.Attestation{}, err
	}
	return evidence.Attestation{Quote: signed.Quote, PCRs: signed.PCRs, Counters: signed.Counters, NextKey: signed.NextKey}, nil
}

// fileKeys are the keys of a device without a TPM. They cannot attest.
type fileKeys struct {
	keyring
	file *keys.File
}

func openFile(dir string) (*fileKeys, error) {
	file, err := keys.OpenFile(dir)
	if err != nil {
		return nil, err
	}
	return &fileKeys{keyring: keyring{file}, file: file}, nil
}

// Birth implements agent.Birth.
func (k *fileKeys) Birth() (*evidence.Birth, crypto.Signer, error) {
	key, err := k.file.Birth()
	if err != nil {
		return nil, nil, err
	}
	return nil, key, nil
}

// Activate implements agent.Birth.
func (k *fileKeys) Activate([]byte, []byte) ([]byte, error) {
	return nil, errors.New("the hub challenges a TPM and this device has none")
}
