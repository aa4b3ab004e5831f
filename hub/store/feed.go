package store

import (
	"context"
	"fmt"
)

// Fed returns the number of the last ledger record that the stream has.
func (s *Store) Fed(ctx context.Context) (uint64, error) {
	var seq int64
	if err := s.read.QueryRowContext(ctx, `SELECT seq FROM feed`).Scan(&seq); err != nil {
		return 0, fmt.Errorf("read place of security events: %w", err)
	}
	return uint64(seq), nil
}

// SetFed notes that the stream has the ledger's records up to number seq.
func (s *Store) SetFed(ctx context.Context, seq uint64) error {
	return s.together(ctx, func(ctx context.Context, tx *shared) error {
		if err := tx.exec(ctx, `UPDATE feed SET seq = ?`, int64(seq)); err != nil {
			return fmt.Errorf("note place of security events: %w", err)
		}
		return nil
	})
}
