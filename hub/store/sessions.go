package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"holdfast/hub/gateway"
	"holdfast/identity"
)

// Sessions is the part of the store that keeps the sessions of devices.
type Sessions struct{ s *Store }

var _ gateway.Sessions = Sessions{}

// Sessions returns the store of hub/gateway.
func (s *Store) Sessions() Sessions { return Sessions{s} }

// Load implements gateway.Sessions.
func (v Sessions) Load(ctx context.Context, d identity.Device) (gateway.Kept, bool, error) {
	var k gateway.Kept
	_, none, epoch := v.s.sessionless.recall(d)
	if none {
		return k, false, nil
	}
	var doc string
	err := v.s.row(ctx, `SELECT doc FROM gateway_session WHERE device = ?`, string(d)).Scan(&doc)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		v.s.sessionless.remember(d, struct{}{}, epoch)
		return k, false, nil
	case err != nil:
		return k, false, fmt.Errorf("session of %s: %w", d, err)
	}
	if err := json.Unmarshal([]byte(doc), &k); err != nil {
		return k, false, fmt.Errorf("session of %s: %w", d, err)
	}
	return k, true, nil
}

// Save implements gateway.Sessions.
func (v Sessions) Save(ctx context.Context, d identity.Device, k gateway.Kept) error {
	doc, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("session of %s: %w", d, err)
	}
	defer v.s.sessionless.forget(d)
	_, err = v.s.write.ExecContext(ctx, `INSERT INTO gateway_session (device, doc) VALUES (?, ?)
		ON CONFLICT (device) DO UPDATE SET doc = excluded.doc`, string(d), string(doc))
	if err != nil {
		return fmt.Errorf("save session of %s: %w", d, err)
	}
	return nil
}

// Drop implements gateway.Sessions.
func (v Sessions) Drop(ctx context.Context, d identity.Device) error {
	if _, err := v.s.write.ExecContext(ctx, `DELETE FROM gateway_session WHERE device = ?`, string(d)); err != nil {
		return fmt.Errorf("drop session of %s: %w", d, err)
	}
	return nil
}
