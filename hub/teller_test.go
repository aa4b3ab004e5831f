package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
)

// moody is a stream that may refuse.
type moody struct {
	mu  sync.Mutex
	err error
	got []iothub.Message
}

func (s *moody) AppendLater(m iothub.Message, done func(error)) {
	s.mu.Lock()
	err := s.err
	if err == nil {
		s.got = append(s.got, m)
	}
	s.mu.Unlock()
	go done(err)
}

func (s *moody) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// texts returns what the stream has: devices, and for gaps how many are missing.
func (s *moody) texts(t *testing.T) []string {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return texts(t, s.got)
}

func texts(t *testing.T, ms []iothub.Message) (out []string) {
	for _, m := range ms {
		if m.Properties["opType"] != "eventsMissing" {
			out = append(out, string(m.Device))
			continue
		}
		var g iothub.Missing
		if err := json.Unmarshal(m.Body, &g); err != nil || m.Device != "" || g.To.Before(g.From) || g.From.IsZero() {
			t.Errorf("gap %+v: %v", m, err)
		}
		out = append(out, fmt.Sprintf("%d missing", g.Count))
	}
	return out
}

// pass lets time pass, and what happens meanwhile.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func told(t *testing.T, f func(s *moody, tell func(ids ...string), end func() []string)) {
	synctest.Test(t, func(t *testing.T) {
		s := &moody{}
		var kept []iothub.Message
		tl := &teller{stream: s, log: slog.New(slog.DiscardHandler), keep: func(_ context.Context, ms []iothub.Message) error {
			kept = append(kept, ms...)
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = tl.Run(ctx) })
		tell := func(ids ...string) {
			for _, id := range ids {
				tl.tell(iothub.NewConnected(identity.Device(id), iothub.Connection{}, time.Now()))
				synctest.Wait()
			}
		}
		end := func() []string {
			cancel()
			run.Wait()
			tl.close()
			return texts(t, kept)
		}
		f(s, tell, end)
		end()
	})
}

var errFull = fault.New(fault.Unavailable, "the disk is full")

func TestEventsWaitForTheStream(t *testing.T) {
	told(t, func(s *moody, tell func(...string), end func() []string) {
		tell("a")
		s.set(errFull)
		tell("b", "c")
		pass(10 * retell)
		tell("d")
		s.set(nil)
		tell("e") // behind the others
		if diff := cmp.Diff([]string{"a"}, s.texts(t)); diff != "" {
			t.Error(diff)
		}
		pass(2 * retell)
		tell("f")
		if diff := cmp.Diff([]string{"a", "b", "c", "d", "e", "f"}, s.texts(t)); diff != "" {
			t.Error(diff)
		}
		if kept := end(); len(kept) > 0 {
			t.Errorf("kept %v", kept)
		}
	})
}

// What does not fit is counted in its place.
func TestEventsThatAreMissingAreTold(t *testing.T) {
	told(t, func(s *moody, tell func(...string), _ func() []string) {
		s.set(errFull)
		for range maxUntold {
			tell("x")
		}
		pass(time.Second)
		tell("lost", "lost", "lost")
		s.set(nil)
		pass(2 * retell)
		tell("y")
		got := s.texts(t)
		if len(got) != maxUntold+2 || strings.Join(got[maxUntold:], " ") != "3 missing y" {
			t.Errorf("%d events, the last %v", len(got), got[max(0, len(got)-3):])
		}
	})
}

// What waits when the hub ends is kept for its next start.
func TestEventsAreKeptAtTheEnd(t *testing.T) {
	told(t, func(s *moody, tell func(...string), end func() []string) {
		s.set(errFull)
		tell("a", "b")
		if diff := cmp.Diff([]string{"a", "b"}, end()); diff != "" {
			t.Error(diff)
		}
	})
}

// What the stream will never take holds up nothing.
func TestEventThatNeverFitsIsDropped(t *testing.T) {
	told(t, func(s *moody, tell func(...string), end func() []string) {
		s.set(fault.New(fault.Invalid, "it is too long"))
		tell("a")
		s.set(errors.New("broken"))
		tell("b")
		s.set(nil)
		pass(2 * retell)
		if diff := cmp.Diff([]string{"b"}, s.texts(t)); diff != "" {
			t.Error(diff)
		}
	})
}
