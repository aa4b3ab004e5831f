// Package dps has the words of the Azure IoT Hub Device Provisioning Service,
// with which devices in the field find their hub, and of the renewal of
// certificates that goes with it: ids, request bodies and answers. How they
// travel (MQTT topics, HTTPS paths) is not said here.
//
// Everything a device sends is parsed strictly and within limits. Members of a
// body that nobody knows are passed over: newer client libraries send more.
package dps

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"holdfast/identity"
)

// MaxRegistration is the longest registration id in bytes.
const MaxRegistration = 128

// Registration is a registration id: 1 to 128 of letters, digits and "-._:",
// beginning with a letter or digit and ending with a letter, digit or "-". Its
// case means nothing: [Registration.Fold] is what to compare and to keep by.
type Registration string

// ParseRegistration returns s as a registration id or says what is wrong with it.
func ParseRegistration(s string) (Registration, error) {
	if _, err := identity.ParseDevice(s); err != nil {
		return "", fmt.Errorf("registration id: %w", err)
	}
	if last := s[len(s)-1]; strings.IndexByte("._:", last) >= 0 {
		return "", fmt.Errorf("registration id %q ends with %q", s, last)
	}
	return Registration(s), nil
}

// Fold returns the id in lower case.
func (r Registration) Fold() Registration { return Registration(strings.ToLower(string(r))) }

// Is reports whether r and other are the same id.
func (r Registration) Is(other Registration) bool { return r.Fold() == other.Fold() }

// Scope is an id scope: which provisioning service a device means.
type Scope string

// ScopeOf returns the id scope of the hub whose root certificate has that
// digest: "0ne" and eight digits, in the form of Azure's, which some clients
// keep in small buffers.
func ScopeOf(root identity.Digest) Scope { return Scope("0ne" + strings.ToUpper(root.String()[:8])) }

// Is reports whether s is the scope that was named; its case means nothing.
func (s Scope) Is(named string) bool { return strings.EqualFold(string(s), named) }

// Operation is the id of an operation: "4.", 16 hexadecimal digits, "." and a
// UUID. Clients give it 100 bytes; it has 55.
type Operation string

// NewOperation returns a random operation id, which nobody can guess.
func NewOperation() Operation {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	return Operation("4." + hex.EncodeToString(b[16:]) + "." + uuid([16]byte(b[:16])))
}

// NewTracking returns a random id by which a refusal is found in the hub's log.
func NewTracking() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return uuid(b)
}

// uuid returns a version 4 UUID (RFC 9562 section 5.4) of random bytes.
func uuid(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// ParseOperation returns s as an operation id or says what is wrong with it.
func ParseOperation(s string) (Operation, error) {
	bad := fmt.Errorf("operation id %.100q: want 4.HEX.UUID", s)
	if len(s) != 55 || !strings.HasPrefix(s, "4.") || s[18] != '.' {
		return "", bad
	}
	for i, c := range []byte(s[2:]) {
		i += 2
		dash := i == 27 || i == 32 || i == 37 || i == 42
		switch {
		case i == 18:
		case dash && c == '-':
		case dash, !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f'):
			return "", bad
		}
	}
	return Operation(s), nil
}

// Time is a time as the service writes it: UTC, with seven digits of a second.
type Time time.Time

// MarshalText returns the time in the service's form.
func (t Time) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, "2006-01-02T15:04:05.0000000Z"), nil
}

// UnmarshalText reads RFC 3339.
func (t *Time) UnmarshalText(b []byte) error { return (*time.Time)(t).UnmarshalText(b) }

// IsZero reports whether the time is not set.
func (t Time) IsZero() bool { return time.Time(t).IsZero() }
