package store

import (
	"context"
	"fmt"
	"os"
)

// Snapshot writes the database as it is at one moment to the file path, which
// must not exist. Reads and writes go on meanwhile; what was acknowledged before
// the call is in it.
func (s *Store) Snapshot(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // SQLite takes an empty file and keeps its mode
	if err != nil {
		return fmt.Errorf("snapshot of the store: %w", err)
	}
	f.Close()
	if _, err := s.read.ExecContext(ctx, `VACUUM INTO ?`, path); err != nil {
		_ = os.Remove(path) // the first error is the one to report
		return fmt.Errorf("snapshot of the store: %w", unavailable(err))
	}
	return nil
}

// Verify says what is broken in the database, if anything is. It reads all of
// it.
func (s *Store) Verify(ctx context.Context) error {
	rows, err := s.read.QueryContext(ctx, `PRAGMA integrity_check(5)`)
	if err != nil {
		return fmt.Errorf("check the store: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return fmt.Errorf("check the store: %w", err)
		}
		if text != "ok" {
			return fmt.Errorf("the store is broken: %s", text)
		}
	}
	return rows.Err()
}
