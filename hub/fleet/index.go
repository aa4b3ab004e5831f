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
	fill   []identity.Device

	asking sync.Mutex // one at a time looks at all; guards seen of items
	view   []*item    // what is looked at, under asking
}

// item is a device in the index.
type item struct {
	Outline
	live     bool // it has a session
	confined bool // which is a quarantine session whatever its posture
	seen     reading
}

// reading is what was last read of an item.
type reading struct {
	by    *posture.Gauge
	at    time.Time
	until time.Time // zero: for good
	of    posture.Reading
}

// put takes in a record that was written.
func (x *index) put(o Outline) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.putLocked(o)
}

func (x *index) putLocked(o Outline) {
	if i, ok := x.places[o.ID]; ok {
		x.items[i] = &item{Outline: o, live: x.items[i].live, confined: x.items[i].confined}
		return
	}
	if x.places == nil {
		x.places = make(map[identity.Device]int)
	}
	x.places[o.ID] = len(x.items)
	x.items = append(x.items, &item{Outline: o})
}

// sessions takes in which sessions a device has now.
func (x *index) sessions(id identity.Device, ss []live) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, ok := x.places[id]
	if !ok {
		return
	}
	was := x.items[i]
	is := &item{Outline: was.Outline, live: len(ss) > 0}
	is.confined = is.live && ss[len(ss)-1].class == pki.Birth
	x.items[i] = is
}

// all returns every item there is, for who holds asking, until the next call.
func (x *index) all() []*item {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.view = append(x.view[:0], x.items...)
	return x.view
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

// gauges remembers the gauges of one look at the fleet.
type gauges struct {
	f  *Fleet
	of map[identity.Group]*posture.Gauge

	group identity.Group // the last one asked for
	last  *posture.Gauge
}

func (f *Fleet) newGauges() *gauges {
	return &gauges{f: f, of: make(map[identity.Group]*posture.Gauge)}
}

func (g *gauges) get(ctx context.Context, id identity.Group) (*posture.Gauge, error) {
	if g.last != nil && g.group == id {
		return g.last, nil
	}
	found, ok := g.of[id]
	if !ok {
		var err error
		if found, err = g.f.gauge(ctx, id); err != nil {
			return nil, err
		}
		g.of[id] = found
	}
	g.group, g.last = id, found
	return found, nil
}

// read returns what a gauge reads of an item, anew where that may have changed.
// The caller holds asking.
func (i *item) read(g *posture.Gauge, now time.Time) posture.Reading {
	if s := &i.seen; s.by == g && !now.Before(s.at) && (s.until.IsZero() || now.Before(s.until)) {
		return s.of
	}
	r := g.Read(i.view(now), i.first(now))
	until := r.Until
	if i.first(now) && !i.Provisional.IsZero() && (until.IsZero() || i.Provisional.Before(until)) {
		until = i.Provisional
	}
	i.seen = reading{by: g, at: now, until: until, of: r}
	return r
}

// status derives the status from what a gauge of the policy read.
func (i *item) status(r posture.Reading, p posture.Policy) posture.Status {
	return posture.StatusOf(posture.Facts{Revoked: i.Revoked, Refused: i.Refused, Held: i.Held, Standing: r.Standing, Failed: r.Failed,
		Demands: !p.Empty(), Seen: !i.Provisional.IsZero(), Live: i.live, Confined: i.confined})
}
