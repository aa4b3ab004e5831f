package fleet

import (
	"context"
	"slices"

	"holdfast/birth"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

// first enters a device that comes for the first time, if an enrolment says so
// or a group lists the CA that certified it and owns its id.
func (f *Fleet) first(ctx context.Context, p pki.Peer) (Record, operator.Group, error) {
	if f.cfg.Enrolments != nil {
		id, by, err := f.cfg.Enrolments.Enrolled(ctx, p)
		if err == nil {
			return f.enter(ctx, p, id, by)
		}
		if fault.Of(err) != fault.NotFound {
			return Record{}, operator.Group{}, err
		}
	}
	if p.Class != pki.Maker {
		return Record{}, operator.Group{}, fault.New(fault.Denied, "device %s is not registered", p.Device)
	}
	name, err := f.makerCA(ctx, p.Anchor)
	if err != nil {
		return Record{}, operator.Group{}, err
	}
	gs, err := f.cfg.Store.Groups(ctx)
	if err != nil {
		return Record{}, operator.Group{}, err
	}
	for _, g := range gs {
		if slices.Contains(g.MakerCAs, name) && birth.Matches(g.IDs, string(p.Device)) {
			return f.enter(ctx, p, g.ID, "maker's CA "+name)
		}
	}
	return Record{}, operator.Group{}, fault.New(fault.Denied, "CA %s does not own %s", name, p.Device)
}

// enter adds a device to a group that its certificate's authority has a say in.
func (f *Fleet) enter(ctx context.Context, p pki.Peer, id identity.Group, by string) (Record, operator.Group, error) {
	g, err := f.group(ctx, id)
	if err != nil {
		return Record{}, g, err
	}
	r := Record{ID: p.Device, Group: g.ID, By: by, Added: f.now(), Admits: admission(p), Class: birth.Class(p.Class)}
	if err := f.speaksFor(ctx, p, r, g); err != nil {
		return r, g, err
	}
	if err := f.cfg.Store.AddDevice(ctx, r, []Event{added(r)}); err != nil {
		return r, g, err
	}
	f.handOver(ctx)
	return r, g, nil
}

// Enter takes in a device that provisions itself with the verified certificate
// of p. It is admitted as Admit would, entered into the registry where it is
// new, and moved to group where that is not empty and not its own; by says by
// what. It reports whether the device is new here.
func (f *Fleet) Enter(ctx context.Context, p pki.Peer, group identity.Group, by string) (isNew bool, err error) {
	defer f.locks.lock(p.Device)()
	_, err = f.read(ctx, p.Device)
	isNew = fault.Of(err) == fault.NotFound && err != nil
	r, g, err := f.admit(ctx, p)
	if err != nil || group == "" || group == g.ID {
		return isNew, err
	}
	to, err := f.group(ctx, group)
	if err != nil {
		return isNew, err
	}
	if p.Class == pki.Maker || p.Class == pki.SelfSigned {
		if err := f.speaksFor(ctx, p, r, to); err != nil {
			return isNew, err
		}
	}
	_, err = f.changeLoaded(ctx, r, to, func(r *Record, _ operator.Group) ([]Event, error) {
		r.Group = to.ID
		return []Event{{Kind: KindMove, Device: r.ID, Details: map[string]any{"by": by, "from": g.ID, "to": to.ID}}}, nil
	})
	return isNew, err
}
