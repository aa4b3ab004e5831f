package api

import (
	"context"
	"reflect"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
)

// Whoever is limited to groups neither sees nor touches what is another
// group's: it is refused in the words for what does not exist. What an
// operation's input names is found by its type, so that no operation can leave
// this out: a path, query or body member that is a group or a device. A list of
// devices is its handler's to look through; lists that are answered are too.

// named is where an input has a group, groups or a device.
type named struct {
	path []int
	what reflect.Type
}

var (
	groupType  = reflect.TypeFor[identity.Group]()
	groupsType = reflect.TypeFor[[]identity.Group]()
	deviceType = reflect.TypeFor[identity.Device]()
	timeType   = reflect.TypeFor[time.Time]()
)

// namesIn finds all that values of t name.
func namesIn(t reflect.Type) []named {
	var found []named
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Type == groupType || f.Type == groupsType || f.Type == deviceType:
			found = append(found, named{[]int{i}, f.Type})
		case f.Type.Kind() == reflect.Struct && f.Type != timeType:
			for _, n := range namesIn(f.Type) {
				found = append(found, named{append([]int{i}, n.path...), n.what})
			}
		}
	}
	return found
}

// within refuses an input that names what is not there for whoever asks. An
// operation that makes a device names one that need not be there yet.
func (a *api) within(ctx context.Context, in reflect.Value, names []named, makes bool) error {
	p := operator.From(ctx)
	if p.Groups == nil {
		return nil
	}
	for _, n := range names {
		switch v := in.FieldByIndex(n.path).Interface().(type) {
		case identity.Group:
			if v != "" && !p.Sees(v) {
				return noGroup(v)
			}
		case []identity.Group:
			for _, g := range v {
				if !p.Sees(g) {
					return noGroup(g)
				}
			}
		case identity.Device:
			if v == "" || makes && !a.taken(ctx, v) {
				continue
			}
			if err := a.visible(ctx, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func noGroup(g identity.Group) error { return fault.New(fault.NotFound, "there is no group %q", g) }

func noDevice(d identity.Device) error { return fault.New(fault.NotFound, "there is no device %q", d) }

// visible refuses a device that is not there for whoever asks.
func (a *api) visible(ctx context.Context, d identity.Device) error {
	p := operator.From(ctx)
	if p.Groups == nil {
		return nil
	}
	g, err := a.Devices.DeviceGroup(ctx, d)
	if fault.Of(err) == fault.NotFound || err == nil && !p.Sees(g) {
		return noDevice(d)
	}
	return err
}

// taken reports whether some group has the device.
func (a *api) taken(ctx context.Context, d identity.Device) bool {
	_, err := a.Devices.DeviceGroup(ctx, d)
	return err == nil
}

// sight tells devices and groups that whoever asks sees from those it does not.
// It remembers groups of devices: it is for one answer, or a part of one.
type sight struct {
	a      *api
	p      operator.Principal
	groups map[identity.Device]bool
}

func (a *api) sight(ctx context.Context) *sight {
	return &sight{a: a, p: operator.From(ctx), groups: map[identity.Device]bool{}}
}

// device reports whether a device is one that is seen.
func (s *sight) device(ctx context.Context, d identity.Device) (bool, error) {
	if s.p.Groups == nil {
		return true, nil
	}
	if seen, known := s.groups[d]; known {
		return seen, nil
	}
	g, err := s.a.Devices.DeviceGroup(ctx, d)
	if err != nil && fault.Of(err) != fault.NotFound {
		return false, err
	}
	seen := err == nil && s.p.Sees(g)
	s.groups[d] = seen
	return seen, nil
}

// only keeps what is of groups that whoever asks sees.
func only[T any](ctx context.Context, list []T, group func(T) identity.Group) []T {
	p := operator.From(ctx)
	if p.Groups == nil {
		return list
	}
	kept := make([]T, 0, len(list))
	for _, v := range list {
		if p.Sees(group(v)) {
			kept = append(kept, v)
		}
	}
	return kept
}

// reticent says of a conflict no more than that there is one: with what may be
// another group's.
func reticent(ctx context.Context, err error) error {
	if operator.From(ctx).Groups != nil && err != nil && fault.Of(err) == fault.Conflict {
		return fault.Hide(fault.Conflict, "something that is there already is in the way", err)
	}
	return err
}
