package tuf

import (
	jsonv2 "encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
)

// product is a product's role and what it lists.
type product struct {
	*file[metadata.TargetsType]
	entries []entry // oldest first
}

// entry is one target. What it says of itself may be beyond this program, as when
// a later version signs what this one does not know: then that release is refused,
// and the others stay. What concerns TUF has the whole file refused.
type entry struct {
	version mcuboot.Version
	release release.Release
	err     error // why its description is refused
}

// readProduct reads a product's role.
func readProduct(p release.Product, b []byte, l Limits) (*product, error) {
	f, err := read[metadata.TargetsType](string(p), b, l)
	if err != nil {
		return nil, err
	}
	s := &f.meta.Signed
	switch d := s.Delegations; {
	case d != nil && (len(d.Roles) > 0 || d.SuccinctRoles != nil):
		return nil, f.refuse(release.WrongProduct, "a product may not delegate")
	case len(s.Targets) > l.Releases:
		return nil, f.refuse(release.MalformedMetadata, "%d releases: want %d at most", len(s.Targets), l.Releases)
	}
	out := &product{file: f}
	for _, path := range slices.Sorted(maps.Keys(s.Targets)) {
		e, a, err := readEntry(p, path, s.Targets[path])
		if err != nil {
			return nil, f.refuse(a, "target %.200q: %w", path, err)
		}
		out.entries = append(out.entries, e)
	}
	slices.SortFunc(out.entries, func(a, b entry) int { return a.version.Compare(b.version) })
	f.meta.Signed.Targets = nil // the entries have them
	return out, nil
}

func readEntry(p release.Product, path string, t *metadata.TargetFiles) (entry, release.Attack, error) {
	v, err := parsePath(p, path)
	if err != nil {
		return entry{}, release.WrongProduct, err
	}
	image := release.Blob{Length: t.Length}
	if len(t.Hashes["sha256"]) != len(image.SHA256) {
		return entry{}, release.MalformedMetadata, errors.New("no SHA-256")
	}
	image.SHA256 = identity.Digest(t.Hashes["sha256"])
	if t.Length < 1 || t.Length > release.MaxImage {
		return entry{}, release.EndlessData, fmt.Errorf("%d bytes: want 1 to %d", t.Length, int64(release.MaxImage))
	}
	r, err := describe(p, v, t, image)
	return entry{version: v, release: r, err: err}, "", nil
}

// parsePath reads the version out of a target's path, which is release.Path.
func parsePath(p release.Product, path string) (mcuboot.Version, error) {
	middle, ok := strings.CutPrefix(path, string(p)+"/"+string(p)+"-")
	middle, img := strings.CutSuffix(middle, ".img")
	v, err := mcuboot.ParseVersion(middle)
	if !ok || !img || err != nil || release.Path(p, v) != path {
		return v, fmt.Errorf("want %s/%s-VERSION.img", p, p)
	}
	return v, nil
}

// describe reads the custom field: a release.Target with nothing more, that says
// of itself what its path says.
func describe(p release.Product, v mcuboot.Version, t *metadata.TargetFiles, image release.Blob) (release.Release, error) {
	r := release.Release{Image: image}
	if t.Custom == nil {
		return r, refuse(release.MalformedMetadata, "release %s: no description", release.Path(p, v))
	}
	if err := jsonv2.Unmarshal(*t.Custom, &r.Target, jsonv2.RejectUnknownMembers(true)); err != nil {
		return r, refuse(release.MalformedMetadata, "release %s: %w", release.Path(p, v), err)
	}
	if r.Product != p {
		return r, refuse(release.WrongProduct, "release %s: it says that it is of %.64q", release.Path(p, v), r.Product)
	}
	if r.Version != v {
		return r, refuse(release.MixAndMatch, "release %s: it says that it is version %s", release.Path(p, v), r.Version)
	}
	if err := r.Check(); err != nil {
		return r, release.Refuse(release.MalformedMetadata, err)
	}
	return r, nil
}

// releases returns those that can be read.
func (p *product) releases() []release.Release {
	var out []release.Release
	for _, e := range p.entries {
		if e.err == nil {
			out = append(out, e.release)
		}
	}
	return out
}

// find returns a version for installation.
func (p *product) find(v mcuboot.Version) (release.Release, error) {
	i := slices.IndexFunc(p.entries, func(e entry) bool { return e.version == v })
	if i < 0 {
		return release.Release{}, p.refuse(release.ArbitrarySoftware, "it lists no %s", v)
	}
	e := p.entries[i]
	switch {
	case e.err != nil:
		return release.Release{}, e.err
	case e.release.Withdrawn != "":
		return release.Release{}, p.refuse(release.WithdrawnRelease, "%s has been withdrawn: %s", v, e.release.Withdrawn)
	}
	return e.release, nil
}

// Listed returns the releases of a product that are held, oldest first, whether
// or not the metadata has expired or is complete: to show them and to know what
// runs, never to install.
func (t *Trust) Listed(p release.Product) []release.Release {
	if t.products[p] == nil {
		return nil
	}
	return t.products[p].releases()
}

// Releases returns the releases of a product, oldest first, withdrawn ones too,
// when all metadata from root to the product's role is held, complete and has not
// expired. Releases whose description this program cannot read are left out; Find
// says why.
func (t *Trust) Releases(p release.Product, at Clock) ([]release.Release, error) {
	held, err := t.current(p, at)
	if err != nil {
		return nil, err
	}
	return held.releases(), nil
}

// Find returns a release for installation: metadata that is held, complete and
// has not expired lists it, and it has not been withdrawn.
func (t *Trust) Find(p release.Product, v mcuboot.Version, at Clock) (release.Release, error) {
	held, err := t.current(p, at)
	if err != nil {
		return release.Release{}, err
	}
	return held.find(v)
}

// current returns a product's role for installation.
func (t *Trust) current(p release.Product, at Clock) (*product, error) {
	listed, err := t.productListing(p, at)
	if err != nil {
		return nil, err
	}
	held := t.products[p]
	if held == nil {
		return nil, complete[metadata.TargetsType](nil, string(p), listed, at)
	}
	if err := complete(held.file, string(p), listed, at); err != nil {
		return nil, err
	}
	if !at.Known() {
		return nil, held.refuse(release.WrongClock, "the clock is not known (it says %s; it is %s at least), so nothing says that it has not expired", at.Now.Format(time.RFC3339), at.Floor.Format(time.RFC3339))
	}
	return held, nil
}
