package fleet

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json/v2"
	"fmt"
	"slices"
	"strings"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// The limits of a page.
const (
	defaultPage = 50
	maxPage     = 500
	maxSearch   = identity.MaxDevice
	maxCursor   = 1 << 10 // bytes
)

// The orders of a page.
const (
	byID      = "id"
	byGroup   = "group"
	byStatus  = "status"
	byRelease = "release"
	bySeen    = "seen"
)

// weights are the statuses in the order of a page by status: what wants an
// operator's eye first.
var weights = []posture.Status{posture.Quarantined, posture.Refused, posture.Pending, posture.Degraded, posture.Offline, posture.Connected, posture.Trusted, posture.Revoked}

// Page returns some of the devices that a query selects, how many it selects,
// and how many of each status. What it says of a device is what Device says.
// Which devices it selects follows from the same facts; of a group whose policy
// has conditions on the time, from those of a minute ago at most.
func (f *Fleet) Page(ctx context.Context, q operator.FleetQuery) (operator.FleetPage, error) {
	q.Limit = cmp.Or(q.Limit, defaultPage)
	if q.Limit < 1 || q.Limit > maxPage {
		return operator.FleetPage{}, fault.New(fault.Invalid, "limit %d: want 1 to %d", q.Limit, maxPage)
	}
	s, err := newSelection(q)
	if err != nil {
		return operator.FleetPage{}, err
	}
	c, err := f.choose(ctx, s)
	if err != nil {
		return operator.FleetPage{}, err
	}
	page := operator.FleetPage{Devices: make([]operator.Summary, 0, len(c.ids)), Next: c.next, Total: c.total, Counts: c.counts}
	for _, id := range c.ids {
		d, err := f.look(ctx, id)
		if err != nil {
			return operator.FleetPage{}, err
		}
		if q.Status == "" || d.Status == q.Status { // it may have changed since it was chosen
			page.Devices = append(page.Devices, summary(d))
		}
	}
	return page, nil
}

// look is Device for who only looks: it waits for no act on the device.
func (f *Fleet) look(ctx context.Context, id identity.Device) (operator.Device, error) {
	r, err := f.peek(ctx, id)
	if err != nil {
		return operator.Device{}, err
	}
	g, err := f.group(ctx, r.Group)
	if err != nil {
		return operator.Device{}, err
	}
	return f.view(ctx, r, g), nil
}

// peek is read for who does not hold the device's lock: what it returns was
// written, though another act may be changing it.
func (f *Fleet) peek(ctx context.Context, id identity.Device) (Record, error) {
	f.mu.Lock()
	r, ok := f.records[id]
	f.mu.Unlock()
	if ok {
		return r, nil
	}
	return f.cfg.Store.Device(ctx, id)
}

// summary is a device in a list.
func summary(d operator.Device) operator.Summary {
	s := operator.Summary{ID: d.ID, Group: d.Group, Status: d.Status, Reason: d.Reason, Release: d.Release, Firmware: d.Firmware, LastSeen: d.LastSeen, Connected: d.Connected}
	if d.Certificate != nil {
		s.NotAfter = d.Certificate.NotAfter
	}
	for _, o := range d.Decision.Outcomes {
		switch o.Standing {
		case posture.Met:
			s.Met++
		case posture.Weak:
			s.Weak++
		default:
			s.Unmet++
		}
	}
	for _, r := range d.Posture {
		switch r.Verdict {
		case measure.Pass:
			s.Pass++
		case measure.Fail:
			s.Fail++
		default:
			s.Unknown++
		}
	}
	return s
}

// selection is a query in the form in which items are held against it.
type selection struct {
	operator.FleetQuery
	search string // in lower case
	hidden bool   // some groups are
	sort   string // without its direction
	down   bool
	after  *place
}

func newSelection(q operator.FleetQuery) (*selection, error) {
	s := &selection{FleetQuery: q, search: strings.ToLower(q.Search), hidden: q.Groups != nil}
	s.sort, s.down = strings.CutPrefix(cmp.Or(q.Sort, byID), "-")
	switch {
	case !slices.Contains([]string{byID, byGroup, byStatus, byRelease, bySeen}, s.sort):
		return nil, fault.New(fault.Invalid, "sort %.40q: want id, group, status, release or seen, with a \"-\" in front to turn it round", q.Sort)
	case len(q.Search) > maxSearch:
		return nil, fault.New(fault.Invalid, "search has %d bytes, at most %d are allowed", len(q.Search), maxSearch)
	case q.Status != "" && !slices.Contains(weights, q.Status):
		return nil, fault.New(fault.Invalid, "status %.40q: there is none of that name", string(q.Status))
	}
	if q.After == "" {
		return s, nil
	}
	p, err := parsePlace(q.After)
	if err != nil || p.Sort != s.direction() {
		return nil, fault.New(fault.Invalid, "after: that is no page's next in this order")
	}
	s.after = &p
	return s, nil
}

func (s *selection) direction() string {
	if s.down {
		return "-" + s.sort
	}
	return s.sort
}

// place is where a device stands in an order: what it is sorted by, and its id.
// The next page begins behind the last one's place, whatever came or went since.
type place struct {
	Sort   string          `json:"s"`
	Number int64           `json:"n,omitempty"`
	Text   string          `json:"t,omitempty"`
	ID     identity.Device `json:"i"`
}

// natural compares texts so that "pump 1.10" comes after "pump 1.9".
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x == 0 || y == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		m, n := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
		if c := cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n), cmp.Compare(x, y)); c != 0 {
			return c
		}
		a, b = a[x:], b[y:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits returns how many digits s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// text is the place as operators hand it back.
func (p place) text() (string, error) {
	b, err := json.Marshal(p)
	return base64.RawURLEncoding.EncodeToString(b), err
}

func parsePlace(s string) (place, error) {
	var p place
	if len(s) > maxCursor {
		return p, fmt.Errorf("%d bytes", len(s))
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(b, &p, json.RejectUnknownMembers(true)); err != nil {
		return p, err
	}
	_, err = identity.ParseDevice(string(p.ID))
	return p, err
}

// chosen is what a selection found.
type chosen struct {
	ids    []identity.Device // in order, at most the limit
	next   string
	total  int
	counts map[posture.Status]int
}

// key is where a device stands in an order: smaller ones come first.
type key struct {
	by int64 // what is sorted by
	at int64 // place among all ids
}

func (a key) compare(b key) int { return cmp.Or(cmp.Compare(a.by, b.by), cmp.Compare(a.at, b.at)) }

// order returns what a selection sorts the dials of a panel by, and the key of
// the place behind which it begins.
func (s *selection) order(p *panel) (by func(*dial) int64, after key) {
	a := cmp.Or(s.after, &place{})
	after = key{by: a.Number, at: p.place(a.ID)}
	switch s.sort {
	case byGroup:
		ranks, rank := p.groups.ranks(cmp.Compare)
		after.by = rank(identity.Group(a.Text))
		return func(d *dial) int64 { return ranks[d.group] }, after
	case byRelease:
		ranks, rank := p.releases.ranks(natural)
		after.by = rank(a.Text)
		return func(d *dial) int64 { return ranks[d.release] }, after
	case byStatus:
		return func(d *dial) int64 { return int64(d.status) }, after
	case bySeen:
		return func(d *dial) int64 { return d.seen }, after
	}
	return func(*dial) int64 { return 0 }, after
}

// place is where a device stands in the selection's order, for the next page.
func (s *selection) place(d *dial) place {
	p := place{Sort: s.direction(), ID: d.item.ID}
	switch s.sort {
	case byGroup:
		p.Text = string(d.item.Group)
	case byRelease:
		p.Text = d.item.Release
	case byStatus:
		p.Number = int64(d.status)
	case bySeen:
		p.Number = d.seen
	}
	return p
}

// shown says of each group whether the selection takes its devices.
func (s *selection) shown(p *panel) []bool {
	shown := make([]bool, len(p.groups.texts))
	for n, g := range p.groups.texts {
		shown[n] = (s.Group == "" || g == s.Group) && (!s.hidden || slices.Contains(s.Groups, g))
	}
	return shown
}

// choose counts what a selection takes, and keeps what comes first behind the
// page before.
func (f *Fleet) choose(ctx context.Context, s *selection) (c chosen, err error) {
	var wrong error
	err = f.survey(ctx, func(p *panel) { c, wrong = s.choose(p) })
	return c, cmp.Or(err, wrong)
}

func (s *selection) choose(p *panel) (chosen, error) {
	c := chosen{counts: make(map[posture.Status]int)}
	by, after := s.order(p)
	shown, wanted := s.shown(p), slices.Index(weights, s.Status)
	counts := make([]int, len(weights))
	f := first{most: s.Limit + 1, down: s.down}
	for i := range p.dials {
		n := i
		if s.down { // so that few that are kept make room for others
			n = len(p.dials) - 1 - i
		}
		d := &p.dials[n]
		if !shown[d.group] || s.search != "" && !strings.Contains(p.id(n), s.search) {
			continue
		}
		counts[d.status]++
		if wanted >= 0 && int(d.status) != wanted {
			continue
		}
		c.total++
		if k := (key{by(d), 2 * int64(n)}); s.after == nil || f.before(after, k) {
			f.keep(k)
		}
	}
	for n, status := range weights {
		if counts[n] > 0 {
			c.counts[status] = counts[n]
		}
	}
	var err error
	if len(f.keys) > s.Limit {
		f.keys = f.keys[:s.Limit]
		c.next, err = s.place(&p.dials[f.keys[s.Limit-1].at/2]).text()
	}
	for _, k := range f.keys {
		c.ids = append(c.ids, p.dials[k.at/2].item.ID)
	}
	return c, err
}

// first keeps the first keys of what comes, in order.
type first struct {
	keys []key
	most int
	down bool // the largest come first
}

func (f *first) before(a, b key) bool {
	if f.down {
		return b.compare(a) < 0
	}
	return a.compare(b) < 0
}

func (f *first) keep(k key) {
	n := len(f.keys)
	if n == f.most {
		if !f.before(k, f.keys[n-1]) {
			return
		}
		f.keys = f.keys[:n-1]
	}
	at, _ := slices.BinarySearchFunc(f.keys, k, func(have, k key) int {
		if f.before(have, k) {
			return -1
		}
		return 1
	})
	f.keys = slices.Insert(f.keys, at, k)
}

// Count returns how many devices there are.
func (f *Fleet) Count(ctx context.Context) (int, error) {
	if err := f.Load(ctx); err != nil {
		return 0, err
	}
	f.index.mu.Lock()
	defer f.index.mu.Unlock()
	return len(f.index.items), nil
}

// Devices returns the devices that q selects, by id: those after the device
// that q.After names, and at most q.Limit of them where that is not 0. Its
// order and search count for nothing.
func (f *Fleet) Devices(ctx context.Context, q operator.FleetQuery) ([]operator.Device, error) {
	s, err := newSelection(operator.FleetQuery{Group: q.Group, Status: q.Status, Groups: q.Groups})
	if err != nil {
		return nil, err
	}
	var ids []identity.Device
	err = f.survey(ctx, func(p *panel) {
		shown, wanted := s.shown(p), slices.Index(weights, s.Status)
		for n := range p.dials {
			d := &p.dials[n]
			if shown[d.group] && string(d.item.ID) > q.After && (wanted < 0 || int(d.status) == wanted) {
				ids = append(ids, d.item.ID)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	out := []operator.Device{}
	for _, id := range ids {
		if q.Limit > 0 && len(out) == q.Limit {
			break
		}
		d, err := f.look(ctx, id)
		if err != nil {
			return nil, err
		}
		if q.Status == "" || d.Status == q.Status {
			out = append(out, d)
		}
	}
	return out, nil
}
