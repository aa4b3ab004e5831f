// Package tally has the counters that the parts of the hub keep of themselves:
// atomics, cheap enough for the path of a message, read by whoever shows them.
// It knows no monitoring system. What tells counts apart is bounded: a Vec has
// the values that it was made with and "other", a Bag takes so many and no more.
package tally

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Other is the label value of what a Vec or a Bag has no place for.
const Other = "other"

// Vec counts by labels whose values are known beforehand.
type Vec struct {
	dims [][]string
	n    []atomic.Uint64
}

// NewVec makes a Vec; each of dims has the values of one label.
func NewVec(dims ...[]string) *Vec {
	size := 1
	for _, d := range dims {
		size *= len(d) + 1
	}
	return &Vec{dims: dims, n: make([]atomic.Uint64, size)}
}

// Inc counts one. A value that the Vec was not made with is Other. On a nil Vec
// it does nothing.
func (v *Vec) Inc(labels ...string) { v.Add(1, labels...) }

// Add counts n.
func (v *Vec) Add(n uint64, labels ...string) {
	if v == nil || len(labels) != len(v.dims) {
		return
	}
	v.n[v.index(labels)].Add(n)
}

// Dec takes one back, for a Vec of what there is now.
func (v *Vec) Dec(labels ...string) { v.Add(^uint64(0), labels...) }

func (v *Vec) index(labels []string) int {
	at := 0
	for i, d := range v.dims {
		k := slices.Index(d, labels[i])
		if k < 0 {
			k = len(d)
		}
		at = at*(len(d)+1) + k
	}
	return at
}

// Each calls f with the count of every combination of labels; one with Other
// only where something was counted.
func (v *Vec) Each(f func(n float64, labels ...string)) {
	if v == nil {
		return
	}
	for at := range v.n {
		labels, rest, other := make([]string, len(v.dims)), at, false
		for i := len(v.dims) - 1; i >= 0; i-- {
			d := v.dims[i]
			if k := rest % (len(d) + 1); k < len(d) {
				labels[i] = d[k]
			} else {
				labels[i], other = Other, true
			}
			rest /= len(v.dims[i]) + 1
		}
		if n := v.n[at].Load(); n > 0 || !other {
			f(float64(n), labels...)
		}
	}
}

// Sum returns the counts of all combinations together that have value in label
// number dim.
func (v *Vec) Sum(dim int, value string) uint64 {
	var sum uint64
	v.Each(func(n float64, labels ...string) {
		if labels[dim] == value {
			sum += uint64(n)
		}
	})
	return sum
}

// Histogram counts values by size. The zero Histogram is not ready.
type Histogram struct {
	per    float64 // how many of what is counted make one of what is shown
	bounds []int64 // upper, inclusive
	n      []atomic.Uint64
	sum    atomic.Int64
}

// NewDurations makes a Histogram of durations, shown in seconds.
func NewDurations(bounds ...time.Duration) *Histogram {
	b := make([]int64, len(bounds))
	for i, d := range bounds {
		b[i] = int64(d)
	}
	return newHistogram(float64(time.Second), b)
}

// NewSizes makes a Histogram of plain numbers.
func NewSizes(bounds ...int64) *Histogram { return newHistogram(1, bounds) }

func newHistogram(per float64, bounds []int64) *Histogram {
	return &Histogram{per: per, bounds: bounds, n: make([]atomic.Uint64, len(bounds)+1)}
}

// Latencies are bounds for what takes from a tenth of a millisecond to ten
// seconds.
func Latencies() []time.Duration {
	const µs, ms = time.Microsecond, time.Millisecond
	return []time.Duration{100 * µs, 250 * µs, 500 * µs, ms, 2500 * µs, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 500 * ms, time.Second, 2500 * ms, 10 * time.Second}
}

// Observe counts a value. On a nil Histogram it does nothing.
func (h *Histogram) Observe(v int64) {
	if h == nil {
		return
	}
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.n[i].Add(1)
	h.sum.Add(v)
}

// Took counts a duration.
func (h *Histogram) Took(d time.Duration) { h.Observe(int64(d)) }

// Snapshot is what a Histogram has counted. Buckets are cumulative, by upper
// bound.
type Snapshot struct {
	Count   uint64
	Sum     float64
	Buckets map[float64]uint64
}

// Snapshot reads the Histogram.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{Buckets: make(map[float64]uint64, len(h.bounds)), Sum: float64(h.sum.Load()) / h.per}
	for i := range h.n {
		s.Count += h.n[i].Load()
		if i < len(h.bounds) {
			s.Buckets[float64(h.bounds[i])/h.per] = s.Count
		}
	}
	return s
}

// Bag has one T for each combination of labels that came up, and no more than
// its limit: what comes later shares one under Other. It takes a lock, so it is
// not for the path of a message.
type Bag[T any] struct {
	make  func() *T
	limit int

	mu sync.Mutex
	by map[[3]string]*T
}

// NewBag makes a Bag of at most limit Ts that make makes; a combination has at
// most three labels.
func NewBag[T any](limit int, make func() *T) *Bag[T] {
	return &Bag[T]{make: make, limit: limit, by: map[[3]string]*T{}}
}

// Of returns the T of these labels.
func (b *Bag[T]) Of(labels ...string) *T {
	var key [3]string
	copy(key[:], labels)
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.by[key]; t != nil {
		return t
	}
	if len(b.by) >= b.limit {
		for i := range labels {
			key[i] = Other
		}
		if t := b.by[key]; t != nil {
			return t
		}
	}
	t := b.make()
	b.by[key] = t
	return t
}

// Each calls f with every T. labels has three values; those not given are empty.
func (b *Bag[T]) Each(f func(t *T, labels [3]string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, t := range b.by {
		f(t, key)
	}
}
