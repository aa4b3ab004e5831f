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

// first enters a device that comes for the first time.
func (f *Fleet) first(ctx context.Context, p pki.Peer) (Record, operator.Group, error) {
	g, by, err := f.groupOfFirst(ctx, p)
	if err != nil {
		return Record{}, g, err
	}
	r := newcomer(p, g, by)
	r.Added = f.now()
	if err := f.enroll(ctx, r); err != nil {
		return r, g, err
	}
	f.handOver(ctx)
	return r, g, nil
}

// newcomer is the record of a device that enters g with the certificate of p.
func newcomer(p pki.Peer, g operator.Group, by string) Record {
	return Record{ID: p.Device, Group: g.ID, By: by, Admits: admission(p), Class: birth.Class(p.Class)}
}

// groupOfFirst returns the group that a device which comes for the first time
// enters, and by what: an enrolment says so, or a group lists the CA that
// certified it and owns its id. It changes nothing.
func (f *Fleet) groupOfFirst(ctx context.Context, p pki.Peer) (operator.Group, string, error) {
	id, by, err := f.enrolled(ctx, p)
	if fault.Of(err) == fault.NotFound && p.Class == pki.Maker {
		id, by, err = f.groupOfMaker(ctx, p)
	}
	if fault.Of(err) == fault.NotFound {
		err = fault.New(fault.Denied, "device %s is not registered", p.Device)
	}
	if err != nil {
		return operator.Group{}, "", err
	}
	g, err := f.group(ctx, id)
	if err != nil {
		return g, "", err
	}
	return g, by, f.speaksFor(ctx, p, newcomer(p, g, by), g)
}

// enrolled asks the enrolments, where there are any.
func (f *Fleet) enrolled(ctx context.Context, p pki.Peer) (identity.Group, string, error) {
	if f.cfg.Enrolments == nil {
		return "", "", fault.New(fault.NotFound, "there are no enrolments")
	}
	return f.cfg.Enrolments.Enrolled(ctx, p)
}

// groupOfMaker returns the group that lists the CA that certified p and owns
// its id.
func (f *Fleet) groupOfMaker(ctx context.Context, p pki.Peer) (identity.Group, string, error) {
	name, err := f.makerCA(ctx, p.Anchor)
	if err != nil {
		return "", "", err
	}
	gs, err := f.cfg.Store.Groups(ctx)
	if err != nil {
		return "", "", err
	}
	for _, g := range gs {
		if slices.Contains(g.MakerCAs, name) && birth.Matches(g.IDs, string(p.Device)) {
			return g.ID, "maker's CA " + name, nil
		}
	}
	return "", "", fault.New(fault.Denied, "CA %s does not own %s", name, p.Device)
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
