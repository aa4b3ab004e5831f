// Package keyfile keeps the keys that sign releases. One file has one
// signer's two halves: a classical key, Ed25519 in the file or ECDSA P-256 in a
// PKCS#11 token, and an ML-DSA-65 key. The public halves are readable, so that
// others can name the key; the private ones are encrypted with a passphrase
// (age, scrypt).
package keyfile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"holdfast/internal/atomicfile"
)

// MaxSize is the largest key file in bytes.
const MaxSize = 64 << 10

// MinPassphrase is the shortest passphrase in bytes.
const MinPassphrase = 8

// The kinds of classical keys.
const (
	kindEd25519 = "ed25519"
	kindECDSA   = "ecdsa-p256"
)

// Token says where a PKCS#11 token keeps a classical key.
type Token struct {
	Module string `json:"module"` // the PKCS#11 library
	Label  string `json:"token"`  // the token's label
	Key    string `json:"key"`    // the key's label
}

// Public is the public half of a signer's key.
type Public struct {
	Classical crypto.PublicKey // ed25519.PublicKey or *ecdsa.PublicKey (P-256)
	MLDSA     *mldsa.PublicKey // ML-DSA-65
}

// Key is a key file. Its private halves stay encrypted until Open.
type Key struct {
	Public Public
	Token  *Token // where the classical private half is; nil: in the file

	sealed string // age, armored; "" in a file that has only public halves
	bare   *halves
}

// form is the file.
type form struct {
	Version   int       `json:"holdfast_release_key"`
	Classical classical `json:"classical"`
	MLDSA     []byte    `json:"mldsa65"`
	Token     *Token    `json:"pkcs11,omitempty"`
	Sealed    string    `json:"encrypted,omitempty"`
	Bare      *halves   `json:"unencrypted,omitempty"`
}

type classical struct {
	Kind   string `json:"kind"`
	Public []byte `json:"public"` // Ed25519: 32 bytes; ECDSA: SubjectPublicKeyInfo
}

// halves are the private halves: seeds of 32 bytes.
type halves struct {
	Ed25519 []byte `json:"ed25519,omitempty"`
	MLDSA   []byte `json:"mldsa65"`
}

// Parse reads a key file, private or public.
func Parse(b []byte) (*Key, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("key file of %d bytes, at most %d", len(b), MaxSize)
	}
	var f form
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("not a release key: %w", err)
	}
	if dec.More() || f.Version != 1 {
		return nil, fmt.Errorf("not a release key of version 1")
	}
	if f.Sealed != "" && f.Bare != nil {
		return nil, errors.New("a release key that is encrypted and unencrypted")
	}
	public, err := f.Classical.parse()
	if err != nil {
		return nil, err
	}
	post, err := mldsa.NewPublicKey(mldsa.MLDSA65(), f.MLDSA)
	if err != nil {
		return nil, fmt.Errorf("ML-DSA-65 public key: %w", err)
	}
	if _, inFile := public.(ed25519.PublicKey); inFile == (f.Token != nil) {
		return nil, fmt.Errorf("a release key's %s half does not belong there", f.Classical.Kind)
	}
	return &Key{Public: Public{Classical: public, MLDSA: post}, Token: f.Token, sealed: f.Sealed, bare: f.Bare}, nil
}

func (c classical) parse() (crypto.PublicKey, error) {
	switch c.Kind {
	case kindEd25519:
		if len(c.Public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("ed25519 public key of %d bytes", len(c.Public))
		}
		return ed25519.PublicKey(c.Public), nil
	case kindECDSA:
		parsed, err := x509.ParsePKIXPublicKey(c.Public)
		if err != nil {
			return nil, fmt.Errorf("ECDSA public key: %w", err)
		}
		if k, ok := parsed.(*ecdsa.PublicKey); ok && k.Curve == elliptic.P256() {
			return k, nil
		}
	}
	return nil, fmt.Errorf("classical key of kind %.32q: want %s or %s", c.Kind, kindEd25519, kindECDSA)
}

func (p Public) form() (form, error) {
	f := form{Version: 1, MLDSA: p.MLDSA.Bytes()}
	switch k := p.Classical.(type) {
	case ed25519.PublicKey:
		f.Classical = classical{kindEd25519, k}
	case *ecdsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return f, err
		}
		f.Classical = classical{kindECDSA, der}
	default:
		return f, fmt.Errorf("classical key of type %T", k)
	}
	return f, nil
}

// Private reports whether the file has private halves.
func (k *Key) Private() bool { return k.sealed != "" || k.bare != nil }

// Encrypted reports whether the private halves take a passphrase.
func (k *Key) Encrypted() bool { return k.sealed != "" }

// Marshal returns the file.
func (k *Key) Marshal() ([]byte, error) {
	f, err := k.Public.form()
	if err != nil {
		return nil, err
	}
	f.Token, f.Sealed, f.Bare = k.Token, k.sealed, k.bare
	b, err := json.MarshalIndent(f, "", "  ")
	return append(b, '\n'), err
}

// PublicHalf returns the key without its private halves, to give to others.
func (k *Key) PublicHalf() *Key { return &Key{Public: k.Public, Token: k.Token} }

// Load reads the key file path.
func Load(path string) (*Key, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	k, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return k, nil
}

// Save writes a new key file, and beside it path.pub with the public halves. It
// never replaces a key.
func (k *Key) Save(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s exists: a key is never replaced", path)
	}
	private, err := k.Marshal()
	if err != nil {
		return err
	}
	public, err := k.PublicHalf().Marshal()
	if err != nil {
		return err
	}
	if err := atomicfile.Write(path+".pub", public, 0o644); err != nil {
		return err
	}
	return atomicfile.Write(path, private, 0o600)
}
