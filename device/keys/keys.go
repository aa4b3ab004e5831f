// Package keys has a device's keys: the birth key (IDevID), made once, and
// the operational keys (LDevID), of which every renewal makes a new one.
//
// In a TPM they never leave it: this package stores the TPM's encrypted blobs
// and loads them when they are used. Without a TPM they are in files (File),
// which proves nothing about the device. Both keep their state in a directory
// through atomic, synced replacement, so that a crash or a power cut at any
// moment leaves a state that the next Open continues from:
//
//   - attestation key and birth key come into being together, in one file;
//   - a new birth key takes the place of the old one after that one's
//     certificate is gone: a certificate without its key is never there;
//   - an operational key and its certificate chain are replaced together, in
//     one file; a key that has no certificate yet exists only in memory.
package keys

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/evidence"
	"holdfast/internal/atomicfile"
)

// ErrForeign is returned when the stored keys are not this TPM's: the state
// directory was copied from another device, or the TPM was cleared.
var ErrForeign = errors.New("the stored keys belong to another TPM")

// ErrNone is returned when there is no such key or certificate yet. It is
// fs.ErrNotExist too.
var ErrNone = fmt.Errorf("no such key yet: %w", fs.ErrNotExist)

// Key is a private key: ECDSA P-256, signing SHA-256 digests. It implements
// crypto.Signer and is safe for concurrent use.
type Key struct {
	public *ecdsa.PublicKey
	blob   blob // zero for a key in a file
	sign   func(digest []byte) ([]byte, error)
}

// Public returns the *ecdsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign signs a SHA-256 digest and returns the signature in ASN.1 DER. The
// random source is not used.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, fmt.Errorf("sign: the key signs SHA-256 digests, not %v of %d bytes", opts.HashFunc(), len(digest))
	}
	return k.sign(digest)
}

// Operational is the operational key with its certificate chain.
type Operational struct {
	Key   *Key
	Chain [][]byte // DER, leaf first
}

// state is the directory that both kinds of keys are kept in.
type state struct{ dir string }

func openState(dir string) (state, error) {
	if dir == "" {
		return state{}, errors.New("open keys: no directory")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return state{}, fmt.Errorf("open keys: %w", err)
	}
	return state{dir}, nil
}

// load reads a JSON file of the state. It returns ErrNone when there is none.
func (s state) load(name string, into any) error {
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNone
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (s state) save(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(s.dir, name), text, 0o600)
}

const issuedFile = "idevid.json"

// SaveIssued stores the birth certificate.
func (s state) SaveIssued(issued evidence.Issued) error { return s.save(issuedFile, issued) }

// dropIssued deletes the birth certificate.
func (s state) dropIssued() error {
	if err := os.Remove(filepath.Join(s.dir, issuedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(s.dir)
}

// Issued returns the stored birth certificate, or ErrNone.
func (s state) Issued() (*evidence.Issued, error) {
	issued := &evidence.Issued{}
	if err := s.load(issuedFile, issued); err != nil {
		return nil, fmt.Errorf("birth certificate: %w", err)
	}
	return issued, nil
}
