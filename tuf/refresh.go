package tuf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/release"
)

// Want is a file that a refresh needs next.
type Want struct {
	Role string // root, timestamp, snapshot, targets, or a product
	Name string // "3.root.json", "timestamp.json", "7.snapshot.json", "4.pump.json"
	Max  int64  // bytes; more are release.EndlessData
}

// Refresh steps through an update of the metadata in TUF's order, so that a
// fetcher is a loop:
//
//	r := trust.Refresh(clock, "pump")
//	for w, ok := r.Next(); ok; w, ok = r.Next() {
//		b, err := fetch(w.Name, w.Max)      // at most w.Max bytes, then release.EndlessData
//		if errors.Is(err, errNotFound) {
//			err = r.Absent()
//		} else if err == nil {
//			err = r.Take(b)
//		}
//		if err != nil {
//			return err                      // the trust is as after the last file taken
//		}
//		keep(trust.State())
//	}
//
// Files that are held already are not asked for again, except the timestamp. A
// product that targets does not delegate to is left out; Find says so.
type Refresh struct {
	trust    *Trust
	at       Clock
	products []release.Product
	roots    int // taken
	stage    stage
	over     bool // refused
}

// stage is which file comes next.
type stage int

const (
	atRoot stage = iota
	atTimestamp
	atSnapshot
	atTargets
	atProducts // as many as there are
)

var errOver = errors.New("refresh: no file is wanted")

// Refresh begins an update of the metadata down to the given products. The time
// is that of its beginning, as TUF's section 5.1 wants it. There is one Refresh
// of a Trust at a time.
func (t *Trust) Refresh(at Clock, products ...release.Product) *Refresh {
	return &Refresh{trust: t, at: at, products: products}
}

// Next returns the file that is needed next; false: there is no more, or the last
// one was refused.
func (r *Refresh) Next() (Want, bool) {
	for !r.over && r.stage < atProducts+stage(len(r.products)) {
		if w, ok := r.want(); ok {
			return w, true
		}
		r.stage++
	}
	return Want{}, false
}

// role returns the role whose turn it is.
func (r *Refresh) role() string {
	if r.stage >= atProducts {
		return string(r.products[r.stage-atProducts])
	}
	return [...]string{Root, Timestamp, Snapshot, Targets}[r.stage]
}

// want returns the file of the present stage; false: it is held, or is none.
func (r *Refresh) want() (Want, bool) {
	t, role := r.trust, r.role()
	switch role {
	case Root:
		next := fmt.Sprintf("%d.%s.json", t.root.version+1, Root)
		return Want{Root, next, t.limits.bytes(Root)}, r.roots < t.limits.Roots
	case Timestamp:
		return Want{Timestamp, Timestamp + ".json", t.limits.bytes(Timestamp)}, true
	}
	m := r.listed(role)
	if m == nil || t.holds(role, m) {
		return Want{}, false
	}
	w := Want{role, fmt.Sprintf("%d.%s.json", m.Version, role), t.limits.bytes(role)}
	if m.Length > 0 {
		w.Max = min(w.Max, m.Length)
	}
	return w, true
}

// listed returns what is listed for a role; nil: nothing, or no such product.
func (r *Refresh) listed(role string) *metadata.MetaFiles {
	t := r.trust
	switch {
	case role == Snapshot && t.timestamp != nil:
		return snapshotOf(t.timestamp)
	case role == Snapshot || t.snapshot == nil:
		return nil
	case role != Targets && !slices.Contains(t.Products(), release.Product(role)):
		return nil
	}
	return t.snapshot.meta.Signed.Meta[role+".json"]
}

// Take verifies the file that Next named and makes it the one that is held.
func (r *Refresh) Take(b []byte) error {
	w, ok := r.Next()
	if !ok {
		return errOver
	}
	if err := r.update(w.Role, b); err != nil {
		r.over = true
		return err
	}
	if w.Role == Root {
		r.roots++
	} else {
		r.stage++
	}
	return nil
}

func (r *Refresh) update(role string, b []byte) error {
	switch role {
	case Root:
		return r.trust.UpdateRoot(b)
	case Timestamp:
		return r.trust.UpdateTimestamp(b, r.at)
	case Snapshot:
		return r.trust.UpdateSnapshot(b, r.at)
	case Targets:
		return r.trust.UpdateTargets(b, r.at)
	}
	return r.trust.UpdateProduct(release.Product(role), b, r.at)
}

// Absent says that the repository does not have the file that Next named. For the
// next root that is usual; any other file it must have.
func (r *Refresh) Absent() error {
	w, ok := r.Next()
	switch {
	case !ok:
		return errOver
	case w.Role == Root:
		r.stage++
		return nil
	}
	r.over = true
	return refuse(release.IndefiniteFreeze, "%s: the repository keeps back %s", w.Role, w.Name)
}
