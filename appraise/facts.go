package appraise

import "holdfast/identity"

// Platform is the family of firmware that wrote an event log.
type Platform string

// The platforms; none when the boot policy is of neither or of both.
const (
	Board Platform = "board" // a virtual board: policy under evidence.BoardGUID
	UEFI  Platform = "uefi"
)

// Facts are what the quoted registers and certified values prove of the boot.
// Each list has at most 32 entries.
type Facts struct {
	Platform  Platform      `json:"platform,omitempty"`
	BootROM   []Component   `json:"boot_rom,omitempty"` // boot ROM, or volumes of UEFI firmware
	Booted    []Component   `json:"booted,omitempty"`   // images that ran, in their order; an unknown one has no name
	Manifests []Component   `json:"manifests,omitempty"`
	Refused   []string      `json:"refused,omitempty"` // slots that the boot ROM refused, with its reason
	Policy    BootPolicy    `json:"policy"`
	Unknown   []Measurement `json:"unknown,omitempty"` // neither a reference value nor within a rule
	Missing   []string      `json:"missing,omitempty"` // what every log has and this one has not
	Counters  []Counter     `json:"counters,omitempty"`

	Running *Running `json:"running,omitempty"` // nil: the boot did not show what runs

	// TPMFirmwareChanged: the TPM's own firmware is not that of the last appraisal.
	TPMFirmwareChanged bool `json:"tpm_firmware_changed,omitempty"`
}

// Component is a measured piece of code. Name and version are those of its
// reference value.
type Component struct {
	Digest  identity.Digest `json:"digest"`
	Name    string          `json:"name,omitempty"`
	Version string          `json:"version,omitempty"`
}

// BootPolicy is what the boot code measured of its own switches. A nil switch
// was not measured.
type BootPolicy struct {
	Verification *bool  `json:"verification,omitempty"` // board: images are verified before they run
	DebugLock    *bool  `json:"debug_lock,omitempty"`   // board: debug port is closed
	Lifecycle    string `json:"lifecycle,omitempty"`    // board
	KeyHash      string `json:"key_hash,omitempty"`     // board: SHA-256 of the key that verifies images
	SecureBoot   *bool  `json:"secure_boot,omitempty"`  // UEFI

	// Counter is where a board's TPM counts the least security version that its
	// boot ROM starts; nil: it measured none.
	Counter *SecurityCounter `json:"counter,omitempty"`
}

// SecurityCounter is the measured place and beginning of a board's counter: the
// least security version is its value less Base.
type SecurityCounter struct {
	Index uint32 `json:"index"`
	Base  uint64 `json:"base"`
}

// Measurement is an event that nothing explains.
type Measurement struct {
	PCR    int             `json:"pcr"`
	Digest identity.Digest `json:"digest"`
}

// Firmware returns the image that the boot ended with, or none.
func (f Facts) Firmware() (Component, bool) {
	if len(f.Booted) == 0 {
		return Component{}, false
	}
	return f.Booted[len(f.Booted)-1], true
}

func on(b *bool) bool { return b != nil && *b }
