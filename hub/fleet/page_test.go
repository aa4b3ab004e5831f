package fleet_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// crowd is a world with devices that all kinds of things happen to.
type crowd struct {
	*world
	r        *rand.Rand
	ids      []identity.Device
	sessions map[identity.Device]string
	n        int
}

func newCrowd(t testing.TB, seed uint64) *crowd {
	c := &crowd{world: newWorld(t), r: rand.New(rand.NewPCG(seed, 7)), sessions: map[identity.Device]string{}}
	c.must1(c.SetGroup(t.Context(), "admin", "timed", operator.SetGroup{Simulation: true, Text: "policy timed\n" +
		"require crypto.entropy claimed 2h\n" +
		"when rows[\"app.debug\"].age > duration(\"3h\") && device.release != \"pump 9\" weak \"old\"\n" +
		"when rows[\"app.watchdog\"].verdict == \"fail\" unmet \"no watchdog\"\n"}))
	return c
}

// happen does something to one of the devices. What is refused is as good.
func (c *crowd) happen() {
	ctx := c.t.Context()
	if len(c.ids) < 5 || len(c.ids) < 50 && c.r.IntN(3) == 0 {
		id := identity.Device(fmt.Sprintf("%s-%d", []string{"Pump", "valve", "box"}[c.r.IntN(3)], len(c.ids)))
		c.addByEK(id, []identity.Group{"pumps", "bench", "timed"}[c.r.IntN(3)])
		c.ids = append(c.ids, id)
		return
	}
	id := c.ids[c.r.IntN(len(c.ids))]
	birth, operational := "b-"+string(id), "1-"+string(id)
	switch c.r.IntN(13) {
	case 0, 1:
		s := tpm(string(id))
		if e, err := c.Claim(ctx, s); err == nil && c.Bind(ctx, e.Device, s) == nil {
			c.must(c.RefuseBirth(ctx, s, "it was a bad birth"))
		}
	case 2, 3:
		if s := tpm(string(id)); c.isNew(id) {
			c.born(s, birth)
		}
	case 4, 5, 6:
		var rows []measure.Row
		for _, id := range measure.IDs() {
			if c.r.IntN(12) > 0 {
				v := []measure.Verdict{measure.Pass, measure.Pass, measure.Pass, measure.Pass, measure.Pass, measure.Pass, measure.Pass, measure.Fail}[c.r.IntN(8)]
				rows = append(rows, measure.Row{Measure: id, Verdict: v, Grade: measure.Observed, Reason: "so", Time: c.clock().Add(time.Duration(c.r.IntN(8)-6) * time.Hour)})
			}
		}
		if c.r.IntN(2) == 0 {
			rows = slices.DeleteFunc(rows, func(r measure.Row) bool { return r.Verdict == measure.Fail })
		}
		_, _ = c.Appraised(ctx, id, fmt.Sprintf("pump %d", c.r.IntN(12)), nil, rows)
	case 7:
		if life, err := c.Grant(ctx, id, pki.Birth); err == nil {
			c.must(c.Certificate(ctx, id, fleet.Certificate{Serial: operational, NotBefore: c.clock(), NotAfter: c.clock().Add(life), Lifetime: life}))
		}
	case 8, 9:
		p := peer(pki.Operational, id, operational)
		if c.r.IntN(4) == 0 {
			p = peer(pki.Birth, id, birth)
		}
		if a, err := c.Admit(ctx, p); err == nil && c.sessions[id] == "" {
			c.n++
			c.sessions[id] = fmt.Sprint("s", c.n)
			c.must1(c.SessionOpened(ctx, p, c.sessions[id], a.Mode, c.handshake()))
		}
	case 10:
		if s := c.sessions[id]; s != "" {
			c.SessionClosed(ctx, id, s)
			delete(c.sessions, id)
		}
	case 11:
		verb := []string{fleet.Quarantine, fleet.Restore, fleet.Restore, fleet.Revoke}[c.r.IntN(4)]
		if _, err := c.Act(ctx, "admin", id, verb, "because"); err == nil && verb == fleet.Revoke && c.sessions[id] != "" {
			c.SessionClosed(ctx, id, c.sessions[id])
			delete(c.sessions, id)
		}
	case 12:
		c.pass(time.Duration(c.r.IntN(40)) * time.Minute)
	}
}

func (c *crowd) isNew(id identity.Device) bool {
	d, err := c.Device(c.t.Context(), id)
	c.must(err)
	return d.Born.IsZero() && d.Status != posture.Revoked
}

// want is a row of a page, made of what Device says.
func (c *crowd) want(id identity.Device) operator.Summary {
	c.t.Helper()
	d, err := c.Device(c.t.Context(), id)
	c.must(err)
	s := operator.Summary{ID: d.ID, Group: d.Group, Status: d.Status, Reason: d.Reason, Release: d.Release, LastSeen: d.LastSeen, Connected: d.Connected}
	if d.Certificate != nil {
		s.NotAfter = d.Certificate.NotAfter
	}
	for _, o := range d.Decision.Outcomes {
		*map[posture.Standing]*int{posture.Met: &s.Met, posture.Weak: &s.Weak, posture.Unmet: &s.Unmet}[o.Standing]++
	}
	for _, r := range d.Posture {
		*map[measure.Verdict]*int{measure.Pass: &s.Pass, measure.Fail: &s.Fail, measure.Unknown: &s.Unknown}[r.Verdict]++
	}
	return s
}

// pages reads all that a query selects, few at a time.
func (c *crowd) pages(q operator.FleetQuery) ([]operator.Summary, operator.FleetPage) {
	c.t.Helper()
	q.Limit = 7
	var all []operator.Summary
	for {
		p, err := c.Page(c.t.Context(), q)
		c.must(err)
		all = append(all, p.Devices...)
		if p.Next == "" {
			return all, p
		}
		if len(p.Devices) != q.Limit {
			c.t.Errorf("%+v: a page of %d that is not the last", q, len(p.Devices))
		}
		q.After = p.Next
	}
}

// agree holds every kind of page against what Device says.
func (c *crowd) agree() map[posture.Status]int {
	c.t.Helper()
	var all []operator.Summary
	counts := map[posture.Status]int{}
	for _, id := range c.ids {
		s := c.want(id)
		all = append(all, s)
		counts[s.Status]++
	}
	for _, q := range []operator.FleetQuery{{}, {Group: "pumps"}, {Group: "timed", Sort: "status"}, {Status: posture.Quarantined}, {Status: posture.Offline, Sort: "-seen"},
		{Search: "PUMP"}, {Search: "-1", Sort: "group"}, {Sort: "-release"}, {Sort: "seen"}, {Sort: "-status", Group: "bench"}, {Groups: []identity.Group{"bench", "timed"}}, {Groups: []identity.Group{}}} {
		selected := slices.Clone(all)
		selected = slices.DeleteFunc(selected, func(s operator.Summary) bool {
			return q.Group != "" && s.Group != q.Group || q.Groups != nil && !slices.Contains(q.Groups, s.Group) ||
				!strings.Contains(strings.ToLower(string(s.ID)), strings.ToLower(q.Search))
		})
		wantCounts := map[posture.Status]int{}
		for _, s := range selected {
			wantCounts[s.Status]++
		}
		selected = slices.DeleteFunc(selected, func(s operator.Summary) bool { return q.Status != "" && s.Status != q.Status })
		got, last := c.pages(q)
		if last.Total != len(selected) || !cmp.Equal(last.Counts, wantCounts) {
			c.t.Errorf("%+v: total %d and %v, want %d and %v", q, last.Total, last.Counts, len(selected), wantCounts)
		}
		inOrder(c.t, q.Sort, got)
		byID := func(a, b operator.Summary) int { return strings.Compare(string(a.ID), string(b.ID)) }
		slices.SortFunc(got, byID)
		slices.SortFunc(selected, byID)
		if diff := cmp.Diff(selected, got); diff != "" && len(got)+len(selected) > 0 {
			c.t.Errorf("%+v: Page and Device differ (-Device +Page):\n%s", q, diff)
		}
	}
	return counts
}

// inOrder checks the order of a page.
func inOrder(t testing.TB, sort string, ss []operator.Summary) {
	t.Helper()
	order, down := strings.CutPrefix(sort, "-")
	weight := []posture.Status{posture.Quarantined, posture.Refused, posture.Pending, posture.Degraded, posture.Offline, posture.Connected, posture.Trusted, posture.Revoked}
	for i := 1; i < len(ss); i++ {
		a, b := ss[i-1], ss[i]
		if down {
			a, b = b, a
		}
		same, less := false, false
		switch order {
		case "group":
			same, less = a.Group == b.Group, a.Group < b.Group
		case "status":
			same, less = a.Status == b.Status, slices.Index(weight, a.Status) < slices.Index(weight, b.Status)
		case "release":
			var m, n int
			fmt.Sscanf(a.Release, "pump %d", &m)
			fmt.Sscanf(b.Release, "pump %d", &n)
			same, less = a.Release == b.Release, a.Release == "" || b.Release != "" && m < n
		case "seen":
			same, less = a.LastSeen.Unix() == b.LastSeen.Unix(), a.LastSeen.Before(b.LastSeen)
			same = same && a.Connected == b.Connected
			less = less || b.Connected && !a.Connected
		default:
			same = true
		}
		if !less && !(same && a.ID < b.ID) {
			t.Errorf("sorted by %q, %s comes before %s", sort, ss[i-1].ID, ss[i].ID)
		}
	}
}

// TestPageSaysWhatDeviceSays lets random things happen to random fleets.
func TestPageSaysWhatDeviceSays(t *testing.T) {
	seen := map[posture.Status]int{}
	for seed := range uint64(3) {
		c := newCrowd(t, seed)
		for range 8 {
			for range 60 {
				c.happen()
			}
			for status, n := range c.agree() {
				seen[status] += n
			}
			c.pass(time.Duration(c.r.IntN(120)) * time.Minute) // time alone changes much
			c.agree()
		}
		for id, s := range c.sessions {
			c.SessionClosed(t.Context(), id, s)
		}
		c.restart()
		c.agree()
		c.must1(c.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{PolicyName: posture.Lenient, Simulation: true}))
		c.agree()
	}
	for _, s := range []posture.Status{posture.Refused, posture.Trusted, posture.Degraded, posture.Quarantined, posture.Offline, posture.Revoked} {
		if seen[s] == 0 {
			t.Errorf("no device was ever %s: the test shows little (%v)", s, seen)
		}
	}
}

func TestPageRefuses(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	w.addByEK("pump-02", "pumps")
	p, err := w.Page(t.Context(), operator.FleetQuery{Limit: 1, Sort: "-seen"})
	w.must(err)
	if p.Next == "" || p.Total != 2 {
		t.Fatalf("%+v, want a page of two", p)
	}
	code := base64.RawURLEncoding.EncodeToString
	for name, q := range map[string]operator.FleetQuery{
		"negative limit":              {Limit: -1},
		"a large limit":               {Limit: 501},
		"no such order":               {Sort: "colour"},
		"twice turned round":          {Sort: "--id"},
		"no such status":              {Status: "happy"},
		"a long search":               {Search: strings.Repeat("a", 129)},
		"the next of another order":   {Sort: "seen", After: p.Next},
		"a next that is none":         {After: "x"},
		"a next of something else":    {After: code([]byte(`{"s":"id","i":"a","x":1}`))},
		"a next without a device":     {After: code([]byte(`{"s":"id"}`))},
		"a next that is not base64":   {After: "!!"},
		"a next that is far too long": {After: strings.Repeat("a", 2000)},
	} {
		_, err := w.Page(t.Context(), q)
		if fault.Of(err) != fault.Invalid || err == nil {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

// TestPagesStayWhileDevicesComeAndGo: the next page begins behind the last one's
// place, whatever was added before it.
func TestPagesStayWhileDevicesComeAndGo(t *testing.T) {
	w := newWorld(t)
	for i := range 10 {
		w.addByEK(identity.Device(fmt.Sprintf("pump-%02d", 10*i)), "pumps")
	}
	q := operator.FleetQuery{Limit: 4}
	var got []string
	for n := 0; ; n++ {
		p, err := w.Page(t.Context(), q)
		w.must(err)
		for _, d := range p.Devices {
			got = append(got, string(d.ID))
		}
		if p.Next == "" {
			break
		}
		q.After = p.Next
		w.addByEK(identity.Device(fmt.Sprintf("pump-%02d", n+1)), "pumps") // among what was seen
	}
	if want := "pump-00 pump-10 pump-20 pump-30 pump-40 pump-50 pump-60 pump-70 pump-80 pump-90"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// TestOutlinesAreMadeForAnOldDatabase: one of an earlier version has none, or
// those of another catalogue.
func TestOutlinesAreMadeForAnOldDatabase(t *testing.T) {
	for name, spoil := range map[string]string{
		"it has none":        `DELETE FROM fleet_outline`,
		"one is missing":     `DELETE FROM fleet_outline WHERE id = 'pump-01'`,
		"another catalogue":  `UPDATE fleet_outline SET marks = x'00010203' || substr(marks, 5)`,
		"a piece is missing": `UPDATE fleet_outline SET marks = substr(marks, 1, 3)`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.healthy("pump-01", "pumps")
			w.addByEK("pump-02", "pumps")
			w.SessionClosed(t.Context(), "pump-01", "s1")
			want, err := w.Page(t.Context(), operator.FleetQuery{})
			w.must(err)
			db, err := sql.Open("sqlite", "file:"+w.path)
			w.must(err)
			_, err = db.Exec(spoil)
			w.must(err)
			w.must(db.Close())
			for range 2 { // made, then read
				w.restart()
				got, err := w.Page(t.Context(), operator.FleetQuery{})
				w.must(err)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			}
			whole := true
			w.must(w.store.Fleet().Outlines(t.Context(), func(_ identity.Device, o *fleet.Outline) error {
				whole = whole && o != nil
				return nil
			}))
			if !whole {
				t.Error("a device still has no outline in the store")
			}
		})
	}
}

// TestLoadTellsItsProgress in the log.
func TestLoadTellsItsProgress(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	db, err := sql.Open("sqlite", "file:"+w.path)
	w.must(err)
	_, err = db.Exec(`DELETE FROM fleet_outline`)
	w.must(err)
	w.must(db.Close())
	var log bytes.Buffer
	f, err := fleet.New(fleet.Config{Store: w.store.Fleet(), Ledger: w.ledger, Sessions: w.gate, Log: slog.New(slog.NewTextHandler(&log, nil)), Now: w.clock})
	w.must(err)
	w.must(f.Load(t.Context()))
	if !strings.Contains(log.String(), "done=1 of=1") {
		t.Errorf("the log says %q, nothing of the progress", log.String())
	}
}

// failing is a store that cannot be read at first.
type failing struct {
	fleet.Store
	times int
}

func (s *failing) Outlines(ctx context.Context, each func(identity.Device, *fleet.Outline) error) error {
	if s.times--; s.times >= 0 {
		return fmt.Errorf("disk is gone")
	}
	return s.Store.Outlines(ctx, each)
}

func TestLoadTriesAgain(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	f := w.over(&failing{w.store.Fleet(), 1})
	if _, err := f.Page(t.Context(), operator.FleetQuery{}); err == nil {
		t.Error("a page of a store that cannot be read")
	}
	p, err := f.Page(t.Context(), operator.FleetQuery{})
	w.must(err)
	if p.Total != 1 {
		t.Errorf("%+v, want one device", p)
	}
}

func TestReleaseIsOfTheLastAppraisal(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	is := func(want string) {
		t.Helper()
		p, err := w.Page(t.Context(), operator.FleetQuery{})
		w.must(err)
		d, err := w.Device(t.Context(), "pump-01")
		w.must(err)
		if p.Devices[0].Release != want || d.Release != want {
			t.Errorf("release %q and %q, want %q", p.Devices[0].Release, d.Release, want)
		}
	}
	is("")
	w.must1(w.Appraised(t.Context(), "pump-01", "pump 1.2", nil, w.appraisal()))
	is("pump 1.2")
	w.must1(w.Appraised(t.Context(), "pump-01", "", nil, w.rows(measure.Fail, measure.Attested, measure.IdentityAttestation)))
	is("") // what it runs now nobody knows
	w.must1(w.Appraised(t.Context(), "pump-01", "pump 1.3", nil, w.appraisal()))
	w.born(tpm("pump-01"), "b2")
	is("") // the old AK's word
}

func TestDevicesInPortions(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.addByEK(identity.Device(fmt.Sprintf("pump-%d", i)), []identity.Group{"pumps", "bench"}[i%2])
	}
	for _, tt := range []struct {
		q    operator.FleetQuery
		want string
	}{
		{operator.FleetQuery{Limit: 2}, "pump-0 pump-1"},
		{operator.FleetQuery{Limit: 2, After: "pump-1"}, "pump-2 pump-3"},
		{operator.FleetQuery{After: "pump-3"}, "pump-4"},
		{operator.FleetQuery{After: "pump-4"}, ""},
		{operator.FleetQuery{Group: "bench"}, "pump-1 pump-3"},
		{operator.FleetQuery{Groups: []identity.Group{"pumps"}}, "pump-0 pump-2 pump-4"},
		{operator.FleetQuery{Status: posture.Trusted}, ""},
	} {
		ds, err := w.Devices(t.Context(), tt.q)
		w.must(err)
		var ids []string
		for _, d := range ds {
			ids = append(ids, string(d.ID))
		}
		if got := strings.Join(ids, " "); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.q, got, tt.want)
		}
	}
}
