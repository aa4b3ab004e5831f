package staging

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/tuf"
)

// Hub is where releases are published.
type Hub interface {
	Repository(context.Context) (operator.Repository, error)
	HasBlob(context.Context, identity.Digest) (bool, error)
	PutBlob(context.Context, release.Blob, func() (io.ReadCloser, error)) error
	PublishMetadata(context.Context, operator.Metadata) (operator.Repository, error)
}

// Published says what Publish did.
type Published struct {
	Files []string `json:"files"` // metadata that the hub got
	Blobs int      `json:"blobs"` // that the hub did not have yet
	Bytes int64    `json:"bytes"` // of them
}

// Publish checks what is staged as a device would, uploads images and documents,
// and then all metadata at once, which makes them public. Interrupted, it leaves
// the hub with the repository it had, and can be repeated; repeated after it was
// done, it does nothing.
func (d *Dir) Publish(ctx context.Context, hub Hub, now time.Time) (Published, error) {
	var out Published
	if err := d.need(); err != nil {
		return out, err
	}
	_, err := d.work(Options{Now: now}, func(w *desk) error {
		return d.publish(ctx, w, hub, &out)
	})
	return out, err
}

func (d *Dir) publish(ctx context.Context, w *desk, hub Hub, out *Published) error {
	if err := w.verify(); err != nil {
		return err
	}
	there, err := hub.Repository(ctx)
	if err != nil {
		return fmt.Errorf("ask for the hub's repository: %w", err)
	}
	send, err := w.toSend(there)
	if err != nil {
		return err
	}
	if len(send) > 0 {
		for _, b := range w.blobs() {
			if err := d.upload(ctx, hub, b, out); err != nil {
				return err
			}
		}
		if _, err := hub.PublishMetadata(ctx, operator.Metadata{Files: send}); err != nil {
			return fmt.Errorf("publish the metadata: %w", err)
		}
		out.Files = slices.Sorted(maps.Keys(send))
	}
	w.Settled, w.Draft = w.newest(), map[string][]byte{}
	return nil
}

// verify checks everything that is to be public with the rules that devices go
// by.
func (w *desk) verify() error {
	if missing := w.missing(); len(missing) > 0 {
		return fault.New(fault.Denied, "not enough signatures: %s", missing[0])
	}
	for _, role := range roles(w.full.docs) {
		if doc := w.full.docs[role]; !doc.Expires.After(w.opt.Now) {
			return fault.New(fault.Integrity, "%s expired at %s: 'holdfast release renew' signs it anew", doc.FileName(), day(doc.Expires))
		}
	}
	return w.rehearse()
}

// rehearse follows the roots, and what they trust, as a device will.
func (w *desk) rehearse() error {
	all := w.all()
	trust, err := tuf.NewTrust(all[firstRoot], tuf.DefaultLimits())
	if err != nil {
		return fault.New(fault.Integrity, "root 1: %w", err)
	}
	for v := int64(2); v <= w.full.root.Version; v++ {
		if err := trust.UpdateRoot(all[fmt.Sprintf("%d.root.json", v)]); err != nil {
			return fault.New(fault.Integrity, "root %d: %w", v, err)
		}
	}
	if w.full.docs[tuf.Targets] == nil {
		return fault.New(fault.Integrity, "there is no targets")
	}
	products := map[release.Product][]byte{}
	for p := range w.full.products {
		products[p] = all[w.full.docs[string(p)].FileName()]
	}
	if err := trust.Rehearse(all[w.full.docs[tuf.Targets].FileName()], products, tuf.At(w.opt.Now)); err != nil {
		return fault.New(fault.Integrity, "a device would refuse it: %w", err)
	}
	return nil
}

// newest returns every root, and the newest file of each other role.
func (w *desk) newest() map[string][]byte {
	files := map[string][]byte{}
	for name, b := range w.all() {
		for role, doc := range w.full.docs {
			if name == doc.FileName() || role == tuf.Root && isRoot(name) {
				files[name] = b
			}
		}
	}
	return files
}

func isRoot(name string) bool {
	var v int64
	n, err := fmt.Sscanf(name, "%d.root.json", &v)
	return n == 1 && err == nil && name == fmt.Sprintf("%d.root.json", v)
}

// toSend returns the files that the hub lacks. It refuses where the hub has
// something else.
func (w *desk) toSend(there operator.Repository) (map[string][]byte, error) {
	root := w.full.root
	if there.SnapshotKey != hex.EncodeToString(root.Snapshot) || there.TimestampKey != hex.EncodeToString(root.Timestamp) {
		return nil, fault.New(fault.Conflict, "root names other snapshot and timestamp keys than this hub has: 'holdfast release rotate --hub' signs a root with the hub's")
	}
	for role, r := range there.Roles {
		if have := w.full.version(role); r.Version > have && role != tuf.Snapshot && role != tuf.Timestamp {
			return nil, fault.New(fault.Conflict, "the hub has %s %d, the staging directory %d: 'holdfast release fetch' first", role, r.Version, have)
		}
	}
	send := map[string][]byte{}
	for name, b := range w.newest() {
		digest, has := there.Files[name]
		switch {
		case !has:
			send[name] = b
		case digest != identity.Sum(b):
			return nil, fault.New(fault.Conflict, "the hub has another %s: 'holdfast release discard', then 'holdfast release fetch'", name)
		}
	}
	return send, nil
}

// blobs returns the content of all releases that are not withdrawn, each once.
func (w *desk) blobs() []release.Blob {
	var out []release.Blob
	seen := map[identity.Digest]bool{}
	for _, name := range roles(w.full.products) {
		for _, r := range w.full.products[release.Product(name)].Releases {
			for _, b := range []*release.Blob{&r.Image, r.SBOM, r.Audit} {
				if b != nil && r.Withdrawn == "" && !seen[b.SHA256] {
					seen[b.SHA256] = true
					out = append(out, *b)
				}
			}
		}
	}
	return out
}

func (d *Dir) upload(ctx context.Context, hub Hub, b release.Blob, out *Published) error {
	has, err := hub.HasBlob(ctx, b.SHA256)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", b.SHA256, err)
	}
	if has {
		return nil
	}
	if err := hub.PutBlob(ctx, b, func() (io.ReadCloser, error) { return d.openBlob(b) }); err != nil {
		return fmt.Errorf("upload %s: %w", b.SHA256, err)
	}
	out.Blobs++
	out.Bytes += b.Length
	return nil
}

// Source is where published metadata comes from.
type Source interface {
	Metadata(context.Context) (operator.Metadata, error)
}

// Fetch takes what the hub has published into the directory, where it is newer
// than what is there and its signatures are those that root wants. A directory
// without a root takes first, the first root, got from elsewhere than the hub.
func (d *Dir) Fetch(ctx context.Context, hub Source, first []byte, now time.Time) (Status, error) {
	_, err := d.work(Options{Now: now}, func(w *desk) error {
		got, err := hub.Metadata(ctx)
		if err != nil {
			return fmt.Errorf("ask for the hub's metadata: %w", err)
		}
		return w.fetch(got.Files, first)
	})
	if err != nil {
		return Status{}, err
	}
	return d.Status()
}

func (w *desk) fetch(files map[string][]byte, first []byte) error {
	const name = "1.root.json"
	if known := w.Settled[name]; known != nil {
		first = known
	}
	if len(first) == 0 {
		return fault.New(fault.Invalid, "the staging directory has no root: name the first one with --root, not from the hub")
	}
	if identity.Sum(first) != identity.Sum(files[name]) {
		return fault.New(fault.Integrity, "the hub's repository begins with another root")
	}
	newer, err := read(files)
	if err != nil {
		return err
	}
	fetched := &desk{state: state{Settled: map[string][]byte{}, Draft: files}, full: newer} // without a time: what has expired can be renewed
	if missing := fetched.missing(); len(missing) > 0 {
		return fault.New(fault.Integrity, "the hub's repository is not signed as it should be: %s", missing[0])
	}
	if err := fetched.rehearse(); err != nil {
		return err
	}
	for role := range w.settled.docs {
		if newer.version(role) < w.settled.version(role) {
			return fault.New(fault.Conflict, "the hub has %s %d, the staging directory %d: publish first; if it was published, the hub has gone back", role, newer.version(role), w.settled.version(role))
		}
	}
	for role := range w.full.docs {
		if at := w.full.version(role); at > w.settled.version(role) && newer.version(role) >= at {
			return fault.New(fault.Conflict, "the hub has %s %d already: 'holdfast release discard' drops the draft of it", role, newer.version(role))
		}
	}
	w.Settled = fetched.newest()
	return nil
}
