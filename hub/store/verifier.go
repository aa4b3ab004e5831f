package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/appraise"
	"holdfast/fault"
	"holdfast/hub/verifier"
	"holdfast/identity"
)

// Verifier is the part of the store that keeps reference values and appraisals.
type Verifier struct{ s *Store }

var _ verifier.Store = Verifier{}

// Verifier returns the store of hub/verifier.
func (s *Store) Verifier() Verifier { return Verifier{s} }

const (
	keptAppraisals = 16             // of each device
	keptKeys       = 24 * time.Hour // after they were certified
)

// AddReference implements verifier.Store.
func (v Verifier) AddReference(ctx context.Context, r appraise.Reference) error {
	_, err := v.s.exec(ctx, `INSERT INTO verifier_reference (grp, pcr, digest, kind, name, version)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (grp, pcr, digest)
		DO UPDATE SET kind = excluded.kind, name = excluded.name, version = excluded.version`,
		string(r.Group), r.PCR, r.Digest.String(), string(r.Kind), r.Name, r.Version)
	return err
}

// RemoveReference implements verifier.Store.
func (v Verifier) RemoveReference(ctx context.Context, group identity.Group, digest identity.Digest) error {
	res, err := v.s.exec(ctx, `DELETE FROM verifier_reference WHERE grp = ? AND digest = ?`, string(group), digest.String())
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return fault.New(fault.NotFound, "group %s has no reference value %s", group, digest)
}

// References implements verifier.Store.
func (v Verifier) References(ctx context.Context, group identity.Group) ([]appraise.Reference, error) {
	rows, err := v.s.read.QueryContext(ctx, `SELECT pcr, digest, kind, name, version FROM verifier_reference
		WHERE grp = ? ORDER BY pcr, name, version, digest`, string(group))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []appraise.Reference
	for rows.Next() {
		r := appraise.Reference{Group: group}
		var digest string
		if err := rows.Scan(&r.PCR, &digest, &r.Kind, &r.Name, &r.Version); err != nil {
			return nil, err
		}
		if r.Digest, err = identity.ParseDigest(digest); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Memory implements verifier.Store.
func (v Verifier) Memory(ctx context.Context, device identity.Device, ak identity.Digest) (verifier.Memory, error) {
	var m verifier.Memory
	var state string
	err := v.s.read.QueryRowContext(ctx, `SELECT version, state FROM verifier_memory WHERE device = ? AND ak = ?`,
		string(device), ak.String()).Scan(&m.Version, &state)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return m, nil
	case err != nil:
		return m, fmt.Errorf("memory of %s: %w", device, err)
	}
	if err := json.Unmarshal([]byte(state), &m.State); err != nil {
		return m, fmt.Errorf("memory of %s: %w", device, err)
	}
	return m, nil
}

// SaveAppraisal implements verifier.Store.
func (v Verifier) SaveAppraisal(ctx context.Context, a verifier.Appraisal, version int64) error {
	err := v.s.tx(ctx, func(tx *sql.Tx) error {
		if a.State != nil {
			if err := remember(ctx, tx, a, version); err != nil {
				return err
			}
		}
		if a.NextKey != nil {
			if err := certified(ctx, tx, a); err != nil {
				return err
			}
		}
		return keep(ctx, tx, a)
	})
	if err != nil {
		return fmt.Errorf("save appraisal of %s: %w", a.Device, err)
	}
	return nil
}

// remember replaces the memory that the appraisal was made with.
func remember(ctx context.Context, tx *sql.Tx, a verifier.Appraisal, version int64) error {
	state, err := json.Marshal(a.State)
	if err != nil {
		return err
	}
	query := `UPDATE verifier_memory SET version = version + 1, state = ? WHERE device = ? AND ak = ? AND version = ?`
	args := []any{string(state), string(a.Device), a.AK.String(), version}
	if version == 0 {
		query = `INSERT INTO verifier_memory (state, device, ak, version) VALUES (?, ?, ?, ? + 1) ON CONFLICT (device, ak) DO NOTHING`
	}
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return fault.New(fault.Conflict, "another attestation of the device came between")
}

// certified records the next key, and forgets old ones.
func certified(ctx context.Context, tx *sql.Tx, a verifier.Appraisal) error {
	at := a.Result.Time
	_, err := tx.ExecContext(ctx, `INSERT INTO verifier_key (device, key, ak, certified_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (device, key) DO UPDATE SET ak = excluded.ak, certified_at = excluded.certified_at`,
		string(a.Device), a.NextKey.String(), a.AK.String(), at.UnixMicro())
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM verifier_key WHERE device = ? AND certified_at < ?`,
		string(a.Device), at.Add(-keptKeys).UnixMicro())
	return err
}

// keep records the appraisal itself, and forgets old ones.
func keep(ctx context.Context, tx *sql.Tx, a verifier.Appraisal) error {
	result, err := json.Marshal(a.Result)
	if err != nil {
		return err
	}
	facts, err := json.Marshal(a.Facts)
	if err != nil {
		return err
	}
	var number int64
	err = tx.QueryRowContext(ctx, `SELECT coalesce(max(number), 0) + 1 FROM verifier_appraisal WHERE device = ?`,
		string(a.Device)).Scan(&number)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO verifier_appraisal (device, number, ak, step, result, facts) VALUES (?, ?, ?, ?, ?, ?)`,
		string(a.Device), number, a.AK.String(), string(a.Step), string(result), string(facts))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM verifier_appraisal WHERE device = ? AND number <= ?`,
		string(a.Device), number-keptAppraisals)
	return err
}

// Certified implements verifier.Store.
func (v Verifier) Certified(ctx context.Context, device identity.Device, ak, key identity.Digest, since, until time.Time) (bool, error) {
	var n int
	err := v.s.read.QueryRowContext(ctx, `SELECT count(*) FROM verifier_key WHERE device = ? AND ak = ? AND key = ? AND certified_at BETWEEN ? AND ?`,
		string(device), ak.String(), key.String(), since.UnixMicro(), until.UnixMicro()).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("certified key of %s: %w", device, err)
	}
	return n > 0, nil
}

// Latest implements verifier.Store.
func (v Verifier) Latest(ctx context.Context, device identity.Device) (verifier.Appraisal, error) {
	a := verifier.Appraisal{Device: device}
	var ak, result, facts string
	err := v.s.read.QueryRowContext(ctx, `SELECT ak, step, result, facts FROM verifier_appraisal
		WHERE device = ? ORDER BY number DESC LIMIT 1`, string(device)).Scan(&ak, &a.Step, &result, &facts)
	if errors.Is(err, sql.ErrNoRows) {
		return a, fault.New(fault.NotFound, "device %s was never appraised", device)
	}
	if err == nil {
		a.AK, err = identity.ParseDigest(ak)
	}
	if err == nil {
		err = json.Unmarshal([]byte(result), &a.Result)
	}
	if err == nil {
		err = json.Unmarshal([]byte(facts), &a.Facts)
	}
	if err != nil {
		return a, fmt.Errorf("latest appraisal of %s: %w", device, err)
	}
	return a, nil
}
