package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/hub/issuer"
	"holdfast/identity"
	"holdfast/pki"
)

var _ issuer.Store = (*Store)(nil)

// AddCertificates implements issuer.Store. The statements are prepared once
// for a batch: that is a third of its cost.
func (s *Store) AddCertificates(ctx context.Context, batch []issuer.Certificate) ([]issuer.Added, error) {
	var added []issuer.Added
	err := s.tx(ctx, func(tx *sql.Tx) error {
		a, err := newAdder(ctx, tx)
		if err != nil {
			return err
		}
		defer a.close()
		for _, c := range batch {
			result, err := a.add(ctx, c)
			if err != nil {
				return err
			}
			added = append(added, result)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("add certificates: %w", err)
	}
	return added, nil
}

// adder records the certificates and keys of one transaction.
type adder struct {
	tx        *sql.Tx
	key, cert *sql.Stmt
}

func newAdder(ctx context.Context, tx *sql.Tx) (*adder, error) {
	key, err := tx.PrepareContext(ctx, insertKey)
	if err != nil {
		return nil, err
	}
	cert, err := tx.PrepareContext(ctx, `INSERT INTO certificates
		(serial, class, name, key, not_before, not_after, der, issued_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		key.Close()
		return nil, err
	}
	return &adder{tx: tx, key: key, cert: cert}, nil
}

func (a *adder) close() {
	a.key.Close()
	a.cert.Close()
}

// add records one certificate; an error of its own fails the whole batch, a
// key that was seen before only this one.
func (a *adder) add(ctx context.Context, c issuer.Certificate) (issuer.Added, error) {
	k := issuer.Key{Digest: c.Key, Owner: c.Name, Kind: string(c.Class)}
	var seen *issuer.KeySeenError
	switch err := a.see(ctx, k, c.IssuedAt); {
	case errors.As(err, &seen):
		return issuer.Added{Err: seen}, nil
	case err != nil:
		return issuer.Added{}, err
	}
	var added issuer.Added
	if c.Class == pki.Birth {
		serials, err := revoke(ctx, a.tx, issuer.Selection{Class: c.Class, Name: c.Name}, c.IssuedAt, pki.ReasonSuperseded)
		if err != nil {
			return added, err
		}
		added.Superseded = len(serials)
	}
	_, err := a.cert.ExecContext(ctx, c.Serial, string(c.Class), c.Name, c.Key.String(),
		c.NotBefore.Unix(), c.NotAfter.Unix(), c.DER, c.IssuedAt.Unix())
	return added, err
}

// see records a key that was never seen, or fails with KeySeenError.
func (a *adder) see(ctx context.Context, k issuer.Key, at time.Time) error {
	res, err := a.key.ExecContext(ctx, k.Digest.String(), k.Owner, k.Kind, at.Unix())
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	known, err := scanKey(a.tx.QueryRowContext(ctx, selectKey, k.Digest.String()), k.Digest)
	if err != nil {
		return err
	}
	return &issuer.KeySeenError{Known: known}
}

// NoteKey implements issuer.Store. A maker's key is noted each time its device
// comes: one that is known already is read, without waiting for who writes.
func (s *Store) NoteKey(ctx context.Context, k issuer.Key, at time.Time) error {
	known, err := s.knownKey(ctx, k.Digest)
	if errors.Is(err, sql.ErrNoRows) {
		known = k
		err = s.together(ctx, func(ctx context.Context, tx *shared) error {
			n, err := tx.change(ctx, insertKey, k.Digest.String(), k.Owner, k.Kind, at.Unix())
			if err == nil && n == 0 { // another noted it in between
				err = tx.scan(ctx, []any{&known.Owner, &known.Kind}, selectKey, k.Digest.String())
			}
			return err
		})
	}
	switch {
	case err == nil && known == k:
		return nil
	case err == nil:
		err = &issuer.KeySeenError{Known: known}
	}
	return fmt.Errorf("note key: %w", err)
}

// knownKey returns whose a key is, or sql.ErrNoRows. What is known once stays
// so: no key is ever taken back.
func (s *Store) knownKey(ctx context.Context, key identity.Digest) (issuer.Key, error) {
	known, ok, epoch := s.keys.recall(key)
	if ok {
		return known, nil
	}
	known, err := scanKey(s.row(ctx, selectKey, key.String()), key)
	if err == nil {
		s.keys.remember(key, known, epoch)
	}
	return known, err
}

const insertKey = `INSERT INTO keys_seen (key, owner, kind, seen_at) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING`

const selectKey = `SELECT owner, kind FROM keys_seen WHERE key = ?`

// scanKey returns whose a key is, or sql.ErrNoRows.
func scanKey(row *sql.Row, key identity.Digest) (issuer.Key, error) {
	known := issuer.Key{Digest: key}
	err := row.Scan(&known.Owner, &known.Kind)
	return known, err
}

// Revoke implements issuer.Store.
func (s *Store) Revoke(ctx context.Context, which issuer.Selection, at time.Time, reason int) ([]string, error) {
	var serials []string
	err := s.tx(ctx, func(tx *sql.Tx) (err error) {
		serials, err = revoke(ctx, tx, which, at, reason)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("revoke certificates: %w", err)
	}
	return serials, nil
}

func revoke(ctx context.Context, tx *sql.Tx, which issuer.Selection, at time.Time, reason int) ([]string, error) {
	where, args := selected(which)
	rows, err := tx.QueryContext(ctx, `UPDATE certificates SET revoked_at = ?, reason = ?
		WHERE revoked_at IS NULL AND `+where+` RETURNING serial`, append([]any{at.Unix(), reason}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var serials []string
	for rows.Next() {
		var serial string
		if err := rows.Scan(&serial); err != nil {
			return nil, err
		}
		serials = append(serials, serial)
	}
	return serials, rows.Err()
}

// selected returns a selection as an SQL condition. One that selects
// everything selects nothing: it can only be a mistake.
func selected(s issuer.Selection) (where string, args []any) {
	var terms []string
	for _, f := range []struct{ column, value string }{
		{"serial", s.Serial}, {"class", string(s.Class)}, {"name", s.Name},
	} {
		if f.value != "" {
			terms, args = append(terms, f.column+" = ?"), append(args, f.value)
		}
	}
	if len(terms) == 0 {
		return "1 = 0", nil
	}
	return strings.Join(terms, " AND "), args
}

// Certificates implements issuer.Store.
func (s *Store) Certificates(ctx context.Context, which issuer.Selection) ([]issuer.Certificate, error) {
	where, args := selected(which)
	certs, err := certificates(ctx, s.read, where+` ORDER BY issued_at DESC, serial`, args...)
	if err != nil {
		return nil, fmt.Errorf("list certificates: %w", err)
	}
	return certs, nil
}

// NextCRL implements issuer.Store.
func (s *Store) NextCRL(ctx context.Context, class pki.Class, since time.Time) (number int64, revoked []issuer.Certificate, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `INSERT INTO crl_numbers (class, number) VALUES (?, 1)
			ON CONFLICT (class) DO UPDATE SET number = crl_numbers.number + 1 RETURNING number`, string(class)).Scan(&number)
		if err != nil {
			return err
		}
		revoked, err = certificates(ctx, tx,
			`revoked_at IS NOT NULL AND class = ? AND not_after > ? ORDER BY revoked_at, serial`, string(class), since.Unix())
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("number revocation list: %w", err)
	}
	return number, revoked, nil
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func certificates(ctx context.Context, q querier, where string, args ...any) ([]issuer.Certificate, error) {
	rows, err := q.QueryContext(ctx, `SELECT serial, class, name, key, not_before, not_after, der, issued_at,
		revoked_at, COALESCE(reason, 0) FROM certificates WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var certs []issuer.Certificate
	for rows.Next() {
		c, err := scanCertificate(rows)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, rows.Err()
}

func scanCertificate(rows *sql.Rows) (issuer.Certificate, error) {
	var c issuer.Certificate
	var key string
	var notBefore, notAfter, issued int64
	var revoked sql.NullInt64
	err := rows.Scan(&c.Serial, &c.Class, &c.Name, &key, &notBefore, &notAfter, &c.DER, &issued, &revoked, &c.Reason)
	if err != nil {
		return c, err
	}
	if c.Key, err = identity.ParseDigest(key); err != nil {
		return c, err
	}
	c.NotBefore, c.NotAfter, c.IssuedAt = unix(notBefore), unix(notAfter), unix(issued)
	if revoked.Valid {
		c.RevokedAt = unix(revoked.Int64)
	}
	return c, nil
}

func unix(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
