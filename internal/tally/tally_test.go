package tally_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/tally"
)

func counts(v *tally.Vec) map[string]float64 {
	m := map[string]float64{}
	v.Each(func(n float64, labels ...string) { m[strings.Join(labels, "/")] = n })
	return m
}

func TestVecCountsWhatItKnowsAndOther(t *testing.T) {
	v := tally.NewVec([]string{"a", "b"}, []string{"ok", "bad"})
	v.Inc("a", "ok")
	v.Inc("a", "ok")
	v.Add(3, "b", "bad")
	v.Inc("c", "ok")
	v.Inc("c", "worse")
	v.Inc("a") // too few labels: nothing
	want := map[string]float64{"a/ok": 2, "a/bad": 0, "b/ok": 0, "b/bad": 3, "other/ok": 1, "other/other": 1}
	if d := cmp.Diff(want, counts(v)); d != "" {
		t.Error(d)
	}
	if n := v.Sum(1, "ok"); n != 3 {
		t.Errorf("sum of ok is %d, want 3", n)
	}
	var none *tally.Vec
	none.Inc("a")
}

func TestHistogramIsCumulative(t *testing.T) {
	h := tally.NewDurations(time.Millisecond, time.Second)
	for _, d := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond, time.Minute} {
		h.Took(d)
	}
	want := tally.Snapshot{Count: 4, Sum: 60.003, Buckets: map[float64]uint64{0.001: 2, 1: 3}}
	if d := cmp.Diff(want, h.Snapshot()); d != "" {
		t.Error(d)
	}
	var none *tally.Histogram
	none.Observe(1)
}

func TestBoundsAreInOrder(t *testing.T) {
	if !slices.IsSorted(tally.Latencies()) {
		t.Error(tally.Latencies())
	}
}

func TestBagTakesNoMoreThanItsLimit(t *testing.T) {
	b := tally.NewBag(2, func() *atomic.Int64 { return &atomic.Int64{} })
	for _, l := range []string{"a", "b", "c", "d", "a"} {
		b.Of(l, "x").Add(1)
	}
	got := map[string]int64{}
	b.Each(func(n *atomic.Int64, labels [3]string) { got[strings.Join(labels[:2], "/")] = n.Load() })
	if d := cmp.Diff(map[string]int64{"a/x": 2, "b/x": 1, "other/other": 2}, got); d != "" {
		t.Error(d)
	}
}

func BenchmarkVec(b *testing.B) {
	v := tally.NewVec([]string{"telemetry", "log", "request"}, []string{"stored", "refused"})
	b.ReportAllocs()
	for b.Loop() {
		v.Inc("telemetry", "stored")
	}
}

func BenchmarkHistogram(b *testing.B) {
	h := tally.NewDurations(tally.Latencies()...)
	b.ReportAllocs()
	for b.Loop() {
		h.Took(3 * time.Millisecond)
	}
}
