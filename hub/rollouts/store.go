package rollouts

import (
	"context"
	"time"

	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/rollout"
)

// Store keeps rollouts and where each device stands in them. Each write is one
// transaction, with the events that it makes.
type Store interface {
	RolloutStore
	DeviceStore
	Outbox
}

// RolloutStore keeps rollouts. They are named by their numbers (Seq).
type RolloutStore interface {
	// Add stores a new rollout and returns it with its number.
	Add(ctx context.Context, r rollout.Rollout, es []Event) (rollout.Rollout, error)
	// Change replaces a rollout by what do makes of it, knowing its counts. An
	// error of do is returned as it is, and nothing is written.
	Change(ctx context.Context, seq int64, do func(*rollout.Rollout, rollout.Counts) ([]Event, error)) (rollout.Rollout, error)
	// Rollouts returns at most q.Limit rollouts, the newest first; q.Groups
	// counts for nothing.
	Rollouts(ctx context.Context, q operator.RolloutQuery) ([]rollout.Rollout, error)
	Counts(ctx context.Context, seq int64) (rollout.Counts, error)
}

// DeviceStore keeps the devices of rollouts.
type DeviceStore interface {
	// Enter adds the devices that the rollout does not have yet, and takes them
	// from other rollouts. It returns those that were in flight there.
	Enter(ctx context.Context, r rollout.Rollout, ds []rollout.Device, others []int64, now time.Time) (taken []identity.Device, err error)
	// ChangeDevices replaces devices by what do makes of each. counts says how
	// many are in each state at that moment. A device that the rollout does not
	// have is left out. do may be called and its transaction fail all the same.
	ChangeDevices(ctx context.Context, seq int64, ids []identity.Device,
		do func(counts func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []Event)) error
	// Of returns a device as it stands in rollouts, the newest rollout first.
	Of(ctx context.Context, id identity.Device) ([]rollout.Device, error)
	Devices(ctx context.Context, seq int64, q operator.RolloutDeviceQuery) ([]rollout.Device, error)
	// Turn returns devices that wait and were not found away since a time, in the
	// order of the rollout.
	Turn(ctx context.Context, seq int64, since time.Time, limit int) ([]rollout.Device, error)
	// Due returns devices that are to be looked at by now.
	Due(ctx context.Context, seq int64, now time.Time, limit int) ([]rollout.Device, error)
	// Untold returns devices in flight that were last told less than told.
	Untold(ctx context.Context, seq, told int64, limit int) ([]rollout.Device, error)
}

// Outbox keeps events until the ledger has them.
type Outbox interface {
	Events(ctx context.Context, limit int) ([]Event, error) // oldest first
	DropEvents(ctx context.Context, upTo int64) error
}

// Event is something that the ledger has to record. It is stored with the
// change that made it and handed on after: a crash in between loses nothing, at
// worst the ledger has it twice, with the same number.
type Event struct {
	Number  int64 // given by the store
	Kind    ledger.Kind
	Device  identity.Device
	Details map[string]any
}
