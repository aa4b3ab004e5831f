// Package outbox hands events to the stream that were stored with the change
// that made them: twin changes, the fate of messages. The change and its event
// are durable together, so that none is lost; after a crash one may be in the
// stream twice.
package outbox

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"holdfast/fault"
	"holdfast/iothub"
)

// Event is an event that waits.
type Event struct {
	Number  int64 // grows with the order of the changes
	Message iothub.Message
}

// Store keeps events until the stream has them.
type Store interface {
	Events(ctx context.Context, limit int) ([]Event, error) // oldest first
	Drop(ctx context.Context, upTo int64) error
}

// Stream keeps events for those who read them. done is called once, with nil
// when m is on disk.
type Stream interface {
	Append(m iothub.Message, done func(error))
}

// Config has what an Outbox works with. All fields are required.
type Config struct {
	Store  Store
	Stream Stream
	Log    *slog.Logger
}

// batch bounds how many events are handed over at a time; retry is how long
// what the stream did not take waits for the next time.
const (
	batch = 256
	retry = 5 * time.Second
)

// Outbox hands events over.
type Outbox struct {
	cfg  Config
	wake chan struct{}
}

// New makes an Outbox.
func New(cfg Config) (*Outbox, error) {
	if cfg.Store == nil || cfg.Stream == nil || cfg.Log == nil {
		return nil, errors.New("outbox: store, stream and log are required")
	}
	return &Outbox{cfg: cfg, wake: make(chan struct{}, 1)}, nil
}

// Wake says that events have been stored. It does not wait.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Run hands over what is stored, and what will be, until ctx ends.
func (o *Outbox) Run(ctx context.Context) error {
	for {
		err := o.handOver(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var again <-chan time.Time
		if err != nil {
			o.cfg.Log.ErrorContext(ctx, "hand events to the stream", "err", err)
			again = time.After(retry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		case <-again:
		}
	}
}

func (o *Outbox) handOver(ctx context.Context) error {
	for {
		es, err := o.cfg.Store.Events(ctx, batch)
		if err != nil || len(es) == 0 {
			return err
		}
		if err := o.append(ctx, es); err != nil {
			return err
		}
		if err := o.cfg.Store.Drop(ctx, es[len(es)-1].Number); err != nil {
			return err
		}
	}
}

// append returns once all events are in the stream, or one is not.
func (o *Outbox) append(ctx context.Context, es []Event) error {
	results := make(chan error, len(es))
	for _, e := range es {
		o.cfg.Stream.Append(e.Message, func(err error) { results <- o.refused(e, err) })
	}
	var errs []error
	for range es {
		select {
		case err := <-results:
			errs = append(errs, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

// refused drops an event that the stream will never take, so that it does not
// hold up those behind it.
func (o *Outbox) refused(e Event, err error) error {
	if fault.Of(err) != fault.Invalid {
		return err
	}
	o.cfg.Log.Error("event is dropped", "device", e.Message.Device, "kind", e.Message.Kind, "err", err)
	return nil
}
