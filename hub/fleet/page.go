package fleet

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json/v2"
	"fmt"
	"math"
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
	return f.view(r, g), nil
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
	s := operator.Summary{ID: d.ID, Group: d.Group, Status: d.Status, Reason: d.Reason, Release: d.Release, LastSeen: d.LastSeen, Connected: d.Connected}
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

// takes reports whether an item is selected, but for its status.
func (s *selection) takes(i *item) bool {
	return (s.Group == "" || i.Group == s.Group) &&
		(!s.hidden || slices.Contains(s.Groups, i.Group)) &&
		(s.search == "" || strings.Contains(strings.ToLower(string(i.ID)), s.search))
}

// place is where a device stands in an order: what it is sorted by, and its id.
// The next page begins behind the last one's place, whatever came or went since.
type place struct {
	Sort   string          `json:"s"`
	Number int64           `json:"n,omitempty"`
	Text   string          `json:"t,omitempty"`
	ID     identity.Device `json:"i"`
}

func (s *selection) place(i *item, status posture.Status) place {
	p := place{Sort: s.direction(), ID: i.ID}
	switch s.sort {
	case byGroup:
		p.Text = string(i.Group)
	case byStatus:
		p.Number = int64(slices.Index(weights, status))
	case byRelease:
		p.Text = i.Release
	case bySeen:
		p.Number = math.MaxInt64 // now
		if !i.live {
			p.Number = i.LastSeen.Unix()
		}
	}
	return p
}

// before compares two places in the selection's order.
func (s *selection) before(a, b place) int {
	c := cmp.Or(cmp.Compare(a.Number, b.Number), natural(a.Text, b.Text), cmp.Compare(a.ID, b.ID))
	if s.down {
		return -c
	}
	return c
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

// ranked is an item and its place.
type ranked struct {
	place
	item *item
}

// choose goes through all items: it counts, and keeps the first that come
// behind the page before, and one more to see whether these are the last.
func (f *Fleet) choose(ctx context.Context, s *selection) (chosen, error) {
	c := chosen{counts: make(map[posture.Status]int)}
	var first []ranked
	err := f.each(ctx, func(i *item, status posture.Status) {
		c.counts[status]++
		if s.Status != "" && status != s.Status {
			return
		}
		c.total++
		p := s.place(i, status)
		if s.after != nil && s.before(p, *s.after) <= 0 || len(first) > s.Limit && s.before(p, first[s.Limit].place) >= 0 {
			return
		}
		at, _ := slices.BinarySearchFunc(first, p, func(r ranked, p place) int { return s.before(r.place, p) })
		first = slices.Insert(first[:min(len(first), s.Limit)], at, ranked{p, i})
	}, s.takes)
	if err != nil {
		return c, err
	}
	if len(first) > s.Limit {
		first = first[:s.Limit]
		if c.next, err = first[s.Limit-1].text(); err != nil {
			return c, err
		}
	}
	for _, r := range first {
		c.ids = append(c.ids, r.ID)
	}
	return c, nil
}

// each calls do with every device that takes lets pass, in no order, and its
// status now.
func (f *Fleet) each(ctx context.Context, do func(*item, posture.Status), takes func(*item) bool) error {
	if err := f.Load(ctx); err != nil {
		return err
	}
	now, gs := f.now(), f.newGauges()
	f.index.asking.Lock()
	defer f.index.asking.Unlock()
	items := f.index.all()
	step, at := stride(len(items)), 0
	for n := range items {
		if n%(1<<14) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		i := items[at]
		at = (at + step) % len(items)
		if !takes(i) {
			continue
		}
		g, err := gs.get(ctx, i.Group)
		if err != nil {
			return err
		}
		do(i, i.status(i.read(g, now), g.Policy()))
	}
	return nil
}

// stride is by which steps to go through n items so that each comes once and
// none in their order: who keeps the first of what comes has little to move.
func stride(n int) int {
	const golden = 0.618
	step := max(1, int(golden*float64(n)))
	for gcd(step, n) > 1 {
		step++
	}
	return step
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// warm keeps the readings of all devices fresh, so that who asks for a page
// finds few that have to be made.
func (f *Fleet) warm(ctx context.Context) error {
	return f.each(ctx, func(*item, posture.Status) {}, func(*item) bool { return true })
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
	err = f.each(ctx, func(i *item, status posture.Status) {
		if string(i.ID) > q.After && (q.Status == "" || status == q.Status) {
			ids = append(ids, i.ID)
		}
	}, s.takes)
	if err != nil {
		return nil, err
	}
	slices.Sort(ids)
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
