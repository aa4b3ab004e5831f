package tuf

import (
	"fmt"

	"holdfast/release"
)

// Count is how many of a role's keys have signed, and how many must.
type Count struct {
	Have, Want int
}

// Met reports whether the threshold is reached.
func (c Count) Met() bool { return c.Want > 0 && c.Have >= c.Want }

// refuse names the attack that too few signatures are.
func (c Count) refuse(role, kind string) error {
	err := fmt.Errorf("%s: %d %s signatures, want %d", role, c.Have, kind, c.Want)
	switch {
	case c.Met():
		return nil
	case c.Have == 0:
		return release.Refuse(release.ArbitrarySoftware, err)
	}
	return release.Refuse(release.KeyCompromise, err)
}
