package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/pki"
)

// Recover makes a certificate of an administrator of the hub in dir, which must
// not run, and a profile with it in the new directory out: for when nobody gets
// in any more. An account of that name is added where there is none. Whoever
// can read the hub's state and its sealing secret can do this; the ledger tells
// of it.
func Recover(ctx context.Context, dir, name, out string) error {
	if _, err := os.Lstat(filepath.Join(out, "profile.json")); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s holds a profile already", out)
	}
	return alter(dir, func(_, cfg Config, secret pki.Secret) error {
		b, err := openBooks(ctx, dir, secret)
		if err != nil {
			return err
		}
		defer b.Close()
		return way{state: dir, cfg: cfg, secret: secret, db: b.Store, journal: b.journal, ledgerKey: b.key.Public()}.make(ctx, name, out)
	})
}
