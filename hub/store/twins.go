package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"holdfast/hub/twins"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/twin"
)

// Twins is the part of the store that keeps twins.
type Twins struct{ s *Store }

var _ twins.Store = Twins{}

// Twins returns the store of hub/twins.
func (s *Store) Twins() Twins { return Twins{s} }

// Twin returns a device's twin: a new one when nobody has written to it.
func (t Twins) Twin(ctx context.Context, d identity.Device) (twin.Twin, error) {
	return readTwin(d, func(to []any, query string, args ...any) error {
		return t.s.read.QueryRowContext(ctx, query, args...).Scan(to...)
	})
}

// Change replaces a device's twin by what change makes of it, and stores the
// events that change returns, in one transaction. An error of change is
// returned as it is, and nothing is written.
func (t Twins) Change(ctx context.Context, d identity.Device, change func(twin.Twin) (twin.Twin, []iothub.Message, error)) error {
	return t.s.together(ctx, func(ctx context.Context, tx *shared) error {
		old, err := readTwin(d, func(to []any, query string, args ...any) error { return tx.scan(ctx, to, query, args...) })
		if err != nil {
			return err
		}
		changed, events, err := change(old)
		if err != nil {
			return err
		}
		if err := writeTwin(ctx, tx, d, changed); err != nil {
			return err
		}
		return post(ctx, tx, events...)
	})
}

func readTwin(d identity.Device, scan func(to []any, query string, args ...any) error) (twin.Twin, error) {
	t := twin.New()
	var tags, desired, reported []byte
	err := scan([]any{&tags, &desired, &t.Desired.Version, &reported, &t.Reported.Version},
		`SELECT tags, desired, desired_version, reported, reported_version FROM twin WHERE device = ?`, d)
	if errors.Is(err, sql.ErrNoRows) {
		return t, nil
	}
	if err != nil {
		return t, fmt.Errorf("read twin of %s: %w", d, err)
	}
	for _, s := range []struct {
		text []byte
		to   *twin.Object
	}{{tags, &t.Tags}, {desired, &t.Desired.Values}, {reported, &t.Reported.Values}} {
		if *s.to, err = twin.Parse(s.text); err != nil {
			return t, fmt.Errorf("stored twin of %s: %w", d, err)
		}
	}
	return t, nil
}

func writeTwin(ctx context.Context, tx *shared, d identity.Device, t twin.Twin) error {
	err := tx.exec(ctx, `INSERT INTO twin (device, tags, desired, desired_version, reported, reported_version) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (device) DO UPDATE SET tags = excluded.tags, desired = excluded.desired, desired_version = excluded.desired_version,
		reported = excluded.reported, reported_version = excluded.reported_version`,
		d, t.Tags.String(), t.Desired.Values.String(), t.Desired.Version, t.Reported.Values.String(), t.Reported.Version)
	if err != nil {
		return fmt.Errorf("write twin of %s: %w", d, err)
	}
	return nil
}
