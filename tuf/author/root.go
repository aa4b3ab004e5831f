package author

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/tuf"
)

// Root says who signs what.
type Root struct {
	Version   int64
	Expires   time.Time
	Release   Quorum            // of root and targets
	Snapshot  ed25519.PublicKey // the hub's
	Timestamp ed25519.PublicKey // the hub's
}

// Document makes root's metadata, unsigned.
func (r Root) Document() (*Document, error) {
	if err := r.Release.check(); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	meta := metadata.Root(stamp(r.Expires))
	meta.Signed.Version = r.Version
	keys := keyring{meta.Signed.Keys}
	ids, err := keys.add(r.Release.Classical...)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	for _, role := range []string{metadata.ROOT, metadata.TARGETS} {
		meta.Signed.Roles[role] = &metadata.Role{KeyIDs: ids, Threshold: r.Release.Threshold}
	}
	for _, role := range []string{metadata.SNAPSHOT, metadata.TIMESTAMP} {
		key := r.Snapshot
		if role == metadata.TIMESTAMP {
			key = r.Timestamp
		}
		ids, err := keys.add(key)
		if err != nil {
			return nil, fmt.Errorf("root: the hub's %s key: %w", role, err)
		}
		if slices.Contains(meta.Signed.Roles[metadata.ROOT].KeyIDs, ids[0]) {
			return nil, fmt.Errorf("root: the hub's %s key also signs releases", role)
		}
		meta.Signed.Roles[role] = &metadata.Role{KeyIDs: ids, Threshold: 1}
	}
	post := newPost()
	post.add(metadata.ROOT, r.Release)
	post.add(metadata.TARGETS, r.Release)
	meta.Signed.UnrecognizedFields = post.field()
	return newDocument(metadata.ROOT, r.Version, meta.Signed.Expires, meta.Signed)
}

// ParseRoot reads root's metadata. It judges no signature.
func ParseRoot(b []byte) (Root, *Document, error) {
	var r Root
	doc, meta, err := parse[metadata.RootType](metadata.ROOT, b)
	if err != nil {
		return r, nil, err
	}
	post, err := tuf.ParseMLDSA(meta.Signed.UnrecognizedFields, tuf.DefaultLimits())
	if err != nil {
		return r, nil, fmt.Errorf("root: %w", err)
	}
	r = Root{Version: meta.Signed.Version, Expires: meta.Signed.Expires}
	if r.Release, err = quorum(meta.Signed.Keys, meta.Signed.Roles[metadata.ROOT], post, metadata.ROOT); err != nil {
		return r, nil, fmt.Errorf("root: %w", err)
	}
	targets, err := quorum(meta.Signed.Keys, meta.Signed.Roles[metadata.TARGETS], post, metadata.TARGETS)
	if err != nil || !targets.Equal(r.Release) {
		return r, nil, errors.New("root: root and targets have different keys: this program makes none such")
	}
	if r.Snapshot, err = online(meta, metadata.SNAPSHOT); err != nil {
		return r, nil, err
	}
	r.Timestamp, err = online(meta, metadata.TIMESTAMP)
	return r, doc, err
}

// online returns the one key of a role that the hub signs.
func online(meta *metadata.Metadata[metadata.RootType], role string) (ed25519.PublicKey, error) {
	r := meta.Signed.Roles[role]
	if r == nil || len(r.KeyIDs) != 1 || meta.Signed.Keys[r.KeyIDs[0]] == nil {
		return nil, fmt.Errorf("root: %s does not have one key", role)
	}
	key, err := meta.Signed.Keys[r.KeyIDs[0]].ToPublicKey()
	if err != nil {
		return nil, fmt.Errorf("root: the hub's %s key: %w", role, err)
	}
	if k, ok := key.(ed25519.PublicKey); ok {
		return k, nil
	}
	return nil, fmt.Errorf("root: the hub's %s key is a %T, not Ed25519", role, key)
}

// keyring is the keys of a root or a delegation, by id.
type keyring struct{ keys map[string]*metadata.Key }

// add enters keys and returns their ids, sorted.
func (r keyring) add(keys ...crypto.PublicKey) ([]string, error) {
	for _, key := range keys {
		k, err := tufKey(key)
		if err != nil {
			return nil, err
		}
		id, err := k.ID()
		if err != nil {
			return nil, err
		}
		r.keys[id] = k
	}
	return Quorum{Classical: keys}.ids()
}
