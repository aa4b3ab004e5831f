package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"holdfast/fault"
	"holdfast/hub/auditors"
	"holdfast/identity"
	"holdfast/operator"
)

// Auditors is the part of the store that keeps auditors and their statements.
type Auditors struct{ s *Store }

var _ auditors.Store = Auditors{}

// Auditors returns the store of hub/auditors.
func (s *Store) Auditors() Auditors { return Auditors{s} }

// Auditors implements auditors.Store.
func (a Auditors) Auditors(ctx context.Context) ([]operator.Auditor, error) {
	rows, err := a.s.read.QueryContext(ctx, `SELECT name, id, key, by, added FROM auditor ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read auditors: %w", err)
	}
	defer rows.Close()
	var out []operator.Auditor
	for rows.Next() {
		var one operator.Auditor
		var id string
		var added int64
		if err := rows.Scan(&one.Name, &id, &one.Key, &one.By, &added); err != nil {
			return nil, fmt.Errorf("read auditors: %w", err)
		}
		if one.ID, err = identity.ParseDigest(id); err != nil {
			return nil, fmt.Errorf("read auditor %s: %w", one.Name, err)
		}
		one.Added = fromNanos(added)
		out = append(out, one)
	}
	return out, rows.Err()
}

// AddAuditor implements auditors.Store.
func (a Auditors) AddAuditor(ctx context.Context, one operator.Auditor) error {
	res, err := a.s.exec(ctx, `INSERT INTO auditor (name, id, key, by, added) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		one.Name, one.ID.String(), one.Key, one.By, toNanos(one.Added))
	if err != nil {
		return fmt.Errorf("save auditor: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(fault.New(fault.Conflict, "an auditor %s, or one with that key, is registered", one.Name), err)
	}
	return nil
}

// RemoveAuditor implements auditors.Store.
func (a Auditors) RemoveAuditor(ctx context.Context, name string) error {
	return a.s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM auditor_statement WHERE auditor = (SELECT id FROM auditor WHERE name = ?)`, name)
		if err != nil {
			return fmt.Errorf("remove statements of %s: %w", name, err)
		}
		res, err := tx.ExecContext(ctx, `DELETE FROM auditor WHERE name = ?`, name)
		return removed(res, err, "there is no auditor "+name)
	})
}

// removed is the outcome of a removal of one row.
func removed(res sql.Result, err error, none string) error {
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = fault.New(fault.NotFound, "%s", none)
	}
	return err
}

// Statements implements auditors.Store.
func (a Auditors) Statements(ctx context.Context) ([]auditors.Statement, error) {
	rows, err := a.s.read.QueryContext(ctx, `SELECT id, auditor, envelope, by, received FROM auditor_statement ORDER BY received, id`)
	if err != nil {
		return nil, fmt.Errorf("read statements: %w", err)
	}
	defer rows.Close()
	var out []auditors.Statement
	for rows.Next() {
		var s auditors.Statement
		var id, auditor string
		var received int64
		if err := rows.Scan(&id, &auditor, &s.Envelope, &s.By, &received); err != nil {
			return nil, fmt.Errorf("read statements: %w", err)
		}
		if s.ID, err = identity.ParseDigest(id); err != nil {
			return nil, fmt.Errorf("read statements: %w", err)
		}
		if s.Auditor, err = identity.ParseDigest(auditor); err != nil {
			return nil, fmt.Errorf("read statements: %w", err)
		}
		s.Received = fromNanos(received)
		out = append(out, s)
	}
	return out, rows.Err()
}

// AddStatement implements auditors.Store.
func (a Auditors) AddStatement(ctx context.Context, s auditors.Statement) error {
	_, err := a.s.exec(ctx, `INSERT INTO auditor_statement (id, auditor, envelope, by, received) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		s.ID.String(), s.Auditor.String(), s.Envelope, s.By, toNanos(s.Received))
	if err != nil {
		return fmt.Errorf("save statement: %w", err)
	}
	return nil
}

// RemoveStatement implements auditors.Store.
func (a Auditors) RemoveStatement(ctx context.Context, id identity.Digest) error {
	res, err := a.s.exec(ctx, `DELETE FROM auditor_statement WHERE id = ?`, id.String())
	return removed(res, err, "there is no statement "+id.String())
}

// JudgedAudits returns the epoch of the statements by which devices were last
// decided on; zero: none.
func (f Fleet) JudgedAudits(ctx context.Context) (identity.Digest, error) {
	var text string
	err := f.s.row(ctx, `SELECT epoch FROM fleet_audits WHERE place = 1`).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.Digest{}, nil
	}
	if err != nil {
		return identity.Digest{}, fmt.Errorf("read judged audits: %w", err)
	}
	return identity.ParseDigest(text)
}

// SaveJudgedAudits notes that devices were decided on by the statements of an
// epoch.
func (f Fleet) SaveJudgedAudits(ctx context.Context, epoch identity.Digest) error {
	_, err := f.s.exec(ctx, `INSERT INTO fleet_audits (place, epoch) VALUES (1, ?) ON CONFLICT (place) DO UPDATE SET epoch = excluded.epoch`, epoch.String())
	if err != nil {
		return fmt.Errorf("save judged audits: %w", err)
	}
	return nil
}
