// Package repository is the hub's release repository: the TUF metadata and the
// content that release keys have signed, on disk and for devices to fetch.
//
// The hub decides nothing about firmware. Root, targets and products are signed
// elsewhere; it publishes what package tuf accepts, from what it has published
// before, and only when every image and document that a release names is there,
// whole, and is what its description says. Of its own it signs snapshot and
// timestamp, with two Ed25519 keys that it makes and seals, and renews them before
// they expire. Whoever takes the hub can hold updates back, for as long as a
// snapshot is good, and nothing more.
//
// The directory:
//
//	online.key                 sealed: the keys of snapshot and timestamp
//	metadata/N.root.json       every root
//	metadata/N.ROLE.json       targets, snapshot and products: the newest and some before
//	metadata/timestamp.json    written last: it alone makes a publication the one in force
//	blobs/SHA256               images, SBOMs and audit statements
//	.deltas/FROM-TO-SHA256     made of published images; not part of a backup
//	.incoming/                 what is being uploaded or made
//
// State invariants:
//   - what devices see is a state that was verified from its first root down;
//   - a file that timestamp.json leads to is on disk before timestamp.json is;
//   - a power cut at any time leaves the state before or after a publication.
package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/release"
	"holdfast/tuf"
)

// How long the hub's own metadata lives, and how long before its end it is made
// anew. Devices that cannot reach the hub for a day still install what they have
// fetched; a stolen timestamp is worth a day.
const (
	timestampLife  = 24 * time.Hour
	timestampRenew = 23 * time.Hour // left
	snapshotLife   = 7 * 24 * time.Hour
	snapshotRenew  = 6 * 24 * time.Hour // left
	renewEvery     = 10 * time.Minute
)

// Names in the directory. Those that begin with a dot are not backed up.
const (
	keysName     = "online.key"
	metadataDir  = "metadata"
	blobsDir     = "blobs"
	deltasDir    = ".deltas"
	incomingDir  = ".incoming"
	timestampURL = tuf.Timestamp + ".json"
)

// DefaultDeltas is how many bytes of deltas are kept.
const DefaultDeltas = 2 << 30

// leastFree is how much of the disk an upload leaves free, in bytes.
const leastFree = 512 << 20

// Ledger records what is published. It returns once the entry is on disk.
type Ledger interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}

// Config says where the repository is and what it works with.
type Config struct {
	Dir    string     // made where it is missing; required
	Secret pki.Secret // seals the online keys; required
	Ledger Ledger     // required
	// Free returns how many bytes of the disk are free. Nil: nobody asks.
	Free func() (int64, error)
	// Audit refuses a release that is to be published whose audit statement does
	// not count. Nil: nobody looks.
	Audit  func(ctx context.Context, r release.Release, envelope []byte) error
	Deltas int64 // bytes of deltas that are kept; zero: DefaultDeltas
	Log    *slog.Logger
	Now    func() time.Time // default time.Now
}

// Repository is a repository. It is safe for concurrent use.
type Repository struct {
	cfg    Config
	keys   keys
	disk   disk
	deltas *deltas
	stats  *Stats
	stall  time.Duration // how long a device may take over a chunk

	held   atomic.Pointer[state]
	broken error // why what is on disk is not used; nil: it is

	// changing is held by whoever changes what is published or removes files; for
	// reading by whoever copies them.
	changing sync.RWMutex
	warned   map[string]time.Duration // role and version to the last warning; of Run alone
}

// New opens the repository, making its keys where there are none yet. A
// publication that cannot be verified any more is not used: devices are told that
// there is none for now, and Trouble says why.
func New(cfg Config) (*Repository, error) {
	if cfg.Dir == "" || cfg.Ledger == nil {
		return nil, errors.New("repository: directory and ledger are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Deltas = cmp.Or(cfg.Deltas, DefaultDeltas)
	r := &Repository{cfg: cfg, disk: disk{dir: filepath.Join(cfg.Dir, metadataDir)}, stats: newStats(), stall: stallLimit, warned: map[string]time.Duration{}}
	for _, dir := range []string{metadataDir, blobsDir, deltasDir, incomingDir} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("make repository: %w", err)
		}
	}
	if err := empty(filepath.Join(cfg.Dir, incomingDir)); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	var err error
	if r.keys, err = openKeys(cfg.Dir, cfg.Secret); err != nil {
		return nil, err
	}
	s, err := r.disk.load()
	if err != nil {
		cfg.Log.Error("the published releases are not used", "err", err)
		s = newState()
		r.broken = err
	}
	r.held.Store(s)
	r.deltas, err = openDeltas(filepath.Join(cfg.Dir, deltasDir), cfg.Deltas)
	return r, err
}

// empty removes what a crash has left.
func empty(dir string) error {
	es, err := os.ReadDir(dir)
	for _, e := range es {
		err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
	}
	return err
}

// Run renews what the hub signs, warns of what it cannot renew, makes deltas and
// removes what nothing needs, until ctx ends.
func (r *Repository) Run(ctx context.Context) error {
	var making sync.WaitGroup
	defer making.Wait()
	making.Go(func() { r.makeDeltas(ctx) })
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		if err := r.renew(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Log.ErrorContext(ctx, "renew snapshot and timestamp", "err", err)
		}
		r.warn(ctx)
		if err := r.sweep(); err != nil {
			r.cfg.Log.WarnContext(ctx, "remove what nothing needs", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Trouble says why nothing is published though something was; nil: all is well.
func (r *Repository) Trouble() error { return r.broken }

// Quiet keeps what is published as it is, for a copy of the files, until release
// is called. Publications wait for that; devices do not.
func (r *Repository) Quiet() (release func()) {
	r.changing.RLock()
	return r.changing.RUnlock
}

// Signed returns the release whose image measures as given, withdrawn ones too:
// release keys have signed it, whether or not it may still be installed.
func (r *Repository) Signed(_ context.Context, measured identity.Digest) (release.Release, bool) {
	rel, ok := r.held.Load().measured[measured]
	return rel, ok
}

// Newest returns a product's newest release that has not been withdrawn.
func (r *Repository) Newest(_ context.Context, p release.Product) (release.Release, bool) {
	rel, ok := r.held.Load().newest[p]
	return rel, ok
}

// Find returns a published release, withdrawn or not.
func (r *Repository) Find(_ context.Context, p release.Product, v mcuboot.Version) (release.Release, bool) {
	all := r.held.Load().releases
	i := slices.IndexFunc(all, func(rel release.Release) bool { return rel.Product == p && rel.Version == v })
	if i < 0 {
		return release.Release{}, false
	}
	return all[i], true
}

// Published returns the published releases of a product, oldest first, withdrawn
// ones too; an error where nobody knows what is published (Trouble).
func (r *Repository) Published(_ context.Context, p release.Product) ([]release.Release, error) {
	var out []release.Release
	for _, rel := range r.held.Load().releases {
		if rel.Product == p {
			out = append(out, rel)
		}
	}
	return out, r.Trouble()
}

// Releases returns all published releases, by product and version, withdrawn ones
// too.
func (r *Repository) Releases(context.Context) []release.Release {
	return slices.Clone(r.held.Load().releases)
}

// Changed returns a channel that is closed when other releases are published than
// those that are published now.
func (r *Repository) Changed() <-chan struct{} { return r.held.Load().changed }

// List implements what the operator API lists: the releases of a product, or of
// all.
func (r *Repository) List(_ context.Context, p release.Product) ([]operator.Release, error) {
	s := r.held.Load()
	out := []operator.Release{}
	for _, rel := range s.releases {
		if p == "" || rel.Product == p {
			out = append(out, s.shown(rel))
		}
	}
	return out, nil
}

// Release shows a published release to operators.
func (r *Repository) Release(ctx context.Context, p release.Product, v mcuboot.Version) (operator.Release, error) {
	rel, ok := r.Find(ctx, p, v)
	if !ok {
		return operator.Release{}, fault.New(fault.NotFound, "no release %s %s is published", p, v)
	}
	return r.held.Load().shown(rel), nil
}

// Describe says what is published, and which keys a root has to name.
func (r *Repository) Describe(context.Context) (operator.Repository, error) {
	out := operator.Repository{SnapshotKey: r.keys.snapshotText(), TimestampKey: r.keys.timestampText(),
		Files: map[string]identity.Digest{}, Roles: map[string]operator.RepositoryRole{}}
	s := r.held.Load()
	for name, b := range s.files {
		out.Files[name] = identity.Sum(b)
	}
	for role, at := range s.roles {
		out.Roles[role] = at
	}
	return out, r.Trouble()
}

// Metadata returns the published files that release keys have signed: every root,
// the newest targets and the newest of each product.
func (r *Repository) Metadata(context.Context) (operator.Metadata, error) {
	return operator.Metadata{Files: r.held.Load().files}, r.Trouble()
}
