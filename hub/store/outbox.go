package store

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/hub/outbox"
	"holdfast/iothub"
)

// Outbox is the part of the store that keeps events until the stream has them.
type Outbox struct{ s *Store }

var _ outbox.Store = Outbox{}

// Outbox returns the store of hub/outbox.
func (s *Store) Outbox() Outbox { return Outbox{s} }

// Events returns the first events that the stream has not taken.
func (o Outbox) Events(ctx context.Context, limit int) ([]outbox.Event, error) {
	rows, err := o.s.read.QueryContext(ctx, `SELECT number, doc FROM outbox ORDER BY number LIMIT ?`, limit)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	defer rows.Close()
	var es []outbox.Event
	for rows.Next() {
		var e outbox.Event
		var doc []byte
		if err := rows.Scan(&e.Number, &doc); err != nil {
			return nil, fmt.Errorf("read outbox: %w", err)
		}
		if err := json.Unmarshal(doc, &e.Message); err != nil {
			return nil, fmt.Errorf("stored event %d: %w", e.Number, err)
		}
		es = append(es, e)
	}
	return es, rows.Err()
}

// Drop forgets the events up to a number: the stream has them.
func (o Outbox) Drop(ctx context.Context, upTo int64) error {
	return o.s.together(ctx, func(ctx context.Context, tx *shared) error {
		if err := tx.exec(ctx, `DELETE FROM outbox WHERE number <= ?`, upTo); err != nil {
			return fmt.Errorf("drop events: %w", err)
		}
		return nil
	})
}

// Keep stores events that were made without a change of something stored.
func (o Outbox) Keep(ctx context.Context, ms []iothub.Message) error {
	return o.s.together(ctx, func(ctx context.Context, tx *shared) error { return post(ctx, tx, ms...) })
}

// post stores events with the change that made them.
func post(ctx context.Context, tx *shared, ms ...iothub.Message) error {
	for _, m := range ms {
		b, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("store event: %w", err)
		}
		if err := tx.exec(ctx, `INSERT INTO outbox (doc) VALUES (?)`, string(b)); err != nil {
			return fmt.Errorf("store event: %w", err)
		}
	}
	return nil
}
