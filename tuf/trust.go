package tuf

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"holdfast/release"
)

// Trust is what a client trusts: a root, and under it the newest of each file
// that it has accepted. Its methods change nothing when they refuse; what they
// refuse is a *release.Refused. A Trust is for one goroutine at a time.
type Trust struct {
	limits Limits

	root      *file[metadata.RootType]
	rootKeys  *keyring
	timestamp *file[metadata.TimestampType] // from here on nil until there is one
	snapshot  *file[metadata.SnapshotType]
	targets   *file[metadata.TargetsType]
	keys      *keyring // of the products
	products  map[release.Product]*product
}

// NewTrust begins with the root that was provisioned. It must be signed by its
// own thresholds; it may have expired: newer ones follow by UpdateRoot.
func NewTrust(root []byte, l Limits) (*Trust, error) {
	f, keys, err := readRoot(root, l)
	if err != nil {
		return nil, err
	}
	if err := verify(keys, f); err != nil {
		return nil, err
	}
	if _, err := trustedmetadata.New(root); err != nil {
		return nil, second(f, err)
	}
	return &Trust{limits: l, root: f, rootKeys: keys, products: map[release.Product]*product{}}, nil
}

// classical returns go-tuf's view of what is held: every update passes it too.
// Expiry is judged here and not there, so its time is never late.
func (t *Trust) classical() *trustedmetadata.TrustedMetadata {
	c := &trustedmetadata.TrustedMetadata{
		Root:    t.root.meta,
		Targets: map[string]*metadata.Metadata[metadata.TargetsType]{},
		RefTime: time.Time{},
	}
	if t.timestamp != nil {
		c.Timestamp = t.timestamp.meta
	}
	if t.snapshot != nil {
		c.Snapshot = t.snapshot.meta
	}
	return c
}

// second names what go-tuf refuses where the checks before it did not.
func second[T metadata.Roles](f *file[T], err error) error {
	attack := release.MalformedMetadata
	var (
		unsigned *metadata.ErrUnsignedMetadata
		version  *metadata.ErrBadVersionNumber
		length   *metadata.ErrLengthOrHashMismatch
	)
	switch {
	case errors.As(err, &unsigned):
		attack = release.ArbitrarySoftware
	case errors.As(err, &version):
		attack = release.Rollback
	case errors.As(err, &length):
		attack = release.MixAndMatch
	}
	return f.refuse(attack, "%w", err)
}

// UpdateRoot takes the next root: the version after the one held, signed by both
// thresholds of the old root and of its own. What is held and no longer signed
// for is forgotten.
func (t *Trust) UpdateRoot(b []byte) error {
	f, keys, err := readRoot(b, t.limits)
	if err != nil {
		return err
	}
	for _, k := range []*keyring{t.rootKeys, keys} {
		if err := verify(k, f); err != nil {
			return err
		}
	}
	switch want := t.root.version + 1; {
	case f.version < want:
		return f.refuse(release.Rollback, "version %d follows the root that is trusted", want)
	case f.version > want:
		return f.refuse(release.FastForward, "version %d follows the root that is trusted; none may be left out", want)
	}
	before := trustedmetadata.TrustedMetadata{Root: t.root.meta}
	if _, err := before.UpdateRoot(b); err != nil {
		return second(f, err)
	}
	t.root, t.rootKeys = f, keys
	t.forget()
	return nil
}

// forget drops what the root no longer signs for (section 5.3.11): a timestamp
// and snapshot together, since each may have been pushed forward by the key that
// was replaced.
func (t *Trust) forget() {
	if t.timestamp != nil && verify(t.rootKeys, t.timestamp) != nil || t.snapshot != nil && verify(t.rootKeys, t.snapshot) != nil {
		t.timestamp, t.snapshot = nil, nil
	}
	if t.targets != nil && verify(t.rootKeys, t.targets) != nil {
		t.targets, t.keys = nil, nil
		clear(t.products)
	}
}

// head returns what is held of a role; the zero head: nothing is.
func (t *Trust) head(role string) head {
	switch {
	case role == Root:
		return t.root.head
	case role == Timestamp && t.timestamp != nil:
		return t.timestamp.head
	case role == Snapshot && t.snapshot != nil:
		return t.snapshot.head
	case role == Targets && t.targets != nil:
		return t.targets.head
	case t.products[release.Product(role)] != nil:
		return t.products[release.Product(role)].head
	}
	return head{}
}

// holds reports whether the file that is held of a role is the one listed.
func (t *Trust) holds(role string, listed *metadata.MetaFiles) bool {
	h := t.head(role)
	return h.version == listed.Version && digest(role, h.raw, listed) == nil
}

// Version returns the version of the role's file that is held; 0: none is.
func (t *Trust) Version(role string) int64 { return t.head(role).version }

// Expires returns when the role's file that is held expires; zero: none is held.
func (t *Trust) Expires(role string) time.Time { return t.head(role).expires }

// Products returns the products that targets delegates to, sorted.
func (t *Trust) Products() []release.Product {
	if t.keys == nil {
		return nil
	}
	var out []release.Product
	for _, name := range slices.Sorted(maps.Keys(t.keys.roles)) {
		out = append(out, release.Product(name))
	}
	return out
}
