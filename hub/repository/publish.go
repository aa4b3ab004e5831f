package repository

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// draft is a publication on its way.
type draft struct {
	trust    *tuf.Trust
	roots    map[int64][]byte // all of them
	newRoots []int64
	targets  []byte
	version  int64             // of targets
	files    map[string][]byte // that are new, by name
	products map[string]file   // all that will be listed, by role
}

// file is a product's file and its version.
type file struct {
	version int64
	bytes   []byte
}

// Publish makes files of root, targets and products the ones in force, all of them
// or none. What is published already, byte for byte, is taken again. A root that
// is new needs mayRoot to return nil; the first that ever is is trusted for that
// alone, every other because the roots before it have signed for it. Refusals of
// the metadata are faults of kind Integrity that name the attack.
func (r *Repository) Publish(ctx context.Context, by string, m operator.Metadata, mayRoot func() error) (operator.Repository, error) {
	if err := r.publish(ctx, by, m, mayRoot); err != nil {
		return operator.Repository{}, err
	}
	return r.Describe(ctx)
}

func (r *Repository) publish(ctx context.Context, by string, m operator.Metadata, mayRoot func() error) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	if err := r.Trouble(); err != nil {
		return fault.Hide(fault.Unavailable, "what is published cannot be verified: 'holdfast hub check' says why", err)
	}
	was, at := r.held.Load(), r.cfg.Now()
	d, err := newDraft(was, m)
	if err != nil {
		return err
	}
	if len(d.newRoots) > 0 {
		if err := mayRoot(); err != nil {
			return err
		}
	}
	if len(d.files) == 0 {
		return nil // all of it is published
	}
	if err := d.takeRoots(was); err != nil {
		return refused(err)
	}
	timestamp, err := r.sign(was, d, at)
	if err != nil {
		return err
	}
	is, err := d.verify(timestamp, at)
	if err != nil {
		return refused(err)
	}
	if err := r.checkContent(ctx, was, is); err != nil {
		return err
	}
	if err := r.record(ctx, by, was, is, d); err != nil {
		return err
	}
	if err := r.commit(d.files, timestamp, is); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	r.cfg.Log.InfoContext(ctx, "releases are published", "by", by, "files", slices.Sorted(maps.Keys(d.files)))
	return nil
}

// refused lets operators read why metadata is refused.
func refused(err error) error {
	if release.AttackOf(err) == "" || fault.Of(err) != fault.Internal {
		return err
	}
	return fault.New(fault.Integrity, "%w", err)
}

// newDraft sorts files into what is new and what is published.
func newDraft(was *state, m operator.Metadata) (*draft, error) {
	d := &draft{roots: map[int64][]byte{}, files: map[string][]byte{}, products: map[string]file{}, targets: was.trust.Targets, version: was.listed[tuf.Targets]}
	for name, b := range was.files {
		if v, role, _ := parseName(name); role == tuf.Root {
			d.roots[v] = b
		} else if role != tuf.Targets {
			d.products[role] = file{v, b}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		b := m.Files[name]
		v, role, ok := parseName(name)
		if _, err := release.ParseProduct(role); !ok || err != nil && role != tuf.Root && role != tuf.Targets {
			return nil, fault.New(fault.Invalid, "%.100q: want the name of a root, of targets or of a product's file, as 3.pump.json: the hub signs snapshots and timestamps itself", name)
		}
		if known, ok := was.files[name]; ok && bytes.Equal(known, b) {
			continue
		} else if ok {
			return nil, fault.New(fault.Conflict, "another %s is published", name)
		}
		if err := d.take(name, v, role, b); err != nil {
			return nil, err
		}
	}
	if d.targets == nil && len(d.files) > 0 {
		return nil, fault.New(fault.Invalid, "nothing is published yet: begin with a root and targets")
	}
	return d, nil
}

// take takes a file that is not published into the draft.
func (d *draft) take(name string, v int64, role string, b []byte) error {
	if int64(len(b)) > maxFile() {
		return fault.New(fault.Invalid, "%s has %d bytes", name, len(b))
	}
	switch role {
	case tuf.Root:
		d.roots[v] = b
		d.newRoots = append(d.newRoots, v)
		slices.Sort(d.newRoots)
	case tuf.Targets:
		if v < d.version {
			return fault.New(fault.Conflict, "targets %d are published: %s is older", d.version, name)
		}
		d.targets, d.version = b, v
	default:
		if v < d.products[role].version {
			return fault.New(fault.Conflict, "version %d of %s is published: %s is older", d.products[role].version, role, name)
		}
		d.products[role] = file{v, b}
	}
	d.files[name] = b
	return nil
}

// maxFile is the most bytes that any file may have.
func maxFile() int64 {
	l := tuf.DefaultLimits()
	return max(l.RootBytes, l.TargetsBytes, l.ProductBytes)
}

// takeRoots verifies the new roots, from what is trusted on.
func (d *draft) takeRoots(was *state) (err error) {
	roots := d.newRoots
	if was.published() {
		d.trust, err = tuf.OpenTrust(was.trust, tuf.DefaultLimits())
	} else if len(roots) == 0 {
		return fault.New(fault.Invalid, "nothing is published yet: begin with a root")
	} else {
		d.trust, err = tuf.NewTrust(d.roots[roots[0]], tuf.DefaultLimits())
		if err == nil && d.trust.Version(tuf.Root) != roots[0] {
			err = fault.New(fault.Invalid, "%s is of version %d", fileName(roots[0], tuf.Root), d.trust.Version(tuf.Root))
		}
		roots = roots[1:]
	}
	for _, v := range roots {
		if err != nil {
			break
		}
		err = d.trust.UpdateRoot(d.roots[v])
	}
	if err == nil && d.trust.Version(tuf.Root) != slices.Max(slices.Collect(maps.Keys(d.roots))) {
		err = fault.New(fault.Invalid, "the name of a root says another version than it has")
	}
	return err
}

// sign makes the snapshot, into the draft, and the timestamp, which it returns.
func (r *Repository) sign(was *state, d *draft, at time.Time) (timestamp []byte, err error) {
	files := []author.File{{Role: tuf.Targets, Version: d.version, Bytes: d.targets}}
	for role, f := range d.products {
		files = append(files, author.File{Role: role, Version: f.version, Bytes: f.bytes})
	}
	version := next(was.roles[tuf.Snapshot].Version, at)
	doc, err := author.Snapshot{Version: version, Expires: at.Add(snapshotLife), Files: files}.Document()
	snapshot, err := signed(doc, err, r.keys.snapshot)
	if err != nil {
		return nil, fmt.Errorf("sign snapshot: %w", err)
	}
	d.files[fileName(version, tuf.Snapshot)] = snapshot
	return r.stamp(was, author.File{Role: tuf.Snapshot, Version: version, Bytes: snapshot}, at)
}

// stamp makes the timestamp of a snapshot.
func (r *Repository) stamp(was *state, snapshot author.File, at time.Time) ([]byte, error) {
	doc, err := author.Timestamp{Version: next(was.roles[tuf.Timestamp].Version, at), Expires: at.Add(timestampLife), Snapshot: snapshot}.Document()
	b, err := signed(doc, err, r.keys.timestamp)
	if err != nil {
		return nil, fmt.Errorf("sign timestamp: %w", err)
	}
	return b, nil
}

// verify takes the draft as a device would, and returns its state.
func (d *draft) verify(timestamp []byte, at time.Time) (*state, error) {
	clock := tuf.At(at)
	if err := d.trust.UpdateTimestamp(timestamp, clock); err != nil {
		if release.AttackOf(err) == release.ArbitrarySoftware {
			err = fault.New(fault.Invalid, "the root does not name this hub's keys of snapshot and timestamp: %w", err)
		}
		return nil, err
	}
	for name, b := range d.files {
		if _, role, _ := parseName(name); role != tuf.Snapshot {
			continue
		}
		if err := d.trust.UpdateSnapshot(b, clock); err != nil { // there is none where it is not renewed
			return nil, err
		}
	}
	if d.trust.Version(tuf.Targets) != d.version || !bytes.Equal(d.trust.State().Targets, d.targets) {
		if err := d.trust.UpdateTargets(d.targets, clock); err != nil {
			return nil, err
		}
	}
	orphans := map[string][]byte{}
	for role, f := range d.products {
		p := release.Product(role)
		if !slices.Contains(d.trust.Products(), p) {
			if d.files[fileName(f.version, role)] != nil {
				return nil, release.Refuse(release.WrongProduct, fmt.Errorf("%s: targets delegate nothing to it", role))
			}
			orphans[fileName(f.version, role)] = f.bytes
			continue
		}
		if bytes.Equal(d.trust.State().Products[p], f.bytes) {
			continue
		}
		if err := d.trust.UpdateProduct(p, f.bytes, clock); err != nil {
			return nil, err
		}
		if err := readable(p, f.bytes, len(d.trust.Listed(p))); err != nil {
			return nil, err
		}
	}
	return stateOf(d.trust, d.roots, orphans)
}

// readable refuses a product's file with releases that this program does not
// understand: it could not look whether what they name is there.
func readable(p release.Product, b []byte, understood int) error {
	var f struct {
		Signed struct {
			Targets map[string]json.RawMessage `json:"targets"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return fault.New(fault.Invalid, "%s: %w", p, err)
	}
	if n := len(f.Signed.Targets); n != understood {
		return fault.New(fault.Invalid, "%s: this hub understands the descriptions of %d of the %d releases only: it may be older than what signed them", p, understood, n)
	}
	return nil
}

// commit puts files on disk and the state in force.
func (r *Repository) commit(files map[string][]byte, timestamp []byte, is *state) error {
	if err := r.disk.commit(files, timestamp); err != nil {
		return err
	}
	have, err := r.disk.names()
	if err != nil {
		return err
	}
	is.keep(have)
	r.adopt(is)
	if err := r.disk.prune(is); err != nil {
		r.cfg.Log.Warn("remove old metadata", "err", err)
	}
	return nil
}

// adopt puts a state in force. Whoever waits for other releases is told when there
// are some.
func (r *Repository) adopt(is *state) {
	was := r.held.Load()
	if sameReleases(was.releases, is.releases) {
		is.changed = was.changed
		r.held.Store(is)
		return
	}
	r.held.Store(is)
	close(was.changed)
}

func sameReleases(a, b []release.Release) bool {
	return slices.EqualFunc(a, b, func(x, y release.Release) bool { return sameRelease(x, y) })
}

func sameRelease(x, y release.Release) bool {
	a, errA := json.Marshal(x)
	b, errB := json.Marshal(y)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// record puts into the ledger what a publication changes. It comes before the
// publication: nothing is published that the ledger does not have.
func (r *Repository) record(ctx context.Context, by string, was, is *state, d *draft) error {
	for _, name := range slices.SortedFunc(maps.Keys(d.files), rootsLast) {
		v, role, _ := parseName(name)
		kind, details := ledger.ReleaseMetadata, map[string]any{"by": by, "role": role, "version": v, "sha256": identity.Sum(d.files[name])}
		switch role {
		case tuf.Snapshot:
			continue // the hub makes a new one each day
		case tuf.Root:
			kind = ledger.ReleaseRoot
			details["first"] = !was.published() && v == d.newRoots[0] // trusted because an administrator says so
		}
		if err := r.cfg.Ledger.Record(ctx, string(kind), "", details); err != nil {
			return err
		}
	}
	known := map[string]release.Release{}
	for _, rel := range was.releases {
		known[rel.Path()] = rel
	}
	for _, rel := range is.releases {
		before, ok := known[rel.Path()]
		delete(known, rel.Path())
		if ok && sameRelease(before, rel) {
			continue
		}
		kind, reason := ledger.ReleasePublish, ""
		if rel.Withdrawn != "" {
			kind, reason = ledger.ReleaseWithdraw, rel.Withdrawn
		}
		if err := r.cfg.Ledger.Record(ctx, string(kind), "", map[string]any{"by": by, "reason": reason, "product": rel.Product, "version": rel.Version,
			"security_version": rel.SecurityVersion, "image": rel.Image.SHA256, "measured": rel.Measured, "metadata": is.roles[string(rel.Product)].Version}); err != nil {
			return err
		}
	}
	for _, rel := range known {
		if err := r.cfg.Ledger.Record(ctx, string(ledger.ReleaseWithdraw), "", map[string]any{"by": by, "reason": "not listed any more",
			"product": rel.Product, "version": rel.Version, "image": rel.Image.SHA256}); err != nil {
			return err
		}
	}
	return nil
}
