package stream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// patience is a little longer than the reader's.
const patience = stall + time.Millisecond

// silent never has a message: the last one was dropped on the way.
type silent struct{ ctx context.Context }

// Next waits until the reader gives up; it cannot see the reader's own context,
// which is in an option, so it waits as long as that would.
func (s silent) Next(...jetstream.NextOpt) (jetstream.Msg, error) {
	select {
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	case <-time.After(patience):
		return nil, context.DeadlineExceeded
	}
}

// A reader whose last message was dropped begins again instead of waiting for
// ever: at once when it does not follow, and when it follows as soon as it finds
// that more is stored.
func TestReaderNoticesThatTheLastMessageWasDropped(t *testing.T) {
	for name, c := range map[string]struct {
		follow bool
		behind int // how often it asks until more is stored
		after  time.Duration
	}{
		"reading what is stored": {false, 0, patience},
		"following, behind":      {true, 1, patience},
		"following, idle":        {true, 3, 3 * patience},
	} {
		synctest.Test(t, func(t *testing.T) {
			began, asked := time.Now(), 0
			r := &reading{Query: Query{Follow: c.follow}, last: 7}
			again, err := r.groups(t.Context(), silent{t.Context()}, func(uint64) bool { asked++; return asked >= c.behind })
			if !again || err != nil || time.Since(began) != c.after {
				t.Errorf("%s: again %v, %v after %v, want after %v", name, again, err, time.Since(began), c.after)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &reading{Query: Query{Follow: true}}
	if again, err := r.groups(ctx, silent{ctx}, func(uint64) bool { return false }); !again || err != nil {
		t.Errorf("ended: again %v, %v", again, err)
	}
}
