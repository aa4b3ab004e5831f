package tuf

import (
	"cmp"
	"slices"

	"holdfast/release"
)

// Rehearse checks targets and the roles of all its products as UpdateTargets and
// UpdateProduct will once a snapshot lists them: what a publisher asks who cannot
// sign one. It changes nothing.
func (t *Trust) Rehearse(targets []byte, products map[release.Product][]byte, at Clock) error {
	f, keys, err := t.readTargets(targets)
	if err != nil {
		return err
	}
	if err := cmp.Or(t.root.fresh(at), f.fresh(at), f.follows(t.targets)); err != nil {
		return err
	}
	next := &Trust{limits: t.limits, root: t.root, rootKeys: t.rootKeys, targets: f, keys: keys}
	for _, p := range next.Products() {
		if products[p] == nil {
			return f.refuse(release.MixAndMatch, "it delegates to %s, which has no file", p)
		}
		r, err := next.readProduct(p, products[p])
		if err != nil {
			return err
		}
		if err := cmp.Or(r.follows(t.product(p)), r.fresh(at)); err != nil {
			return err
		}
	}
	for p := range products {
		if !slices.Contains(next.Products(), p) {
			return f.refuse(release.ArbitrarySoftware, "it delegates nothing to the product %s", p)
		}
	}
	return nil
}
