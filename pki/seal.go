package pki

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// MinSecret is the least number of bytes in a sealing secret. It is a key,
// not a password: HKDF does not slow down guessing.
const MinSecret = 32

const (
	sealMagic = "holdfast-seal-1\n"
	saltSize  = 16
)

// Secret is what keys at rest are sealed under. It prints as "[secret]".
type Secret struct {
	_     [0]func() // not comparable with ==
	bytes []byte
}

// ParseSecret takes the contents of a secret's file or service credential; a
// trailing line end is not part of it.
func ParseSecret(b []byte) (Secret, error) {
	b = bytes.TrimRight(b, "\r\n")
	if len(b) < MinSecret {
		return Secret{}, fmt.Errorf("sealing secret has %d bytes, want at least %d random ones", len(b), MinSecret)
	}
	if subtle.ConstantTimeCompare(b, bytes.Repeat(b[:1], len(b))) == 1 {
		return Secret{}, errors.New("sealing secret is one byte repeated, want random ones")
	}
	return Secret{bytes: bytes.Clone(b)}, nil
}

// NewSecret returns the text of a new secret, to be written to a file that
// only the hub can read.
func NewSecret() []byte { return []byte(rand.Text() + rand.Text() + "\n") }

// String hides the secret.
func (Secret) String() string { return "[secret]" }

// GoString hides the secret.
func (Secret) GoString() string { return "[secret]" }

// LogValue hides the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// Seal encrypts plaintext with AES-256-GCM under a key derived from the secret
// (HKDF-SHA256, random salt). What was sealed for one purpose does not open
// for another.
func (s Secret) Seal(purpose string, plaintext []byte) ([]byte, error) {
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("seal %s: %w", purpose, err)
	}
	aead, err := s.aead(purpose, salt)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", purpose, err)
	}
	out := append([]byte(sealMagic), salt...)
	return aead.Seal(out, nil, plaintext, []byte(purpose)), nil
}

// Open decrypts what Seal made for the same purpose under the same secret.
func (s Secret) Open(purpose string, sealed []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, []byte(sealMagic))
	if !ok || len(rest) < saltSize {
		return nil, fmt.Errorf("open sealed %s: not a sealed file", purpose)
	}
	aead, err := s.aead(purpose, rest[:saltSize])
	if err != nil {
		return nil, fmt.Errorf("open sealed %s: %w", purpose, err)
	}
	plaintext, err := aead.Open(nil, nil, rest[saltSize:], []byte(purpose))
	if err != nil {
		return nil, fmt.Errorf("open sealed %s: wrong secret, or the file was changed", purpose)
	}
	return plaintext, nil
}

func (s Secret) aead(purpose string, salt []byte) (cipher.AEAD, error) {
	if len(s.bytes) < MinSecret {
		return nil, errors.New("no sealing secret")
	}
	key, err := hkdf.Key(sha256.New, s.bytes, salt, "holdfast seal 1: "+purpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
