package tuf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/release"
)

// The functions here say whether a file has the one shape that the package
// comment permits. go-tuf takes more, and relies on parts that may be missing, so
// they come before it.

func malformed[T metadata.Roles](f *file[T], err error) error {
	return f.refuse(release.MalformedMetadata, "%w", err)
}

// readRoot reads a root and its keys.
func readRoot(b []byte, l Limits) (*file[metadata.RootType], *keyring, error) {
	f, err := read[metadata.RootType](Root, b, l)
	if err != nil {
		return nil, nil, err
	}
	k, err := rootKeys(&f.meta.Signed, l)
	if err != nil {
		return nil, nil, malformed(f, err)
	}
	return f, k, nil
}

func rootKeys(s *metadata.RootType, l Limits) (*keyring, error) {
	if !s.ConsistentSnapshot {
		return nil, errors.New("snapshots are not consistent")
	}
	k, err := newKeyring(s.Keys, l)
	if err != nil {
		return nil, err
	}
	top := []string{Root, Snapshot, Targets, Timestamp}
	if got := slices.Sorted(maps.Keys(s.Roles)); !slices.Equal(got, top) {
		return nil, fmt.Errorf("roles %.200q: want %q", got, top)
	}
	for name, r := range s.Roles {
		if err := k.add(name, r.KeyIDs, r.Threshold); err != nil {
			return nil, err
		}
	}
	for _, release := range []string{Root, Targets} {
		for _, hub := range []string{Snapshot, Timestamp} {
			if k.shares(release, hub) {
				return nil, fmt.Errorf("a key of %s signs %s too: whoever holds the hub would hold a share of the releases", hub, release)
			}
		}
	}
	return k, k.addMLDSA(s.UnrecognizedFields, []string{Root, Targets}, l)
}

// addMLDSA adds the keys of the second threshold: for the named roles and no
// others. The names are sorted.
func (k *keyring) addMLDSA(unrecognised map[string]any, roles []string, l Limits) error {
	x, err := ParseMLDSA(unrecognised, l)
	if err != nil {
		return err
	}
	if got := slices.Sorted(maps.Keys(x.Roles)); !slices.Equal(got, roles) {
		return fmt.Errorf("%s: roles %.200q: want %.200q", MLDSAField, got, roles)
	}
	k.mldsa = x
	return nil
}

// readTargets reads the top-level targets and the keys of the products.
func readTargets(b []byte, l Limits) (*file[metadata.TargetsType], *keyring, error) {
	f, err := read[metadata.TargetsType](Targets, b, l)
	if err != nil {
		return nil, nil, err
	}
	s := &f.meta.Signed
	if len(s.Targets) > 0 {
		return nil, nil, f.refuse(release.WrongProduct, "it lists %d targets: only a product's role may", len(s.Targets))
	}
	d := s.Delegations
	if d == nil {
		d = &metadata.Delegations{} // nothing has been published yet
	}
	if err := checkDelegations(f, d, l); err != nil {
		return nil, nil, err
	}
	k, err := productKeys(d, s.UnrecognizedFields, l)
	if err != nil {
		return nil, nil, malformed(f, err)
	}
	return f, k, nil
}

// checkDelegations refuses all but "<product>/*", terminating, to the product.
func checkDelegations(f *file[metadata.TargetsType], d *metadata.Delegations, l Limits) error {
	if d.SuccinctRoles != nil {
		return f.refuse(release.MalformedMetadata, "succinct roles")
	}
	if len(d.Roles) > l.Products {
		return f.refuse(release.MalformedMetadata, "%d products: want %d at most", len(d.Roles), l.Products)
	}
	seen := map[string]bool{}
	for _, r := range d.Roles {
		_, err := release.ParseProduct(r.Name)
		switch {
		case err != nil:
			return f.refuse(release.MalformedMetadata, "delegation to an unknown role: %w", err)
		case seen[r.Name]:
			return f.refuse(release.MalformedMetadata, "two delegations to %s", r.Name)
		case !r.Terminating:
			return f.refuse(release.WrongProduct, "the delegation to %s does not terminate", r.Name)
		case len(r.PathHashPrefixes) > 0 || !slices.Equal(r.Paths, []string{r.Name + "/*"}):
			return f.refuse(release.WrongProduct, "the delegation to %s is for the paths %.200q: want %q", r.Name, r.Paths, r.Name+"/*")
		}
		seen[r.Name] = true
	}
	return nil
}

func productKeys(d *metadata.Delegations, unrecognised map[string]any, l Limits) (*keyring, error) {
	k, err := newKeyring(d.Keys, l)
	if err != nil {
		return nil, err
	}
	for _, r := range d.Roles {
		if err := k.add(r.Name, r.KeyIDs, r.Threshold); err != nil {
			return nil, err
		}
	}
	if _, ok := unrecognised[MLDSAField]; !ok && len(d.Roles) == 0 {
		return k, nil
	}
	return k, k.addMLDSA(unrecognised, slices.Sorted(maps.Keys(k.roles)), l)
}

func readTimestamp(b []byte, l Limits) (*file[metadata.TimestampType], error) {
	f, err := read[metadata.TimestampType](Timestamp, b, l)
	if err != nil {
		return nil, err
	}
	if m := f.meta.Signed.Meta; len(m) != 1 || m[Snapshot+".json"] == nil {
		return nil, f.refuse(release.MalformedMetadata, "it lists %.200q: want snapshot.json", slices.Sorted(maps.Keys(m)))
	}
	if err := checkListing(f, f.meta.Signed.Meta, l); err != nil {
		return nil, err
	}
	return f, nil
}

func readSnapshot(b []byte, l Limits) (*file[metadata.SnapshotType], error) {
	f, err := read[metadata.SnapshotType](Snapshot, b, l)
	if err != nil {
		return nil, err
	}
	m := f.meta.Signed.Meta
	if len(m) > l.Products+1 || m[Targets+".json"] == nil {
		return nil, f.refuse(release.MalformedMetadata, "it lists %d files: want targets.json and at most %d products", len(m), l.Products)
	}
	for name := range m {
		role, ok := strings.CutSuffix(name, ".json")
		if _, err := release.ParseProduct(role); role != Targets && (err != nil || !ok) {
			return nil, f.refuse(release.MalformedMetadata, "it lists an unknown role: %.64q", name)
		}
	}
	if err := checkListing(f, m, l); err != nil {
		return nil, err
	}
	return f, nil
}

// checkListing checks the versions and lengths that a file lists.
func checkListing[T metadata.Roles](f *file[T], meta map[string]*metadata.MetaFiles, l Limits) error {
	for name, m := range meta {
		if a, err := checkVersion(m.Version, l); err != nil {
			return f.refuse(a, "%s: %w", name, err)
		}
		if m.Length < 0 {
			return f.refuse(release.MalformedMetadata, "%s: %d bytes", name, m.Length)
		}
	}
	return nil
}
