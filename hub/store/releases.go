package store

import (
	"context"
	"database/sql"
	"fmt"

	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
)

// Products returns the products of which fleet has seen releases, by name.
func (f Fleet) Products(ctx context.Context) ([]release.Product, error) {
	rows, err := f.s.read.QueryContext(ctx, `SELECT DISTINCT product FROM fleet_release ORDER BY product`)
	if err != nil {
		return nil, fmt.Errorf("read products: %w", err)
	}
	defer rows.Close()
	var out []release.Product
	for rows.Next() {
		var p release.Product
		if err := rows.Scan(&p); err != nil {
			return nil, fmt.Errorf("read products: %w", err)
		}
		out = append(out, p)
	}
	return out, rows.Err()
}

// Seen returns what fleet has seen of a product's releases, in the order in
// which it saved them.
func (f Fleet) Seen(ctx context.Context, p release.Product) ([]fleet.Seen, error) {
	rows, err := f.s.read.QueryContext(ctx, `SELECT version, digest, since, withdrawn, gone, settled FROM fleet_release
		WHERE product = ? ORDER BY place`, string(p))
	if err != nil {
		return nil, fmt.Errorf("read releases of %s: %w", p, err)
	}
	defer rows.Close()
	var out []fleet.Seen
	for rows.Next() {
		s, err := scanSeen(rows)
		if err != nil {
			return nil, fmt.Errorf("read releases of %s: %w", p, err)
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

func scanSeen(rows *sql.Rows) (s fleet.Seen, err error) {
	var version, digest string
	var since, withdrawn int64
	if err := rows.Scan(&version, &digest, &since, &withdrawn, &s.Gone, &s.Settled); err != nil {
		return s, err
	}
	if s.Version, err = mcuboot.ParseVersion(version); err != nil {
		return s, err
	}
	s.Since, s.Withdrawn = fromNanos(since), fromNanos(withdrawn)
	s.Digest, err = identity.ParseDigest(digest)
	return s, err
}

// SaveSeen replaces what fleet has seen of a product's releases.
func (f Fleet) SaveSeen(ctx context.Context, p release.Product, all []fleet.Seen) error {
	err := f.s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM fleet_release WHERE product = ?`, string(p)); err != nil {
			return err
		}
		for i, s := range all {
			_, err := tx.ExecContext(ctx, `INSERT INTO fleet_release (product, place, version, digest, since, withdrawn, gone, settled)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
				string(p), i, s.Version.String(), s.Digest.String(), toNanos(s.Since), toNanos(s.Withdrawn), s.Gone, s.Settled)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save releases of %s: %w", p, err)
	}
	return nil
}
