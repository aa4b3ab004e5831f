package stream_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/stream"
	"holdfast/identity"
)

func serve(t testing.TB, b *stream.Bus, h stream.Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Serve(ctx, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for { // until it answers
		_, err := b.Request(t.Context(), "probe", "probe", nil)
		if err == nil {
			return
		}
		if fault.Of(err) != fault.NotFound {
			t.Fatal(err)
		}
	}
}

func TestBus(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir()})
	b := s.Bus()
	if _, err := b.Request(t.Context(), "pump-01", stream.VerbRevoke, nil); fault.Of(err) != fault.NotFound {
		t.Fatalf("nobody serves: %v", err)
	}
	serve(t, b, func(d identity.Device, verb string, body []byte) ([]byte, bool) {
		return fmt.Appendf(nil, "%s %s %s", d, verb, body), d != "gone"
	})
	got, err := b.Request(t.Context(), "Pump.01:x_y", stream.VerbPosture, []byte("report"))
	if err != nil || string(got) != "Pump.01:x_y posture report" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := b.Request(t.Context(), "gone", stream.VerbRevoke, nil); fault.Of(err) != fault.NotFound {
		t.Errorf("no session: %v", err)
	}
}

// A handler that hangs for one device holds up that device's requests only,
// and they keep their order.
func TestBusKeepsDevicesApart(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir()})
	hang := make(chan struct{})
	var mu sync.Mutex
	var order []string
	serve(t, s.Bus(), func(d identity.Device, verb string, body []byte) ([]byte, bool) {
		if d == "slow" {
			<-hang
			mu.Lock()
			defer mu.Unlock()
			order = append(order, string(body))
		}
		return nil, true
	})
	var wg sync.WaitGroup
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond) // keeps the order of sending
		if _, err := s.Bus().Request(ctx, "slow", "posture", fmt.Append(nil, i)); fault.Of(err) != fault.Unavailable {
			t.Errorf("slow device: %v", err)
		}
		cancel()
	}
	if _, err := s.Bus().Request(t.Context(), "quick", "revoke", nil); err != nil {
		t.Error(err)
	}
	wg.Go(func() {
		if _, err := s.Bus().Request(t.Context(), "slow", "revoke", []byte("last")); err != nil {
			t.Error(err)
		}
	})
	close(hang)
	wg.Wait()
	if want := []string{"0", "1", "2", "last"}; !slices.Equal(order, want) {
		t.Errorf("order %v", order)
	}
}

// TestHandlerThatPanicsFailsItsRequest and no other.
func TestHandlerThatPanicsFailsItsRequest(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir()})
	b := s.Bus()
	serve(t, b, func(d identity.Device, _ string, _ []byte) ([]byte, bool) {
		if d == "bad" {
			panic("an index\r\nout of range")
		}
		return []byte("done"), true
	})
	for range 3 {
		if _, err := b.Request(t.Context(), "bad", stream.VerbRevoke, nil); fault.Of(err) != fault.Internal || !strings.Contains(err.Error(), "out of range") {
			t.Errorf("error %v", err)
		}
		if got, err := b.Request(t.Context(), "good", stream.VerbRevoke, nil); err != nil || string(got) != "done" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// TestAnswerThatPanicsStopsNobody: the messages around it are answered for.
func TestAnswerThatPanicsStopsNobody(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir()})
	answers := make(chan error, 8)
	for n := range 8 {
		s.Append(message("pump-01", n), func(err error) {
			if n%3 == 1 {
				panic("no room")
			}
			answers <- err
		})
	}
	for range 5 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}

func TestAwait(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir()})
	address, body, stop, err := s.Bus().Await()
	if err != nil {
		t.Fatal(err)
	}
	other, otherBody, stopOther, err := s.Bus().Await()
	if err != nil || other == address {
		t.Fatalf("second address %q, %v", other, err)
	}
	defer stopOther()
	for _, text := range []string{"first", "second"} {
		if err := s.Bus().Send(address, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(<-body); got != "first" {
		t.Errorf("got %q", got)
	}
	stop()
	if err := s.Bus().Send(address, []byte("late")); err != nil { // nobody hears it, and that is no error
		t.Error(err)
	}
	if err := s.Bus().Send(other, []byte("other")); err != nil {
		t.Fatal(err)
	}
	if got := string(<-otherBody); got != "other" {
		t.Errorf("got %q", got)
	}
}
