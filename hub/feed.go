package hub

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"holdfast/fault"
	"holdfast/iothub"
	"holdfast/ledger"
)

// How often the ledger is looked at, and how many records are handed over at a
// time.
const (
	feedEvery = time.Second
	feedBatch = 256
)

// feed puts the ledger's records into the stream as security events, in their
// order. Where it stands is stored after the stream has them, so that none is
// lost; after a crash some may be there twice, with the same number.
type feed struct {
	ledger interface {
		LedgerRecords(ctx context.Context, from uint64, limit int) ([]ledger.Record, error)
	}
	place interface {
		Fed(ctx context.Context) (uint64, error)
		SetFed(ctx context.Context, seq uint64) error
	}
	stream interface {
		Append(m iothub.Message, done func(error))
	}
	log *slog.Logger
}

// Run hands over what is in the ledger, and what will be, until ctx ends; the
// rest comes after the next start.
func (f *feed) Run(ctx context.Context) error {
	for {
		if err := f.handOver(ctx); err != nil && ctx.Err() == nil {
			f.log.ErrorContext(ctx, "hand the ledger's records to the stream", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(feedEvery):
		}
	}
}

func (f *feed) handOver(ctx context.Context) error {
	seq, err := f.place.Fed(ctx)
	for err == nil {
		var rs []ledger.Record
		if rs, err = f.ledger.LedgerRecords(ctx, seq+1, feedBatch); err != nil || len(rs) == 0 {
			return err
		}
		if err = f.append(ctx, rs); err == nil {
			seq = rs[len(rs)-1].Seq
			err = f.place.SetFed(context.WithoutCancel(ctx), seq)
		}
	}
	return err
}

// append returns once the stream has all of rs, or refused one. Append always
// answers: what waits for the disk when the stream ends is answered then.
func (f *feed) append(ctx context.Context, rs []ledger.Record) error {
	results := make(chan error, len(rs))
	for _, r := range rs {
		m, err := securityEvent(r)
		if err != nil {
			return err
		}
		f.stream.Append(m, func(err error) { results <- err })
	}
	var errs []error
	for range rs {
		err := <-results
		if fault.Of(err) == fault.Invalid && err != nil { // it never fits
			f.log.ErrorContext(ctx, "a record of the ledger is left out of the stream", "err", err)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func securityEvent(r ledger.Record) (iothub.Message, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return iothub.Message{}, err
	}
	return iothub.NewSecurity(r.Device, string(r.Kind), strconv.FormatUint(r.Seq, 10), body, r.Time), nil
}
