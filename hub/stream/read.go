package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
)

// Query says which messages to read. Its zero value reads all that are stored.
type Query struct {
	Device identity.Device // only this one; empty: all
	Kind   iothub.Kind     // only this one; empty: all
	Since  time.Time       // taken by the hub at this time or later
	After  Position        // after this one
	Follow bool            // then go on with new ones until the context ends
}

func (q Query) want(device, kind []byte) bool {
	return (q.Device == "" || string(device) == string(q.Device)) && (q.Kind == "" || string(kind) == string(q.Kind))
}

// Read calls f with stored messages in the order in which they were stored. It
// returns f's error when f fails, nil at the end of what was stored when Read
// began, or, following, when ctx ends. A message is given at most once by one
// Read, also when the store is opened again below it.
func (s *Stream) Read(ctx context.Context, q Query, f func(iothub.Message, Position) error) error {
	r := &reading{Query: q, f: f, at: q.After}
	for {
		untilReopened, cancel := s.readers.context(ctx)
		again, err := r.pass(untilReopened, s.reader)
		cancel()
		switch {
		case ctx.Err() != nil && q.Follow:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil || !again:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(firstWait):
		}
	}
}

// Check refuses a position that a reader cannot go on from: one that has not
// been given out yet (fault.Invalid), or after which messages have been dropped
// by the limits of age and size (fault.NotFound).
func (s *Stream) Check(ctx context.Context, p Position) error {
	if p == (Position{}) {
		return nil
	}
	js, err := s.reader.Stream(ctx, streamName)
	if err != nil {
		return fault.Hide(fault.Unavailable, "the hub cannot read messages now", err)
	}
	state := js.CachedInfo().State
	switch {
	case p.Group > state.LastSeq:
		return fault.New(fault.Invalid, "position %s is not of this stream", p)
	case p.Group+1 < state.FirstSeq:
		return fault.New(fault.NotFound, "messages after %s have been dropped: the oldest that is kept is %s", p, Position{Group: state.FirstSeq})
	}
	return nil
}

// reading is one call of Read.
type reading struct {
	Query
	f    func(iothub.Message, Position) error
	at   Position // the last one given
	last uint64   // the group to stop after; 0: not known yet
}

// pass reads through one consumer of the server. It returns again when the
// consumer was lost, with the store's restart for example.
func (r *reading) pass(ctx context.Context, js jetstream.JetStream) (again bool, err error) {
	c, err := r.open(ctx, js)
	if err != nil && (r.Follow || ctx.Err() != nil) {
		return true, nil
	}
	if err != nil {
		return false, fault.Hide(fault.Unavailable, "the hub cannot read messages now", err)
	}
	defer dropConsumer(js, c.CachedInfo().Name)
	if c.CachedInfo().NumPending == 0 && !r.Follow {
		return false, nil
	}
	msgs, err := c.Messages(jetstream.PullMaxMessagesWithBytesLimit(256, 2*maxPayload))
	if err != nil {
		return false, fmt.Errorf("read messages: %w", err)
	}
	defer msgs.Stop()
	return r.groups(ctx, msgs, func(seen uint64) bool { return behind(ctx, js, seen) })
}

// stall is how long no message may come before a reader makes sure that it has
// missed none. The client drops messages that find its queue full, without a
// word; one that is dropped last is followed by none that would show the gap.
const stall = 5 * time.Second

// behind reports whether the stream has groups after the one seen last.
func behind(ctx context.Context, js jetstream.JetStream, seen uint64) bool {
	s, err := js.Stream(ctx, streamName)
	return err == nil && s.CachedInfo().State.LastSeq > seen
}

func (r *reading) open(ctx context.Context, js jetstream.JetStream) (jetstream.Consumer, error) {
	if r.last == 0 {
		s, err := js.Stream(ctx, streamName)
		if err != nil {
			return nil, err
		}
		r.last = s.CachedInfo().State.LastSeq
	}
	return js.CreateConsumer(ctx, streamName, r.consumer())
}

// dropConsumer removes a reader's state from the server; what it cannot
// remove the server drops by itself after inactive.
func dropConsumer(js jetstream.JetStream, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = js.DeleteConsumer(ctx, streamName, name)
}

const inactive = 30 * time.Second

func (r *reading) consumer() jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		AckPolicy:         jetstream.AckNonePolicy,
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		MemoryStorage:     true,
		InactiveThreshold: inactive,
	}
	switch {
	case r.at.Group > 0:
		c.DeliverPolicy, c.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.at.Group
	case !r.Since.IsZero():
		since := r.Since // a group is stored no earlier than its messages were taken
		c.DeliverPolicy, c.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	return c
}

// iterator is what is used of jetstream.MessagesContext.
type iterator interface {
	Next(opts ...jetstream.NextOpt) (jetstream.Msg, error)
}

// next waits for a group. It returns errStalled when one does not come that is
// there: a reader that does not follow only waits for what is stored.
func (r *reading) next(ctx context.Context, msgs iterator, behind func() bool) (jetstream.Msg, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, stall)
		msg, err := msgs.Next(jetstream.NextContext(wait))
		late := wait.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil || !late:
			return msg, err
		case !r.Follow || behind():
			return nil, errStalled
		}
	}
}

var errStalled = errors.New("groups that are stored do not come")

func (r *reading) groups(ctx context.Context, msgs iterator, behind func(seen uint64) bool) (again bool, err error) {
	seen := r.at.Group
	for n := uint64(1); ; n++ {
		msg, err := r.next(ctx, msgs, func() bool { return behind(seen) })
		if err != nil {
			return true, nil // the context's end, or the consumer is gone: Read knows which
		}
		meta, err := msg.Metadata()
		if err != nil {
			return false, fmt.Errorf("read group: %w", err)
		}
		if meta.Sequence.Consumer != n { // one was lost on the way: fetch it again
			return true, nil
		}
		if err := r.group(meta.Sequence.Stream, msg.Data()); err != nil {
			return false, err
		}
		seen = meta.Sequence.Stream
		if !r.Follow && (meta.NumPending == 0 || meta.Sequence.Stream >= r.last) {
			return false, nil
		}
	}
}

func (r *reading) group(seq uint64, b []byte) error {
	err := decodeGroup(b, r.want, func(i int, m iothub.Message) error {
		p := Position{Group: seq, Index: i}
		if !p.After(r.at) || m.Time.Before(r.Since) {
			return nil
		}
		r.at = p
		return r.f(m, p)
	})
	if errors.Is(err, errCorrupt) {
		return fault.Hide(fault.Integrity, "a stored group of messages is damaged", fmt.Errorf("group %d: %w", seq, err))
	}
	return err
}

// readers are the readings under way. When the store is opened again their
// consumers are gone, which they would notice by missing heartbeats only.
type readers struct {
	mu   sync.Mutex
	ends map[*context.CancelFunc]bool
}

// context returns a context that ends with ctx or with the next reopened.
func (r *readers) context(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends == nil {
		r.ends = map[*context.CancelFunc]bool{}
	}
	r.ends[&cancel] = true
	return ctx, func() {
		cancel()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.ends, &cancel)
	}
}

// reopened makes all readings begin again where they are.
func (r *readers) reopened() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for end := range r.ends {
		(*end)()
	}
}
