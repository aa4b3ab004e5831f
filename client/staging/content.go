package staging

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/fault"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// content is what metadata says.
type content struct {
	root     author.Root // Version 0: there is none yet
	targets  author.Targets
	products map[release.Product]author.Product
}

// shelf is the newest file of each role, read.
type shelf struct {
	content
	docs map[string]*author.Document // by role
}

// read reads the newest file of each role of files.
func read(files map[string][]byte) (shelf, error) {
	s := shelf{content: content{products: map[release.Product]author.Product{}}, docs: map[string]*author.Document{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := s.take(name, files[name]); err != nil {
			return s, fault.New(fault.Integrity, "staged %s: %w", name, err)
		}
	}
	return s, nil
}

// take reads a file and keeps it when it is the newest of its role.
func (s *shelf) take(name string, b []byte) error {
	_, role, _ := strings.Cut(strings.TrimSuffix(name, ".json"), ".")
	var doc *author.Document
	var err error
	var keep func()
	switch role {
	case tuf.Root:
		var r author.Root
		r, doc, err = author.ParseRoot(b)
		keep = func() { s.root = r }
	case tuf.Targets:
		var t author.Targets
		t, doc, err = author.ParseTargets(b)
		keep = func() { s.targets = t }
	default:
		var p author.Product
		product, bad := release.ParseProduct(role)
		if bad != nil {
			return bad
		}
		p, doc, err = author.ParseProduct(product, b)
		keep = func() { s.products[product] = p }
	}
	if err != nil {
		return err
	}
	if doc.FileName() != name {
		return fmt.Errorf("it is %s", doc.FileName())
	}
	if old := s.docs[role]; old == nil || old.Version < doc.Version {
		s.docs[role] = doc
		keep()
	}
	return nil
}

// clone returns a copy that edits do not share.
func (c content) clone() content {
	c.products = maps.Clone(c.products)
	for name, p := range c.products {
		p.Releases = slices.Clone(p.Releases)
		c.products[name] = p
	}
	c.targets.Products = slices.Clone(c.targets.Products)
	return c
}

// version returns a role's version; 0: there is none.
func (c content) version(role string) int64 {
	switch role {
	case tuf.Root:
		return c.root.Version
	case tuf.Targets:
		return c.targets.Version
	}
	return c.products[release.Product(role)].Version
}

// document makes the document of a role, with a version and an expiry.
func (c content) document(role string, version int64, e lifetime) (*author.Document, error) {
	switch role {
	case tuf.Root:
		r := c.root
		r.Version, r.Expires = version, e(role)
		return r.Document()
	case tuf.Targets:
		t := c.targets
		t.Version, t.Expires = version, e(role)
		return t.Document()
	}
	p := c.products[release.Product(role)]
	p.Version, p.Expires = version, e(role)
	return p.Document()
}

// signers returns who may sign a role.
func (c content) signers(role string) author.Quorum {
	if role == tuf.Root || role == tuf.Targets {
		return c.root.Release
	}
	d, _ := c.targets.Delegation(release.Product(role))
	return d.Signers
}

// find returns a release of a product.
func (c content) find(r release.Target) (release.Release, bool) {
	for _, have := range c.products[r.Product].Releases {
		if have.Version == r.Version {
			return have, true
		}
	}
	return release.Release{}, false
}

// put enters a release, or replaces the one of its version.
func (c content) put(r release.Release) {
	p := c.products[r.Product]
	p.Name = r.Product
	p.Releases = slices.DeleteFunc(slices.Clone(p.Releases), func(have release.Release) bool { return have.Version == r.Version })
	p.Releases = append(p.Releases, r)
	slices.SortFunc(p.Releases, func(a, b release.Release) int { return a.Version.Compare(b.Version) })
	c.products[r.Product] = p
}

// roles returns the roles of a map in the order in which they are checked: root,
// targets, then the products.
func roles[K ~string, V any](m map[K]V) []string {
	var out []string
	for role := range m {
		out = append(out, string(role))
	}
	order := func(role string) int {
		return (slices.Index([]string{tuf.Root, tuf.Targets}, role) + 3) % 3 // 0, 1; 2 for products
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a, b)) })
	return out
}
