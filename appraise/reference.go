package appraise

import (
	"fmt"
	"unicode/utf8"

	"holdfast/evidence"
	"holdfast/identity"
)

// Kind says what a Reference Value is the digest of.
type Kind string

// The kinds of Reference Values.
const (
	BootROM  Kind = "boot-rom" // PCR 0: boot ROM, or a volume of UEFI firmware
	Firmware Kind = "firmware" // PCR 4: an image that boots
	Manifest Kind = "manifest" // PCR 11: a workload manifest
	Other    Kind = "event"    // any other measurement
)

// MaxReferenceText is the longest name or version in bytes.
const MaxReferenceText = 128

// Reference is a measurement that a group expects: a Reference Value of RFC
// 9334, computed from a signed image and never learned from a device.
type Reference struct {
	Group   identity.Group  `json:"group"`
	Kind    Kind            `json:"kind"`
	PCR     int             `json:"pcr"`
	Digest  identity.Digest `json:"digest"` // as extended into the register
	Name    string          `json:"name"`
	Version string          `json:"version"`

	// Released: it comes from a published release of the group's product, and
	// from no operator.
	Released bool `json:"released,omitempty"`
}

// PCR returns the register that measurements of this kind go to, and whether
// the kind fixes it.
func (k Kind) PCR() (int, bool) {
	switch k {
	case BootROM:
		return evidence.PCRBootROM, true
	case Firmware:
		return evidence.PCRFirmware, true
	case Manifest:
		return evidence.PCRManifests, true
	}
	return 0, false
}

// Check says what is wrong with a reference value before it is stored.
func (r Reference) Check() error {
	if _, err := identity.ParseGroup(string(r.Group)); err != nil {
		return err
	}
	pcr, fixed := r.Kind.PCR()
	switch {
	case !fixed && r.Kind != Other:
		return fmt.Errorf("kind %q: want boot-rom, firmware, manifest or event", r.Kind)
	case fixed && r.PCR != pcr:
		return fmt.Errorf("a %s is measured into PCR %d, not %d", r.Kind, pcr, r.PCR)
	case r.PCR < 0 || r.PCR > maxPCR:
		return fmt.Errorf("PCR %d: want 0 to %d", r.PCR, maxPCR)
	case r.Name == "":
		return fmt.Errorf("a reference value needs a name")
	case len(r.Name) > MaxReferenceText || len(r.Version) > MaxReferenceText:
		return fmt.Errorf("name or version is longer than %d bytes", MaxReferenceText)
	case !utf8.ValidString(r.Name) || !utf8.ValidString(r.Version):
		return fmt.Errorf("name or version is not UTF-8")
	}
	return nil
}
