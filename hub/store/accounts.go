package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/hub/accounts"
	"holdfast/identity"
)

// Accounts is the part of the store that says who may ask.
type Accounts struct{ s *Store }

var _ accounts.Store = Accounts{}

// Accounts returns the store of hub/accounts.
func (s *Store) Accounts() Accounts { return Accounts{s} }

// stamp is a time as it is stored; the zero time is 0.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// stamped is the reverse of stamp.
func stamped(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// entry is a row with a document and times beside it.
type entry struct {
	doc   []byte
	times [3]int64
}

// rows reads documents with n times each, and makes something of them.
func rows[T any](ctx context.Context, q querier, n int, of func(T, [3]int64) T, query string, args ...any) ([]T, error) {
	found, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	defer found.Close()
	out := []T{}
	for found.Next() {
		var e entry
		to := []any{&e.doc}
		for i := range n {
			to = append(to, &e.times[i])
		}
		if err := found.Scan(to...); err != nil {
			return nil, fmt.Errorf("read store: %w", err)
		}
		var v T
		if err := json.Unmarshal(e.doc, &v); err != nil {
			return nil, fmt.Errorf("stored document: %w", err)
		}
		out = append(out, of(v, e.times))
	}
	return out, found.Err()
}

// one returns the only one, or a fault of kind NotFound.
func one[T any](vs []T, err error, absent string) (T, error) {
	if err == nil && len(vs) != 1 {
		err = fault.New(fault.NotFound, "%s", absent)
	}
	if err != nil {
		var none T
		return none, err
	}
	return vs[0], nil
}

func (a Accounts) people(ctx context.Context, q querier, where string, args ...any) ([]accounts.Record, error) {
	return rows(ctx, q, 1, func(r accounts.Record, t [3]int64) accounts.Record {
		r.LastSeen = stamped(t[0])
		return r
	}, `SELECT doc, last_seen FROM account `+where, args...)
}

// Account implements accounts.People.
func (a Accounts) Account(ctx context.Context, name string) (accounts.Record, error) {
	rs, err := a.people(ctx, a.s.read, `WHERE name = ?`, name)
	return one(rs, err, fmt.Sprintf("there is no account %.100q", name))
}

// AccountByHandle implements accounts.People.
func (a Accounts) AccountByHandle(ctx context.Context, handle []byte) (accounts.Record, error) {
	rs, err := a.people(ctx, a.s.read, `WHERE handle = ?`, hex.EncodeToString(handle))
	return one(rs, err, "no account has that handle")
}

// AccountBySubject implements accounts.People.
func (a Accounts) AccountBySubject(ctx context.Context, subject string) (accounts.Record, error) {
	rs, err := a.people(ctx, a.s.read, `WHERE subject = ?`, subject)
	return one(rs, err, "no account has that subject")
}

// Accounts implements accounts.People.
func (a Accounts) Accounts(ctx context.Context) ([]accounts.Record, error) {
	return a.people(ctx, a.s.read, `ORDER BY name`)
}

// subject is what a provider calls a live account.
func subject(r accounts.Record) sql.NullString {
	return sql.NullString{String: r.Subject, Valid: r.Subject != "" && r.Live()}
}

// AddAccount implements accounts.People.
func (a Accounts) AddAccount(ctx context.Context, r accounts.Record) error {
	return a.s.tx(ctx, func(tx *sql.Tx) error {
		return put(ctx, tx, "account "+r.Name, r, `INSERT INTO account (doc, name, lower, handle, subject, last_seen) VALUES (?, ?, ?, ?, ?, 0)
			ON CONFLICT DO NOTHING`, r.Name, strings.ToLower(r.Name), hex.EncodeToString(r.Handle), subject(r))
	})
}

// ChangeAccount implements accounts.People.
func (a Accounts) ChangeAccount(ctx context.Context, name string, change func(accounts.Record, int) (accounts.Record, error)) error {
	return a.s.tx(ctx, func(tx *sql.Tx) error {
		all, err := a.people(ctx, tx, ``)
		if err != nil {
			return err
		}
		var r accounts.Record
		administrators := 0
		for _, other := range all {
			switch {
			case other.Name == name:
				r = other
			case accounts.Unlimited(other):
				administrators++
			}
		}
		changed, err := change(r, administrators)
		if err != nil {
			return err
		}
		if err := put(ctx, tx, "another account with the subject of "+name, changed,
			`UPDATE OR IGNORE account SET doc = ?, subject = ? WHERE name = ?`, subject(changed), name); err != nil {
			return err
		}
		return closeAccount(ctx, tx, changed)
	})
}

// closeAccount ends what opens an account that was revoked, and the sessions of
// one that was changed: whoever uses it logs in again to what it is now.
func closeAccount(ctx context.Context, tx *sql.Tx, r accounts.Record) error {
	stmts := []string{`UPDATE account_session SET ended = ?2 WHERE account = ?1 AND ended = 0`}
	if !r.Live() {
		stmts = append(stmts, `DELETE FROM account_passkey WHERE account = ?1`, `DELETE FROM account_token WHERE account = ?1`, `DELETE FROM account_link WHERE account = ?1`)
	}
	for _, stmt := range stmts {
		if _, err := tx.ExecContext(ctx, stmt, r.Name, time.Now().UnixNano()); err != nil {
			return fmt.Errorf("close account %s: %w", r.Name, err)
		}
	}
	return nil
}

// Used implements accounts.People.
func (a Accounts) Used(ctx context.Context, u accounts.Use) error {
	return a.s.together(ctx, func(ctx context.Context, tx *shared) error {
		for _, at := range []struct{ stmt, key string }{
			{`UPDATE account SET last_seen = max(last_seen, ?) WHERE name = ?`, u.Account},
			{`UPDATE account_session SET used = max(used, ?) WHERE id = ?`, u.Session},
			{`UPDATE account_token SET used = max(used, ?) WHERE id = ?`, u.Token},
		} {
			if at.key == "" {
				continue
			}
			if err := tx.exec(ctx, at.stmt, stamp(u.Time), at.key); err != nil {
				return fmt.Errorf("note use by %s: %w", u.Account, err)
			}
		}
		return nil
	})
}

// AddPasskey implements accounts.Passkeys.
func (a Accounts) AddPasskey(ctx context.Context, p accounts.Passkey) error {
	return a.s.tx(ctx, func(tx *sql.Tx) error {
		return put(ctx, tx, "this passkey", p, `INSERT INTO account_passkey (doc, id, account) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, p.ID, p.Account)
	})
}

func (a Accounts) passkeys(ctx context.Context, q querier, where string, args ...any) ([]accounts.Passkey, error) {
	return rows(ctx, q, 0, func(p accounts.Passkey, _ [3]int64) accounts.Passkey { return p }, `SELECT doc FROM account_passkey `+where, args...)
}

// PasskeysOf implements accounts.Passkeys.
func (a Accounts) PasskeysOf(ctx context.Context, account string) ([]accounts.Passkey, error) {
	return a.passkeys(ctx, a.s.read, `WHERE account = ?1 OR ?1 = '' ORDER BY rowid`, account)
}

// ChangePasskey implements accounts.Passkeys.
func (a Accounts) ChangePasskey(ctx context.Context, id string, change func(accounts.Passkey) (accounts.Passkey, error)) error {
	return a.s.tx(ctx, func(tx *sql.Tx) error {
		ps, err := a.passkeys(ctx, tx, `WHERE id = ?`, id)
		p, err := one(ps, err, "there is no such passkey")
		if err != nil {
			return err
		}
		if p, err = change(p); err != nil {
			return err
		}
		return put(ctx, tx, "passkey", p, `UPDATE account_passkey SET doc = ? WHERE id = ?`, id)
	})
}

// RemovePasskey implements accounts.Passkeys.
func (a Accounts) RemovePasskey(ctx context.Context, id string) error {
	return a.remove(ctx, "passkey", `DELETE FROM account_passkey WHERE id = ?`, id)
}

func (a Accounts) remove(ctx context.Context, what, stmt string, args ...any) error {
	res, err := a.s.exec(ctx, stmt, args...)
	if err != nil {
		return fmt.Errorf("remove %s: %w", what, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return fault.New(fault.NotFound, "there is no such %s", what)
	}
	return nil
}

// keepLinks is for how long a used or expired link can be told from one that
// was never made; keepSessions likewise.
const (
	keepLinks    = 24 * time.Hour
	keepSessions = 30 * 24 * time.Hour
)

// AddLink implements accounts.Sessions.
func (a Accounts) AddLink(ctx context.Context, l accounts.Link) error {
	return a.s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM account_link WHERE expires < ?`, stamp(l.Expires.Add(-keepLinks))); err != nil {
			return fmt.Errorf("add login link: %w", err)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO account_link (hash, account, expires, used) VALUES (?, ?, ?, 0)`, l.Hash.String(), l.Account, stamp(l.Expires))
		return err
	})
}

// SpendLink implements accounts.Sessions. The steps are the same whatever is
// wrong with a link.
func (a Accounts) SpendLink(ctx context.Context, hash identity.Digest, now time.Time) (string, error) {
	var account string
	err := a.s.tx(ctx, func(tx *sql.Tx) error {
		var used, expires int64
		err := tx.QueryRowContext(ctx, `SELECT account, used, expires FROM account_link WHERE hash = ?`, hash.String()).Scan(&account, &used, &expires)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, updateErr := tx.ExecContext(ctx, `UPDATE account_link SET used = ? WHERE hash = ? AND used = 0`, stamp(now), hash.String()); updateErr != nil {
			return updateErr
		}
		switch {
		case err != nil:
			return accounts.ErrLinkUnknown
		case used != 0:
			return accounts.ErrLinkUsed
		case expires <= stamp(now):
			return accounts.ErrLinkExpired
		}
		return nil
	})
	return account, err
}

// AddSession implements accounts.Sessions.
func (a Accounts) AddSession(ctx context.Context, s accounts.Session, replaces string) error {
	return a.s.tx(ctx, func(tx *sql.Tx) error {
		for _, stmt := range []struct {
			text string
			args []any
		}{
			{`DELETE FROM account_session WHERE expires < ?`, []any{stamp(s.Used.Add(-keepSessions))}},
			{`UPDATE account_session SET ended = ? WHERE id = ? AND ended = 0`, []any{stamp(s.Used), replaces}},
		} {
			if _, err := tx.ExecContext(ctx, stmt.text, stmt.args...); err != nil {
				return fmt.Errorf("add session: %w", err)
			}
		}
		return put(ctx, tx, "session", s, `INSERT INTO account_session (doc, id, hash, account, created, expires, used, ended) VALUES (?, ?, ?, ?, ?, ?, ?, 0)`,
			s.ID, s.Hash.String(), s.Account, stamp(s.Created), stamp(s.Expires), stamp(s.Used))
	})
}

func (a Accounts) sessions(ctx context.Context, where string, args ...any) ([]accounts.Session, error) {
	return rows(ctx, a.s.read, 2, func(s accounts.Session, t [3]int64) accounts.Session {
		s.Used, s.Ended = stamped(t[0]), stamped(t[1])
		return s
	}, `SELECT doc, used, ended FROM account_session `+where, args...)
}

// SessionByHash implements accounts.Sessions.
func (a Accounts) SessionByHash(ctx context.Context, hash identity.Digest) (accounts.Session, error) {
	ss, err := a.sessions(ctx, `WHERE hash = ?`, hash.String())
	return one(ss, err, "there is no such session")
}

// SessionsOf implements accounts.Sessions.
func (a Accounts) SessionsOf(ctx context.Context, account string, now time.Time) ([]accounts.Session, error) {
	return a.sessions(ctx, `WHERE (account = ?1 OR ?1 = '') AND ended = 0 AND expires > ?2 ORDER BY created DESC, id`, account, stamp(now))
}

// EndSession implements accounts.Sessions.
func (a Accounts) EndSession(ctx context.Context, id string, now time.Time) error {
	return a.remove(ctx, "session", `UPDATE account_session SET ended = ? WHERE id = ? AND ended = 0`, stamp(now), id)
}

// AddToken implements accounts.Tokens.
func (a Accounts) AddToken(ctx context.Context, t accounts.Token) error {
	return a.s.tx(ctx, func(tx *sql.Tx) error {
		return put(ctx, tx, "token", t, `INSERT INTO account_token (doc, id, hash, account, created, used) VALUES (?, ?, ?, ?, ?, 0)`,
			t.ID, t.Hash.String(), t.Account, stamp(t.Created))
	})
}

func (a Accounts) tokens(ctx context.Context, where string, args ...any) ([]accounts.Token, error) {
	return rows(ctx, a.s.read, 1, func(t accounts.Token, at [3]int64) accounts.Token {
		t.LastUsed = stamped(at[0])
		return t
	}, `SELECT doc, used FROM account_token `+where, args...)
}

// TokenByHash implements accounts.Tokens.
func (a Accounts) TokenByHash(ctx context.Context, hash identity.Digest) (accounts.Token, error) {
	ts, err := a.tokens(ctx, `WHERE hash = ?`, hash.String())
	return one(ts, err, "there is no such token")
}

// TokensOf implements accounts.Tokens.
func (a Accounts) TokensOf(ctx context.Context, account string) ([]accounts.Token, error) {
	return a.tokens(ctx, `WHERE account = ?1 OR ?1 = '' ORDER BY created DESC, id`, account)
}

// RemoveToken implements accounts.Tokens.
func (a Accounts) RemoveToken(ctx context.Context, id string) error {
	return a.remove(ctx, "token", `DELETE FROM account_token WHERE id = ?`, id)
}
