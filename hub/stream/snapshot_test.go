package stream_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/hub/stream"
)

// restored starts a stream on what Restore makes of a snapshot.
func restored(t *testing.T, snapshot []byte) *stream.Stream {
	t.Helper()
	cfg := stream.Config{Dir: filepath.Join(t.TempDir(), "stream")}
	if err := stream.Restore(t.Context(), cfg, bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	s, stop := start(t, cfg)
	t.Cleanup(stop)
	return s
}

func TestSnapshotHasWhatWasStored(t *testing.T) {
	for _, n := range []int{0, 1, 300} {
		s, stop := start(t, stream.Config{Dir: t.TempDir()})
		for i := range n {
			m := message("pump-01", i)
			m.Body = append(m.Body, make([]byte, 5000)...)
			store(t, s, m)
		}
		want, places := read(t, s, stream.Query{})
		var snapshot bytes.Buffer
		if err := s.Snapshot(t.Context(), &snapshot); err != nil {
			t.Fatal(err)
		}
		store(t, s, message("pump-01", n)) // it goes on
		stop()

		again := restored(t, snapshot.Bytes())
		got, gotPlaces := read(t, again, stream.Query{})
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d messages: %s", n, d)
		}
		if d := cmp.Diff(places, gotPlaces); d != "" {
			t.Errorf("%d messages: places: %s", n, d)
		}
		store(t, again, message("pump-02", 0)) // and so does what was restored
	}
}

func TestSnapshotReportsItsWriter(t *testing.T) {
	s, stop := start(t, stream.Config{Dir: t.TempDir()})
	defer stop()
	store(t, s, message("pump-01", 1))
	if err := s.Snapshot(t.Context(), full{}); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("error %v", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestRestoreRefuses(t *testing.T) {
	s, stop := start(t, stream.Config{Dir: t.TempDir()})
	for i := range 50 {
		store(t, s, message("pump-01", i))
	}
	var good bytes.Buffer
	if err := s.Snapshot(t.Context(), &good); err != nil {
		t.Fatal(err)
	}
	stop()
	for name, in := range map[string]string{
		"nothing":             "",
		"no line":             "{}",
		"no JSON":             "hello\n",
		"another stream":      strings.Replace(good.String(), `"MESSAGES"`, `"OTHER"`, 1),
		"one that is cut off": good.String()[:good.Len()*2/3],
		"no messages":         good.String()[:strings.Index(good.String(), "\n")+1],
		"a line without end":  strings.Repeat("x", 100<<10),
	} {
		ctx, cancel := context.WithCancel(t.Context())
		err := stream.Restore(ctx, stream.Config{Dir: filepath.Join(t.TempDir(), "s")}, strings.NewReader(in))
		cancel()
		if err == nil {
			t.Errorf("%s was restored", name)
		}
	}
}
