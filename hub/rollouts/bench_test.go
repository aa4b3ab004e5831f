package rollouts_test

import (
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/release"
)

// BenchmarkRollout brings a release to 100,000 devices, through store and rules:
// each is listed, offered the release in its wave, reports that it downloads and
// that it has committed, and is proved by what it attests. What it says is on
// disk before the next thing is said. The clock is moved on over the times of
// soak.
func BenchmarkRollout(b *testing.B) {
	const devices = 100_000
	for b.Loop() {
		w := newWorld(b)
		w.add("pumps", devices)
		before := memory()
		var peak atomic.Int64
		stop := watch(func() { peak.Store(max(peak.Load(), memory()-before)) })
		began := time.Now()
		id := w.start(v14, func(in *operator.StartRollout) { in.Canary, in.Step, in.HaltOn = 5, 25, 2 }).ID
		w.pass()
		planned := time.Since(began)
		reports := 0
		for r := w.show(id); r.Stage == "running"; r = w.show(id) {
			reports += w.serve(b)
			w.pass()
			w.later(11 * time.Minute)
			w.pass()
		}
		took := time.Since(began)
		stop()
		if r := w.show(id); r.Stage != "finished" || r.Counts.Done != devices {
			b.Fatalf("%+v", r)
		}
		b.ReportMetric(took.Seconds(), "s/rollout")
		b.ReportMetric(planned.Seconds(), "s/plan")
		b.ReportMetric(float64(reports)/took.Seconds(), "reports/s")
		b.ReportMetric(float64(peak.Load())/(1<<20), "MB-peak")
		info, err := os.Stat(w.path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/devices, "disk-B/device")
		began = time.Now() // what a pass costs when nothing happens
		for range 100 {
			w.pass()
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/100, "µs/idle-pass")
	}
}

// serve has all devices that are told to update do so, many at a time, and
// returns how many reports they made.
func (w *world) serve(b *testing.B) int {
	ids := w.wanted()
	work := make(chan identity.Device)
	var all sync.WaitGroup
	for range 128 {
		all.Go(func() {
			for id := range work {
				w.says(b, id, release.Downloading)
				w.with(id, func(d *device) { d.facts.Attested, d.facts.Running = published(v14).Measured, published(v14) })
				w.says(b, id, release.Committed)
			}
		})
	}
	for _, id := range ids {
		work <- id
	}
	close(work)
	all.Wait()
	return 2 * len(ids)
}

func (w *world) says(b *testing.B, id identity.Device, s release.State) {
	w.mu.Lock()
	o := w.devices[id].told
	w.mu.Unlock()
	body, err := json.Marshal(release.Progress{Rollout: o.Rollout, Attempt: o.Attempt, Product: o.Product, Version: o.Version, State: s, Final: s == release.Committed})
	if err == nil {
		err = w.Progress(b.Context(), id, body)
	}
	if err != nil {
		b.Error(err)
	}
}

// memory is how much of this process is resident, in bytes.
func memory() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// watch looks ten times a second until what it returns is called.
func watch(do func()) (stop func()) {
	runtime.GC()
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				do()
			}
		}
	}()
	return func() { close(ended); <-done }
}
