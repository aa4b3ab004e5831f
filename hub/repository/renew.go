package repository

import (
	"context"
	"fmt"
	"time"

	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// renew makes the timestamp anew, and the snapshot, before they expire.
func (r *Repository) renew(ctx context.Context) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	was, at := r.held.Load(), r.cfg.Now()
	if !was.published() || was.roles[tuf.Timestamp].Expires.Sub(at) > timestampRenew {
		return nil
	}
	d, err := newDraft(was, operator.Metadata{})
	if err != nil {
		return err
	}
	if err := d.takeRoots(was); err != nil {
		return err
	}
	var timestamp []byte
	if snapshot := was.roles[tuf.Snapshot]; snapshot.Expires.Sub(at) > snapshotRenew {
		timestamp, err = r.stamp(was, author.File{Role: tuf.Snapshot, Version: snapshot.Version, Bytes: was.trust.Snapshot}, at)
	} else {
		timestamp, err = r.sign(was, d, at)
	}
	if err != nil {
		return err
	}
	is, err := d.verify(timestamp, at)
	if err != nil {
		return err
	}
	return r.commit(d.files, timestamp, is)
}

// warnings are how long before the end of what release keys have signed somebody
// is told: an offline ceremony takes its time.
var warnings = []time.Duration{7 * 24 * time.Hour, 14 * 24 * time.Hour, 30 * 24 * time.Hour}

// expired is the warning of what has ended.
const expired = time.Duration(-1)

// warn tells of what expires and only its signers can renew: once for each
// warning of a file.
func (r *Repository) warn(ctx context.Context) {
	at := r.cfg.Now()
	for _, e := range r.held.Load().expiries() {
		left, ok := warning(e, at)
		name := fileName(e.Version, e.role)
		if !ok || r.warned[name] == left {
			continue
		}
		r.warned[name] = left
		text := fmt.Sprintf("%s of the releases: %s", e.role, ends(e, at))
		r.cfg.Log.WarnContext(ctx, "signed metadata expires", "role", e.role, "version", e.Version, "expires", e.Expires)
		details := map[string]any{"by": "hub", "reason": text, "role": e.role, "version": e.Version, "expires": e.Expires}
		if err := r.cfg.Ledger.Record(ctx, string(ledger.ReleaseExpiring), "", details); err != nil {
			r.cfg.Log.ErrorContext(ctx, "record that metadata expires", "err", err)
			delete(r.warned, name)
		}
	}
}

// warning returns the warning that is due of a file that the hub cannot renew.
func warning(e expiry, at time.Time) (time.Duration, bool) {
	if e.role == tuf.Snapshot || e.role == tuf.Timestamp {
		return 0, false
	}
	if !at.Before(e.Expires) {
		return expired, true
	}
	for _, w := range warnings {
		if e.Expires.Sub(at) <= w {
			return w, true
		}
	}
	return 0, false
}

// ends says when a file ends, in words.
func ends(e expiry, at time.Time) string {
	if !at.Before(e.Expires) {
		return "version " + fmt.Sprint(e.Version) + " expired on " + e.Expires.Format(time.DateOnly) + ": devices install nothing under it"
	}
	return fmt.Sprintf("version %d expires on %s, in %d days: sign a new one", e.Version, e.Expires.Format(time.DateOnly), int(e.Expires.Sub(at).Hours()/24))
}
