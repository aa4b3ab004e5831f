package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/hub/rollouts"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/rollout"
)

// Rollouts is the part of the store that keeps rollouts.
type Rollouts struct{ s *Store }

var _ rollouts.Store = Rollouts{}

// Rollouts returns the store of hub/rollouts.
func (s *Store) Rollouts() Rollouts { return Rollouts{s} }

// Add stores a new rollout and returns it with its number.
func (r Rollouts) Add(ctx context.Context, v rollout.Rollout, es []rollouts.Event) (rollout.Rollout, error) {
	err := r.s.together(ctx, func(ctx context.Context, tx *shared) error {
		doc, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("add rollout: %w", err)
		}
		res, err := tx.ExecContext(ctx, `INSERT INTO rollout (id, product, stage, doc) VALUES (?, ?, ?, ?)`, v.ID, string(v.Product), string(v.Stage), string(doc))
		if err == nil {
			v.Seq, err = res.LastInsertId()
		}
		if err != nil {
			return fmt.Errorf("add rollout: %w", err)
		}
		return putRolloutEvents(ctx, tx, es)
	})
	return v, err
}

// Change replaces a rollout by what do makes of it, knowing its counts. An
// error of do is returned as it is, and nothing is written.
func (r Rollouts) Change(ctx context.Context, seq int64, do func(*rollout.Rollout, rollout.Counts) ([]rollouts.Event, error)) (rollout.Rollout, error) {
	var v rollout.Rollout
	err := r.s.together(ctx, func(ctx context.Context, tx *shared) error {
		var doc []byte
		if err := tx.scan(ctx, []any{&doc}, `SELECT doc FROM rollout WHERE seq = ?`, seq); err != nil {
			return fmt.Errorf("read rollout: %w", err)
		}
		if err := json.Unmarshal(doc, &v); err != nil {
			return fmt.Errorf("stored rollout %d: %w", seq, err)
		}
		v.Seq = seq
		c, err := readCounts(ctx, tx, seq)
		if err != nil {
			return err
		}
		es, err := do(&v, c)
		if err != nil {
			return err
		}
		if doc, err = json.Marshal(v); err != nil {
			return fmt.Errorf("write rollout: %w", err)
		}
		if err := tx.exec(ctx, `UPDATE rollout SET stage = ?, doc = ? WHERE seq = ?`, string(v.Stage), string(doc), seq); err != nil {
			return fmt.Errorf("write rollout: %w", err)
		}
		return putRolloutEvents(ctx, tx, es)
	})
	return v, err
}

// Rollouts returns rollouts, the newest first. Those that whoever asks is not
// for are the caller's to leave out.
func (r Rollouts) Rollouts(ctx context.Context, q operator.RolloutQuery) ([]rollout.Rollout, error) {
	where, args := []string{"1"}, []any{}
	and := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if q.Product != "" {
		and("product = ?", string(q.Product))
	}
	if q.Stage != "" {
		and("stage = ?", q.Stage)
	}
	if q.Live {
		and("stage NOT IN ('finished', 'superseded')")
	}
	if q.After != "" {
		and("seq < (SELECT seq FROM rollout WHERE id = ?)", q.After)
	}
	return list(ctx, r.s.read, "read rollouts", scanRollout, `SELECT seq, doc FROM rollout WHERE `+strings.Join(where, " AND ")+` ORDER BY seq DESC LIMIT ?`, append(args, q.Limit)...)
}

func scanRollout(rows *sql.Rows) (v rollout.Rollout, err error) {
	var doc []byte
	var seq int64
	if err = rows.Scan(&seq, &doc); err == nil {
		err = json.Unmarshal(doc, &v)
	}
	v.Seq = seq
	return v, err
}

// Counts returns how many devices are in each state.
func (r Rollouts) Counts(ctx context.Context, seq int64) (rollout.Counts, error) {
	return readCounts(ctx, r.s.read, seq)
}

// QueryContext is as that of sql.Tx.
func (s *shared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := s.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

func readCounts(ctx context.Context, db querier, seq int64) (rollout.Counts, error) {
	c := rollout.Counts{States: map[rollout.State]int{}, Causes: map[rollout.Cause]int{}}
	rows, err := db.QueryContext(ctx, `SELECT state, cause, devices, last FROM rollout_count WHERE rollout = ?`, seq)
	if err != nil {
		return c, fmt.Errorf("count devices of a rollout: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var state rollout.State
		var cause rollout.Cause
		var n int
		var last int64
		if err := rows.Scan(&state, &cause, &n, &last); err != nil {
			return c, fmt.Errorf("count devices of a rollout: %w", err)
		}
		c.States[state] += n
		if cause != "" && n > 0 {
			c.Causes[cause] += n
		}
		if at := instant(last); at.After(c.Last) {
			c.Last = at
		}
	}
	return c, rows.Err()
}

// Enter adds the devices that the rollout does not have yet, and takes them
// from others, by their numbers. It returns those that were in flight there.
func (r Rollouts) Enter(ctx context.Context, v rollout.Rollout, ds []rollout.Device, others []int64, now time.Time) (taken []identity.Device, err error) {
	return taken, r.s.together(ctx, func(ctx context.Context, tx *shared) error {
		taken = nil
		for _, d := range ds {
			if err := enter(ctx, tx, v, d); err != nil {
				return fmt.Errorf("enter %s into a rollout: %w", d.ID, err)
			}
			for _, other := range others {
				err := changeRolloutDevice(ctx, tx, other, d.ID, func(old rollout.Device) (rollout.Device, []rollouts.Event) {
					if old.State.InFlight() {
						taken = append(taken, old.ID)
					}
					return old.Replace(v.ID, now), nil
				})
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func enter(ctx context.Context, tx *shared, v rollout.Rollout, d rollout.Device) error {
	n, err := tx.change(ctx, `INSERT INTO rollout_device (state, cause, reason, attempt, step, bytes, length, offered, heard, changed, due, tried, told, rollout, device, grp, place)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (rollout, device) DO NOTHING`,
		append(deviceColumns(d), v.Seq, string(d.ID), string(d.Group), rollout.Rank(v.ID, d.ID))...)
	if err != nil || n == 0 {
		return err
	}
	return count(ctx, tx, v.Seq, d, 1)
}

func deviceColumns(d rollout.Device) []any {
	return []any{string(d.State), string(d.Cause), d.Reason, d.Attempt, string(d.Step), d.Bytes, d.Length,
		nanos(d.Offered), nanos(d.Heard), nanos(d.Changed), nanos(d.Due), nanos(d.Tried), d.Told}
}

// count notes that one device more or less is as d is.
func count(ctx context.Context, tx *shared, seq int64, d rollout.Device, by int) error {
	return tx.exec(ctx, `INSERT INTO rollout_count (rollout, state, cause, devices, last) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT (rollout, state, cause) DO UPDATE SET devices = devices + ?4, last = max(last, ?5)`,
		seq, string(d.State), string(d.Cause), by, nanos(d.Changed))
}

// ChangeDevices replaces devices of a rollout by what do makes of each, all in
// one transaction. counts says how many are in each state at that moment. A
// device that the rollout does not have is left out.
func (r Rollouts) ChangeDevices(ctx context.Context, seq int64, ids []identity.Device,
	do func(counts func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []rollouts.Event)) error {
	return r.s.together(ctx, func(ctx context.Context, tx *shared) error {
		counts := func() (rollout.Counts, error) { return readCounts(ctx, tx, seq) }
		for _, id := range ids {
			err := changeRolloutDevice(ctx, tx, seq, id, func(d rollout.Device) (rollout.Device, []rollouts.Event) { return do(counts, d) })
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func changeRolloutDevice(ctx context.Context, tx *shared, seq int64, id identity.Device, do func(rollout.Device) (rollout.Device, []rollouts.Event)) error {
	old, err := scanRolloutDevice(func(to ...any) error {
		return tx.scan(ctx, to, selectRolloutDevice+`WHERE d.rollout = ? AND d.device = ?`, seq, string(id))
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s of a rollout: %w", id, err)
	}
	d, es := do(old)
	if d == old {
		return putRolloutEvents(ctx, tx, es)
	}
	err = tx.exec(ctx, `UPDATE rollout_device SET state = ?, cause = ?, reason = ?, attempt = ?, step = ?, bytes = ?, length = ?,
		offered = ?, heard = ?, changed = ?, due = ?, tried = ?, told = ? WHERE rollout = ? AND device = ?`, append(deviceColumns(d), seq, string(id))...)
	if err == nil && (d.State != old.State || d.Cause != old.Cause) {
		left := old
		left.Changed = d.Changed
		if err = count(ctx, tx, seq, left, -1); err == nil {
			err = count(ctx, tx, seq, d, 1)
		}
	}
	if err != nil {
		return fmt.Errorf("write %s of a rollout: %w", id, err)
	}
	return putRolloutEvents(ctx, tx, es)
}

const selectRolloutDevice = `SELECT r.id, d.device, d.grp, d.state, d.cause, d.reason, d.attempt, d.step, d.bytes, d.length, d.offered, d.heard, d.changed, d.due, d.tried, d.told
	FROM rollout_device d JOIN rollout r ON r.seq = d.rollout `

func scanRolloutDevice(scan func(to ...any) error) (d rollout.Device, err error) {
	var offered, heard, changed, due, tried int64
	err = scan(&d.Rollout, &d.ID, &d.Group, &d.State, &d.Cause, &d.Reason, &d.Attempt, &d.Step, &d.Bytes, &d.Length, &offered, &heard, &changed, &due, &tried, &d.Told)
	d.Offered, d.Heard, d.Changed, d.Due, d.Tried = instant(offered), instant(heard), instant(changed), instant(due), instant(tried)
	return d, err
}

func (r Rollouts) rolloutDevices(ctx context.Context, where string, args ...any) ([]rollout.Device, error) {
	return list(ctx, r.s.read, "read devices of a rollout", func(rows *sql.Rows) (rollout.Device, error) { return scanRolloutDevice(rows.Scan) }, selectRolloutDevice+where, args...)
}

// Of returns a device as it stands in rollouts, the newest first.
func (r Rollouts) Of(ctx context.Context, id identity.Device) ([]rollout.Device, error) {
	return r.rolloutDevices(ctx, `WHERE d.device = ? ORDER BY d.rollout DESC LIMIT 16`, string(id))
}

// Devices returns devices of a rollout by id.
func (r Rollouts) Devices(ctx context.Context, seq int64, q operator.RolloutDeviceQuery) ([]rollout.Device, error) {
	if q.State == "" {
		return r.rolloutDevices(ctx, `WHERE d.rollout = ? AND d.device > ? ORDER BY d.device LIMIT ?`, seq, string(q.After), q.Limit)
	}
	return r.rolloutDevices(ctx, `WHERE d.rollout = ? AND d.device > ? AND d.state = ? ORDER BY d.device LIMIT ?`, seq, string(q.After), q.State, q.Limit)
}

// Turn returns devices that wait and were not found away since a time, in the
// order of the rollout.
func (r Rollouts) Turn(ctx context.Context, seq int64, since time.Time, limit int) ([]rollout.Device, error) {
	return r.rolloutDevices(ctx, `WHERE d.rollout = ? AND d.state = 'waiting' AND d.tried < ? ORDER BY d.place LIMIT ?`, seq, nanos(since), limit)
}

// Due returns devices that are to be looked at by now.
func (r Rollouts) Due(ctx context.Context, seq int64, now time.Time, limit int) ([]rollout.Device, error) {
	return r.rolloutDevices(ctx, `WHERE d.rollout = ? AND d.due > 0 AND d.due <= ? ORDER BY d.due LIMIT ?`, seq, nanos(now), limit)
}

// Untold returns devices in flight whose last offer was of an earlier revision.
func (r Rollouts) Untold(ctx context.Context, seq, told int64, limit int) ([]rollout.Device, error) {
	return r.rolloutDevices(ctx, `WHERE d.rollout = ? AND d.state IN ('offered', 'updating', 'committed') AND d.told < ? ORDER BY d.told LIMIT ?`, seq, told, limit)
}

func putRolloutEvents(ctx context.Context, tx *shared, es []rollouts.Event) error {
	for _, e := range es {
		b, err := json.Marshal(e.Details)
		if err == nil {
			err = tx.exec(ctx, `INSERT INTO rollout_event (kind, device, details) VALUES (?, ?, ?)`, string(e.Kind), string(e.Device), string(b))
		}
		if err != nil {
			return fmt.Errorf("save event of a rollout: %w", err)
		}
	}
	return nil
}

// Events returns the first events that the ledger has not taken.
func (r Rollouts) Events(ctx context.Context, limit int) ([]rollouts.Event, error) {
	return list(ctx, r.s.read, "read events of rollouts", func(rows *sql.Rows) (e rollouts.Event, err error) {
		var details []byte
		if err = rows.Scan(&e.Number, &e.Kind, &e.Device, &details); err == nil {
			err = json.Unmarshal(details, &e.Details)
		}
		return e, err
	}, `SELECT number, kind, device, details FROM rollout_event ORDER BY number LIMIT ?`, limit)
}

// DropEvents forgets the events up to a number: the ledger has them.
func (r Rollouts) DropEvents(ctx context.Context, upTo int64) error {
	if _, err := r.s.exec(ctx, `DELETE FROM rollout_event WHERE number <= ?`, upTo); err != nil {
		return fmt.Errorf("drop events of rollouts: %w", err)
	}
	return nil
}
