// Package twins keeps the devices' twins: operators set tags and desired
// properties, devices report theirs. What a patch may hold and how it is
// merged is the rule of package twin; here it is made durable and told on.
//
// Invariants:
//   - A change is on disk before anybody hears of it.
//   - A device is told of changes of its desired properties in the order of
//     their versions, and only while it is connected and has subscribed. One
//     that was away asks for the whole twin.
package twins

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
	"holdfast/twin"
)

// Store keeps twins.
type Store interface {
	// Twin returns a device's twin, a new one when nobody has written to it.
	Twin(ctx context.Context, d identity.Device) (twin.Twin, error)
	// Change replaces a twin by what change makes of it and stores the events
	// that it returns, in one transaction that is synced when Change returns
	// nil. An error of change is returned as it is.
	Change(ctx context.Context, d identity.Device, change func(twin.Twin) (twin.Twin, []iothub.Message, error)) error
}

// Registry knows the devices.
type Registry interface {
	// Exists returns a fault of kind NotFound for a device that is not registered.
	Exists(ctx context.Context, d identity.Device) error
}

// Sessions tells devices.
type Sessions interface {
	// Desired tells a device of a patch of its desired properties. That it is
	// not connected is no error.
	Desired(ctx context.Context, d identity.Device, version int64, patch []byte) error
}

// Ledger records what operators do.
type Ledger interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}

// KindSet is the kind of the ledger's record of an operator's change.
const KindSet = "twin.set"

// Config has what Twins works with. All fields are required.
type Config struct {
	Store    Store
	Registry Registry
	Sessions Sessions
	Ledger   Ledger
	Stored   func() // called after events were stored; must not wait
	Log      *slog.Logger
}

// Twins keeps twins. It is safe for concurrent use.
type Twins struct {
	cfg  Config
	seed maphash.Seed
	// order is held from a change of desired properties until the device was
	// told, so that it hears of changes in their order.
	order [64]sync.Mutex
}

// New makes Twins.
func New(cfg Config) (*Twins, error) {
	if cfg.Store == nil || cfg.Registry == nil || cfg.Sessions == nil || cfg.Ledger == nil || cfg.Stored == nil || cfg.Log == nil {
		return nil, errors.New("twins: config lacks a collaborator")
	}
	return &Twins{cfg: cfg, seed: maphash.MakeSeed()}, nil
}

// Answer answers a device's request for its twin or its patch of the reported
// properties, with a failure that the device is told as it is.
func (t *Twins) Answer(ctx context.Context, d identity.Device, r iothub.Request, payload []byte) (iothub.Topic, []byte, error) {
	switch r := r.(type) {
	case iothub.TwinGet:
		tw, err := t.cfg.Store.Twin(ctx, d)
		if err != nil {
			return nil, nil, err
		}
		return r.Result(200), tw.Document(), nil
	case iothub.ReportedPatch:
		version, err := t.report(ctx, d, payload)
		if err != nil {
			return nil, nil, err
		}
		return iothub.TwinResult{Status: 204, RequestID: r.RequestID, Version: uint64(version)}, nil, nil
	}
	return nil, nil, fault.New(fault.Invalid, "no request for a twin")
}

// report merges a patch into a device's reported properties and returns their
// version.
func (t *Twins) report(ctx context.Context, d identity.Device, payload []byte) (int64, error) {
	patch, err := parse(twin.Reported, payload)
	if err != nil {
		return 0, err
	}
	after, err := t.change(ctx, d, []twin.Change{{Section: twin.Reported, Patch: patch}}, "")
	return after.Reported.Version, err
}

// parse reads a patch and gives its refusal the protocol's code.
func parse(s twin.Section, b []byte) (twin.Object, error) {
	o, err := twin.Parse(b)
	if err != nil {
		return nil, failure(s, err)
	}
	return o, nil
}

func failure(s twin.Section, err error) error {
	if e, ok := errors.AsType[*twin.Error](err); ok {
		return iothub.Fail(e.Code(), "%s: %w", s, err)
	}
	return err
}

// change makes changes of one twin, if its ETag is the given one or none is.
func (t *Twins) change(ctx context.Context, d identity.Device, cs []twin.Change, etag string) (twin.Twin, error) {
	var after twin.Twin
	err := t.cfg.Store.Change(ctx, d, func(before twin.Twin) (twin.Twin, []iothub.Message, error) {
		if etag != "" && etag != "*" && etag != before.ETag() {
			return before, nil, iothub.Fail(iothub.CodePrecondition, "the twin of %s has changed, its ETag is %s", d, before.ETag())
		}
		now := time.Now()
		var events []iothub.Message
		after = before
		for _, c := range cs {
			var err error
			if after, err = after.Apply(c); err != nil {
				return before, nil, failure(c.Section, err)
			}
			events = append(events, event(d, c, after, now))
		}
		return after, events, nil
	})
	if err == nil {
		t.cfg.Stored()
	}
	return after, err
}

// event is what the stream is told of a change.
func event(d identity.Device, c twin.Change, after twin.Twin, now time.Time) iothub.Message {
	var version int64
	switch c.Section {
	case twin.Desired:
		version = after.Desired.Version
	case twin.Reported:
		version = after.Reported.Version
	}
	return iothub.NewTwinChange(d, string(c.Section), []byte(c.Patch.String()), version, c.Replace, now)
}

// Twin shows a device's twin.
func (t *Twins) Twin(ctx context.Context, d identity.Device) (operator.Twin, error) {
	if err := t.cfg.Registry.Exists(ctx, d); err != nil {
		return operator.Twin{}, err
	}
	tw, err := t.cfg.Store.Twin(ctx, d)
	if err != nil {
		return operator.Twin{}, err
	}
	return view(d, tw), nil
}

func view(d identity.Device, t twin.Twin) operator.Twin {
	return operator.Twin{Device: d, ETag: t.ETag(), Tags: []byte(t.Tags.String()),
		Desired: t.Desired.Values.JSON(t.Desired.Version), Reported: t.Reported.Values.JSON(t.Reported.Version)}
}

// SetTwin changes tags and desired properties for an operator: merged, or
// replaced. With an etag other than "*" it does so only if the twin has that
// one. The device is told of desired properties.
func (t *Twins) SetTwin(ctx context.Context, by string, d identity.Device, in operator.SetTwin, replace bool, etag string) (operator.Twin, error) {
	cs, err := changes(in, replace)
	if err != nil {
		return operator.Twin{}, err
	}
	if err := t.cfg.Registry.Exists(ctx, d); err != nil {
		return operator.Twin{}, err
	}
	after, err := t.set(ctx, d, cs, etag)
	if err != nil {
		return operator.Twin{}, err
	}
	details := map[string]any{"by": by, "etag": after.ETag(), "replaced": replace}
	for _, c := range cs {
		details[string(c.Section)] = identity.Sum([]byte(c.Patch.String()))
	}
	return view(d, after), t.cfg.Ledger.Record(ctx, KindSet, d, details)
}

func changes(in operator.SetTwin, replace bool) ([]twin.Change, error) {
	var cs []twin.Change
	for _, s := range []struct {
		section twin.Section
		text    []byte
	}{{twin.Tags, in.Tags}, {twin.Desired, in.Desired}} {
		if s.text == nil {
			continue
		}
		o, err := parse(s.section, s.text)
		if err != nil {
			return nil, err
		}
		cs = append(cs, twin.Change{Section: s.section, Patch: o, Replace: replace})
	}
	if cs == nil {
		return nil, iothub.Fail(iothub.CodeArgument, "neither tags nor desired properties are given")
	}
	return cs, nil
}

// set makes an operator's changes and tells the device.
func (t *Twins) set(ctx context.Context, d identity.Device, cs []twin.Change, etag string) (twin.Twin, error) {
	order := &t.order[maphash.String(t.seed, string(d))%uint64(len(t.order))]
	order.Lock()
	defer order.Unlock()
	after, err := t.change(ctx, d, cs, etag)
	if err != nil {
		return after, err
	}
	for _, c := range cs {
		if c.Section != twin.Desired {
			continue
		}
		version := after.Desired.Version
		if err := t.cfg.Sessions.Desired(context.WithoutCancel(ctx), d, version, c.Patch.JSON(version)); err != nil {
			t.cfg.Log.WarnContext(ctx, "device was not told of its desired properties", "device", d, "err", err)
		}
	}
	return after, nil
}
