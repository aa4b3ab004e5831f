package stream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/hub/stream"
	"holdfast/identity"
	"holdfast/iothub"
)

// start runs a stream in dir and returns it with a function that ends it.
func start(t testing.TB, cfg stream.Config) (*stream.Stream, func()) {
	t.Helper()
	s, err := stream.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func message(device string, n int) iothub.Message {
	return iothub.Message{
		Device:     identity.Device(device),
		Kind:       iothub.Telemetry,
		Time:       time.Now().UTC(),
		Properties: map[string]string{"n": fmt.Sprint(n)},
		System:     map[string]string{"$.mid": fmt.Sprintf("%s/%d", device, n)},
		Body:       fmt.Appendf(nil, "body %d", n),
	}
}

// store appends messages and waits until all are on disk.
func store(t testing.TB, s *stream.Stream, msgs ...iothub.Message) {
	t.Helper()
	errs := make(chan error, len(msgs))
	for _, m := range msgs {
		s.Append(m, func(err error) { errs <- err })
	}
	for range msgs {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func read(t testing.TB, s *stream.Stream, q stream.Query) ([]iothub.Message, []stream.Position) {
	t.Helper()
	var msgs []iothub.Message
	var at []stream.Position
	err := s.Read(t.Context(), q, func(m iothub.Message, p stream.Position) error {
		msgs, at = append(msgs, m), append(at, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return msgs, at
}

func TestReadReturnsWhatWasStored(t *testing.T) {
	dir := t.TempDir()
	s, stop := start(t, stream.Config{Dir: dir})
	if got, _ := read(t, s, stream.Query{}); len(got) != 0 {
		t.Fatalf("empty stream has %d messages", len(got))
	}
	var a, b, all []iothub.Message
	for i := range 100 {
		a, b = append(a, message("pump-01", i)), append(b, message("pump-02", i))
		b[i].Kind = iothub.Log
		all = append(all, a[i], b[i])
	}
	store(t, s, all...)
	stop()
	s, _ = start(t, stream.Config{Dir: dir})
	got, at := read(t, s, stream.Query{})
	if d := cmp.Diff(all, got); d != "" {
		t.Fatal(d)
	}
	got, _ = read(t, s, stream.Query{Device: "pump-01"})
	if d := cmp.Diff(a, got); d != "" {
		t.Error("by device:", d)
	}
	got, _ = read(t, s, stream.Query{Kind: iothub.Log})
	if d := cmp.Diff(b, got); d != "" {
		t.Error("by kind:", d)
	}
	for _, i := range []int{0, 1, 57, 199} {
		got, _ = read(t, s, stream.Query{After: at[i]})
		if d := cmp.Diff(all[i+1:], append([]iothub.Message{}, got...)); d != "" {
			t.Errorf("after %v: %s", at[i], d)
		}
	}
	got, _ = read(t, s, stream.Query{Since: all[100].Time})
	if len(got) != 100 {
		t.Errorf("since the middle: %d messages, want 100", len(got))
	}
	if got, _ = read(t, s, stream.Query{Since: time.Now()}); len(got) != 0 {
		t.Errorf("since now: %d messages", len(got))
	}
	if got, _ = read(t, s, stream.Query{After: stream.Position{Group: 1 << 40}}); len(got) != 0 {
		t.Errorf("after a position that does not exist: %d messages", len(got))
	}
}

func TestReadFollows(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir()})
	store(t, s, message("pump-01", 0))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan iothub.Message)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Read(ctx, stream.Query{Follow: true}, func(m iothub.Message, _ stream.Position) error {
			got <- m
			return nil
		})
	}()
	for i := range 10 {
		if i > 0 {
			store(t, s, message("pump-01", i))
		}
		if m := <-got; m.Properties["n"] != fmt.Sprint(i) {
			t.Fatalf("message %s, want %d", m.Properties["n"], i)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestReadReturnsTheReadersError(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir()})
	store(t, s, message("pump-01", 0))
	stopped := errors.New("enough")
	if err := s.Read(t.Context(), stream.Query{}, func(iothub.Message, stream.Position) error { return stopped }); err != stopped {
		t.Fatalf("Read: %v", err)
	}
}

func TestAppendRefuses(t *testing.T) {
	s, stop := start(t, stream.Config{Dir: t.TempDir()})
	long, many, device, kind, when := message("a", 0), message("a", 0), message("a/b", 0), message("a", 0), message("a", 0)
	long.Body = make([]byte, stream.MaxMessage)
	many.Properties = map[string]string{}
	for i := range stream.MaxProperties + 1 {
		many.Properties[fmt.Sprint(i)] = ""
	}
	kind.Kind, when.Time = "", time.Time{}
	for name, m := range map[string]iothub.Message{"long": long, "many properties": many, "device": device, "kind": kind, "time": when} {
		s.Append(m, func(err error) {
			if fault.Of(err) != fault.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	stop()
	s.Append(message("a", 0), func(err error) {
		if fault.Of(err) != fault.Unavailable {
			t.Errorf("after the end: %v", err)
		}
	})
}

// What does not fit into the queue is refused at once; what is in the queue is
// stored even if Run's context has ended already.
func TestAppendRefusesWhenTheQueueIsFull(t *testing.T) {
	s, err := stream.New(t.Context(), stream.Config{Dir: t.TempDir(), MaxQueue: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	var taken, refused, stored int
	for i := range 100 {
		m := message("pump-01", i)
		m.Body = make([]byte, 1000)
		taken++
		s.Append(m, func(err error) {
			switch {
			case err == nil:
				stored++
			case fault.Of(err) == fault.Unavailable:
				refused++
			default:
				t.Error(err)
			}
		})
	}
	if refused < 90 || refused == taken {
		t.Fatalf("%d of %d refused", refused, taken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if stored+refused != taken {
		t.Fatalf("%d stored and %d refused of %d", stored, refused, taken)
	}
}

func TestAppendPacksGroups(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir()})
	var msgs []iothub.Message
	for i := range 20_000 {
		msgs = append(msgs, message("pump-01", i))
	}
	store(t, s, msgs...)
	_, at := read(t, s, stream.Query{})
	if n := at[len(at)-1].Group; len(at) != len(msgs) || n < 3 || n > 2000 {
		t.Fatalf("%d messages in %d groups", len(at), n)
	}
}

func TestRetentionByBytes(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir(), MaxBytes: 16 << 20})
	m := message("pump-01", 0)
	m.Body = make([]byte, 200_000)
	for range 120 {
		m.Time = time.Now()
		store(t, s, m)
	}
	got, at := read(t, s, stream.Query{})
	if len(got) < 50 || len(got) > 84 || at[len(at)-1].Group != 120 {
		t.Fatalf("%d messages up to %v", len(got), at[len(at)-1])
	}
}

func TestMinFreeRefusesBeforeTheDiskIsFull(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir(), MinFree: 1 << 60})
	errs := make(chan error)
	s.Append(message("pump-01", 0), func(err error) { errs <- err })
	if err := <-errs; fault.Of(err) != fault.Unavailable || !strings.Contains(err.Error(), "no space left") {
		t.Fatal(err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := stream.New(t.Context(), stream.Config{Dir: t.TempDir(), MaxBytes: 1 << 20}); err == nil {
		t.Error("a store smaller than a group was accepted")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.New(t.Context(), stream.Config{Dir: file}); err == nil {
		t.Error("a file was taken for a directory")
	}
}

// No socket of this process listens while a stream runs.
func TestNothingListens(t *testing.T) {
	start(t, stream.Config{Dir: t.TempDir()})
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(fds) == 0 {
		t.Skip("no /proc")
	}
	for _, fd := range fds {
		if target, _ := os.Readlink(fd); strings.HasPrefix(target, "socket:") {
			t.Errorf("open socket %s", target)
		}
	}
	if c, err := net.Dial("tcp", "127.0.0.1:4222"); err == nil {
		c.Close()
		t.Log("somebody else serves port 4222")
	}
}

func TestPosition(t *testing.T) {
	for _, p := range []stream.Position{{}, {Group: 1}, {Group: 1 << 62, Index: 1<<31 - 1}} {
		if got, err := stream.ParsePosition(p.String()); err != nil || got != p {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	if p, err := stream.ParsePosition(""); err != nil || p != (stream.Position{}) {
		t.Errorf("empty: %v, %v", p, err)
	}
	for _, s := range []string{"1", "-", "1-", "-1", "1-2-3", "+1-2", "1--2", " 1-2", "99999999999999999999-1", "1-99999999999"} {
		if p, err := stream.ParsePosition(s); err == nil {
			t.Errorf("%q gives %v", s, p)
		}
	}
}
