package updater

import (
	"context"
	"fmt"
	"time"

	"holdfast/release"
	"holdfast/update"
)

// healthEvery is how often a trial's checks are made until they pass.
const healthEvery = time.Second

// health makes a trial's checks until all of them pass, or its deadline has
// come.
func (u *Updater) health(ctx context.Context, h release.Health) any {
	deadline := time.NewTimer(time.Until(u.cfg.Started.Add(h.Deadline())))
	defer deadline.Stop()
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		err := u.healthy(h.Checks)
		if err == nil {
			return update.HealthPassed{}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-deadline.C:
			return update.HealthFailed{Reason: cut(fmt.Sprintf("not healthy within %v: %v", h.Deadline(), err))}
		case <-tick.C:
		}
	}
}

// healthy returns why the first check fails that does. A check that the device
// cannot make never passes: the image before it can.
func (u *Updater) healthy(checks []string) error {
	for _, name := range checks {
		check := u.cfg.Checks[name]
		if check == nil {
			return fmt.Errorf("%s: this device cannot check that", name)
		}
		if err := check(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
