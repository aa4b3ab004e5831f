package outbox_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/hub/outbox"
	"holdfast/iothub"
)

// memory is the store and the stream of a test.
type memory struct {
	mu     sync.Mutex
	last   int64
	es     []outbox.Event
	refuse func(body string) error
	taken  []string
}

func (m *memory) put(bodies ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range bodies {
		m.last++
		m.es = append(m.es, outbox.Event{Number: m.last, Message: iothub.Message{Body: []byte(b)}})
	}
}

func (m *memory) Events(_ context.Context, limit int) ([]outbox.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]outbox.Event(nil), m.es[:min(limit, len(m.es))]...), nil
}

func (m *memory) Drop(_ context.Context, upTo int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.es) > 0 && m.es[0].Number <= upTo {
		m.es = m.es[1:]
	}
	return nil
}

func (m *memory) Append(e iothub.Message, done func(error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	if m.refuse != nil {
		err = m.refuse(string(e.Body))
	}
	if err == nil {
		m.taken = append(m.taken, string(e.Body))
	}
	go done(err)
}

func TestOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		o, err := outbox.New(outbox.Config{Store: m, Stream: m, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			m.mu.Lock()
			defer m.mu.Unlock()
			if diff := cmp.Diff(want, m.taken); diff != "" {
				t.Errorf("stream:\n%s", diff)
			}
			m.taken = nil
		}
		m.put("left by an earlier process")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		expect("left by an earlier process")

		m.put("a", "b")
		o.Wake()
		o.Wake()
		expect("a", "b")

		m.mu.Lock()
		m.refuse = func(string) error { return fault.New(fault.Unavailable, "full") }
		m.mu.Unlock()
		m.put("c")
		o.Wake()
		expect()
		m.mu.Lock()
		m.refuse = func(body string) error {
			if body == "poison" {
				return fault.New(fault.Invalid, "no")
			}
			return nil
		}
		m.mu.Unlock()
		m.put("poison", "d")
		time.Sleep(10 * time.Second) // it tries again by itself
		expect("c", "d")
		m.mu.Lock()
		if len(m.es) > 0 {
			t.Errorf("left: %v", m.es)
		}
		m.mu.Unlock()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
