package fleet

import (
	"context"
	"slices"
	"time"

	"holdfast/birth"
	"holdfast/identity"
)

// Member is of a device what rollouts ask.
type Member struct {
	Group     identity.Group
	Revoked   bool
	Class     birth.Class // empty: it was neither born nor ever here
	Admits    Admission
	Connected bool
	LastSeen  time.Time
}

// Members returns the devices of a group by id, or a fault of kind NotFound
// where there is no such group.
func (f *Fleet) Members(ctx context.Context, g identity.Group) ([]identity.Device, error) {
	if _, err := f.group(ctx, g); err != nil {
		return nil, err
	}
	if err := f.Load(ctx); err != nil {
		return nil, err
	}
	f.index.mu.Lock()
	var ids []identity.Device
	for _, i := range f.index.items {
		if i.Group == g {
			ids = append(ids, i.ID)
		}
	}
	f.index.mu.Unlock()
	slices.Sort(ids)
	return ids, nil
}

// Member returns what is known of a device, or a fault of kind NotFound. It
// waits for no act on the device.
func (f *Fleet) Member(ctx context.Context, id identity.Device) (Member, error) {
	r, err := f.peek(ctx, id)
	return Member{Group: r.Group, Revoked: r.Revoked != nil, Class: r.Class, Admits: r.Admits, Connected: f.HasSession(id), LastSeen: r.LastSeen}, err
}

// HasSession reports whether a device has a session.
func (f *Fleet) HasSession(id identity.Device) bool {
	_, ok := f.session(id)
	return ok
}
