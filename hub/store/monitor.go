package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/hub/monitor"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// Monitor is the part of the store that keeps alerts and quantities.
type Monitor struct{ s *Store }

var _ monitor.Store = Monitor{}

// Monitor returns the store of hub/monitor.
func (s *Store) Monitor() Monitor { return Monitor{s} }

// Probe returns nil once something was written and fsynced.
func (m Monitor) Probe(ctx context.Context, now time.Time) error {
	return m.write(ctx, "try a write", `UPDATE monitor_place SET probed = ?`, now.UnixNano())
}

func (m Monitor) write(ctx context.Context, what, query string, args ...any) error {
	return m.s.together(ctx, func(ctx context.Context, tx *shared) error {
		if err := tx.exec(ctx, query, args...); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

// Place returns how far the ledger was followed.
func (m Monitor) Place(ctx context.Context) (monitor.Place, error) {
	var p monitor.Place
	if err := m.s.read.QueryRowContext(ctx, `SELECT seq, event FROM monitor_place`).Scan(&p.Seq, &p.Event); err != nil {
		return p, fmt.Errorf("read place in the ledger: %w", err)
	}
	return p, nil
}

// Apply makes changes and notes the place after them.
func (m Monitor) Apply(ctx context.Context, p *monitor.Place, cs []monitor.Change) error {
	return m.s.together(ctx, func(ctx context.Context, tx *shared) error {
		for _, c := range cs {
			if err := applyChange(ctx, tx, c); err != nil {
				return fmt.Errorf("note %T: %w", c, err)
			}
		}
		if p == nil {
			return nil
		}
		if err := tx.exec(ctx, `UPDATE monitor_place SET seq = ?, event = ?`, int64(p.Seq), p.Event); err != nil {
			return fmt.Errorf("note place in the ledger: %w", err)
		}
		return nil
	})
}

func applyChange(ctx context.Context, tx *shared, c monitor.Change) error {
	switch c := c.(type) {
	case monitor.Raise:
		return raise(ctx, tx, c)
	case monitor.Clear:
		for _, kind := range c.Kinds {
			if err := tx.exec(ctx, `UPDATE monitor_alert SET cleared = ? WHERE subject = ? AND kind = ? AND cleared = 0`, c.Time.UnixNano(), c.Subject, kind); err != nil {
				return err
			}
		}
		return nil
	case monitor.Recorded:
		return tx.exec(ctx, `INSERT INTO monitor_device (device, status, warn_at, not_after) VALUES (?, ?, 0, 0)
			ON CONFLICT (device) DO UPDATE SET status = excluded.status`, string(c.Device), string(c.Status))
	case monitor.Expiry:
		return tx.exec(ctx, `INSERT INTO monitor_device (device, status, warn_at, not_after) VALUES (?, '', ?, ?)
			ON CONFLICT (device) DO UPDATE SET warn_at = excluded.warn_at, not_after = excluded.not_after`, string(c.Device), nanos(c.Warn), nanos(c.NotAfter))
	case monitor.VerdictChange:
		return changeVerdict(ctx, tx, c)
	}
	return fmt.Errorf("no change of this type is known")
}

// raise opens an alert, opens one again that was cleared lately, or counts.
func raise(ctx context.Context, tx *shared, r monitor.Raise) error {
	at := r.Time.UnixNano()
	if r.Once {
		var open int
		if err := tx.scan(ctx, []any{&open}, `SELECT count(*) FROM monitor_alert WHERE subject = ? AND kind = ? AND cleared = 0`, r.Subject, r.Kind); err != nil || open > 0 {
			return err
		}
	}
	n, err := tx.change(ctx, `UPDATE monitor_alert SET times = times + 1, last = ?1, was = ?2, becomes = ?3, reason = ?4, severity = ?5, grp = ?6,
			acknowledged = CASE WHEN cleared = 0 THEN acknowledged ELSE 0 END, by = CASE WHEN cleared = 0 THEN by ELSE '' END, cleared = 0
		WHERE number = (SELECT number FROM monitor_alert WHERE subject = ?7 AND kind = ?8 AND (cleared = 0 OR cleared > ?9) ORDER BY cleared = 0 DESC, number DESC LIMIT 1)`,
		at, string(r.From), string(r.To), r.Reason, r.Severity, string(r.Group), r.Subject, r.Kind, r.Time.Add(-r.Again).UnixNano())
	if err != nil || n > 0 {
		return err
	}
	return tx.exec(ctx, `INSERT INTO monitor_alert (subject, kind, device, grp, severity, was, becomes, reason, at, last, times, cleared, acknowledged, by)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, 1, 0, 0, '')`,
		r.Subject, r.Kind, string(r.Device), string(r.Group), r.Severity, string(r.From), string(r.To), r.Reason, at)
}

func changeVerdict(ctx context.Context, tx *shared, c monitor.VerdictChange) error {
	for _, v := range []struct {
		verdict measure.Verdict
		by      int
	}{{c.From, -1}, {c.To, 1}} {
		if v.verdict == measure.Unknown || v.verdict == "" {
			continue
		}
		if err := tx.exec(ctx, `INSERT INTO monitor_verdict (measure, verdict, devices) VALUES (?1, ?2, max(?3, 0))
			ON CONFLICT (measure, verdict) DO UPDATE SET devices = max(devices + ?3, 0)`, string(c.Measure), string(v.verdict), v.by); err != nil {
			return err
		}
	}
	return nil
}

// Recorded returns the last status of a device that the ledger has.
func (m Monitor) Recorded(ctx context.Context, id identity.Device) (posture.Status, error) {
	var s string
	err := m.s.read.QueryRowContext(ctx, `SELECT status FROM monitor_device WHERE device = ?`, string(id)).Scan(&s)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read status of %s: %w", id, err)
	}
	return posture.Status(s), nil
}

// Expiring returns devices for whose certificate it is time to warn.
func (m Monitor) Expiring(ctx context.Context, now time.Time, limit int) ([]monitor.Expiry, error) {
	return list(ctx, m.s.read, "read certificates that end", func(rows *sql.Rows) (e monitor.Expiry, err error) {
		var warn, end int64
		err = rows.Scan(&e.Device, &warn, &end)
		e.Warn, e.NotAfter = instant(warn), instant(end)
		return e, err
	}, `SELECT device, warn_at, not_after FROM monitor_device WHERE warn_at > 0 AND warn_at <= ? ORDER BY warn_at LIMIT ?`, now.UnixNano(), limit)
}

// Verdicts returns how many devices have each verdict.
func (m Monitor) Verdicts(ctx context.Context) ([]monitor.VerdictCount, error) {
	return list(ctx, m.s.read, "count verdicts", func(rows *sql.Rows) (c monitor.VerdictCount, err error) {
		return c, rows.Scan(&c.Measure, &c.Verdict, &c.Devices)
	}, `SELECT measure, verdict, devices FROM monitor_verdict ORDER BY measure, verdict`)
}

const selectAlert = `SELECT number, at, device, grp, kind, severity, was, becomes, reason, times, last, cleared, acknowledged, by FROM monitor_alert `

func scanAlert(rows *sql.Rows) (a operator.Alert, err error) {
	var number, at, last, cleared, acknowledged int64
	err = rows.Scan(&number, &at, &a.Device, &a.Group, &a.Kind, &a.Severity, &a.From, &a.To, &a.Reason, &a.Count, &last, &cleared, &acknowledged, &a.By)
	a.ID = strconv.FormatInt(number, 10)
	a.Time, a.Last, a.Cleared, a.Acknowledged = instant(at), instant(last), instant(cleared), instant(acknowledged)
	return a, err
}

// Alerts returns alerts, the newest first.
func (m Monitor) Alerts(ctx context.Context, q operator.AlertQuery) ([]operator.Alert, error) {
	where, args := []string{"1"}, []any{}
	and := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if q.Group != "" {
		and("grp = ?", string(q.Group))
	}
	if q.Device != "" {
		and("device = ?", string(q.Device))
	}
	if q.Open {
		and("cleared = 0 AND acknowledged = 0")
	}
	if q.After != "" {
		n, err := number(q.After)
		if err != nil {
			return nil, err
		}
		and("number < ?", n)
	}
	if q.Groups != nil {
		names := []any{}
		for _, g := range q.Groups {
			names = append(names, string(g))
		}
		and("grp IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(names)), ", ")+")", names...)
	}
	return list(ctx, m.s.read, "read alerts", scanAlert, selectAlert+`WHERE `+strings.Join(where, " AND ")+` ORDER BY number DESC LIMIT ?`, append(args, q.Limit)...)
}

func number(id string) (int64, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n <= 0 {
		return 0, fault.New(fault.NotFound, "there is no alert %.40q", id)
	}
	return n, nil
}

// Alert returns the alert with an ID.
func (m Monitor) Alert(ctx context.Context, id string) (operator.Alert, error) {
	n, err := number(id)
	if err != nil {
		return operator.Alert{}, err
	}
	return m.one(ctx, fmt.Sprintf("there is no alert %q", id), `WHERE number = ?`, n)
}

func (m Monitor) one(ctx context.Context, absent, where string, args ...any) (operator.Alert, error) {
	as, err := list(ctx, m.s.read, "read alert", scanAlert, selectAlert+where, args...)
	if err == nil && len(as) == 0 {
		err = fault.New(fault.NotFound, "%s", absent)
	}
	if err != nil {
		return operator.Alert{}, err
	}
	return as[0], nil
}

// Acknowledge notes who knows of an alert.
func (m Monitor) Acknowledge(ctx context.Context, id, by string, now time.Time) error {
	n, err := number(id)
	if err != nil {
		return err
	}
	return m.write(ctx, "acknowledge alert", `UPDATE monitor_alert SET acknowledged = ?, by = ? WHERE number = ? AND acknowledged = 0`, now.UnixNano(), by, n)
}

// Uncleared returns the devices with an alert of a kind that is not cleared.
func (m Monitor) Uncleared(ctx context.Context, kind string) ([]identity.Device, error) {
	return list(ctx, m.s.read, "read alerts", func(rows *sql.Rows) (d identity.Device, err error) {
		return d, rows.Scan(&d)
	}, `SELECT device FROM monitor_alert WHERE cleared = 0 AND kind = ? AND device != ''`, kind)
}

// OpenAlerts counts the alerts that nobody has dealt with.
func (m Monitor) OpenAlerts(ctx context.Context) ([]monitor.AlertCount, error) {
	return list(ctx, m.s.read, "count alerts", func(rows *sql.Rows) (c monitor.AlertCount, err error) {
		return c, rows.Scan(&c.Kind, &c.Severity, &c.Alerts)
	}, `SELECT kind, severity, count(*) FROM monitor_alert WHERE cleared = 0 AND acknowledged = 0 GROUP BY kind, severity`)
}

// PruneAlerts drops alerts that are done with, and the oldest of too many.
func (m Monitor) PruneAlerts(ctx context.Context, before time.Time, keep int) error {
	return m.s.together(ctx, func(ctx context.Context, tx *shared) error {
		err := tx.exec(ctx, `DELETE FROM monitor_alert WHERE last < ?1 AND (cleared > 0 AND cleared < ?1 OR acknowledged > 0 AND acknowledged < ?1)`, before.UnixNano())
		if err == nil {
			err = tx.exec(ctx, `DELETE FROM monitor_alert WHERE number IN (SELECT number FROM monitor_alert
				ORDER BY cleared = 0 AND acknowledged = 0, number LIMIT max((SELECT count(*) FROM monitor_alert) - ?, 0))`, keep)
		}
		if err != nil {
			return fmt.Errorf("drop alerts: %w", err)
		}
		return nil
	})
}

// Unposted returns the oldest alert that was not posted.
func (m Monitor) Unposted(ctx context.Context) (operator.Alert, error) {
	err := m.write(ctx, "begin to post alerts", `UPDATE monitor_place SET hooked = (SELECT coalesce(max(number), 0) FROM monitor_alert) WHERE hooked < 0`)
	if err != nil {
		return operator.Alert{}, err
	}
	return m.one(ctx, "all alerts were posted", `WHERE number > (SELECT hooked FROM monitor_place) ORDER BY number LIMIT 1`)
}

// Posted notes that an alert and all before were posted.
func (m Monitor) Posted(ctx context.Context, id string) error {
	n, err := number(id)
	if err != nil {
		return err
	}
	return m.write(ctx, "note posted alert", `UPDATE monitor_place SET hooked = max(hooked, ?)`, n)
}

// SaveSamples stores the quantities of a minute.
func (m Monitor) SaveSamples(ctx context.Context, at time.Time, values map[string]float64) error {
	return m.s.together(ctx, func(ctx context.Context, tx *shared) error {
		for name, v := range values {
			if err := tx.exec(ctx, `INSERT OR REPLACE INTO monitor_sample (step, name, at, value) VALUES (60, ?, ?, ?)`, name, at.Unix(), v); err != nil {
				return fmt.Errorf("store quantities: %w", err)
			}
		}
		return nil
	})
}

// Condense makes means out of minutes.
func (m Monitor) Condense(ctx context.Context, step time.Duration, until time.Time) error {
	s := int64(step / time.Second)
	return m.write(ctx, "condense quantities", `INSERT OR IGNORE INTO monitor_sample (step, name, at, value)
		SELECT ?1, name, at / ?1 * ?1, avg(value) FROM monitor_sample
		WHERE step = 60 AND at < ?2 AND at >= (SELECT coalesce(max(at), -?1) + ?1 FROM monitor_sample WHERE step = ?1)
		GROUP BY name, at / ?1`, s, until.Unix())
}

// DropSamples drops old samples of a step.
func (m Monitor) DropSamples(ctx context.Context, step time.Duration, before time.Time) error {
	return m.write(ctx, "drop quantities", `DELETE FROM monitor_sample WHERE step = ? AND at < ?`, int64(step/time.Second), before.Unix())
}

// Samples returns the samples of a name and a step.
func (m Monitor) Samples(ctx context.Context, name string, step time.Duration, from, to time.Time) ([]monitor.Sample, error) {
	return list(ctx, m.s.read, "read quantities", func(rows *sql.Rows) (x monitor.Sample, err error) {
		var at int64
		err = rows.Scan(&at, &x.Value)
		x.At = time.Unix(at, 0).UTC()
		return x, err
	}, `SELECT at, value FROM monitor_sample WHERE step = ? AND name = ? AND at BETWEEN ? AND ? ORDER BY at`, int64(step/time.Second), name, from.Unix(), to.Unix())
}

// nanos is a time's column, zero for none; instant reads it.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// list reads the rows of a query.
func list[T any](ctx context.Context, db *sql.DB, what string, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer rows.Close()
	vs := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		vs = append(vs, v)
	}
	return vs, rows.Err()
}
