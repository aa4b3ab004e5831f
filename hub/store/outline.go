package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/posture"
)

// The bits of an outline's flags.
const (
	flagRevoked = 1 << iota
	flagHeld
	flagRefused
)

// Outlines calls each with every device, by id, and its outline, which is nil
// where there is none or one that this version of the program cannot read.
func (f Fleet) Outlines(ctx context.Context, each func(identity.Device, *fleet.Outline) error) error {
	rows, err := f.s.read.QueryContext(ctx, `SELECT d.id, o.grp, o.release, o.flags, o.provisional, o.seen, o.marks
		FROM fleet_device d LEFT JOIN fleet_outline o ON o.id = d.id ORDER BY d.id`)
	if err != nil {
		return fmt.Errorf("read outlines: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id identity.Device
		o, err := scanOutline(rows, &id)
		if err != nil {
			return fmt.Errorf("read outlines: %w", err)
		}
		if err := each(id, o); err != nil {
			return err
		}
	}
	return rows.Err()
}

func scanOutline(rows *sql.Rows, id *identity.Device) (*fleet.Outline, error) {
	var grp, release sql.NullString
	var flags, provisional, seen sql.NullInt64
	var marks sql.RawBytes
	if err := rows.Scan(id, &grp, &release, &flags, &provisional, &seen, &marks); err != nil {
		return nil, err
	}
	m, err := posture.ParseMarks(marks)
	if !grp.Valid || err != nil {
		return nil, nil
	}
	return &fleet.Outline{ID: *id, Group: identity.Group(grp.String), Release: release.String, Marks: m,
		Revoked: flags.Int64&flagRevoked != 0, Held: flags.Int64&flagHeld != 0, Refused: flags.Int64&flagRefused != 0,
		Provisional: fromNanos(provisional.Int64), LastSeen: fromNanos(seen.Int64)}, nil
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func toNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// FillOutlines writes the outlines of devices that have none, or one of another
// version of the program. One that was written meanwhile stays.
func (f Fleet) FillOutlines(ctx context.Context, os []fleet.Outline) error {
	return f.s.tx(ctx, func(tx *sql.Tx) error {
		for _, o := range os {
			if err := putOutline(ctx, tx, o, ` WHERE substr(fleet_outline.marks, 1, 4) <> substr(excluded.marks, 1, 4)`); err != nil {
				return err
			}
		}
		return nil
	})
}

// putOutline writes an outline; which limits what it may replace.
func putOutline(ctx context.Context, tx writer, o fleet.Outline, which string) error {
	flags := 0
	for bit, on := range map[int]bool{flagRevoked: o.Revoked, flagHeld: o.Held, flagRefused: o.Refused} {
		if on {
			flags |= bit
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO fleet_outline (id, grp, release, flags, provisional, seen, marks) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET grp = excluded.grp, release = excluded.release, flags = excluded.flags,
		provisional = excluded.provisional, seen = excluded.seen, marks = excluded.marks`+which,
		string(o.ID), string(o.Group), o.Release, flags, toNanos(o.Provisional), toNanos(o.LastSeen), []byte(o.Marks))
	if err != nil {
		return fmt.Errorf("save outline of %s: %w", o.ID, err)
	}
	return nil
}
