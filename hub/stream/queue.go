package stream

import (
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/iothub"
)

// Limits of a group: what one publish and one fsync cover.
const (
	maxGroupBytes    = 4 << 20
	maxGroupMessages = 8192
)

// group is an encoded group and whom to tell.
type group struct {
	buf   []byte
	done  []func(error)
	kinds kindCounts
}

// finish tells everybody. Whoever panics at that is its own loss: the committer
// goes on.
func (g *group) finish(err error, log *slog.Logger) {
	for told := 0; told < len(g.done); told++ {
		g.tell(&told, err, log)
	}
}

// tell tells those from told on, and stops at one that panics.
func (g *group) tell(told *int, err error, log *slog.Logger) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("panic at the answer for a message", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	for ; *told < len(g.done); *told++ {
		g.done[*told](err)
	}
}

// queue collects messages into groups while the committer works on the last
// one. It is bounded: what does not fit is refused, not kept waiting, because
// who waits here is a reader of a connection.
type queue struct {
	limit int // bytes that may wait
	group int // bytes of one group
	wake  chan struct{}
	log   *slog.Logger

	mu      sync.Mutex
	bytes   int
	groups  []*group
	spare   *group
	refused error // why nothing is taken at present
	alarm   bool  // wake is going to be called
}

func newQueue(limit, group int, log *slog.Logger) *queue {
	return &queue{limit: limit, group: group, wake: make(chan struct{}, 1), log: log}
}

// company is how long a patient message waits for others to go with.
const company = 100 * time.Millisecond

// add encodes m into the last group.
func (q *queue) add(m *iothub.Message, patient bool, done func(error)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refused != nil {
		return q.refused
	}
	if q.bytes+size(m) > q.limit {
		return fault.New(fault.Unavailable, "the hub is overloaded")
	}
	g := q.last(size(m) + maxHeader)
	before := len(g.buf)
	g.buf = appendRecord(g.buf, m)
	g.done = append(g.done, done)
	g.kinds.add(m.Kind)
	q.bytes += len(g.buf) - before
	switch {
	case !patient:
		q.rouse()
	case !q.alarm:
		q.alarm = true
		time.AfterFunc(company, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.alarm = false
			q.rouse()
		})
	}
	return nil
}

// rouse has the committer look.
func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// lingerTime is how long the committer stays awake after a commit. A device that
// sends one message after another has the next one here by then, and does not
// pay for waking anybody: with one in flight that is a tenth of its time.
const lingerTime = 200 * time.Microsecond

// linger waits for the next message without sleeping, and lets others run.
func (q *queue) linger() {
	for end := time.Now().Add(lingerTime); len(q.wake) == 0 && time.Now().Before(end); {
		runtime.Gosched()
	}
}

// last returns the group that takes n more bytes.
func (q *queue) last(n int) *group {
	if i := len(q.groups) - 1; i >= 0 {
		g := q.groups[i]
		if len(g.buf)+n <= q.group && len(g.done) < maxGroupMessages {
			return g
		}
	}
	g := q.spare
	if g == nil {
		g = &group{}
	}
	q.spare = nil
	q.groups = append(q.groups, g)
	return g
}

// take returns the oldest group, or nil when none waits.
func (q *queue) take() *group {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.groups) == 0 {
		return nil
	}
	g := q.groups[0]
	q.groups = q.groups[1:]
	q.bytes -= len(g.buf)
	return g
}

// recycle gives back a group whose bytes nobody reads any more.
func (q *queue) recycle(g *group) {
	clear(g.done)
	g.buf, g.done, g.kinds = g.buf[:0], g.done[:0], kindCounts{}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare = g
}

// refuse makes add return err; nil takes messages again.
func (q *queue) refuse(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refused = err
}

// fail tells everyone who waits.
func (q *queue) fail(err error, stats *Stats) {
	for g := q.take(); g != nil; g = q.take() {
		stats.ended(g, err)
		g.finish(err, q.log)
	}
}
