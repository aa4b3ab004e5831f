package operator

import (
	"fmt"
	"time"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
)

// Firmware is what a device attested that it runs, held against signed releases.
type Firmware struct {
	_      struct{}        `nullable:"true"`
	Digest identity.Digest `json:"digest" doc:"as it was measured, SHA-256, hexadecimal"`
	Since  time.Time       `json:"since" doc:"when evidence first showed it"`
	Time   time.Time       `json:"time" doc:"when evidence last showed it"`

	Product         release.Product `json:"product,omitempty" doc:"of the signed release that it is; absent: it is none"`
	Version         mcuboot.Version `json:"version,omitzero"`
	SecurityVersion uint32          `json:"security_version,omitempty"`
	Withdrawn       string          `json:"withdrawn,omitempty" doc:"why the release was withdrawn; absent: it is not"`
	Minimum         *uint64         `json:"minimum,omitempty" doc:"the least security version that its counter lets start; absent: nothing proves one"`

	Behind      mcuboot.Version `json:"behind,omitzero" doc:"the release that it should run; absent: it does, or nobody knows"`
	BehindSince time.Time       `json:"behind_since,omitzero"`
}

// Late returns "12 days behind 1.4.0", or "" where it is up to date or nobody
// knows.
func (f *Firmware) Late(now time.Time) string {
	if f == nil || f.Behind == (mcuboot.Version{}) {
		return ""
	}
	switch days := int(now.Sub(f.BehindSince) / (24 * time.Hour)); {
	case days <= 0:
		return fmt.Sprintf("less than a day behind %s", f.Behind)
	case days == 1:
		return fmt.Sprintf("1 day behind %s", f.Behind)
	default:
		return fmt.Sprintf("%d days behind %s", days, f.Behind)
	}
}
