// Package store keeps the hub's state in SQL. It has one file per consumer and
// one schema file beside it (schema/NN_consumer.sql); no file touches another
// consumer's tables. A method that returned nil has been fsynced: SQLite runs
// in WAL mode with synchronous=FULL.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sync"

	"modernc.org/sqlite" // and the driver of that name
	sqlite3 "modernc.org/sqlite/lib"

	"holdfast/fault"
	"holdfast/hub/issuer"
	"holdfast/identity"
)

//go:embed schema/*.sql
var schema embed.FS

// Store is the hub's SQL state. It is safe for concurrent use: writes pass one
// connection, one after another; reads have a pool of their own.
type Store struct {
	write, read *sql.DB
	crowd       *crowd
	prepared    sync.Map // queries of row: text to *sql.Stmt

	keys        memo[identity.Digest, issuer.Key] // that were seen
	sessionless memo[identity.Device, struct{}]   // devices of which no session is kept
	idle        memo[identity.Device, struct{}]   // devices for which no message waits
}

// readers is how many reads run at a time.
const readers = 8

// Open opens or makes the SQLite database at path and brings its schema up to
// date.
func Open(ctx context.Context, path string) (*Store, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite itself would let others read it
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	f.Close()
	write, err := sql.Open("sqlite", dsn(path, "immediate"))
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn(path, "deferred"))
	if err != nil {
		write.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers) // opening one costs more than most reads
	s := &Store{write: write, read: read, crowd: newCrowd()}
	if err := s.migrate(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func dsn(path, lock string) string {
	q := url.Values{"_txlock": {lock}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(" + synchronous + ")", "foreign_keys(1)",
	}}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// Close closes the database.
func (s *Store) Close() error {
	readErr := s.read.Close()
	if err := s.write.Close(); err != nil {
		return err
	}
	return readErr
}

// migrate applies each schema file that has not been applied, in the order of
// their names, each in a transaction of its own.
func (s *Store) migrate(ctx context.Context) error {
	if _, err := s.write.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_applied (name TEXT PRIMARY KEY)`); err != nil {
		return fmt.Errorf("prepare store: %w", err)
	}
	files, err := fs.Glob(schema, "schema/*.sql")
	if err != nil {
		return err
	}
	for _, name := range files {
		if err := s.tx(ctx, func(tx *sql.Tx) error { return apply(ctx, tx, name) }); err != nil {
			return fmt.Errorf("apply %s: %w", name, err)
		}
	}
	return nil
}

func apply(ctx context.Context, tx *sql.Tx, name string) error {
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM schema_applied WHERE name = ?`, name).Scan(&n); err != nil || n > 0 {
		return err
	}
	text, err := schema.ReadFile(name)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, string(text)); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO schema_applied (name) VALUES (?)`, name)
	return err
}

// tx runs f in a write transaction: committed and fsynced when f returns nil,
// rolled back otherwise.
func (s *Store) tx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return unavailable(err)
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return unavailable(err)
	}
	return unavailable(tx.Commit())
}

// exec is tx for one statement.
func (s *Store) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	res, err := s.write.ExecContext(ctx, query, args...)
	return res, unavailable(err)
}

// row reads one row with a query that is asked often. It is compiled once,
// which costs more than running it.
func (s *Store) row(ctx context.Context, query string, args ...any) *sql.Row {
	if st, ok := s.prepared.Load(query); ok {
		return st.(*sql.Stmt).QueryRowContext(ctx, args...)
	}
	st, err := s.read.PrepareContext(ctx, query)
	if err != nil {
		return s.read.QueryRowContext(ctx, query, args...) // which has an error to tell
	}
	if other, was := s.prepared.LoadOrStore(query, st); was {
		st.Close()
		st = other.(*sql.Stmt)
	}
	return st.QueryRowContext(ctx, args...)
}

// unavailable gives what a disk that is full or fails does its kind: it is no
// fault of ours, and worth asking again later.
func unavailable(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff { // the rest of the code says more of the cause
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
			return fault.Hide(fault.Unavailable, "the hub cannot store anything now", err)
		}
	}
	return err
}
