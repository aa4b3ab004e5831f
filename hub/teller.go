package hub

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/iothub"
)

// How many events wait for a stream that refuses them, how often it is asked
// again, how many are handed over at a time, and how long what is left has at
// the end to be stored elsewhere.
const (
	maxUntold   = 8192
	retell      = time.Second
	tellBatch   = 256
	untoldStore = 5 * time.Second
)

// teller puts events into the stream that are of no stored change: devices that
// come and go. None of them costs a write of its own in the path of a connection,
// so they wait in memory while the stream refuses them, in their order. What does
// not fit is left out, and an event in its place says how many were.
type teller struct {
	stream interface {
		AppendLater(m iothub.Message, done func(error))
	}
	// keep stores events for the next start.
	keep func(ctx context.Context, ms []iothub.Message) error
	log  *slog.Logger

	mu      sync.Mutex
	waits   []iothub.Message
	missing gap
}

// gap is what was left out.
type gap struct {
	count    int
	from, to time.Time
}

// tell hands an event over. It does not wait.
func (t *teller) tell(m iothub.Message) {
	t.mu.Lock()
	if len(t.waits) > 0 || t.missing.count > 0 {
		t.hold(m) // behind those that wait
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	t.stream.AppendLater(m, func(err error) {
		if t.again(m, err) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.hold(m)
		}
	})
}

// again reports whether the stream may take an event later.
func (t *teller) again(m iothub.Message, err error) bool {
	if err != nil && fault.Of(err) == fault.Invalid {
		t.log.Error("event is dropped", "kind", m.Kind, "device", m.Device, "err", err)
		return false
	}
	return err != nil
}

// hold lets an event wait, or leaves it out. t.mu is held.
func (t *teller) hold(m iothub.Message) {
	if len(t.waits) == 0 {
		t.log.Warn("events wait: the stream does not take them")
	}
	if len(t.waits) >= maxUntold {
		if t.missing.count == 0 {
			t.missing.from = m.Time
		}
		t.missing.count++
		t.missing.to = m.Time
		return
	}
	t.mark()
	t.waits = append(t.waits, m)
}

// mark puts an event in the place of those that were left out. t.mu is held.
func (t *teller) mark() {
	if g := t.missing; g.count > 0 {
		t.waits = append(t.waits, iothub.NewMissing(g.count, g.from, g.to, time.Now()))
		t.missing = gap{}
	}
}

// Run hands over what waits until ctx ends.
func (t *teller) Run(ctx context.Context) error {
	tick := time.NewTicker(retell)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for t.handOver() && ctx.Err() == nil {
		}
	}
}

// handOver hands the first events over that wait, and reports whether it is to
// be called again at once: all were taken, and more wait.
func (t *teller) handOver() bool {
	t.mu.Lock()
	if len(t.waits) == 0 {
		t.mark()
	}
	batch := t.waits[:min(len(t.waits), tellBatch)]
	t.mu.Unlock() // hold appends behind, and nobody else takes out
	failed := make([]bool, len(batch))
	var answers sync.WaitGroup
	answers.Add(len(batch))
	for i, m := range batch {
		t.stream.AppendLater(m, func(err error) {
			defer answers.Done()
			failed[i] = t.again(m, err)
		})
	}
	answers.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	var left []iothub.Message
	for i, m := range batch {
		if failed[i] {
			left = append(left, m)
		}
	}
	t.waits = append(left, t.waits[len(batch):]...)
	if len(t.waits) == 0 && len(batch) > 0 && t.missing.count == 0 {
		t.log.Info("events that waited are stored")
	}
	return len(left) == 0 && (len(t.waits) > 0 || t.missing.count > 0)
}

// close keeps what still waits for the next start. Nothing may be told after.
func (t *teller) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mark()
	if len(t.waits) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), untoldStore)
	defer cancel()
	if err := t.keep(ctx, t.waits); err != nil {
		t.log.Error("events are lost", "count", len(t.waits), "err", err)
	}
}
