package tuf

import "holdfast/release"

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
type Refresh struct{}

// Refresh begins an update of the metadata down to the given products. The time
// is that of its beginning, as TUF's section 5.1 wants it. There is one Refresh
// of a Trust at a time.
func (t *Trust) Refresh(at Clock, products ...release.Product) *Refresh { return &Refresh{} }

// Next returns the file that is needed next; false: there is no more, or the last
// one was refused.
func (r *Refresh) Next() (Want, bool) { return Want{}, false }

// Take verifies the file that Next named and makes it the one that is held.
func (r *Refresh) Take(b []byte) error { return errUnverified }

// Absent says that the repository does not have the file that Next named: no
// newer root, which is usual, or one that it must have, which is refused.
func (r *Refresh) Absent() error { return errUnverified }
