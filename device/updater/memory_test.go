package updater_test

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"holdfast/device/updater"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/update"
)

// maxHeap is how much the heap may grow in an update, in bytes.
const maxHeap = 8 << 20

// long is an image without an end that anybody has stored.
type long struct {
	size int64
	done chan struct{}
	peak uint64
}

func (l *long) release() release.Release {
	return release.Release{Image: release.Blob{Length: l.size, SHA256: identity.Sum([]byte("long"))},
		Target: release.Target{Product: "pump", Version: mcuboot.Version{Major: 2}, SecurityVersion: 1, Measured: identity.Sum([]byte("measured")),
			Health: release.Health{Seconds: 60}}}
}

func (l *long) Refresh(context.Context) error                        { return nil }
func (l *long) Find(mcuboot.Version) (release.Release, error)        { return l.release(), nil }
func (l *long) Running() (io.ReaderAt, release.Blob)                 { return nil, release.Blob{} }
func (l *long) Write(release.Release, int64) (updater.Writer, error) { return &gauge{l: l}, nil }

func (l *long) Facts() (update.Facts, error) {
	return update.Facts{Running: update.Image{Slot: update.A, Version: mcuboot.Version{Major: 1}, SecurityVersion: 1}, Minimum: 1}, nil
}

func (l *long) Do(a update.Action, _ update.Machine) error {
	if a == update.VerifySlot {
		close(l.done)
	}
	return io.EOF // it is not to go on
}

func (l *long) Blob(_ context.Context, b release.Blob, _ int64, _ func(error)) io.ReadCloser {
	return io.NopCloser(io.LimitReader(zeros{}, b.Length))
}

func (l *long) Delta(context.Context, release.Blob, release.Blob, func(error)) (io.ReadCloser, int64, error) {
	return nil, 0, io.EOF
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// gauge is a slot that looks at the heap while it is written.
type gauge struct {
	l  *long
	at int64
}

func (g *gauge) Offset() int64 { return g.at }
func (g *gauge) Finish() error { return nil }

func (g *gauge) Write(p []byte) (int, error) {
	g.at += int64(len(p))
	return len(p), nil
}

func (g *gauge) Sync() error {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	g.l.peak = max(g.l.peak, m.HeapInuse)
	return nil
}

// TestMemoryDoesNotGrowWithTheImage downloads the longest image that there may
// be.
func TestMemoryDoesNotGrowWithTheImage(t *testing.T) {
	l := &long{size: release.MaxImage, done: make(chan struct{})}
	u, err := updater.New(updater.Config{Path: filepath.Join(t.TempDir(), "update.json"), Product: "pump", Slots: l, Metadata: l, Source: l,
		Clock: func() tuf.Clock { return tuf.At(time.Now()) }, Started: time.Now(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	u.Offer([]byte(`{"product":"pump","version":"2.0.0","unpaused":true}`))
	select {
	case <-l.done:
	case <-time.After(time.Minute):
		t.Fatal("the download did not end")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if l.peak > before.HeapInuse+maxHeap {
		t.Errorf("the heap grew from %d to %d bytes for an image of %d", before.HeapInuse, l.peak, l.size)
	}
	t.Logf("heap %.1f MB before, %.1f MB at most, for an image of %.0f MB", float64(before.HeapInuse)/1e6, float64(l.peak)/1e6, float64(l.size)/1e6)
}
