package stream_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/hub/stream"
	"holdfast/identity"
	"holdfast/iothub"
)

var shapes = []struct{ senders, window int }{{50, 16}, {50, 64}, {1, 1}}

// BenchmarkAppend has senders with a window of unacknowledged messages each,
// as devices with QoS 1 have. Its limit is BenchmarkFile in the same run.
func BenchmarkAppend(b *testing.B) {
	for _, sh := range shapes {
		b.Run(fmt.Sprintf("%dx%d", sh.senders, sh.window), func(b *testing.B) {
			s, _ := start(b, stream.Config{Dir: b.TempDir()})
			m := message("pump-01", 0)
			m.Body = make([]byte, 128)
			load(b, sh.senders, sh.window, func(done func(error)) { s.Append(m, done) })
		})
	}
}

// BenchmarkFile is the limit: records of the same size appended to one file,
// one write and one fdatasync for all that wait.
func BenchmarkFile(b *testing.B) {
	for _, sh := range shapes {
		b.Run(fmt.Sprintf("%dx%d", sh.senders, sh.window), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			w := &fileLog{f: f, wake: make(chan struct{}, 1)}
			ended := make(chan struct{})
			go func() { defer close(ended); w.run(b) }()
			record := make([]byte, 128+60)
			load(b, sh.senders, sh.window, func(done func(error)) { w.append(record, done) })
			close(w.wake)
			<-ended
		})
	}
}

// load keeps senders x window messages in flight, b.N in all.
func load(b *testing.B, senders, window int, send func(func(error))) {
	var left, failed atomic.Int64
	left.Store(int64(b.N))
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	b.ResetTimer()
	for range senders {
		wg.Go(func() {
			slots := make(chan struct{}, window)
			var mine []time.Duration
			var lock sync.Mutex
			for left.Add(-1) >= 0 {
				slots <- struct{}{}
				at := time.Now()
				send(func(err error) {
					if err != nil {
						failed.Add(1)
					}
					lock.Lock()
					mine = append(mine, time.Since(at))
					lock.Unlock()
					<-slots
				})
			}
			for range window {
				slots <- struct{}{}
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	b.StopTimer()
	if failed.Load() > 0 {
		b.Fatalf("%d of %d failed", failed.Load(), b.N)
	}
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

type fileLog struct {
	f    *os.File
	wake chan struct{}

	mu   sync.Mutex
	buf  []byte
	done []func(error)
}

func (w *fileLog) append(record []byte, done func(error)) {
	w.mu.Lock()
	w.buf, w.done = append(w.buf, record...), append(w.done, done)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *fileLog) run(b *testing.B) {
	var buf []byte
	var done []func(error)
	for range w.wake {
		w.mu.Lock()
		buf, w.buf = w.buf, buf[:0]
		done, w.done = w.done, done[:0]
		w.mu.Unlock()
		_, err := w.f.Write(buf)
		if err == nil {
			err = syscall.Fdatasync(int(w.f.Fd()))
		}
		for _, d := range done {
			d(err)
		}
	}
}

// BenchmarkRead reads stored messages: all, and one device of 1,000.
func BenchmarkRead(b *testing.B) {
	s, _ := start(b, stream.Config{Dir: b.TempDir()})
	const n = 100_000
	msgs := make([]iothub.Message, n)
	for i := range msgs {
		msgs[i] = message(fmt.Sprintf("pump-%03d", i%1000), i)
	}
	store(b, s, msgs...)
	for name, q := range map[string]stream.Query{"all": {}, "device": {Device: "pump-007"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := s.Read(b.Context(), q, func(iothub.Message, stream.Position) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "stored-msgs/s")
		})
	}
}

// BenchmarkBusRequest is the way of a revoke to the session.
func BenchmarkBusRequest(b *testing.B) {
	s, _ := start(b, stream.Config{Dir: b.TempDir()})
	serve(b, s.Bus(), func(identity.Device, string, []byte) ([]byte, bool) { return nil, true })
	for b.Loop() {
		if _, err := s.Bus().Request(b.Context(), "pump-01", stream.VerbRevoke, nil); err != nil {
			b.Fatal(err)
		}
	}
}
