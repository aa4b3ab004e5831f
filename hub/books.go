package hub

import (
	"context"
	"crypto"
	"log/slog"
	"path/filepath"

	"holdfast/hub/journal"
	"holdfast/hub/store"
	"holdfast/pki"
)

// books are the database and the ledger of a hub that does not run.
type books struct {
	*store.Store
	journal *journal.Journal
	key     crypto.Signer // signs the ledger's heads
}

// openBooks opens them; the caller closes them.
func openBooks(ctx context.Context, dir string, secret pki.Secret) (*books, error) {
	key, err := openLedgerKey(dir, secret)
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, filepath.Join(dir, databaseName))
	if err != nil {
		return nil, err
	}
	j, err := journal.New(journal.Config{Store: db, Signer: key, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		db.Close()
		return nil, err
	}
	return &books{db, j, key}, nil
}
