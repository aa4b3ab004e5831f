// Package mcuboot has MCUboot's image format: a header, a payload, a protected
// and an open list of tags (TLVs), as in MCUboot's docs/design.md.
//
// What is signed is the SHA-256 of header, payload and protected tags. The
// signing key's public half travels in the image, and its hash is in the
// board's fuses (MCUboot's MCUBOOT_HW_KEY). Images are read with MCUboot's
// meaning and stricter: one tag of a kind, security counters only where the
// signature covers them, nothing behind the image but erased flash.
package mcuboot

import (
	"cmp"
	"fmt"

	"holdfast/identity"
)

// MaxSize is the largest image in bytes.
const MaxSize = 128 << 20

// maxTags is the most tags an image may have.
const maxTags = 64

// Magic is how an image begins, little-endian. Without it nothing boots.
const Magic uint32 = 0x96f3b83d

const (
	headerSize     = 32
	openMagic      = 0x6907
	protectedMagic = 0x6908
	areaHeader     = 4
	tagHeader      = 4
	erased         = 0xff // what flash reads where nothing was written
)

// Flags of a header that do not change how the image is read: position
// independent, to be copied to RAM, fixed address in flash.
const harmlessFlags = 0x001 | 0x020 | 0x100

// Kinds of tags.
const (
	tagKeyHash         = 0x01
	tagPublicKey       = 0x02
	tagSHA256          = 0x10
	tagECDSA           = 0x22
	tagSecurityCounter = 0x50
)

// Refusal is why an image is refused. Its text never changes: boot ROMs
// measure it.
type Refusal string

// The refusals.
const (
	NotAnImage         Refusal = "not an image"
	Truncated          Refusal = "truncated"
	TooLarge           Refusal = "too large"
	Unsupported        Refusal = "unsupported flags"
	Malformed          Refusal = "malformed tags"
	Duplicate          Refusal = "duplicate tag"
	Unprotected        Refusal = "unprotected security counter"
	Trailing           Refusal = "trailing bytes"
	MissingHash        Refusal = "no hash"
	WrongHash          Refusal = "wrong hash"
	MissingKey         Refusal = "no public key"
	WrongKey           Refusal = "wrong key"
	MissingSignature   Refusal = "no signature"
	WrongSignature     Refusal = "wrong signature"
	LowSecurityCounter Refusal = "security counter too low"
	Unreadable         Refusal = "unreadable"
)

// Error returns the refusal's text.
func (r Refusal) Error() string { return string(r) }

// Version is the version of an image.
type Version struct {
	Major, Minor uint8
	Revision     uint16
	Build        uint32
}

// ParseVersion reads "1.2.3" or "1.2.3+4".
func ParseVersion(s string) (Version, error) {
	var v Version
	for _, format := range []string{"%d.%d.%d+%d", "%d.%d.%d"} {
		v = Version{}
		_, _ = fmt.Sscanf(s, format, &v.Major, &v.Minor, &v.Revision, &v.Build) // judged below
		if v.String() == s {
			return v, nil
		}
	}
	return Version{}, fmt.Errorf("version %q: want a form like 1.2.3 or 1.2.3+4", s)
}

// String returns the version as "1.2.3", with "+4" when it has a build number.
func (v Version) String() string {
	s := fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Revision)
	if v.Build != 0 {
		s += fmt.Sprintf("+%d", v.Build)
	}
	return s
}

// Compare returns -1, 0 or 1 when v is before, the same as or after w.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Revision, w.Revision), cmp.Compare(v.Build, w.Build))
}

// MarshalText returns the version's text.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what ParseVersion reads.
func (v *Version) UnmarshalText(text []byte) (err error) {
	*v, err = ParseVersion(string(text))
	return err
}

// Image is a parsed image. Nothing in it has been verified unless it came
// from Verify, VerifyWith or VerifyAt.
type Image struct {
	Version         Version
	LoadAddress     uint32
	Flags           uint32
	Payload         []byte          // points into the parsed bytes; nil from ParseAt and VerifyAt
	SecurityCounter uint32          // zero when there is none
	Digest          identity.Digest // computed over header, payload and protected tags
	Blob            identity.Digest // computed over all of it, up to the last tag
	Size            int             // in bytes, up to the last tag

	layout    layout
	hash      []byte // the hash tag
	keyHash   []byte // the key hash tag
	publicKey []byte // the public key tag: SubjectPublicKeyInfo
	signature []byte // the signature tag: ASN.1 DER
}
