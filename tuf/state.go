package tuf

import (
	"maps"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/release"
)

// State is what a client keeps between runs: the newest of each file it has
// accepted, as received. A file that is empty: none yet.
type State struct {
	Root      []byte                     `json:"root"`
	Timestamp []byte                     `json:"timestamp,omitempty"`
	Snapshot  []byte                     `json:"snapshot,omitempty"`
	Targets   []byte                     `json:"targets,omitempty"`
	Products  map[release.Product][]byte `json:"products,omitempty"`
}

// State returns what to keep. Keep it after each accepted file, before anything
// that follows from it. The bytes are the Trust's own: do not write to them.
func (t *Trust) State() State {
	s := State{Root: t.root.raw}
	if t.timestamp != nil {
		s.Timestamp = t.timestamp.raw
	}
	if t.snapshot != nil {
		s.Snapshot = t.snapshot.raw
	}
	if t.targets != nil {
		s.Targets = t.targets.raw
	}
	for p, f := range t.products {
		if s.Products == nil {
			s.Products = map[release.Product][]byte{}
		}
		s.Products[p] = f.raw
	}
	return s
}

// OpenTrust begins with a state that was kept. It refuses one that contradicts
// itself: files that the root did not sign, that hang in the air, or that are not
// what lists them. Expired files are taken: they count for versions, and install
// nothing. A caller that answers a refusal by beginning with the provisioned root
// gives up all versions it has seen.
func OpenTrust(s State, l Limits) (*Trust, error) {
	t, err := NewTrust(s.Root, l)
	if err != nil {
		return nil, err
	}
	for _, open := range []func(State) error{t.openTimestamp, t.openSnapshot, t.openTargets, t.openProducts} {
		if err := open(s); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Trust) openTimestamp(s State) (err error) {
	if len(s.Timestamp) > 0 {
		t.timestamp, err = t.readTimestamp(s.Timestamp)
	}
	return err
}

func (t *Trust) openSnapshot(s State) error {
	if len(s.Snapshot) == 0 {
		return nil
	}
	if t.timestamp == nil {
		return refuse(release.MixAndMatch, "the state has a snapshot and no timestamp")
	}
	f, err := t.readSnapshot(s.Snapshot)
	if err != nil {
		return err
	}
	t.snapshot = f
	return agrees(f, snapshotOf(t.timestamp))
}

func (t *Trust) openTargets(s State) error {
	if len(s.Targets) == 0 {
		return nil
	}
	f, keys, err := t.readTargets(s.Targets)
	if err != nil {
		return err
	}
	t.targets, t.keys = f, keys
	return t.agrees(f)
}

func (t *Trust) openProducts(s State) error {
	if len(s.Products) > 0 && t.targets == nil {
		return refuse(release.MixAndMatch, "the state has products and no targets")
	}
	for _, p := range slices.Sorted(maps.Keys(s.Products)) {
		f, err := t.readProduct(p, s.Products[p])
		if err != nil {
			return err
		}
		t.products[p] = f
		if err := t.agrees(f.file); err != nil {
			return err
		}
	}
	return nil
}

// agrees refuses targets or a product that the snapshot, where there is one, does
// not account for.
func (t *Trust) agrees(f *file[metadata.TargetsType]) error {
	if t.snapshot == nil {
		return nil
	}
	m := t.snapshot.meta.Signed.Meta[f.role+".json"]
	if m == nil {
		return f.refuse(release.MixAndMatch, "snapshot %d, which is held too, does not list it", t.snapshot.version)
	}
	return agrees(f, m)
}

// agrees refuses a file that is newer than its listing, or is another than the
// one listed. An older one is what an update leaves that was interrupted.
func agrees[T metadata.Roles](f *file[T], listed *metadata.MetaFiles) error {
	switch {
	case f.version > listed.Version:
		return f.refuse(release.MixAndMatch, "what is held too lists version %d", listed.Version)
	case f.version == listed.Version:
		return digest(f.role, f.raw, listed)
	}
	return nil
}
