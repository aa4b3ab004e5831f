// Package release has the words that signing, publishing and installing
// firmware share: what a signed target says of itself, what the hub offers a
// device, and what the device reports of it. Roles and metadata are TUF's;
// what a target carries beyond TUF is its custom field, Target.
package release

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/identity"
	"holdfast/mcuboot"
)

// Limits of a target's description.
const (
	MaxText     = 400 // bytes of a reason or a summary
	MaxHardware = 32  // hardware revisions
	MaxRequires = 16
	MaxImage    = mcuboot.MaxSize // bytes of an image
	MaxDocument = 16 << 20        // bytes of an SBOM or an audit statement
)

// MaxDeadline is the longest that a release may leave a trial to prove itself.
const MaxDeadline = 24 * time.Hour

// DefaultDeadline is how long a trial has where the release does not say.
const DefaultDeadline = 10 * time.Minute

// Product names a line of firmware: what one key may sign and one kind of
// device runs. Its text is also the name of its TUF delegation.
type Product string

var productForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// reserved are the names of TUF's own roles.
var reserved = []string{"root", "targets", "snapshot", "timestamp"}

// ParseProduct reads a product's name: 1 to 32 of a-z, 0-9 and "-", beginning
// with a letter, and not the name of one of TUF's top-level roles.
func ParseProduct(s string) (Product, error) {
	if !productForm.MatchString(s) || slices.Contains(reserved, s) {
		return "", fmt.Errorf("product %.64q: want 1 to 32 of a-z, 0-9 and -, beginning with a letter, and no name of a TUF role", s)
	}
	return Product(s), nil
}

// Blob is content that its digest names.
type Blob struct {
	Length int64           `json:"length"`
	SHA256 identity.Digest `json:"sha256"`
}

// Requirement is a release that has to be installed before.
type Requirement struct {
	Product Product         `json:"product"`
	Version mcuboot.Version `json:"version"` // this one or a later one
}

// The checks that a trial may have to pass before it is committed.
const (
	CheckHub      = "hub"      // a session with the hub is open
	CheckAttested = "attested" // the hub has appraised this boot and its attestation passes
	CheckWatchdog = "watchdog" // the watchdog is armed and its checks pass
)

// Health is what a trial has to show before it is committed, and by when.
type Health struct {
	Checks  []string `json:"checks"`
	Seconds int      `json:"deadline_seconds"` // after the boot of the trial; then it reverts
}

// Deadline returns the time that a trial has.
func (h Health) Deadline() time.Duration { return time.Duration(h.Seconds) * time.Second }

// Target is what a signed target says of itself: the custom field of TUF's
// targets metadata. A target that is withdrawn stays listed, with the reason,
// so that devices that run it are known.
type Target struct {
	Product         Product         `json:"product"`
	Version         mcuboot.Version `json:"version"`
	SecurityVersion uint32          `json:"security_version"`   // becomes the least that a device takes once it is committed
	Measured        identity.Digest `json:"measured"`           // what a device that boots it measures
	Hardware        []string        `json:"hardware,omitempty"` // revisions that it runs on; empty: all
	Requires        []Requirement   `json:"requires,omitempty"`
	Health          Health          `json:"health"`
	SBOM            *Blob           `json:"sbom,omitempty"`      // CycloneDX, JSON
	Audit           *Blob           `json:"audit,omitempty"`     // DSSE envelope with an in-toto statement
	Withdrawn       string          `json:"withdrawn,omitempty"` // why it must not be installed any more
}

// Release is a target as verified metadata states it.
type Release struct {
	Target
	Image Blob `json:"image"`
}

// Path returns the target's TUF path: "pump/pump-1.4.0.img".
func (t Target) Path() string { return Path(t.Product, t.Version) }

// Path returns the TUF path of a product's version.
func Path(p Product, v mcuboot.Version) string {
	return string(p) + "/" + string(p) + "-" + v.String() + ".img"
}

// Runs reports whether the release runs on a hardware revision.
func (t Target) Runs(hardware string) bool {
	return len(t.Hardware) == 0 || slices.Contains(t.Hardware, hardware)
}

// Check says what is wrong with a description before it is signed or trusted.
func (t Target) Check() error {
	if _, err := ParseProduct(string(t.Product)); err != nil {
		return err
	}
	switch {
	case t.Version == (mcuboot.Version{}):
		return fmt.Errorf("release of %s: version 0.0.0 is none", t.Product)
	case t.SecurityVersion == 0:
		return fmt.Errorf("release %s: the security version begins at 1", t.Path())
	case t.Measured == (identity.Digest{}):
		return fmt.Errorf("release %s: the measured digest is missing", t.Path())
	case len(t.Hardware) > MaxHardware || len(t.Requires) > MaxRequires:
		return fmt.Errorf("release %s: more than %d hardware revisions or %d requirements", t.Path(), MaxHardware, MaxRequires)
	case !plain(t.Withdrawn):
		return fmt.Errorf("release %s: the reason is longer than %d bytes or no plain text", t.Path(), MaxText)
	}
	for _, h := range t.Hardware {
		if h == "" || len(h) > 64 || !plain(h) {
			return fmt.Errorf("release %s: hardware revision %.64q", t.Path(), h)
		}
	}
	for _, r := range t.Requires {
		if _, err := ParseProduct(string(r.Product)); err != nil {
			return fmt.Errorf("release %s: requirement: %w", t.Path(), err)
		}
	}
	return t.checkParts()
}

func (t Target) checkParts() error {
	for name, b := range map[string]*Blob{"SBOM": t.SBOM, "audit": t.Audit} {
		if b != nil && (b.Length <= 0 || b.Length > MaxDocument || b.SHA256 == (identity.Digest{})) {
			return fmt.Errorf("release %s: %s of %d bytes: want 1 to %d and a digest", t.Path(), name, b.Length, MaxDocument)
		}
	}
	for _, c := range t.Health.Checks {
		if !slices.Contains([]string{CheckHub, CheckAttested, CheckWatchdog}, c) {
			return fmt.Errorf("release %s: health check %.64q: want hub, attested or watchdog", t.Path(), c)
		}
	}
	if d := t.Health.Deadline(); d < time.Second || d > MaxDeadline {
		return fmt.Errorf("release %s: health deadline of %s: want 1s to %s", t.Path(), d, MaxDeadline)
	}
	return nil
}

// plain reports whether s is short text without control characters.
func plain(s string) bool {
	return len(s) <= MaxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// Check says what is wrong with a release before it is trusted.
func (r Release) Check() error {
	if err := r.Target.Check(); err != nil {
		return err
	}
	if r.Image.Length <= 0 || r.Image.Length > MaxImage || r.Image.SHA256 == (identity.Digest{}) {
		return fmt.Errorf("release %s: image of %d bytes: want 1 to %d and a digest", r.Path(), r.Image.Length, int64(MaxImage))
	}
	return nil
}
