package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
)

// AppendLedger puts an entry at the end of the ledger and returns its record,
// which is on disk then.
func (s *Store) AppendLedger(ctx context.Context, e ledger.Entry) (ledger.Record, error) {
	var r ledger.Record
	err := s.tx(ctx, func(tx *sql.Tx) (err error) {
		r, err = appendLedger(ctx, tx, e)
		return err
	})
	if err != nil {
		return ledger.Record{}, fmt.Errorf("append to ledger: %w", err)
	}
	return r, nil
}

// appendLedger puts an entry at the end of the ledger in a transaction that
// changes other tables too, so that neither is there without the other. Write
// transactions run one after another: the tip it reads is the tip it extends.
func appendLedger(ctx context.Context, tx *sql.Tx, e ledger.Entry) (ledger.Record, error) {
	tip, err := scanTip(tx.QueryRowContext(ctx, selectTip))
	if err != nil {
		return ledger.Record{}, err
	}
	r, err := ledger.Next(tip, e)
	if err != nil {
		return ledger.Record{}, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO ledger (seq, time, kind, device, grp, actor, reason, details, prev, hash)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		int64(r.Seq), r.Time.UnixNano(), string(r.Kind), string(r.Device), string(r.Group), r.Actor, r.Reason,
		string(r.Details), r.Prev[:], r.Hash[:])
	return r, err
}

const selectTip = `SELECT seq, hash FROM ledger ORDER BY seq DESC LIMIT 1`

// LedgerTip returns the end of the ledger.
func (s *Store) LedgerTip(ctx context.Context) (ledger.Tip, error) {
	tip, err := scanTip(s.read.QueryRowContext(ctx, selectTip))
	if err != nil {
		return tip, fmt.Errorf("read end of ledger: %w", err)
	}
	return tip, nil
}

func scanTip(row *sql.Row) (ledger.Tip, error) {
	var t ledger.Tip
	var hash []byte
	err := row.Scan(&t.Seq, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.Tip{}, nil
	}
	if err != nil {
		return ledger.Tip{}, err
	}
	t.Hash, err = storedHash(hash)
	return t, err
}

// LedgerRecords returns at most limit records from number from on.
func (s *Store) LedgerRecords(ctx context.Context, from uint64, limit int) ([]ledger.Record, error) {
	return s.SearchLedger(ctx, operator.LedgerQuery{From: int64(min(from, 1<<62)), Limit: limit})
}

// SearchLedger returns the records that q selects.
func (s *Store) SearchLedger(ctx context.Context, q operator.LedgerQuery) ([]ledger.Record, error) {
	where, order, args := "seq >= ?", "seq", []any{q.From}
	if q.Newest {
		where, order = "seq <= ?", "seq DESC"
		if q.From <= 0 {
			args[0] = int64(math.MaxInt64)
		}
	}
	if q.Device != "" {
		where, args = where+" AND device = ?", append(args, string(q.Device))
	}
	if q.Kind != "" {
		where, args = where+" AND kind = ?", append(args, q.Kind)
	}
	rows, err := s.read.QueryContext(ctx, `SELECT seq, time, kind, device, grp, actor, reason, details, prev, hash
		FROM ledger WHERE `+where+` ORDER BY `+order+` LIMIT ?`, append(args, q.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer rows.Close()
	records := []ledger.Record{}
	for rows.Next() {
		r, err := scanRecord(rows)
		if err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
		records = append(records, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return records, nil
}

func scanRecord(rows *sql.Rows) (ledger.Record, error) {
	var r ledger.Record
	var at int64
	var details string
	var prev, hash []byte
	err := rows.Scan(&r.Seq, &at, &r.Kind, &r.Device, &r.Group, &r.Actor, &r.Reason, &details, &prev, &hash)
	if err != nil {
		return r, err
	}
	r.Time = time.Unix(0, at).UTC()
	if details != "" {
		r.Details = json.RawMessage(details)
	}
	if r.Prev, err = storedHash(prev); err != nil {
		return r, err
	}
	r.Hash, err = storedHash(hash)
	return r, err
}

func storedHash(b []byte) (identity.Digest, error) {
	var d identity.Digest
	if len(b) != len(d) {
		return d, fault.New(fault.Integrity, "stored hash has %d bytes", len(b))
	}
	copy(d[:], b)
	return d, nil
}
