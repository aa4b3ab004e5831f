package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/operator"
)

// Fleet is the part of the store that keeps groups and devices.
type Fleet struct{ s *Store }

var _ fleet.Store = Fleet{}

// Fleet returns the store of hub/fleet.
func (s *Store) Fleet() Fleet { return Fleet{s} }

// Groups returns all groups by name.
func (f Fleet) Groups(ctx context.Context) ([]operator.Group, error) {
	return documents[operator.Group](ctx, f.s.read, `SELECT doc FROM fleet_group ORDER BY id`)
}

// SaveGroup makes or replaces a group.
func (f Fleet) SaveGroup(ctx context.Context, g operator.Group, es []fleet.Event) error {
	return f.save(ctx, "group "+string(g.ID), g, es,
		`INSERT INTO fleet_group (doc, id) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET doc = excluded.doc`, g.ID)
}

// CAs returns all registered authorities by name.
func (f Fleet) CAs(ctx context.Context) ([]operator.CA, error) {
	return documents[operator.CA](ctx, f.s.read, `SELECT doc FROM fleet_ca ORDER BY name`)
}

// SaveCA makes or replaces a registered authority.
func (f Fleet) SaveCA(ctx context.Context, ca operator.CA, es []fleet.Event) error {
	return f.save(ctx, "authority "+ca.Name, ca, es,
		`INSERT INTO fleet_ca (doc, name) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET doc = excluded.doc`, ca.Name)
}

// Device returns a device, or a fault of kind NotFound.
func (f Fleet) Device(ctx context.Context, id identity.Device) (fleet.Record, error) {
	return document[fleet.Record](ctx, f.s, fmt.Sprintf("there is no device %q", id),
		`SELECT doc FROM fleet_device WHERE id = ?`, id)
}

// DeviceByEK returns the device with that EK, or a fault of kind NotFound.
func (f Fleet) DeviceByEK(ctx context.Context, ek identity.Digest) (fleet.Record, error) {
	return document[fleet.Record](ctx, f.s, "no device has that EK",
		`SELECT doc FROM fleet_device WHERE ek = ?`, ek.String())
}

// DeviceByToken returns the device with that claim token, by the token's
// digest, or a fault of kind NotFound.
func (f Fleet) DeviceByToken(ctx context.Context, hash identity.Digest) (fleet.Record, error) {
	return document[fleet.Record](ctx, f.s, "no device has that claim token",
		`SELECT doc FROM fleet_device WHERE token = ?`, hash.String())
}

// Devices returns the devices of a group, or all when it is empty, by id.
func (f Fleet) Devices(ctx context.Context, g identity.Group) ([]fleet.Record, error) {
	if g == "" {
		return documents[fleet.Record](ctx, f.s.read, `SELECT doc FROM fleet_device ORDER BY id`)
	}
	return documents[fleet.Record](ctx, f.s.read, `SELECT doc FROM fleet_device WHERE grp = ? ORDER BY id`, g)
}

const insertDevice = `INSERT INTO fleet_device (doc, id, grp, ek, token) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`

// AddDevice adds a device; an id that is taken is a fault of kind Conflict.
func (f Fleet) AddDevice(ctx context.Context, r fleet.Record, es []fleet.Event) error {
	return f.saveDevice(ctx, r, es, insertDevice)
}

// SaveDevice replaces a device.
func (f Fleet) SaveDevice(ctx context.Context, r fleet.Record, es []fleet.Event) error {
	return f.saveDevice(ctx, r, es, `UPDATE fleet_device SET doc = ?1, grp = ?3, ek = ?4, token = ?5 WHERE id = ?2`)
}

// saveDevice writes a device, its outline and events as one change.
func (f Fleet) saveDevice(ctx context.Context, r fleet.Record, es []fleet.Event, query string) error {
	return f.s.together(ctx, func(ctx context.Context, tx *shared) error {
		if err := putDevice(ctx, tx, r, query); err != nil {
			return err
		}
		return putEvents(ctx, tx, es)
	})
}

func putDevice(ctx context.Context, tx writer, r fleet.Record, query string) error {
	if err := put(ctx, tx, "device "+string(r.ID), r, query, r.ID, r.Group, digest(r.EK), digest(r.Token)); err != nil {
		return err
	}
	return putOutline(ctx, tx, fleet.OutlineOf(r), "")
}

// Arrivals returns what nothing admits, the newest first.
func (f Fleet) Arrivals(ctx context.Context) ([]fleet.Arrival, error) {
	return documents[fleet.Arrival](ctx, f.s.read, `SELECT doc FROM fleet_arrival ORDER BY last DESC, ek`)
}

// Arrival returns the arrival of an EK, or a fault of kind NotFound.
func (f Fleet) Arrival(ctx context.Context, ek identity.Digest) (fleet.Arrival, error) {
	return document[fleet.Arrival](ctx, f.s, "nothing is pending under that EK",
		`SELECT doc FROM fleet_arrival WHERE ek = ?`, ek.String())
}

const saveArrival = `INSERT INTO fleet_arrival (doc, ek, last) VALUES (?, ?, ?) ON CONFLICT (ek) DO UPDATE SET doc = excluded.doc, last = excluded.last`

// SaveArrival makes or replaces an arrival.
func (f Fleet) SaveArrival(ctx context.Context, a fleet.Arrival, es []fleet.Event) error {
	return f.save(ctx, "arrival", a, es, saveArrival, a.EK.String(), a.Last.UnixNano())
}

// AcceptArrival adds a device and marks its arrival.
func (f Fleet) AcceptArrival(ctx context.Context, a fleet.Arrival, r fleet.Record, es []fleet.Event) error {
	return f.s.together(ctx, func(ctx context.Context, tx *shared) error {
		if err := putDevice(ctx, tx, r, insertDevice); err != nil {
			return err
		}
		if err := put(ctx, tx, "arrival", a, saveArrival, a.EK.String(), a.Last.UnixNano()); err != nil {
			return err
		}
		return putEvents(ctx, tx, es)
	})
}

// Events returns the first events that the ledger has not taken.
func (f Fleet) Events(ctx context.Context, limit int) ([]fleet.Event, error) {
	rows, err := f.s.read.QueryContext(ctx, `SELECT number, kind, device, details FROM fleet_event ORDER BY number LIMIT ?`, limit)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()
	var es []fleet.Event
	for rows.Next() {
		var e fleet.Event
		var details []byte
		if err := rows.Scan(&e.Number, &e.Kind, &e.Device, &details); err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		if err := json.Unmarshal(details, &e.Details); err != nil {
			return nil, fmt.Errorf("read event %d: %w", e.Number, err)
		}
		es = append(es, e)
	}
	return es, rows.Err()
}

// SaveEvents stores events alone.
func (f Fleet) SaveEvents(ctx context.Context, es []fleet.Event) error {
	return f.s.together(ctx, func(ctx context.Context, tx *shared) error { return putEvents(ctx, tx, es) })
}

// DropEvents forgets the events up to a number: the ledger has them.
func (f Fleet) DropEvents(ctx context.Context, upTo int64) error {
	_, err := f.s.exec(ctx, `DELETE FROM fleet_event WHERE number <= ?`, upTo)
	if err != nil {
		return fmt.Errorf("drop events: %w", err)
	}
	return nil
}

// digest is a digest's column: NULL when it is zero.
func digest(d identity.Digest) sql.NullString {
	return sql.NullString{String: d.String(), Valid: d != identity.Digest{}}
}

// save writes a document and its events as one change.
func (f Fleet) save(ctx context.Context, what string, doc any, es []fleet.Event, query string, keys ...any) error {
	return f.s.together(ctx, func(ctx context.Context, tx *shared) error {
		if err := put(ctx, tx, what, doc, query, keys...); err != nil {
			return err
		}
		return putEvents(ctx, tx, es)
	})
}

// writer is a transaction of one's own, or a shared one.
type writer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// put writes a document, whose JSON is the query's first argument. No row
// written is a conflict.
func put(ctx context.Context, tx writer, what string, doc any, query string, keys ...any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("save %s: %w", what, err)
	}
	res, err := tx.ExecContext(ctx, query, append([]any{string(b)}, keys...)...)
	if err != nil {
		return fmt.Errorf("save %s: %w", what, err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fault.New(fault.Conflict, "%s exists already", what)
	}
	return nil
}

func putEvents(ctx context.Context, tx *shared, es []fleet.Event) error {
	for _, e := range es {
		b, err := json.Marshal(e.Details)
		if err != nil {
			return fmt.Errorf("save event: %w", err)
		}
		if err := tx.exec(ctx, `INSERT INTO fleet_event (kind, device, details) VALUES (?, ?, ?)`, e.Kind, e.Device, string(b)); err != nil {
			return fmt.Errorf("save event: %w", err)
		}
	}
	return nil
}

// document reads one document; absent is the public text when there is none.
func document[T any](ctx context.Context, s *Store, absent, query string, args ...any) (T, error) {
	var v T
	var b []byte
	err := s.row(ctx, query, args...).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return v, fault.New(fault.NotFound, "%s", absent)
	}
	if err != nil {
		return v, fmt.Errorf("read store: %w", err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fault.Hide(fault.Internal, "", fmt.Errorf("stored document: %w", err))
	}
	return v, nil
}

// documents reads all documents that a query finds.
func documents[T any](ctx context.Context, db *sql.DB, query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	defer rows.Close()
	vs := []T{}
	for rows.Next() {
		var b []byte
		var v T
		if err := rows.Scan(&b); err != nil {
			return nil, fmt.Errorf("read store: %w", err)
		}
		if err := json.Unmarshal(b, &v); err != nil {
			return nil, fmt.Errorf("stored document: %w", err)
		}
		vs = append(vs, v)
	}
	return vs, rows.Err()
}
