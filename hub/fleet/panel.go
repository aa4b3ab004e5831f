package fleet

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/posture"
)

// panel is the index in the form in which all of it is looked at: by id, one
// small dial for each device side by side, and every order a number.
type panel struct {
	dials    []dial // by id
	at       []int  // place in the index: where in dials
	ids      string // all ids in lower case, one behind the other
	ends     []int  // where in ids each ends
	groups   table[identity.Group]
	releases table[string]
	gauges   []*posture.Gauge // of groups, as the dials were read by
}

// dial is what is looked at of a device.
type dial struct {
	item        *item
	from, until int64 // status is right in between; Unix time in nanoseconds
	seen        int64 // Unix time in seconds; the largest number: it has a session
	group       int32 // in groups
	release     int32 // in releases
	place       int32 // in the index
	status      uint8 // in weights
}

// table numbers texts as they come.
type table[T ~string] struct {
	texts   []T
	numbers map[T]int32
}

func (t *table[T]) number(text T) int32 {
	n, ok := t.numbers[text]
	if !ok {
		if t.numbers == nil {
			t.numbers = make(map[T]int32)
		}
		n = int32(len(t.texts))
		t.numbers[text], t.texts = n, append(t.texts, text)
	}
	return n
}

// ranks says where each text stands in an order: at even numbers, so that a
// text which is not in the table stands between two of them.
func (t *table[T]) ranks(compare func(a, b T) int) (of []int64, rank func(T) int64) {
	sorted := slices.SortedFunc(slices.Values(t.texts), compare)
	of = make([]int64, len(t.texts))
	for i, text := range sorted {
		of[t.numbers[text]] = 2 * int64(i)
	}
	return of, func(text T) int64 {
		i, found := slices.BinarySearchFunc(sorted, text, compare)
		if found {
			return 2 * int64(i)
		}
		return 2*int64(i) - 1
	}
}

// take brings the panel up to what the index has. The caller holds asking.
func (x *index) take() *panel {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := &x.panel
	if len(x.dirty) > len(x.items) {
		for place := range p.at {
			p.set(place, x.items[place])
		}
	} else {
		for _, place := range x.dirty {
			p.set(place, x.items[place])
		}
	}
	x.dirty = x.dirty[:0]
	if len(p.at) < len(x.items) {
		p.insert(x.items)
	}
	return p
}

// set takes in an item in place of another.
func (p *panel) set(place int, i *item) {
	if place >= len(p.at) {
		return // a new one, which insert takes in
	}
	if d := &p.dials[p.at[place]]; d.item != i {
		*d = p.dialOf(place, i)
	}
}

// dialOf is the dial of an item, whose status has to be read.
func (p *panel) dialOf(place int, i *item) dial {
	d := dial{item: i, place: int32(place), from: math.MaxInt64, seen: i.LastSeen.Unix(), group: p.groups.number(i.Group), release: p.releases.number(i.Release)}
	if i.live {
		d.seen = math.MaxInt64
	}
	return d
}

// insert takes in the items that are new, among those that it has.
func (p *panel) insert(items []*item) {
	var added []dial
	for place := len(p.at); place < len(items); place++ {
		added = append(added, p.dialOf(place, items[place]))
	}
	slices.SortFunc(added, func(a, b dial) int { return cmp.Compare(a.item.ID, b.item.ID) })
	had := p.dials
	p.dials, p.at, p.ends = make([]dial, 0, len(items)), make([]int, len(items)), make([]int, 0, len(items))
	var ids strings.Builder
	for len(had)+len(added) > 0 {
		from := &had
		if len(had) == 0 || len(added) > 0 && added[0].item.ID < had[0].item.ID {
			from = &added
		}
		d := (*from)[0]
		*from = (*from)[1:]
		p.at[d.place] = len(p.dials)
		p.dials = append(p.dials, d)
		ids.WriteString(strings.ToLower(string(d.item.ID)))
		p.ends = append(p.ends, ids.Len())
	}
	p.ids = ids.String()
}

// id returns an id in lower case.
func (p *panel) id(n int) string {
	if n == 0 {
		return p.ids[:p.ends[0]]
	}
	return p.ids[p.ends[n-1]:p.ends[n]]
}

// place returns where a device stands among all, at even numbers as in ranks.
func (p *panel) place(id identity.Device) int64 {
	i, found := slices.BinarySearchFunc(p.dials, id, func(d dial, id identity.Device) int { return cmp.Compare(d.item.ID, id) })
	if found {
		return 2 * int64(i)
	}
	return 2*int64(i) - 1
}

// read reads the status of a device, by the gauge of its group.
func (d *dial) read(g *posture.Gauge, now time.Time) {
	i := d.item
	first := i.first(now)
	r := g.Read(i.view(now), first)
	d.from, d.until = now.UnixNano(), math.MaxInt64
	if !r.Until.IsZero() {
		d.until = r.Until.UnixNano()
	}
	if first && !i.Provisional.IsZero() {
		d.until = min(d.until, i.Provisional.UnixNano())
	}
	d.status = uint8(max(0, slices.Index(weights, i.status(r, g.Policy()))))
}

// survey calls do with the panel, on which the status of every device is right
// now. do must not keep it.
func (f *Fleet) survey(ctx context.Context, do func(*panel)) error {
	if err := f.Load(ctx); err != nil {
		return err
	}
	f.index.asking.Lock()
	defer f.index.asking.Unlock()
	p, now := f.index.take(), f.now()
	stale := make([]bool, len(p.groups.texts))
	for n, id := range p.groups.texts {
		g, err := f.gauge(ctx, id)
		if err != nil {
			return err
		}
		if n == len(p.gauges) {
			p.gauges = append(p.gauges, nil)
		}
		stale[n] = p.gauges[n] != g
		p.gauges[n] = g
	}
	if slices.Contains(stale, true) {
		p.forget(stale)
	}
	at := now.UnixNano()
	for n := range p.dials {
		if n%(1<<14) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if d := &p.dials[n]; at < d.from || at >= d.until {
			d.read(p.gauges[d.group], now)
		}
	}
	do(p)
	return nil
}

// forget drops what was read of the devices of some groups.
func (p *panel) forget(groups []bool) {
	for n := range p.dials {
		if d := &p.dials[n]; groups[d.group] {
			d.from = math.MaxInt64
		}
	}
}

// warm keeps the panel fresh, so that who asks for a page finds little to read.
func (f *Fleet) warm(ctx context.Context) error { return f.survey(ctx, func(*panel) {}) }

// groupsOf returns the gauges of all groups that have devices.
func (p *panel) groupsOf() map[identity.Group]*posture.Gauge {
	of := make(map[identity.Group]*posture.Gauge, len(p.gauges))
	for id, n := range p.groups.numbers {
		of[id] = p.gauges[n]
	}
	return of
}
