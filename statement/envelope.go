package statement

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"holdfast/identity"
	"holdfast/tuf"
)

// ErrNotSigned is the error of an envelope that none of the given keys signed.
var ErrNotSigned = errors.New("no registered auditor has signed it")

// KeyID returns the id under which an auditor's key signs: its digest
// (identity.KeyDigest) in hexadecimal.
func KeyID(key crypto.PublicKey) (string, error) {
	d, err := identity.KeyDigest(key)
	return d.String(), err
}

// CheckKey says why a key may not be an auditor's: it is neither ECDSA P-256
// nor Ed25519.
func CheckKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
	}
	return errors.New("want an ECDSA P-256 or Ed25519 key")
}

// Sign puts a statement into an envelope.
func Sign(ctx context.Context, s *Statement, key crypto.Signer) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if err := CheckKey(key.Public()); err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	signer, err := dsse.NewEnvelopeSigner(signing{key})
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	envelope, err := signer.SignPayload(ctx, PayloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	text, err := json.MarshalIndent(envelope, "", " ")
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("sign statement: %d bytes: want %d at most", len(text), MaxSize)
	}
	return text, nil
}

// Verify opens an envelope that one of the keys has signed, and returns the
// statement and that key's id. Only then is anything of it read.
func Verify(ctx context.Context, envelope []byte, keys ...crypto.PublicKey) (*Statement, string, error) {
	if err := tuf.CheckStrict(envelope, MaxSize, MaxDepth); err != nil {
		return nil, "", fmt.Errorf("audit statement: %w", err)
	}
	var e dsse.Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		return nil, "", fmt.Errorf("audit statement: %w", err)
	}
	if e.PayloadType != PayloadType {
		return nil, "", fmt.Errorf("audit statement: payload of type %.100q, want %s", e.PayloadType, PayloadType)
	}
	if len(keys) == 0 {
		return nil, "", fmt.Errorf("audit statement: %w", ErrNotSigned)
	}
	var all []dsse.Verifier
	for _, k := range keys {
		all = append(all, verifying{k})
	}
	verifier, err := dsse.NewEnvelopeVerifier(all...)
	if err != nil {
		return nil, "", fmt.Errorf("audit statement: %w", err)
	}
	accepted, payload, err := verifier.VerifyAndDecode(ctx, &e)
	if err != nil || len(accepted) == 0 {
		return nil, "", fmt.Errorf("audit statement: %w", errors.Join(ErrNotSigned, err))
	}
	s, err := parse(payload)
	if err != nil {
		return nil, "", err
	}
	return s, accepted[0].KeyID, nil
}

// signing signs for package dsse.
type signing struct{ key crypto.Signer }

// Sign implements dsse.Signer.
func (s signing) Sign(_ context.Context, data []byte) ([]byte, error) {
	if _, plain := s.key.Public().(ed25519.PublicKey); plain {
		return s.key.Sign(rand.Reader, data, crypto.Hash(0))
	}
	digest := sha256.Sum256(data)
	return s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
}

// KeyID implements dsse.Signer.
func (s signing) KeyID() (string, error) { return KeyID(s.key.Public()) }

// verifying verifies for package dsse.
type verifying struct{ key crypto.PublicKey }

// Verify implements dsse.Verifier.
func (v verifying) Verify(_ context.Context, data, sig []byte) error {
	switch k := v.key.(type) {
	case ed25519.PublicKey:
		if ed25519.Verify(k, data, sig) {
			return nil
		}
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(data)
		if k.Curve == elliptic.P256() && ecdsa.VerifyASN1(k, digest[:], sig) {
			return nil
		}
	}
	return errors.New("the signature does not verify")
}

// KeyID implements dsse.Verifier.
func (v verifying) KeyID() (string, error) { return KeyID(v.key) }

// Public implements dsse.Verifier.
func (v verifying) Public() crypto.PublicKey { return v.key }

// ParseKey reads an auditor's public key: one PEM block of type PUBLIC KEY
// (RFC 5280 SubjectPublicKeyInfo), with a key that CheckKey takes.
func ParseKey(text []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("auditor's key: want one public key, PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("auditor's key: %w", err)
	}
	if err := CheckKey(key); err != nil {
		return nil, fmt.Errorf("auditor's key: %w", err)
	}
	return key, nil
}

// Signers returns the ids of the keys that an envelope says it is signed with,
// empty ones too. Nothing of that is verified: it is for telling whose key is
// missing.
func Signers(envelope []byte) ([]string, error) {
	if err := tuf.CheckStrict(envelope, MaxSize, MaxDepth); err != nil {
		return nil, fmt.Errorf("audit statement: %w", err)
	}
	var e dsse.Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		return nil, fmt.Errorf("audit statement: %w", err)
	}
	var ids []string
	for _, s := range e.Signatures {
		ids = append(ids, s.KeyID)
	}
	return ids, nil
}
