package fleet

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/identity"
	"holdfast/pki"
	"holdfast/posture"
)

// index has the outline of every device in memory, with whether it has a
// session: what a page of the fleet is chosen and counted from. The truth is in
// the store; this is read from it when it is first asked for, and every write
// of a record passes by here.
type index struct {
	loading sync.Mutex // one at a time loads

	mu     sync.Mutex
	loaded bool
	places map[identity.Device]int
	items  []*item // replaced when something changes, never changed
	dirty  []int   // places of items that were replaced since panel took them
	fill   []identity.Device

	asking sync.Mutex // one at a time looks at all; guards panel
	panel  panel
}

// item is a device in the index.
type item struct {
	Outline
	live     bool // it has a session
	confined bool // which is a quarantine session whatever its posture
}

// put takes in a record that was written.
func (x *index) put(o Outline) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.putLocked(o)
}

func (x *index) putLocked(o Outline) {
	if i, ok := x.places[o.ID]; ok {
		x.replace(i, &item{Outline: o, live: x.items[i].live, confined: x.items[i].confined})
		return
	}
	if x.places == nil {
		x.places = make(map[identity.Device]int)
	}
	x.places[o.ID] = len(x.items)
	x.items = append(x.items, &item{Outline: o})
}

// replace puts an item in another's place. Of very many replacements in a row
// the places are not kept: the whole is looked through then.
func (x *index) replace(place int, i *item) {
	x.items[place] = i
	if len(x.dirty) <= len(x.items) {
		x.dirty = append(x.dirty, place)
	}
}

// sessions takes in which sessions a device has now.
func (x *index) sessions(id identity.Device, ss []live) {
	x.mu.Lock()
	defer x.mu.Unlock()
	place, ok := x.places[id]
	if !ok {
		return
	}
	is := &item{Outline: x.items[place].Outline, live: len(ss) > 0}
	is.confined = is.live && ss[len(ss)-1].class == pki.Birth
	x.replace(place, is)
}

// add takes in an outline from the store, unless the record was written since.
func (x *index) add(id identity.Device, o *Outline) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch _, known := x.places[id]; {
	case known:
	case o == nil:
		x.fill = append(x.fill, id)
	default:
		x.putLocked(*o)
	}
}

// fillBatch is how many outlines are made before they are written.
const fillBatch = 500

// Load reads the outlines of all devices, and makes those that are missing: in
// a database of an earlier version all of them. Whatever needs them calls it;
// called before the hub serves, no one waits for it.
func (f *Fleet) Load(ctx context.Context) error {
	x := &f.index
	x.loading.Lock()
	defer x.loading.Unlock()
	x.mu.Lock()
	loaded := x.loaded
	x.fill = nil
	x.mu.Unlock()
	if loaded {
		return nil
	}
	err := f.cfg.Store.Outlines(ctx, func(id identity.Device, o *Outline) error {
		x.add(id, o)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the fleet: %w", err)
	}
	if err := f.fillOutlines(ctx); err != nil {
		return fmt.Errorf("read the fleet: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, ss := range f.live {
		x.sessions(id, ss)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.loaded = true
	return nil
}

// fillOutlines makes the outlines that are missing, with its progress in the log.
func (f *Fleet) fillOutlines(ctx context.Context) error {
	missing, done := f.index.fill, 0
	told := time.Now()
	for batch := range slices.Chunk(missing, fillBatch) {
		os := make([]Outline, 0, len(batch))
		for _, id := range batch {
			r, err := f.cfg.Store.Device(ctx, id)
			if err != nil {
				return err
			}
			o := OutlineOf(r)
			os = append(os, o)
			f.index.add(id, &o)
		}
		if err := f.cfg.Store.FillOutlines(ctx, os); err != nil {
			return err
		}
		done += len(batch)
		if now := time.Now(); done == len(missing) || now.Sub(told) >= 5*time.Second {
			told = now
			f.log.InfoContext(ctx, "outlines of devices are made", "done", done, "of", len(missing))
		}
	}
	return nil
}

// gauge returns the gauge of a group's policy.
func (f *Fleet) gauge(ctx context.Context, id identity.Group) (*posture.Gauge, error) {
	if g := f.knownGauge(id); g != nil {
		return g, nil
	}
	if _, err := f.group(ctx, id); err != nil {
		return nil, err
	}
	return f.knownGauge(id), nil
}

// knownGauge returns the gauge of a group that is remembered, or nil.
func (f *Fleet) knownGauge(id identity.Group) *posture.Gauge {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.gauges[id]
	if group, ok := f.groups[id]; ok && g == nil {
		g = posture.NewGauge(group.Policy)
		f.gauges[id] = g
	}
	return g
}

// status derives the status from what a gauge of the policy read.
func (i *item) status(r posture.Reading, p posture.Policy) posture.Status {
	return posture.StatusOf(posture.Facts{Revoked: i.Revoked, Refused: i.Refused, Held: i.Held, Standing: r.Standing, Failed: r.Failed,
		Demands: !p.Empty(), Seen: !i.Provisional.IsZero(), Live: i.live, Confined: i.confined})
}
