package tuf

import (
	"errors"
	"time"

	"holdfast/mcuboot"
	"holdfast/release"
)

var errUnverified = errors.New("verification of this role is not part of this revision")

// Trust is what a client trusts: a root, and under it the newest of each file
// that it has accepted. Its methods change nothing when they refuse. A Trust is
// for one goroutine at a time.
type Trust struct {
	state  State
	limits Limits
}

// State is what a client keeps between runs: the newest of each file it has
// accepted, as received. The zero value of a file is: none yet.
type State struct {
	Root      []byte                     `json:"root"`
	Timestamp []byte                     `json:"timestamp,omitempty"`
	Snapshot  []byte                     `json:"snapshot,omitempty"`
	Targets   []byte                     `json:"targets,omitempty"`
	Products  map[release.Product][]byte `json:"products,omitempty"`
}

// NewTrust begins with the root that was provisioned. It must be signed by its
// own thresholds; it may have expired: newer ones follow by UpdateRoot.
func NewTrust(root []byte, l Limits) (*Trust, error) { return OpenTrust(State{Root: root}, l) }

// OpenTrust begins with a state that was kept. It refuses one that contradicts
// itself: files that the root did not sign, or that are newer than what lists
// them. Expired files are taken: they count for versions, and install nothing.
func OpenTrust(s State, l Limits) (*Trust, error) { return nil, errUnverified }

// State returns what to keep. Keep it after each accepted file, before what
// follows from it.
func (t *Trust) State() State { return t.state }

// UpdateRoot takes the next root: the version after the one held, signed by both
// thresholds of the old root and of its own.
func (t *Trust) UpdateRoot(b []byte) error { return errUnverified }

// UpdateTimestamp takes a timestamp that is the one held or newer. It refuses
// under a root that has expired.
func (t *Trust) UpdateTimestamp(b []byte, at Clock) error { return errUnverified }

// UpdateSnapshot takes the snapshot that the timestamp lists.
func (t *Trust) UpdateSnapshot(b []byte, at Clock) error { return errUnverified }

// UpdateTargets takes the targets that the snapshot lists.
func (t *Trust) UpdateTargets(b []byte, at Clock) error { return errUnverified }

// UpdateProduct takes the role of a product, as targets delegates it and the
// snapshot lists it.
func (t *Trust) UpdateProduct(p release.Product, b []byte, at Clock) error { return errUnverified }

// Version returns the version of the role's file that is held; 0: none is.
func (t *Trust) Version(role string) int64 { return 0 }

// Expires returns when the role's file that is held expires; zero: none is held.
func (t *Trust) Expires(role string) time.Time { return time.Time{} }

// Products returns the products that targets delegates to, sorted.
func (t *Trust) Products() []release.Product { return nil }

// Listed returns the releases of a product that are held, oldest first, whether
// or not the metadata has expired or is complete: to show them and to know what
// runs, never to install.
func (t *Trust) Listed(p release.Product) []release.Release { return nil }

// Releases returns the releases of a product, oldest first, withdrawn ones too,
// when all metadata from root to the product's role is complete and fresh.
func (t *Trust) Releases(p release.Product, at Clock) ([]release.Release, error) {
	return nil, errUnverified
}

// Find returns a release for installation: complete and fresh metadata lists it
// and it is not withdrawn.
func (t *Trust) Find(p release.Product, v mcuboot.Version, at Clock) (release.Release, error) {
	return release.Release{}, errUnverified
}
