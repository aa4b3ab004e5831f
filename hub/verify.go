package hub

import (
	"context"
	"fmt"
	"strings"

	"holdfast/appraise"
	"holdfast/birth"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/hub/verifier"
	"holdfast/identity"
	"holdfast/measure"
)

// attesters is the registry as the verifier asks it.
type attesters struct {
	fleet *fleet.Fleet
}

// Attester implements verifier.Attesters.
func (a attesters) Attester(ctx context.Context, id identity.Device) (verifier.Attester, error) {
	ak, class, g, err := a.fleet.Attester(ctx, id)
	if err != nil {
		return verifier.Attester{}, err
	}
	out := verifier.Attester{AK: ak, Group: g.ID, Simulation: g.Simulation}
	switch class {
	case birth.Hardware:
		out.Class = appraise.Hardware
	case birth.Software:
		out.Class = appraise.Software
	default:
		return out, fault.New(fault.Denied, "a device of class %q cannot attest", class)
	}
	return out, nil
}

// Report implements verifier.Reporter.
func (a attesters) Report(ctx context.Context, id identity.Device, rows []measure.Row, facts appraise.Facts) error {
	if _, err := a.fleet.Appraised(ctx, id, nameOf(facts), facts.Running, rows); err != nil {
		return fmt.Errorf("report appraisal of %s: %w", id, err)
	}
	return nil
}

// nameOf is name and version of the firmware that runs, as the Reference Value
// of its digest calls it.
func nameOf(f appraise.Facts) string {
	c, ok := f.Firmware()
	if !ok {
		return ""
	}
	return strings.TrimSpace(c.Name + " " + c.Version)
}

func (h *hub) buildVerifier() error {
	var err error
	a := attesters{h.fleet}
	h.verifier, err = verifier.New(verifier.Config{Attesters: a, Store: h.db.Verifier(), Reporter: a, Ledger: h.journal, Releases: releasesOf{h}, Log: h.component("verifier")})
	return err
}
