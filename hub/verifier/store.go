package verifier

import (
	"context"
	"time"

	"holdfast/appraise"
	"holdfast/evidence"
	"holdfast/identity"
)

// Store keeps reference values and appraisals. A method that returned nil has
// written to disk.
type Store interface {
	// AddReference adds a reference value, or renames the one with the same
	// group, register and digest.
	AddReference(ctx context.Context, r appraise.Reference) error
	// RemoveReference removes a digest from a group, or is a fault of kind
	// NotFound.
	RemoveReference(ctx context.Context, group identity.Group, digest identity.Digest) error
	// References returns a group's reference values.
	References(ctx context.Context, group identity.Group) ([]appraise.Reference, error)

	// Memory returns what is remembered of a device's AK.
	Memory(ctx context.Context, device identity.Device, ak identity.Digest) (Memory, error)
	// SaveAppraisal records an appraisal, its state and its next key in one
	// transaction. It is a fault of kind Conflict where the memory is not of
	// that version any more: another appraisal came between.
	SaveAppraisal(ctx context.Context, a Appraisal, version int64) error
	// Certified reports whether an AK certified a key between two times.
	Certified(ctx context.Context, device identity.Device, ak, key identity.Digest, since, until time.Time) (bool, error)
	// Latest returns the newest appraisal of a device, or a fault of kind
	// NotFound.
	Latest(ctx context.Context, device identity.Device) (Appraisal, error)
}

// Memory is what must not go back: nil before the first appraisal under an AK.
type Memory struct {
	State   *appraise.State
	Version int64
}

// Appraisal is one appraisal as it is kept. NextKey and State are only given to
// the store.
type Appraisal struct {
	Device  identity.Device
	AK      identity.Digest // of its TPMT_PUBLIC
	Result  evidence.Result
	Step    appraise.Step // that failed; empty: the evidence verified
	Facts   appraise.Facts
	State   *appraise.State  // to remember; nil where the evidence failed
	NextKey *identity.Digest // certified in it; nil: none
}
