package updater

import (
	"context"
	"slices"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/internal/backoff"
	"holdfast/release"
)

// maxReports is how many reports wait for a session. When there are more the
// oldest go: the hub offers again in each session, and an attempt's end is then
// told again.
const maxReports = 16

// outbox holds reports until the hub has kept them.
type outbox struct {
	wake chan struct{} // has room for one

	mu      sync.Mutex // guards waiting and empty
	waiting []release.Progress
	empty   chan struct{} // closed while nothing waits
}

func newOutbox() *outbox {
	o := &outbox{wake: make(chan struct{}, 1), empty: make(chan struct{})}
	close(o.empty)
	return o
}

// put queues a report. How far a state has come is told only as it is now.
func (o *outbox) put(p release.Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 {
		o.empty = make(chan struct{})
	}
	if n := len(o.waiting); n > 1 && continues(o.waiting[n-1], p) { // the first may be on its way
		o.waiting[n-1] = p
	} else {
		o.waiting = append(o.waiting, p)
	}
	if n := len(o.waiting); n > maxReports {
		o.waiting = slices.Clone(o.waiting[n-maxReports:])
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// continues reports whether b says all that a does.
func continues(a, b release.Progress) bool {
	a.Bytes, a.Length, a.Delta = b.Bytes, b.Length, b.Delta
	return a == b
}

func (o *outbox) first() (release.Progress, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 {
		return release.Progress{}, false
	}
	return o.waiting[0], true
}

// sent forgets a report that the hub has.
func (o *outbox) sent(p release.Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) > 0 && o.waiting[0] == p {
		o.waiting = o.waiting[1:]
		if len(o.waiting) == 0 {
			close(o.empty)
		}
	}
}

// flush waits until nothing waits, or ctx ends.
func (o *outbox) flush(ctx context.Context) {
	o.mu.Lock()
	empty := o.empty
	o.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
}

// Session is an open session with the hub; see package device/link.
type Session interface {
	Offers() <-chan []byte
	Progress(ctx context.Context, p release.Progress) error
	Done() <-chan struct{}
}

// Serve takes the offers of a session and delivers reports in it, until it or
// ctx ends.
func (u *Updater) Serve(ctx context.Context, s Session) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var deliver sync.WaitGroup
	deliver.Go(func() { u.out.deliver(ctx, s) })
	defer deliver.Wait()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Done():
			return
		case body := <-s.Offers():
			u.Offer(body)
		}
	}
}

var resend = backoff.Policy{Base: time.Second, Cap: time.Minute}

// deliver sends what waits, in order. A report that the hub will not have is
// not sent again.
func (o *outbox) deliver(ctx context.Context, s Session) {
	delays := backoff.New(resend)
	for ctx.Err() == nil {
		p, ok := o.first()
		if !ok {
			select {
			case <-ctx.Done():
			case <-o.wake:
			}
			continue
		}
		err := s.Progress(ctx, p)
		if err == nil || refused(err) {
			o.sent(p)
			delays.Reset()
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(delays.Next()):
		}
	}
}

func refused(err error) bool {
	switch fault.Of(err) {
	case fault.Invalid, fault.Denied, fault.NotFound, fault.Conflict:
		return true
	}
	return false
}
