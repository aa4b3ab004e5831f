package staging

import (
	"crypto/ed25519"
	"reflect"
	"slices"

	"holdfast/fault"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// Edit is a change of what is to be published. Applied to what has it already, it
// changes nothing.
type Edit struct {
	// apply changes c and returns the roles that it has to do with.
	apply func(c *content) ([]string, error)
	// first: the edit makes a repository; otherwise it takes one.
	first bool
	// renews: the edit signs anew what stays as it is.
	renews bool
}

// check refuses an edit that does not go with what there is.
func (e Edit) check(w *desk) error {
	switch {
	case e.first && w.settled.root.Version > 0:
		return fault.New(fault.Conflict, "the staging directory has a repository already")
	case !e.first && w.full.root.Version == 0:
		return fault.New(fault.NotFound, "the staging directory has no root yet: 'holdfast release init' makes one")
	}
	return nil
}

// HubKeys are the keys that the hub signs with by itself.
type HubKeys struct {
	Snapshot, Timestamp ed25519.PublicKey
}

// Init begins a repository: the first root, and targets without products.
func Init(release author.Quorum, hub HubKeys) Edit {
	return Edit{first: true, apply: func(c *content) ([]string, error) {
		c.root = author.Root{Release: release, Snapshot: hub.Snapshot, Timestamp: hub.Timestamp}
		return []string{tuf.Root, tuf.Targets}, nil
	}}
}

// Release adds a release. A new product is delegated to the keys of root.
func Release(r release.Release) Edit {
	return Edit{apply: func(c *content) ([]string, error) {
		if err := r.Check(); err != nil {
			return nil, fault.New(fault.Invalid, "%w", err)
		}
		touched := []string{string(r.Product)}
		if _, ok := c.targets.Delegation(r.Product); !ok {
			c.targets.Products = append(c.targets.Products, author.Delegation{Product: r.Product, Signers: c.root.Release})
			touched = append(touched, tuf.Targets)
		}
		have, ok := c.find(r.Target)
		switch {
		case !ok:
			c.put(r)
		case have.Withdrawn != "":
			return nil, fault.New(fault.Conflict, "%s %s is withdrawn: sign it anew under another version", r.Product, r.Version)
		case !same(have, r):
			return nil, fault.New(fault.Conflict, "%s %s is there already and is not the same: a version is signed once", r.Product, r.Version)
		}
		return touched, nil
	}}
}

// same reports whether two releases say the same.
func same(a, b release.Release) bool {
	a.Health.Checks = slices.Concat([]string{}, a.Health.Checks)
	b.Health.Checks = slices.Concat([]string{}, b.Health.Checks)
	return reflect.DeepEqual(a, b)
}

// Withdraw takes a release back: it stays listed, with the reason.
func Withdraw(t release.Target, reason string) Edit {
	return Edit{apply: func(c *content) ([]string, error) {
		have, ok := c.find(t)
		switch {
		case !ok:
			return nil, fault.New(fault.NotFound, "there is no release %s %s", t.Product, t.Version)
		case have.Withdrawn != "" && have.Withdrawn != reason:
			return nil, fault.New(fault.Conflict, "%s %s is withdrawn already: %s", t.Product, t.Version, have.Withdrawn)
		}
		have.Withdrawn = reason
		if err := have.Check(); err != nil {
			return nil, fault.New(fault.Invalid, "%w", err)
		}
		c.put(have)
		return []string{string(t.Product)}, nil
	}}
}

// Rotation says what a new root changes.
type Rotation struct {
	Add, Remove author.Quorum // keys; their thresholds do not count
	Threshold   int           // 0: as it is
	Hub         *HubKeys      // nil: as they are
}

// Rotate makes a new root. Where the release keys change, everything that they
// sign is signed anew; products with keys of their own keep them.
func Rotate(r Rotation) Edit {
	return Edit{apply: func(c *content) ([]string, error) {
		old := c.root.Release
		next := old.With(r.Add).Without(r.Remove)
		if r.Threshold != 0 {
			next.Threshold = r.Threshold
		}
		c.root.Release = next
		if r.Hub != nil {
			c.root.Snapshot, c.root.Timestamp = r.Hub.Snapshot, r.Hub.Timestamp
		}
		touched := []string{tuf.Root}
		if r.Hub != nil && len(r.Add.Classical)+len(r.Remove.Classical)+r.Threshold == 0 {
			return touched, nil
		}
		touched = append(touched, tuf.Targets)
		for i, d := range c.targets.Products {
			if d.Signers.Equal(old) {
				c.targets.Products[i].Signers = next
				touched = append(touched, string(d.Product))
			}
		}
		return touched, nil
	}}
}

// Renew signs roles again as they are, for a later expiry; without roles, all.
func Renew(names ...string) Edit {
	return Edit{renews: true, apply: func(c *content) ([]string, error) {
		known := append([]string{tuf.Root, tuf.Targets}, roles(c.products)...)
		for _, n := range names {
			if !slices.Contains(known, n) {
				return nil, fault.New(fault.NotFound, "there is no role %q: want one of %q", n, known)
			}
		}
		if len(names) == 0 {
			return known, nil
		}
		return names, nil
	}}
}
