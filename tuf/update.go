package tuf

import (
	"cmp"
	"errors"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/release"
)

// UpdateTimestamp takes a timestamp that is the one held or newer. It refuses
// under a root that has expired.
func (t *Trust) UpdateTimestamp(b []byte, at Clock) error {
	if err := t.root.fresh(at); err != nil {
		return err
	}
	f, err := t.readTimestamp(b)
	if err != nil {
		return err
	}
	if err := f.follows(t.timestamp); err != nil {
		return err
	}
	if t.timestamp != nil {
		if was, is := snapshotOf(t.timestamp).Version, snapshotOf(f).Version; is < was {
			return f.refuse(release.Rollback, "it lists snapshot %d; snapshot %d has been listed", is, was)
		}
	}
	c := t.classical()
	c.Snapshot = nil // go-tuf wants it later
	var same *metadata.ErrEqualVersionNumber
	if _, err := c.UpdateTimestamp(b); err != nil && !errors.As(err, &same) {
		return second(f, err)
	}
	if err := f.fresh(at); err != nil {
		return err
	}
	t.timestamp = f
	return nil
}

// readTimestamp reads a timestamp that the root's keys have signed.
func (t *Trust) readTimestamp(b []byte) (*file[metadata.TimestampType], error) {
	f, err := readTimestamp(b, t.limits)
	if err != nil {
		return nil, err
	}
	return f, verify(t.rootKeys, f)
}

// snapshotOf returns what a timestamp lists.
func snapshotOf(f *file[metadata.TimestampType]) *metadata.MetaFiles {
	return f.meta.Signed.Meta[Snapshot+".json"]
}

// UpdateSnapshot takes the snapshot that the timestamp lists.
func (t *Trust) UpdateSnapshot(b []byte, at Clock) error {
	listed, err := t.listing(Snapshot, at)
	if err != nil {
		return err
	}
	if err := digest(Snapshot, b, listed); err != nil {
		return err
	}
	f, err := t.readSnapshot(b)
	if err != nil {
		return err
	}
	if err := cmp.Or(f.listed(listed), f.follows(t.snapshot)); err != nil {
		return err
	}
	if err := t.keepsVersions(f); err != nil {
		return err
	}
	if _, err := t.classical().UpdateSnapshot(b, false); err != nil {
		return second(f, err)
	}
	if err := f.fresh(at); err != nil {
		return err
	}
	t.snapshot = f
	return nil
}

// readSnapshot reads a snapshot that the root's keys have signed.
func (t *Trust) readSnapshot(b []byte) (*file[metadata.SnapshotType], error) {
	f, err := readSnapshot(b, t.limits)
	if err != nil {
		return nil, err
	}
	return f, verify(t.rootKeys, f)
}

// keepsVersions refuses a snapshot that lists less or older than what has been
// seen: of the snapshot before it, and of targets and products themselves, which
// stay when a snapshot is forgotten.
func (t *Trust) keepsVersions(f *file[metadata.SnapshotType]) error {
	seen := map[string]int64{}
	if t.snapshot != nil {
		for name, m := range t.snapshot.meta.Signed.Meta {
			seen[name] = m.Version
		}
	}
	if t.targets != nil {
		seen[Targets+".json"] = max(seen[Targets+".json"], t.targets.version)
	}
	for p, held := range t.products {
		seen[string(p)+".json"] = max(seen[string(p)+".json"], held.version)
	}
	for name, version := range seen {
		m, ok := f.meta.Signed.Meta[name]
		switch {
		case !ok:
			return f.refuse(release.Rollback, "it lists no %s, of which version %d has been seen", name, version)
		case m.Version < version:
			return f.refuse(release.Rollback, "it lists %s version %d; version %d has been seen", name, m.Version, version)
		}
	}
	return nil
}

// listing returns what the file above a role lists for it, when all above is
// held, complete and has not expired.
func (t *Trust) listing(role string, at Clock) (*metadata.MetaFiles, error) {
	if err := t.root.fresh(at); err != nil {
		return nil, err
	}
	if t.timestamp == nil {
		return nil, refuse(release.MixAndMatch, "%s: no timestamp is held that would list it", role)
	}
	if err := t.timestamp.fresh(at); err != nil {
		return nil, err
	}
	if role == Snapshot {
		return snapshotOf(t.timestamp), nil
	}
	return t.snapshotListing(role, at)
}

// productListing is listing for a product.
func (t *Trust) productListing(p release.Product, at Clock) (*metadata.MetaFiles, error) {
	if _, err := release.ParseProduct(string(p)); err != nil {
		return nil, release.Refuse(release.WrongProduct, err)
	}
	return t.listing(string(p), at)
}

// snapshotListing returns what the snapshot lists for targets or a product.
func (t *Trust) snapshotListing(role string, at Clock) (*metadata.MetaFiles, error) {
	if err := complete(t.snapshot, Snapshot, snapshotOf(t.timestamp), at); err != nil {
		return nil, err
	}
	m := t.snapshot.meta.Signed.Meta
	if role != Targets {
		if err := complete(t.targets, Targets, m[Targets+".json"], at); err != nil {
			return nil, err
		}
		if _, ok := t.keys.roles[role]; !ok {
			return nil, t.targets.refuse(release.ArbitrarySoftware, "it delegates nothing to the product %s", role)
		}
	}
	if m[role+".json"] == nil {
		return nil, t.snapshot.refuse(release.MixAndMatch, "it does not list %s.json", role)
	}
	return m[role+".json"], nil
}

// complete refuses where a role's file is not the one that is listed, or has expired.
func complete[T metadata.Roles](f *file[T], role string, listed *metadata.MetaFiles, at Clock) error {
	if f == nil {
		return refuse(release.MixAndMatch, "%s: none is held; version %d is listed", role, listed.Version)
	}
	return cmp.Or(f.listed(listed), digest(role, f.raw, listed), f.fresh(at))
}

// UpdateTargets takes the targets that the snapshot lists.
func (t *Trust) UpdateTargets(b []byte, at Clock) error {
	listed, err := t.listing(Targets, at)
	if err != nil {
		return err
	}
	if err := digest(Targets, b, listed); err != nil {
		return err
	}
	f, keys, err := t.readTargets(b)
	if err != nil {
		return err
	}
	if err := cmp.Or(f.listed(listed), f.follows(t.targets)); err != nil {
		return err
	}
	if _, err := t.classical().UpdateTargets(b); err != nil {
		return second(f, err)
	}
	if err := f.fresh(at); err != nil {
		return err
	}
	t.targets, t.keys = f, keys
	for p, held := range t.products {
		if verify(keys, held.file) != nil {
			delete(t.products, p)
		}
	}
	return nil
}

// readTargets reads targets that the root's keys have signed.
func (t *Trust) readTargets(b []byte) (*file[metadata.TargetsType], *keyring, error) {
	f, keys, err := readTargets(b, t.limits)
	if err != nil {
		return nil, nil, err
	}
	return f, keys, verify(t.rootKeys, f)
}

// UpdateProduct takes the role of a product, as targets delegates it and the
// snapshot lists it.
func (t *Trust) UpdateProduct(p release.Product, b []byte, at Clock) error {
	listed, err := t.productListing(p, at)
	if err != nil {
		return err
	}
	if err := digest(string(p), b, listed); err != nil {
		return err
	}
	f, err := t.readProduct(p, b)
	if err != nil {
		return err
	}
	if err := cmp.Or(f.listed(listed), f.follows(t.product(p))); err != nil {
		return err
	}
	c := t.classical()
	c.Targets[Targets] = t.targets.meta
	if _, err := c.UpdateDelegatedTargets(b, string(p), Targets); err != nil {
		return second(f.file, err)
	}
	if err := f.fresh(at); err != nil {
		return err
	}
	t.products[p] = f
	return nil
}

// product returns the file that is held of a product; nil: none is.
func (t *Trust) product(p release.Product) *file[metadata.TargetsType] {
	if held := t.products[p]; held != nil {
		return held.file
	}
	return nil
}

// readProduct reads a product's role that its keys have signed.
func (t *Trust) readProduct(p release.Product, b []byte) (*product, error) {
	f, err := readProduct(p, b, t.limits)
	if err != nil {
		return nil, err
	}
	return f, verify(t.keys, f.file)
}
