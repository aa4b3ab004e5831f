package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"sync"
	"time"

	"holdfast/identity"
	"holdfast/mqtt"
	"holdfast/operator"
)

// MaxDelay is how long a message waits for its turn at most. Telemetry that
// would have to wait longer ends the session; what else a device publishes (its
// evidence, above all) is taken then all the same.
const MaxDelay = 5 * time.Second

// DefaultLimits are the limits where neither the group nor the gateway has
// others: what no device has a reason to exceed, and a fraction of what a hub
// can take.
var DefaultLimits = operator.Limits{
	MessagesPerSecond: 10_000, BytesPerSecond: 4 << 20, BurstSeconds: 10,
	MaxMessageBytes: operator.MaxMessageBytes, InFlight: operator.MaxInFlight,
}

// effective are limits with the defaults for those that are not set, and
// nothing that a session could not hold.
func effective(l, or operator.Limits) operator.Limits {
	return operator.Limits{
		MessagesPerSecond: cmp.Or(l.MessagesPerSecond, or.MessagesPerSecond),
		BytesPerSecond:    cmp.Or(l.BytesPerSecond, or.BytesPerSecond),
		BurstSeconds:      cmp.Or(l.BurstSeconds, or.BurstSeconds),
		MaxMessageBytes:   min(cmp.Or(l.MaxMessageBytes, or.MaxMessageBytes), operator.MaxMessageBytes),
		InFlight:          min(cmp.Or(l.InFlight, or.InFlight), operator.MaxInFlight),

		GroupMessagesPerSecond: cmp.Or(l.GroupMessagesPerSecond, or.GroupMessagesPerSecond),
		GroupBytesPerSecond:    cmp.Or(l.GroupBytesPerSecond, or.GroupBytesPerSecond),
	}
}

// terms are the limits under which the sessions of a group stand; they share
// them.
type terms struct {
	operator.Limits
	total *total // nil: the group has no limit of its own
}

// total is how fast the devices of a group send together. A session takes one
// message at a time and waits for its turn before the next, so the group's rate
// goes round among those that send: a noisy device gets no more than another.
type total struct {
	mu     sync.Mutex
	pace   pace
	limits operator.Limits // the group's, in the place of a device's
}

func newTotal(l operator.Limits) *total {
	if l.GroupMessagesPerSecond == 0 && l.GroupBytesPerSecond == 0 {
		return nil
	}
	return &total{limits: operator.Limits{BurstSeconds: l.BurstSeconds,
		MessagesPerSecond: cmp.Or(l.GroupMessagesPerSecond, math.MaxInt), BytesPerSecond: cmp.Or(l.GroupBytesPerSecond, math.MaxInt)}}
}

// take is pace.take for the whole group.
func (t *total) take(now time.Time, size int, refusable bool) (time.Duration, error) {
	if t == nil {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pace.take(now, &t.limits, size, refusable)
}

// groups has the terms of each group, as they were last.
type groups struct {
	mu    sync.Mutex
	terms map[identity.Group]*terms
}

// of returns the terms of a group whose limits are l. Changed ones begin with
// what its devices have used up under the old.
func (gs *groups) of(id identity.Group, l operator.Limits) *terms {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	old := gs.terms[id]
	if old != nil && old.Limits == l {
		return old
	}
	t := &terms{Limits: l, total: newTotal(l)}
	if old != nil && old.total != nil && t.total != nil {
		old.total.mu.Lock()
		t.total.pace = old.total.pace
		old.total.mu.Unlock()
	}
	gs.terms[id] = t
	return t
}

// The refusals of what is over a limit. Their texts are fixed, so that the same
// refusal is recorded once.
var (
	errMessageSize = violation{reasoned{mqtt.PacketTooLarge, errors.New("message is larger than its device's group allows at most")}}
	errTooFast     = violation{reasoned{mqtt.QuotaExceeded, errors.New("message is over the rate limit of the device's group")}}
	errInFlight    = violation{reasoned{mqtt.ReceiveMaximumExceeded, errors.New("more messages in flight than the receive maximum")}}
)

// meter is a token bucket: the time by which all that was taken is paid for.
type meter struct{ paid time.Time }

// after returns the meter after something was taken that takes cost to earn. As
// much as burst earns may have been saved up.
func (m meter) after(now time.Time, cost, burst time.Duration) meter {
	return meter{latest(m.paid, now.Add(-burst)).Add(cost)}
}

// owes is how long to wait before what was taken may be used.
func (m meter) owes(now time.Time) time.Duration { return m.paid.Sub(now) }

// pace is how fast a device sends. A session has one from the first packet on,
// and leaves it to the device's next session.
type pace struct {
	messages, bytes meter
	told            bool // that the device is slowed down
}

// take takes one message of size bytes and returns how long it has to wait. One
// that would wait longer than MaxDelay is refused and not counted, or waits no
// longer if it must not be refused.
func (p *pace) take(now time.Time, l *operator.Limits, size int, refusable bool) (time.Duration, error) {
	burst := time.Duration(l.BurstSeconds) * time.Second
	messages := p.messages.after(now, time.Second/time.Duration(l.MessagesPerSecond), burst)
	bytes := p.bytes.after(now, time.Duration(size)*time.Second/time.Duration(l.BytesPerSecond), burst)
	wait := max(messages.owes(now), bytes.owes(now))
	if wait > MaxDelay {
		if refusable {
			return 0, errTooFast
		}
		wait = MaxDelay
		bytes.paid = now.Add(MaxDelay)
	}
	p.messages, p.bytes = messages, bytes
	return wait, nil
}

// minDelay is the shortest wait. What is owed less adds up, so that a fast
// device costs few timers.
const minDelay = 10 * time.Millisecond

// shape counts a packet and holds the reading of the session up while the device
// is over its rates, so that TCP slows it down.
func (s *Session) shape(ctx context.Context, size int, refusable bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errCut // the pace is left to the next session already
	}
	if s.pace == nil {
		s.pace = s.g.paces.claim(s.device)
	}
	now := time.Now()
	wait, err := s.pace.take(now, &s.limits.Limits, size, refusable)
	if err != nil {
		return err
	}
	together, err := s.limits.total.take(now, size, refusable)
	if wait = max(wait, together); err != nil || wait < minDelay {
		return err
	}
	if !s.pace.told {
		s.pace.told = true
		s.g.log.InfoContext(ctx, "device slowed down to its limits", slog.String("device", string(s.device)))
	}
	return s.sleep(wait)
}

// sleep waits, or until the session is cut. s.mu is held.
func (s *Session) sleep(d time.Duration) error {
	over := false
	defer time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		over = true
		s.wake.Broadcast()
	}).Stop()
	for !over && !s.closed {
		s.wake.Wait()
	}
	if s.closed {
		return errCut
	}
	return nil
}

// paces are those of devices whose session has ended, until they are paid for: a
// new connection does not make up for being too fast.
type paces struct {
	mu   sync.Mutex
	left map[identity.Device]debt
}

type debt struct {
	pace *pace
	ends time.Time // from then on it is as good as none
}

// claim returns the pace of a device's new session.
func (ps *paces) claim(d identity.Device) *pace {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if owed, ok := ps.left[d]; ok {
		delete(ps.left, d)
		return owed.pace
	}
	return &pace{}
}

// leave keeps the pace of a session that ends. The pace is not used after.
func (ps *paces) leave(d identity.Device, p *pace, l *operator.Limits) {
	ends := latest(p.messages.paid, p.bytes.paid).Add(time.Duration(l.BurstSeconds) * time.Second)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ends.After(ps.left[d].ends) {
		ps.left[d] = debt{p, ends}
	}
}

// sweep drops what is paid for.
func (ps *paces) sweep(now time.Time) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	maps.DeleteFunc(ps.left, func(_ identity.Device, owed debt) bool { return !owed.ends.After(now) })
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
