package messages_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/hub/messages"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// memory is a store in memory.
type memory struct {
	mu     sync.Mutex
	last   int64
	ms     []messages.Message
	events []iothub.Message
	err    error
}

func (s *memory) Add(_ context.Context, m messages.Message, limit int) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ms) >= limit {
		return 0, iothub.Fail(iothub.CodeQueueFull, "full")
	}
	s.last++
	m.Number = s.last
	s.ms = append(s.ms, m)
	return m.Number, nil
}

func (s *memory) Queue(_ context.Context, d identity.Device) ([]messages.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.ms), func(m messages.Message) bool { return m.Device != d }), nil
}

func (s *memory) Expired(_ context.Context, now time.Time, limit int) ([]messages.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.ms), func(m messages.Message) bool { return now.Before(m.Expires) }), nil
}

func (s *memory) Sent(_ context.Context, sent []messages.Sent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range sent {
		for i := range s.ms {
			if v.Number == s.ms[i].Number {
				s.ms[i].Deliveries++
				s.ms[i].Packet = v.Packet
			}
		}
	}
	return nil
}

// fail has Remove fail from now on.
func (s *memory) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *memory) Remove(_ context.Context, number int64, events []iothub.Message) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false, s.err
	}
	before := len(s.ms)
	s.ms = slices.DeleteFunc(s.ms, func(m messages.Message) bool { return m.Number == number })
	if len(s.ms) == before {
		return false, nil
	}
	s.events = append(s.events, events...)
	return true, nil
}

// sent is a message on its way to the device.
type sent struct {
	body   string
	again  bool
	packet uint16
	done   func(error)
}

// bench is Messages with everything around them.
type bench struct {
	*messages.Messages
	store *memory

	mu      sync.Mutex
	online  bool
	packets uint16 // identifiers given
	got     []sent
}

func (b *bench) Exists(_ context.Context, d identity.Device) error {
	if d != "d" {
		return fault.New(fault.NotFound, "no device")
	}
	return nil
}

func (b *bench) Record(context.Context, string, identity.Device, any) error { return nil }

func (b *bench) Deliver(_ identity.Device, m messages.Sending) (uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.online {
		return 0, fault.New(fault.NotFound, "offline")
	}
	again := m.Packet != 0
	if !again {
		b.packets++
		m.Packet = b.packets
	}
	b.got = append(b.got, sent{string(m.Body), again, m.Packet, m.Done})
	return m.Packet, nil
}

func (b *bench) Notify(_ context.Context, d identity.Device) { b.Wake(d) }

func (b *bench) connected(yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.online = yes
}

// take returns what was sent since the last time.
func (b *bench) take() []sent {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.got
	b.got = nil
	return got
}

// expect checks what was sent: bodies, with "+" for those sent again.
func (b *bench) expect(t *testing.T, want ...string) []sent {
	t.Helper()
	got := b.take()
	var texts []string
	for _, s := range got {
		text := s.body
		if s.again {
			text += "+"
		}
		texts = append(texts, text)
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("sent:\n%s", diff)
	}
	return got
}

// fates returns what the events tell of each message.
func (b *bench) fates(t *testing.T) []string {
	t.Helper()
	synctest.Wait()
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	var out []string
	for _, e := range b.store.events {
		var fs []iothub.Fate
		if err := json.Unmarshal(e.Body, &fs); err != nil || e.Kind != iothub.Feedback || len(fs) != 1 {
			t.Fatalf("event %+v: %v", e, err)
		}
		out = append(out, fs[0].MessageID+" "+string(fs[0].Outcome))
	}
	return out
}

func (b *bench) send(t *testing.T, body string, in operator.SendMessage) {
	t.Helper()
	in.Body, in.ID = body, body[:1]
	if _, err := b.Send(t.Context(), "tester", "d", in); err != nil {
		t.Fatal(err)
	}
}

// pass lets time pass, and what happens meanwhile.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// run runs a test in a bubble of time.
func run(t *testing.T, f func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{store: &memory{}, online: true}
		var err error
		b.Messages, err = messages.New(messages.Config{Store: b.store, Registry: b, Sessions: b, Ledger: b, Stored: func() {}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()
		f(t, b)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestMessageIsCompletedByItsAcknowledgement(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.send(t, "a", operator.SendMessage{Ack: "positive"})
		b.send(t, "b", operator.SendMessage{Ack: "negative"})
		b.send(t, "c", operator.SendMessage{})
		for _, s := range b.expect(t, "a", "b", "c") {
			s.done(nil)
		}
		b.expect(t)
		if q, _ := b.List(t.Context(), "d"); len(q) != 0 {
			t.Errorf("queue %+v", q)
		}
		if diff := cmp.Diff([]string{"a Success"}, b.fates(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMessageWaitsForItsDevice(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.connected(false)
		b.send(t, "a", operator.SendMessage{})
		b.send(t, "b", operator.SendMessage{})
		b.expect(t)
		if q, _ := b.List(t.Context(), "d"); len(q) != 2 || q[0].Deliveries != 0 {
			t.Errorf("queue %+v", q)
		}
		b.connected(true)
		b.Wake("d")
		b.expect(t, "a", "b")
	})
}

func TestMessageIsSentAgainWhenTheSessionEnds(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.send(t, "a", operator.SendMessage{})
		b.send(t, "b", operator.SendMessage{})
		got := b.expect(t, "a", "b")
		b.connected(false)
		for _, s := range got {
			s.done(fault.New(fault.Unavailable, "gone"))
		}
		b.expect(t)
		b.connected(true)
		b.Wake("d")
		b.expect(t, "a+", "b+")
	})
}

// A clean session gets nothing of what was queued before it, and all that comes
// after; a kept one gets all.
func TestCleanSessionDiscardsTheQueue(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.send(t, "a", operator.SendMessage{Ack: "full"})
		old := b.expect(t, "a") // not acknowledged
		b.connected(false)
		old[0].done(fault.New(fault.Unavailable, "gone"))
		b.send(t, "b", operator.SendMessage{Ack: "negative"})
		b.send(t, "c", operator.SendMessage{})
		pass(time.Second)
		at := time.Now()
		b.send(t, "d", operator.SendMessage{})
		b.connected(true)
		b.Discard("d", at)
		b.expect(t, "d")
		if diff := cmp.Diff([]string{"a Purged", "b Purged"}, b.fates(t)); diff != "" {
			t.Error(diff)
		}
		b.Discard("d", at.Add(-time.Hour)) // an older session's opening, told late
		b.expect(t)
		if q, _ := b.List(t.Context(), "d"); len(q) != 1 || q[0].ID != "d" {
			t.Errorf("queue %+v", q)
		}
	})
}

// What could not be discarded is discarded before anything is sent.
func TestDiscardIsNotForgotten(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.connected(false)
		b.send(t, "a", operator.SendMessage{})
		pass(time.Second)
		b.store.fail(errors.New("disk is full"))
		b.connected(true)
		b.Discard("d", time.Now())
		b.expect(t)
		b.store.fail(nil)
		b.Wake("d")
		b.expect(t)
		if q, _ := b.List(t.Context(), "d"); len(q) != 0 {
			t.Errorf("queue %+v", q)
		}
	})
}

func TestMessageIsSentAgainAfterItsLock(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.send(t, "a", operator.SendMessage{Ack: "full"})
		first := b.expect(t, "a")
		pass(messages.Lock - 20*time.Second)
		b.expect(t)
		pass(40 * time.Second)
		b.expect(t, "a+")
		first[0].done(nil) // late, and good all the same
		if diff := cmp.Diff([]string{"a Success"}, b.fates(t)); diff != "" {
			t.Error(diff)
		}
		pass(2 * messages.Lock)
		b.expect(t)
	})
}

func TestMessageIsSentTenTimes(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.send(t, "a", operator.SendMessage{Ack: "negative"})
		b.send(t, "b", operator.SendMessage{})
		times := 0
		for range 30 {
			for _, s := range b.take() {
				switch {
				case s.body == "b":
					s.done(nil)
				default:
					times++
				}
			}
			pass(messages.Lock)
		}
		if times != messages.MaxDeliveries {
			t.Errorf("sent %d times", times)
		}
		if diff := cmp.Diff([]string{"a DeliveryCountExceeded"}, b.fates(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMessageExpires(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.connected(false)
		b.send(t, "a", operator.SendMessage{Ack: "negative", Expires: 120})
		b.send(t, "b", operator.SendMessage{Ack: "negative"})
		pass(119 * time.Second)
		if f := b.fates(t); f != nil {
			t.Errorf("before its time: %v", f)
		}
		pass(20 * time.Second)
		if diff := cmp.Diff([]string{"a Expired"}, b.fates(t)); diff != "" {
			t.Error(diff)
		}
		pass(time.Hour)
		if diff := cmp.Diff([]string{"a Expired", "b Expired"}, b.fates(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPurge(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.send(t, "a", operator.SendMessage{Ack: "full"})
		got := b.expect(t, "a")
		b.connected(false)
		b.send(t, "b", operator.SendMessage{Ack: "positive"})
		if p, err := b.Purge(t.Context(), "tester", "d"); p.Messages != 2 || err != nil {
			t.Errorf("purged %+v, %v", p, err)
		}
		got[0].done(nil)
		if diff := cmp.Diff([]string{"a Purged"}, b.fates(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNoMoreIsSentThanTheWindow(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		for i := range 5 {
			b.send(t, fmt.Sprint(i)+strings.Repeat("x", 40<<10), operator.SendMessage{ID: "x"})
		}
		var order []byte
		for len(order) < 5 {
			got := b.take()
			if len(got) == 0 || len(got) > 2 {
				t.Fatalf("%d large messages sent at once", len(got))
			}
			for _, s := range got {
				order = append(order, s.body[0])
				s.done(nil)
			}
		}
		if string(order) != "01234" {
			t.Errorf("order %s", order)
		}
	})
}
