// Package birth has the rules by which a device gets its birth certificate
// (IDevID, IEEE 802.1AR): what a TPM has to show of itself, what a group lets
// in, and what the rows of its posture say of it. The rules are pure: time,
// the registry's entry and the trusted endorsement roots arrive as arguments.
package birth

import (
	"crypto/x509"
	"time"

	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
)

// Class says where a device's keys live, as far as the hub knows.
type Class string

// The classes.
const (
	Hardware   Class = "hardware"    // a TPM whose maker is registered as a maker of hardware
	Software   Class = "software"    // a TPM of a registered software root: a simulation
	File       Class = "file"        // no TPM: the key is in a file
	SelfSigned Class = "self-signed" // a certificate that the device made itself: known by its digest
	Maker      Class = "maker"       // a certificate of the maker's: the hub knows nothing of its key
)

// Root is a registered endorsement root: what its TPMs are.
type Root struct {
	Name  string
	Class Class // Hardware or Software
	Cert  *x509.Certificate
}

// Showing is what a device shows when it asks to be born, once its evidence
// has been verified as far as it goes without its answer to the challenge.
type Showing struct {
	EK      identity.Digest // SHA-256 of the EK's TPMT_PUBLIC; zero without a TPM
	Key     identity.Digest // of the birth key, as identity.KeyDigest
	Token   string          // claim token, empty when it brought none
	Class   Class
	Subject string // of the EK certificate
	Issuer  string
	Remote  string // network address it came from
}

// Entry is the registry's answer: who the device is, and its group's rules.
type Entry struct {
	Device identity.Device
	Group  operator.Group
}

// Born is a completed birth: all of it becomes the device's record at once.
type Born struct {
	Device identity.Device
	Showing
	AK     []byte    // TPMT_PUBLIC of the activated attestation key; nil without a TPM
	Serial string    // of the IDevID
	Time   time.Time // of its issue
	Rows   []measure.Row
}
