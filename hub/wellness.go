package hub

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"holdfast/hub/health"
	"holdfast/internal/sdnotify"
)

// The checks of health.
const (
	checkEvery = 10 * time.Second
	leastDisk  = 80 << 20        // bytes free; the stream stops a little below
	clockSlack = 5 * time.Minute // that the clock may be behind what the ledger has seen
)

func (h *hub) buildHealth(dir string) error {
	every := checkEvery
	if w := sdnotify.Watchdog(); w > 0 {
		every = min(every, w)
	}
	var err error
	h.shown.health, err = health.New(health.Config{Log: h.component("health"), Every: every, Alive: func() { h.notify(sdnotify.Alive) }, Checks: []health.Check{
		{Name: "store", Live: true, Do: func(ctx context.Context) error { return h.db.Monitor().Probe(ctx, time.Now()) }},
		{Name: "listeners", Do: func(context.Context) error { return unless(h.shown.up.Load(), "the listeners are not open") }},
		{Name: "stream", Do: h.streamAnswers},
		{Name: "certificate", Do: func(context.Context) error { return h.certificateGood(time.Now()) }},
		{Name: "disk", Do: func(context.Context) error {
			free, _, err := diskOf(dir)
			return errors.Join(err, unless(err != nil || free >= leastDisk, "the disk has %d bytes left", free))
		}},
		{Name: "clock", Do: func(ctx context.Context) error { return h.clockSane(ctx, time.Now()) }},
	}})
	return err
}

// notify tells systemd; where it cannot be told, the log has it.
func (h *hub) notify(state string) {
	if err := sdnotify.Notify(state); err != nil {
		h.log.Warn("notify systemd", "err", err)
	}
}

func unless(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func (h *hub) streamAnswers(ctx context.Context) error {
	if _, refusing := h.stream.Waiting(); refusing {
		return errors.New("the stream takes no messages")
	}
	_, err := h.stream.State(ctx)
	return err
}

// certificateGood checks that the hub's own certificate is good now.
func (h *hub) certificateGood(now time.Time) error {
	c, err := h.serving.Certificate()
	if err != nil {
		return err
	}
	return unless(now.After(c.Leaf.NotBefore) && now.Before(c.Leaf.NotAfter), "the hub's certificate is good from %s to %s", c.Leaf.NotBefore, c.Leaf.NotAfter)
}

// clockSane holds the clock against the ledger's last record.
func (h *hub) clockSane(ctx context.Context, now time.Time) error {
	tip, err := h.db.LedgerTip(ctx)
	if err != nil || tip.Seq == 0 {
		return err
	}
	rs, err := h.db.LedgerRecords(ctx, tip.Seq, 1)
	if err != nil || len(rs) == 0 {
		return err
	}
	return unless(now.After(rs[0].Time.Add(-clockSlack)), "the clock says %s, and the ledger has a record of %s", now, rs[0].Time)
}

// diskOf returns how much of the disk below a directory is free, and its size.
func diskOf(dir string) (free, size int64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("ask for free space: %w", err)
	}
	return int64(fs.Bavail) * fs.Bsize, int64(fs.Blocks) * fs.Bsize, nil
}
