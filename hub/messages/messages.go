// Package messages keeps messages to devices until each was acknowledged by
// its device, has expired, was sent too often or was taken out by an operator.
//
// Each device has a queue on disk. While the device has a session that has
// subscribed, the queue is sent in its order, as much at a time as the device
// acknowledges; what it does not acknowledge is sent again, when its session
// ends or after Lock. So a message may come twice, and does not get lost. A
// device that connects with a clean session wants none of what was queued
// before, as with Azure IoT Hub: those are purged.
//
// Invariants:
//   - A message that Send returned for is on disk.
//   - Each message ends once: taking it off the disk and storing the event that
//     tells of its fate are one transaction.
//   - Of one device one goroutine at a time sends.
package messages

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// Lock is how long a device has to acknowledge a message before it is sent
// again; sweep is how often that and expiry are looked after.
const (
	Lock  = time.Minute
	sweep = 15 * time.Second
)

// window is how many bytes are sent to a device that it has not acknowledged,
// for more than one message. It is below what a session lets wait.
const window = 96 << 10

// Store keeps the queues.
type Store interface {
	// Add stores a message at the end of its device's queue and gives it its
	// number, or fails with iothub.CodeQueueFull when limit wait already.
	Add(ctx context.Context, m Message, limit int) (int64, error)
	// Queue returns what waits for a device, in order.
	Queue(ctx context.Context, d identity.Device) ([]Message, error)
	// Expired returns messages that expired before now, at most limit.
	Expired(ctx context.Context, now time.Time, limit int) ([]Message, error)
	// Sent counts that messages were sent once more, and keeps how.
	Sent(ctx context.Context, ms []Sent) error
	// Remove takes a message out and stores the events that go with that, in
	// one transaction. It reports whether the message was there.
	Remove(ctx context.Context, number int64, events []iothub.Message) (bool, error)
}

// Registry knows the devices.
type Registry interface {
	// Exists returns a fault of kind NotFound for a device that is not registered.
	Exists(ctx context.Context, d identity.Device) error
}

// Sessions sends to devices.
type Sessions interface {
	// Deliver sends a message to a device whose session this process holds and
	// returns the packet identifier that it used, zero for none.
	Deliver(d identity.Device, m Sending) (packet uint16, err error)
	// Notify has Wake called in the process that holds the device's session.
	Notify(ctx context.Context, d identity.Device)
}

// Sending is a message to be sent.
type Sending struct {
	Topic  iothub.Topic
	Body   []byte
	Number int64  // of the message
	Packet uint16 // that it was sent under before; zero: it was not
	// Done is called once, unless Deliver returned an error: with nil when the
	// device has acknowledged the message, with an error when its session ended
	// before.
	Done func(error)
}

// Sent is a message that was sent.
type Sent struct {
	Number int64
	Packet uint16
}

// Ledger records what operators do.
type Ledger interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}

// The kinds of the ledger's records.
const (
	KindSend  = "message.send"
	KindPurge = "message.purge"
)

// Config has what Messages works with. All fields are required.
type Config struct {
	Store    Store
	Registry Registry
	Sessions Sessions
	Ledger   Ledger
	Stored   func() // called after events were stored; must not wait
	Log      *slog.Logger
}

// Messages keeps messages to devices. It is safe for concurrent use.
type Messages struct {
	cfg Config

	mu      sync.Mutex
	boxes   map[identity.Device]*box
	stopped bool
	senders sync.WaitGroup
}

// box is a device that something is being sent to.
type box struct {
	running bool              // a goroutine sends
	again   bool              // and has to look once more
	flying  map[int64]*flight // sent and not acknowledged, by number
	fresh   time.Time         // what was queued before is to be discarded
}

// flight is one sending of a message.
type flight struct {
	sent  time.Time
	bytes int
}

// New makes Messages.
func New(cfg Config) (*Messages, error) {
	if cfg.Store == nil || cfg.Registry == nil || cfg.Sessions == nil || cfg.Ledger == nil || cfg.Stored == nil || cfg.Log == nil {
		return nil, errors.New("messages: config lacks a collaborator")
	}
	return &Messages{cfg: cfg, boxes: map[identity.Device]*box{}}, nil
}

// Send queues a message to a device for an operator.
func (s *Messages) Send(ctx context.Context, by string, d identity.Device, in operator.SendMessage) (operator.Message, error) {
	m, err := newMessage(d, in, time.Now())
	if err != nil {
		return operator.Message{}, err
	}
	if err := s.cfg.Registry.Exists(ctx, d); err != nil {
		return operator.Message{}, err
	}
	details := map[string]any{"by": by, "message": m.ID, "body": identity.Sum(m.Body)}
	if err := s.cfg.Ledger.Record(ctx, KindSend, d, details); err != nil {
		return operator.Message{}, err
	}
	if m.Number, err = s.cfg.Store.Add(ctx, m, MaxQueue); err != nil {
		return operator.Message{}, err
	}
	s.cfg.Sessions.Notify(context.WithoutCancel(ctx), d)
	return m.view(), nil
}

// List shows what waits for a device, in order.
func (s *Messages) List(ctx context.Context, d identity.Device) ([]operator.Message, error) {
	if err := s.cfg.Registry.Exists(ctx, d); err != nil {
		return nil, err
	}
	ms, err := s.cfg.Store.Queue(ctx, d)
	if err != nil {
		return nil, err
	}
	out := make([]operator.Message, 0, len(ms))
	for _, m := range ms {
		out = append(out, m.view())
	}
	return out, nil
}

// Purge empties a device's queue for an operator. A message that is on its way
// may arrive all the same.
func (s *Messages) Purge(ctx context.Context, by string, d identity.Device) (operator.Purged, error) {
	if err := s.cfg.Registry.Exists(ctx, d); err != nil {
		return operator.Purged{}, err
	}
	if err := s.cfg.Ledger.Record(ctx, KindPurge, d, map[string]any{"by": by}); err != nil {
		return operator.Purged{}, err
	}
	ms, err := s.cfg.Store.Queue(ctx, d)
	if err != nil {
		return operator.Purged{}, err
	}
	out := operator.Purged{}
	for _, m := range ms {
		was, err := s.end(ctx, m, iothub.Purged)
		if err != nil {
			return out, err
		}
		if was {
			out.Messages++
		}
	}
	return out, nil
}

// end takes a message out of its queue and says whether it was there.
func (s *Messages) end(ctx context.Context, m Message, o iothub.Outcome) (bool, error) {
	events := m.feedback(o, time.Now())
	was, err := s.cfg.Store.Remove(ctx, m.Number, events)
	if was && len(events) > 0 {
		s.cfg.Stored()
	}
	return was, err
}

// Run looks after expiry and locks until ctx ends, and waits for what sends.
func (s *Messages) Run(ctx context.Context) error {
	defer s.stop()
	tick := time.NewTicker(sweep)
	defer tick.Stop()
	for {
		if err := s.expire(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.ErrorContext(ctx, "expire messages", "err", err)
		}
		for _, d := range s.overdue(time.Now()) {
			s.Wake(d)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Messages) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.senders.Wait()
}

// batch bounds how many expired messages are read at a time.
const batch = 256

func (s *Messages) expire(ctx context.Context) error {
	for {
		ms, err := s.cfg.Store.Expired(ctx, time.Now(), batch)
		if err != nil {
			return err
		}
		ended := 0
		for _, m := range ms {
			if s.flying(m) { // its device may acknowledge it yet
				continue
			}
			if _, err := s.end(ctx, m, iothub.Expired); err != nil {
				return err
			}
			ended++
		}
		if len(ms) < batch || ended == 0 {
			return nil
		}
	}
}

// overdue gives up on sendings that were not acknowledged in time, and returns
// their devices.
func (s *Messages) overdue(now time.Time) []identity.Device {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ds []identity.Device
	for d, b := range s.boxes {
		late := false
		for n, f := range b.flying {
			if now.Sub(f.sent) >= Lock {
				delete(b.flying, n)
				late = true
			}
		}
		if late {
			ds = append(ds, d)
		}
	}
	return ds
}

// Wake sends what waits for a device whose session this process may hold: call
// it when the device has opened a session or subscribed, and when a message
// was queued. It does not wait.
func (s *Messages) Wake(d identity.Device) { s.wake(d, time.Time{}) }

// Discard is Wake for a device that has opened a clean session: what was queued
// before that time is purged first.
func (s *Messages) Discard(d identity.Device, before time.Time) { s.wake(d, before) }

func (s *Messages) wake(d identity.Device, fresh time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.boxes[d]
	if b == nil {
		b = &box{flying: map[int64]*flight{}}
		s.boxes[d] = b
	}
	if fresh.After(b.fresh) {
		b.fresh = fresh
	}
	switch {
	case s.stopped:
	case b.running:
		b.again = true
	default:
		b.running = true
		s.senders.Go(func() { s.sendAll(d, b) })
	}
}

// sendAll sends until there is nothing more to look at.
func (s *Messages) sendAll(d identity.Device, b *box) {
	for more := true; more; {
		if err := s.send(d, b); err != nil {
			s.cfg.Log.Error("send messages", "device", d, "err", err)
		}
		s.mu.Lock()
		more = b.again && !s.stopped
		b.again, b.running = false, more
		if !more && len(b.flying) == 0 && b.fresh.IsZero() {
			delete(s.boxes, d)
		}
		s.mu.Unlock()
	}
}

// storeTimeout bounds one look at a queue.
const storeTimeout = 30 * time.Second

// send sends what waits for a device and is not on its way already, as far as
// the window allows.
func (s *Messages) send(d identity.Device, b *box) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout) // it runs for a session, not for a request
	defer cancel()
	ms, err := s.cfg.Store.Queue(ctx, d)
	if err != nil {
		return err
	}
	if ms, err = s.discard(ctx, b, ms); err != nil {
		return err
	}
	var sent []Sent
	now := time.Now()
	for _, m := range ms {
		outcome, over := m.over(now)
		f, taken := s.take(b, m, now)
		switch {
		case !taken && s.flying(m):
			continue
		case !taken: // the window is full
		case over:
			s.release(b, m, f)
			if _, err := s.end(ctx, m, outcome); err != nil {
				return err
			}
			continue
		default:
			if m.Packet, taken = s.deliver(d, b, m, f); taken {
				sent = append(sent, Sent{m.Number, m.Packet})
			}
		}
		if !taken {
			break
		}
	}
	if len(sent) == 0 {
		return nil
	}
	return s.cfg.Store.Sent(ctx, sent)
}

// discard purges what a clean session is not to get, and returns the rest.
func (s *Messages) discard(ctx context.Context, b *box, ms []Message) ([]Message, error) {
	s.mu.Lock()
	fresh := b.fresh
	s.mu.Unlock()
	if fresh.IsZero() {
		return ms, nil
	}
	var rest []Message
	for _, m := range ms {
		if !m.Enqueued.Before(fresh) {
			rest = append(rest, m)
			continue
		}
		if _, err := s.end(ctx, m, iothub.Purged); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.fresh.Equal(fresh) {
		b.fresh = time.Time{}
	}
	return rest, nil
}

// over reports whether a message must not be sent any more.
func (m Message) over(now time.Time) (iothub.Outcome, bool) {
	switch {
	case !now.Before(m.Expires):
		return iothub.Expired, true
	case m.Deliveries >= MaxDeliveries:
		return iothub.Exhausted, true
	}
	return "", false
}

// deliver sends one message that was taken, and reports whether there is a
// session to send to.
func (s *Messages) deliver(d identity.Device, b *box, m Message, f *flight) (packet uint16, sent bool) {
	packet, err := s.cfg.Sessions.Deliver(d, Sending{Topic: m.topic(), Body: m.Body, Number: m.Number, Packet: m.Packet,
		Done: func(err error) { s.done(d, b, m, f, err) }})
	if err != nil {
		s.release(b, m, f)
		if k := fault.Of(err); k != fault.NotFound && k != fault.Unavailable {
			s.cfg.Log.Error("deliver message", "device", d, "message", m.ID, "err", err)
		}
	}
	return packet, err == nil
}

// done takes in that a device acknowledged a message, or did not. It is called
// by whoever reads from the device, so the store is left to another goroutine.
func (s *Messages) done(d identity.Device, b *box, m Message, f *flight, err error) {
	s.mu.Lock()
	if s.stopped { // the message stays, and is sent again by the next process
		s.mu.Unlock()
		return
	}
	s.senders.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.senders.Done()
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
			defer cancel()
			if _, err := s.end(ctx, m, iothub.Success); err != nil {
				s.cfg.Log.Error("complete message", "device", d, "message", m.ID, "err", err)
			}
		}
		s.release(b, m, f)
		s.Wake(d)
	}()
}

// take marks a message as on its way, unless it is already or the window is
// full.
func (s *Messages) take(b *box, m Message, now time.Time) (*flight, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes := len(m.Body)
	for n, f := range b.flying {
		if n == m.Number {
			return nil, false
		}
		bytes += f.bytes
	}
	if bytes > window && len(b.flying) > 0 {
		return nil, false
	}
	f := &flight{sent: now, bytes: len(m.Body)}
	b.flying[m.Number] = f
	return f, true
}

// release takes the mark of one sending away; that of a later one stays.
func (s *Messages) release(b *box, m Message, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.flying[m.Number] == f {
		delete(b.flying, m.Number)
	}
}

// flying reports whether a message is on its way.
func (s *Messages) flying(m Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.boxes[m.Device]
	return b != nil && b.flying[m.Number] != nil
}
