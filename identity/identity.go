// Package identity has the names of things in a fleet: devices, groups and
// keys. Text from outside becomes one of these types only through Parse, so
// that a value of the type is always safe to put in a topic, a path or a
// subject.
package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"
)

// MaxDevice is the longest device id in bytes (the limit of Azure IoT Hub).
const MaxDevice = 128

// MaxGroup is the longest group name in bytes.
const MaxGroup = 64

// Device is the id of a device: 1 to 128 of letters, digits and "-._:",
// beginning with a letter or digit. It is case-sensitive. The set is smaller
// than Azure's: none of its characters means anything in a topic filter, a
// path, a URL or HTML.
type Device string

// Group is the name of a device group: 1 to 64 of lower-case letters, digits
// and "-", beginning with a letter.
type Group string

// ParseDevice returns s as a device id or says what is wrong with it.
func ParseDevice(s string) (Device, error) {
	if s == "" || len(s) > MaxDevice {
		return "", fmt.Errorf("device id has %d bytes, want 1 to %d", len(s), MaxDevice)
	}
	for i := range len(s) {
		if !alnum(s[i]) && (i == 0 || !strings.ContainsRune("-._:", rune(s[i]))) {
			return "", fmt.Errorf("device id %q: byte %d is not allowed", s, i)
		}
	}
	return Device(s), nil
}

// ParseGroup returns s as a group name or says what is wrong with it.
func ParseGroup(s string) (Group, error) {
	if s == "" || len(s) > MaxGroup {
		return "", fmt.Errorf("group name has %d bytes, want 1 to %d", len(s), MaxGroup)
	}
	for i := range len(s) {
		c := s[i]
		lower := c >= 'a' && c <= 'z'
		digit := c >= '0' && c <= '9'
		if !lower && (i == 0 || !digit && c != '-') {
			return "", fmt.Errorf("group name %q: byte %d is not allowed", s, i)
		}
	}
	return Group(s), nil
}

func alnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// Subject returns the id in lower-case base32 without padding, one token that
// is safe in a NATS subject: device.<subject>.<verb>.
func (d Device) Subject() string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(d)))
}

// Digest is a SHA-256 digest: of a public key, an image, a certificate.
type Digest [sha256.Size]byte

// ParseDigest reads 64 hexadecimal digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) {
		return d, fmt.Errorf("digest %q: want %d hexadecimal digits", s, 2*len(d))
	}
	copy(d[:], b)
	return d, nil
}

// String returns the digest as lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns the digest as lower-case hexadecimal.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := ParseDigest(string(b))
	*d = v
	return err
}

// Sum returns the SHA-256 digest of b.
func Sum(b []byte) Digest { return sha256.Sum256(b) }

// KeyDigest identifies a public key by the SHA-256 of its DER
// SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
func KeyDigest(pub any) (Digest, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Digest{}, fmt.Errorf("digest of public key: %w", err)
	}
	return Sum(der), nil
}
