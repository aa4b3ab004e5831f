package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"holdfast/hub/messages"
	"holdfast/identity"
	"holdfast/iothub"
)

// Messages is the part of the store that keeps messages to devices.
type Messages struct{ s *Store }

var _ messages.Store = Messages{}

// Messages returns the store of hub/messages.
func (s *Store) Messages() Messages { return Messages{s} }

// Add stores a message at the end of its device's queue and returns its number,
// unless limit wait there already.
func (t Messages) Add(ctx context.Context, m messages.Message, limit int) (number int64, err error) {
	doc, err := json.Marshal(m)
	if err != nil {
		return 0, fmt.Errorf("store message: %w", err)
	}
	ctx = context.WithoutCancel(ctx) // what is forgotten below must be written by then
	err = t.s.together(ctx, func(ctx context.Context, tx *shared) error {
		var n int
		if err := tx.scan(ctx, []any{&n}, `SELECT count(*) FROM message WHERE device = ?`, m.Device); err != nil {
			return fmt.Errorf("store message: %w", err)
		}
		if n >= limit {
			return iothub.Fail(iothub.CodeQueueFull, "%d messages wait for %s already", n, m.Device)
		}
		err := tx.scan(ctx, []any{&number}, `INSERT INTO message (device, expires, deliveries, doc) VALUES (?, ?, 0, ?) RETURNING number`,
			m.Device, m.Expires.UnixNano(), string(doc))
		if err != nil {
			return fmt.Errorf("store message: %w", err)
		}
		return nil
	})
	t.s.idle.forget(m.Device)
	return number, err
}

// Queue returns what waits for a device, in order.
func (t Messages) Queue(ctx context.Context, d identity.Device) ([]messages.Message, error) {
	_, none, epoch := t.s.idle.recall(d)
	if none {
		return nil, nil
	}
	ms, err := t.read(ctx, `SELECT number, device, expires, deliveries, packet, doc FROM message WHERE device = ? ORDER BY number`, d)
	if err == nil && len(ms) == 0 {
		t.s.idle.remember(d, struct{}{}, epoch)
	}
	return ms, err
}

// Expired returns messages that expired before now, at most limit.
func (t Messages) Expired(ctx context.Context, now time.Time, limit int) ([]messages.Message, error) {
	return t.read(ctx, `SELECT number, device, expires, deliveries, packet, doc FROM message WHERE expires <= ? ORDER BY expires LIMIT ?`, now.UnixNano(), limit)
}

func (t Messages) read(ctx context.Context, query string, args ...any) ([]messages.Message, error) {
	rows, err := t.s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	defer rows.Close()
	var ms []messages.Message
	for rows.Next() {
		var m messages.Message
		var expires int64
		var doc []byte
		if err := rows.Scan(&m.Number, &m.Device, &expires, &m.Deliveries, &m.Packet, &doc); err != nil {
			return nil, fmt.Errorf("read messages: %w", err)
		}
		if err := json.Unmarshal(doc, &m); err != nil {
			return nil, fmt.Errorf("stored message %d: %w", m.Number, err)
		}
		m.Expires = time.Unix(0, expires).UTC()
		ms = append(ms, m)
	}
	return ms, rows.Err()
}

// Sent counts that messages were sent once more, and keeps under which packet
// identifiers.
func (t Messages) Sent(ctx context.Context, ms []messages.Sent) error {
	return t.s.together(ctx, func(ctx context.Context, tx *shared) error {
		for _, m := range ms {
			if err := tx.exec(ctx, `UPDATE message SET deliveries = deliveries + 1, packet = ? WHERE number = ?`, m.Packet, m.Number); err != nil {
				return fmt.Errorf("count sent message: %w", err)
			}
		}
		return nil
	})
}

// Remove takes a message out and stores the events that go with that. It
// reports whether the message was there; if it was not, nothing is stored.
func (t Messages) Remove(ctx context.Context, number int64, events []iothub.Message) (was bool, err error) {
	err = t.s.together(ctx, func(ctx context.Context, tx *shared) error {
		n, err := tx.change(ctx, `DELETE FROM message WHERE number = ?`, number)
		if err != nil {
			return fmt.Errorf("remove message: %w", err)
		}
		if n == 0 {
			return nil
		}
		was = true
		return post(ctx, tx, events...)
	})
	return was && err == nil, err
}
