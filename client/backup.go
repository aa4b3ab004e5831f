package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"holdfast/fault"
	"holdfast/internal/filelock"
)

// Backup writes a backup of the hub to w. Only what Backup returned nil for is
// whole: restoring refuses all else.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	resp, err := c.do(ctx, http.MethodPost, "/v1/backup", http.Header{}, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.Unavailable, "the hub broke the backup off; its log says why")
	}
	if err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	return nil
}

// Accept lets the profile take a ledger that is shorter than the one it has
// seen, because its hub was restored from a backup with that many records. The
// head it had stays in the directory beside it.
func (p *Profile) Accept(records uint64) error {
	unlock, err := filelock.Wait(p.file("head.lock"))
	if err != nil {
		return fmt.Errorf("keep ledger head: %w", err)
	}
	defer unlock()
	kept, ok, err := p.Kept()
	switch {
	case err != nil:
		return err
	case !ok:
		return fault.New(fault.NotFound, "this profile has seen no ledger yet: there is nothing to accept")
	case kept.Seq <= records:
		return fault.New(fault.Invalid, "this profile has seen %d records: a ledger with %d is not shorter", kept.Seq, records)
	}
	return os.Rename(p.file(headName), p.file(fmt.Sprintf("head-%d.json", kept.Seq)))
}
