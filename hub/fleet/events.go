package fleet

import (
	"context"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/posture"
)

// The kinds of the ledger's records that fleet makes.
const (
	KindGroup      = "group.set"
	KindCA         = "ca.add"
	KindVerifyCA   = "ca.verify"
	KindAdd        = "device.add"
	KindMove       = "device.move" // into another group
	KindPending    = "device.pending"
	KindAccept     = "device.accept"
	KindTurnAway   = "device.turn-away" // an operator refused a pending device
	KindBorn       = "device.born"
	KindFirmware   = "device.firmware" // what it attests to run is another, or was withdrawn
	KindRefused    = "device.refused"  // a birth was refused
	KindRevoke     = "device.revoke"
	KindQuarantine = "device.quarantine"
	KindRestore    = "device.restore"
	KindStatus     = "device.status"
	KindVerdict    = "verdict"
)

// batch bounds how many events are handed over at a time.
const batch = 256

// handOver gives stored events to the ledger, oldest first. What the ledger
// does not take stays stored and is tried again with the next change.
func (f *Fleet) handOver(ctx context.Context) {
	f.drain.Lock()
	defer f.drain.Unlock()
	ctx = operator.With(context.WithoutCancel(ctx), operator.Principal{}) // what waits here may be somebody else's act
	for {
		n, err := f.handBatch(ctx)
		if err != nil {
			f.log.ErrorContext(ctx, "hand events to the ledger", "err", err)
		}
		if err != nil || n < batch {
			return
		}
	}
}

func (f *Fleet) handBatch(ctx context.Context) (int, error) {
	es, err := f.cfg.Store.Events(ctx, batch)
	if err != nil || len(es) == 0 {
		return 0, err
	}
	var done int64
	for _, e := range es {
		details := map[string]any{"event": e.Number}
		for k, v := range e.Details {
			details[k] = v
		}
		if err = f.cfg.Ledger.Record(ctx, e.Kind, e.Device, details); err != nil {
			break
		}
		done = e.Number
	}
	if done > 0 {
		if dropErr := f.cfg.Store.DropEvents(ctx, done); dropErr != nil {
			return 0, dropErr
		}
	}
	return len(es), err
}

// record stores events that come with no other change, and hands them over.
func (f *Fleet) record(ctx context.Context, es ...Event) error {
	if err := f.cfg.Store.SaveEvents(ctx, es); err != nil {
		return err
	}
	f.handOver(ctx)
	return nil
}

// verdictEvents makes one event for each verdict or grade that changed.
func verdictEvents(id identity.Device, cs []posture.Change) []Event {
	es := make([]Event, 0, len(cs))
	for _, c := range cs {
		es = append(es, Event{Kind: KindVerdict, Device: id, Details: map[string]any{"change": c}})
	}
	return es
}
