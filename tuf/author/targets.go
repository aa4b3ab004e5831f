package author

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/identity"
	"holdfast/release"
	"holdfast/tuf"
)

// Targets says which products there are, and who signs each one's releases.
type Targets struct {
	Version  int64
	Expires  time.Time
	Products []Delegation // in any order
}

// Delegation is a product and who signs its releases.
type Delegation struct {
	Product release.Product
	Signers Quorum
}

// Delegation returns the delegation of a product.
func (t Targets) Delegation(p release.Product) (Delegation, bool) {
	for _, d := range t.Products {
		if d.Product == p {
			return d, true
		}
	}
	return Delegation{}, false
}

// Document makes targets' metadata, unsigned.
func (t Targets) Document() (*Document, error) {
	meta := metadata.Targets(stamp(t.Expires))
	meta.Signed.Version = t.Version
	if len(t.Products) > 0 {
		meta.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	}
	post := newPost()
	products := slices.SortedFunc(slices.Values(t.Products), func(a, b Delegation) int { return cmp.Compare(a.Product, b.Product) })
	for i, d := range products {
		if i > 0 && products[i-1].Product == d.Product {
			return nil, fmt.Errorf("targets: %s is delegated twice", d.Product)
		}
		if _, err := release.ParseProduct(string(d.Product)); err != nil {
			return nil, fmt.Errorf("targets: %w", err)
		}
		if err := d.Signers.check(); err != nil {
			return nil, fmt.Errorf("targets: %s: %w", d.Product, err)
		}
		ids, err := keyring{meta.Signed.Delegations.Keys}.add(d.Signers.Classical...)
		if err != nil {
			return nil, fmt.Errorf("targets: %s: %w", d.Product, err)
		}
		meta.Signed.Delegations.Roles = append(meta.Signed.Delegations.Roles, metadata.DelegatedRole{
			Name: string(d.Product), KeyIDs: ids, Threshold: d.Signers.Threshold,
			Terminating: true, Paths: []string{string(d.Product) + "/*"},
		})
		post.add(string(d.Product), d.Signers)
	}
	meta.Signed.UnrecognizedFields = post.field()
	return newDocument(metadata.TARGETS, t.Version, meta.Signed.Expires, meta.Signed)
}

// ParseTargets reads targets' metadata. It judges no signature.
func ParseTargets(b []byte) (Targets, *Document, error) {
	var t Targets
	doc, meta, err := parse[metadata.TargetsType](metadata.TARGETS, b)
	if err != nil {
		return t, nil, err
	}
	t = Targets{Version: meta.Signed.Version, Expires: meta.Signed.Expires}
	post, err := tuf.ParseMLDSA(meta.Signed.UnrecognizedFields, tuf.DefaultLimits())
	if err != nil {
		return t, nil, fmt.Errorf("targets: %w", err)
	}
	if meta.Signed.Delegations == nil {
		return t, doc, nil
	}
	for _, r := range meta.Signed.Delegations.Roles {
		p, err := release.ParseProduct(r.Name)
		if err != nil {
			return t, nil, fmt.Errorf("targets: %w", err)
		}
		q, err := quorum(meta.Signed.Delegations.Keys, &metadata.Role{KeyIDs: r.KeyIDs, Threshold: r.Threshold}, post, r.Name)
		if err != nil {
			return t, nil, fmt.Errorf("targets: %s: %w", p, err)
		}
		t.Products = append(t.Products, Delegation{Product: p, Signers: q})
	}
	return t, doc, nil
}

// Product has the releases of a product.
type Product struct {
	Name     release.Product
	Version  int64
	Expires  time.Time
	Releases []release.Release // in any order
}

// Document makes the metadata of a product's role, unsigned.
func (p Product) Document() (*Document, error) {
	meta := metadata.Targets(stamp(p.Expires))
	meta.Signed.Version = p.Version
	for _, r := range p.Releases {
		if err := r.Check(); err != nil {
			return nil, err
		}
		if r.Product != p.Name {
			return nil, fmt.Errorf("%s: a release of %s", p.Name, r.Product)
		}
		if meta.Signed.Targets[r.Path()] != nil {
			return nil, fmt.Errorf("%s: version %s is there twice", p.Name, r.Version)
		}
		if r.Health.Checks == nil {
			r.Health.Checks = []string{} // nothing is null in metadata
		}
		custom, err := json.Marshal(r.Target)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Path(), err)
		}
		meta.Signed.Targets[r.Path()] = &metadata.TargetFiles{
			Length: r.Image.Length, Hashes: metadata.Hashes{"sha256": r.Image.SHA256[:]},
			Custom: (*json.RawMessage)(&custom), Path: r.Path(),
		}
	}
	return newDocument(string(p.Name), p.Version, meta.Signed.Expires, meta.Signed)
}

// ParseProduct reads the metadata of a product's role. It judges no signature.
// Releases come in the order of their versions.
func ParseProduct(name release.Product, b []byte) (Product, *Document, error) {
	var p Product
	doc, meta, err := parse[metadata.TargetsType](string(name), b)
	if err != nil {
		return p, nil, err
	}
	p = Product{Name: name, Version: meta.Signed.Version, Expires: meta.Signed.Expires}
	for path, f := range meta.Signed.Targets {
		r, err := readRelease(f)
		if err != nil {
			return p, nil, fmt.Errorf("%s: %w", path, err)
		}
		if r.Product != name || r.Path() != path {
			return p, nil, fmt.Errorf("%s: %s describes itself as %s", name, path, r.Path())
		}
		p.Releases = append(p.Releases, r)
	}
	slices.SortFunc(p.Releases, func(a, b release.Release) int { return a.Version.Compare(b.Version) })
	return p, doc, nil
}

func readRelease(f *metadata.TargetFiles) (release.Release, error) {
	r := release.Release{Image: release.Blob{Length: f.Length}}
	sum := f.Hashes["sha256"]
	if len(sum) != len(r.Image.SHA256) || f.Custom == nil {
		return r, fmt.Errorf("no SHA-256 or no description")
	}
	r.Image.SHA256 = identity.Digest(sum)
	if err := json.Unmarshal(*f.Custom, &r.Target); err != nil {
		return r, err
	}
	return r, r.Check()
}
