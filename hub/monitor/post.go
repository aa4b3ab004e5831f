package monitor

import (
	"context"
	"errors"
	"time"

	"holdfast/fault"
)

// The pauses after an alert could not be posted.
const (
	firstPause = 5 * time.Second
	lastPause  = 10 * time.Minute
)

func (m *Monitor) wakeHook() {
	select {
	case m.hooked <- struct{}{}:
	default:
	}
}

// post posts alerts in their order until ctx ends. Which one was the last is
// stored: one that was not taken is posted again, also after a restart.
func (m *Monitor) post(ctx context.Context) error {
	pause := firstPause
	for {
		err := m.guarded(ctx, m.postAll)
		wait := m.hooked
		var until <-chan time.Time
		if err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "alerts are not posted", "err", err, "again_in", pause)
			wait, until = nil, time.After(pause)
			pause = min(2*pause, lastPause)
		} else {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wait:
		case <-until:
		}
	}
}

func (m *Monitor) postAll(ctx context.Context) error {
	for {
		a, err := m.cfg.Store.Unposted(ctx)
		if fault.Of(err) == fault.NotFound {
			return nil
		}
		if err == nil {
			err = m.cfg.Hook(ctx, a)
		}
		if err == nil {
			err = m.cfg.Store.Posted(ctx, a.ID)
		}
		if err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}
