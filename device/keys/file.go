package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/internal/atomicfile"
)

// File has keys in files (PEM, PKCS#8, mode 0600), for a board without a TPM.
// Whoever reads the files is the device.
type File struct{ state }

const (
	fileBirth       = "birth.pem"
	fileOperational = "operational.pem"
	pemKey          = "PRIVATE KEY"
	pemCertificate  = "CERTIFICATE"
)

// OpenFile opens the keys in dir, which it makes where needed.
func OpenFile(dir string) (*File, error) {
	s, err := openState(dir)
	if err != nil {
		return nil, err
	}
	return &File{s}, nil
}

// Birth returns the birth key, making it when there is none.
func (f *File) Birth() (*Key, error) {
	key, err := f.BirthKey()
	if !errors.Is(err, ErrNone) {
		return key, err
	}
	made, err := f.makeBirth()
	if err != nil {
		return nil, fmt.Errorf("make birth key: %w", err)
	}
	return fileKey(made), nil
}

func (f *File) makeBirth() (*ecdsa.PrivateKey, error) {
	made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return made, f.write(fileBirth, made, nil)
}

// RenewBirth makes a new birth key in place of the old one, whose certificate
// it deletes.
func (f *File) RenewBirth() error {
	err := f.dropIssued()
	if err == nil {
		_, err = f.makeBirth()
	}
	if err != nil {
		return fmt.Errorf("new birth key: %w", err)
	}
	return nil
}

// BirthKey returns the birth key, or ErrNone.
func (f *File) BirthKey() (*Key, error) {
	key, _, err := f.read(fileBirth)
	if err != nil {
		return nil, fmt.Errorf("birth key: %w", err)
	}
	return fileKey(key), nil
}

// NewOperational makes a key for the next operational certificate. It is lost
// unless it is promoted.
func (f *File) NewOperational() (*Key, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make operational key: %w", err)
	}
	k := fileKey(key)
	k.blob.private = key
	return k, nil
}

// Promote stores a key of NewOperational and its certificate chain (DER, leaf
// first) in place of the old ones, both or neither.
func (f *File) Promote(key *Key, chain [][]byte) error {
	if key.blob.private == nil {
		return errors.New("store operational key: not one of NewOperational")
	}
	if err := checkChain(key, chain); err != nil {
		return fmt.Errorf("store operational key: %w", err)
	}
	if err := f.write(fileOperational, key.blob.private, chain); err != nil {
		return fmt.Errorf("store operational key: %w", err)
	}
	return nil
}

// Operational returns the current operational key and chain, or ErrNone.
func (f *File) Operational() (*Operational, error) {
	key, chain, err := f.read(fileOperational)
	if err != nil {
		return nil, fmt.Errorf("operational key: %w", err)
	}
	return &Operational{Key: fileKey(key), Chain: chain}, nil
}

func fileKey(key *ecdsa.PrivateKey) *Key {
	return &Key{public: &key.PublicKey, sign: func(digest []byte) ([]byte, error) {
		return key.Sign(rand.Reader, digest, crypto.SHA256)
	}}
}

func (f *File) write(name string, key *ecdsa.PrivateKey, chain [][]byte) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})
	for _, c := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c})...)
	}
	return atomicfile.Write(filepath.Join(f.dir, name), text, 0o600)
}

func (f *File) read(name string) (*ecdsa.PrivateKey, [][]byte, error) {
	text, err := os.ReadFile(filepath.Join(f.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, ErrNone
	}
	if err != nil {
		return nil, nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemKey {
		return nil, nil, fmt.Errorf("%s has no private key", name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, nil, fmt.Errorf("%s: the key is not ECDSA P-256", name)
	}
	var chain [][]byte
	for block, rest = pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		chain = append(chain, block.Bytes)
	}
	return key, chain, nil
}

// checkChain refuses a certificate that is not for the key.
func checkChain(key *Key, chain [][]byte) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return err
	}
	if !key.public.Equal(leaf.PublicKey) {
		return errors.New("the certificate is for another key")
	}
	return nil
}
