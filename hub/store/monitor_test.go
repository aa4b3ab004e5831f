package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/fault"
	"holdfast/hub/monitor"
	"holdfast/hub/store"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func openMonitor(t *testing.T) store.Monitor {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.Monitor()
}

func apply(t *testing.T, m store.Monitor, cs ...monitor.Change) {
	t.Helper()
	if err := m.Apply(t.Context(), nil, cs); err != nil {
		t.Fatal(err)
	}
}

func alerts(t *testing.T, m store.Monitor, q operator.AlertQuery) []operator.Alert {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 100
	}
	as, err := m.Alerts(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return as
}

func bad(id identity.Device, group identity.Group, at time.Time) monitor.Raise {
	return monitor.Raise{Subject: string(id), Kind: monitor.Quarantined, Severity: "critical", Device: id, Group: group,
		From: posture.Trusted, To: posture.Quarantined, Reason: "odd", Time: at, Again: time.Hour}
}

func well(id identity.Device, at time.Time) monitor.Clear {
	return monitor.Clear{Subject: string(id), Kinds: []string{monitor.Quarantined}, Time: at}
}

func TestOneAlertIsOpenOfADeviceAndAKind(t *testing.T) {
	m := openMonitor(t)
	apply(t, m, bad("a", "g", noon), bad("a", "g", noon.Add(time.Minute)))
	want := operator.Alert{ID: "1", Time: noon, Device: "a", Group: "g", Kind: "quarantined", Severity: "critical",
		From: posture.Trusted, To: posture.Quarantined, Reason: "odd", Count: 2, Last: noon.Add(time.Minute)}
	if d := cmp.Diff([]operator.Alert{want}, alerts(t, m, operator.AlertQuery{})); d != "" {
		t.Error(d)
	}
	once := bad("a", "g", noon.Add(2*time.Minute))
	once.Once = true
	apply(t, m, once)
	if a := alerts(t, m, operator.AlertQuery{}); a[0].Count != 2 {
		t.Errorf("an alert that is raised once counts %d", a[0].Count)
	}
}

func TestFlappingOpensTheSameAlertAgain(t *testing.T) {
	m := openMonitor(t)
	at := noon
	for range 50 {
		apply(t, m, bad("a", "g", at), well("a", at.Add(time.Minute)))
		at = at.Add(2 * time.Minute)
	}
	as := alerts(t, m, operator.AlertQuery{})
	if len(as) != 1 || as[0].Count != 50 || as[0].Cleared.IsZero() {
		t.Fatalf("50 times bad and well: %+v", as)
	}
	if err := m.Acknowledge(t.Context(), "1", "alice", at); err != nil {
		t.Fatal(err)
	}
	apply(t, m, bad("a", "g", at))
	if a := alerts(t, m, operator.AlertQuery{Open: true}); len(a) != 1 || a[0].By != "" {
		t.Errorf("bad again after it was well: an acknowledgement of before counts: %+v", a)
	}
	apply(t, m, well("a", at), bad("a", "g", at.Add(2*time.Hour)))
	if as := alerts(t, m, operator.AlertQuery{}); len(as) != 2 {
		t.Errorf("bad again after hours: %d alerts", len(as))
	}
}

func TestAcknowledgedAlertStaysSo(t *testing.T) {
	m := openMonitor(t)
	apply(t, m, bad("a", "g", noon))
	for _, by := range []string{"alice", "mallory"} {
		if err := m.Acknowledge(t.Context(), "1", by, noon); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, m, bad("a", "g", noon.Add(time.Minute)))
	a, err := m.Alert(t.Context(), "1")
	if err != nil || a.By != "alice" || a.Count != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	for _, id := range []string{"2", "0", "-1", "x", ""} {
		if _, err := m.Alert(t.Context(), id); fault.Of(err) != fault.NotFound {
			t.Errorf("alert %q: %v", id, err)
		}
	}
}

func TestAlertsAreSelected(t *testing.T) {
	m := openMonitor(t)
	apply(t, m, bad("a", "g", noon), bad("b", "h", noon), bad("c", "g", noon), well("a", noon))
	apply(t, m, monitor.Raise{Subject: "ek", Kind: monitor.Pending, Time: noon})
	for name, tt := range map[string]struct {
		q    operator.AlertQuery
		want []string
	}{
		"all":         {operator.AlertQuery{}, []string{"4", "3", "2", "1"}},
		"open":        {operator.AlertQuery{Open: true}, []string{"4", "3", "2"}},
		"group":       {operator.AlertQuery{Group: "g"}, []string{"3", "1"}},
		"device":      {operator.AlertQuery{Device: "b"}, []string{"2"}},
		"after":       {operator.AlertQuery{After: "3"}, []string{"2", "1"}},
		"limit":       {operator.AlertQuery{Limit: 1}, []string{"4"}},
		"own groups":  {operator.AlertQuery{Groups: []identity.Group{"h", "x"}}, []string{"2"}},
		"no group":    {operator.AlertQuery{Groups: []identity.Group{}}, []string{}},
		"not its own": {operator.AlertQuery{Group: "g", Groups: []identity.Group{"h"}}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := []string{}
			for _, a := range alerts(t, m, tt.q) {
				got = append(got, a.ID)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	if _, err := m.Alerts(t.Context(), operator.AlertQuery{After: "x"}); fault.Of(err) != fault.NotFound {
		t.Errorf("after what is no alert: %v", err)
	}
}

func TestPlaceMovesOnlyWithWhatFollows(t *testing.T) {
	m := openMonitor(t)
	type strange struct{}
	if err := m.Apply(t.Context(), &monitor.Place{Seq: 7, Event: 3}, []monitor.Change{bad("a", "g", noon), strange{}}); err == nil {
		t.Fatal("a change that nobody knows was applied")
	}
	if p, err := m.Place(t.Context()); err != nil || p != (monitor.Place{}) {
		t.Errorf("place %+v, %v", p, err)
	}
	if as := alerts(t, m, operator.AlertQuery{}); len(as) != 0 {
		t.Errorf("half of it was done: %+v", as)
	}
	if err := m.Apply(t.Context(), &monitor.Place{Seq: 7, Event: 3}, nil); err != nil {
		t.Fatal(err)
	}
	if p, err := m.Place(t.Context()); err != nil || p != (monitor.Place{Seq: 7, Event: 3}) {
		t.Errorf("place %+v, %v", p, err)
	}
}

func TestVerdictsAreCounted(t *testing.T) {
	m := openMonitor(t)
	change := func(from, to measure.Verdict) monitor.VerdictChange {
		return monitor.VerdictChange{Measure: measure.AppDebug, From: from, To: to}
	}
	apply(t, m, change(measure.Unknown, measure.Pass), change(measure.Unknown, measure.Pass), change(measure.Pass, measure.Fail),
		change(measure.Pass, measure.Pass), change(measure.Fail, measure.Unknown), change(measure.Fail, measure.Unknown))
	got, err := m.Verdicts(t.Context())
	want := []monitor.VerdictCount{{Measure: measure.AppDebug, Verdict: measure.Fail, Devices: 0}, {Measure: measure.AppDebug, Verdict: measure.Pass, Devices: 1}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestPruneKeepsWhatIsOpen(t *testing.T) {
	m := openMonitor(t)
	for i := range 10 {
		apply(t, m, bad(identity.Device(string(rune('a'+i))), "g", noon.Add(time.Duration(i)*time.Minute)))
	}
	apply(t, m, well("a", noon), well("j", noon.Add(time.Hour)))
	left := func() []string {
		ids := []string{}
		for _, a := range alerts(t, m, operator.AlertQuery{}) {
			ids = append(ids, a.ID)
		}
		return ids
	}
	if err := m.PruneAlerts(t.Context(), noon.Add(30*time.Minute), 100); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"10", "9", "8", "7", "6", "5", "4", "3", "2"}, left()); d != "" {
		t.Errorf("by age: %s", d)
	}
	if err := m.PruneAlerts(t.Context(), time.Time{}, 6); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"9", "8", "7", "6", "5", "4"}, left()); d != "" {
		t.Errorf("by number, what is done with first: %s", d)
	}
}

func TestAlertsArePostedOnceAndInOrder(t *testing.T) {
	m := openMonitor(t)
	apply(t, m, bad("old", "g", noon))
	if _, err := m.Unposted(t.Context()); fault.Of(err) != fault.NotFound {
		t.Fatalf("what was there before anything was to be posted: %v", err)
	}
	apply(t, m, bad("a", "g", noon), bad("b", "g", noon))
	next := func(want string) {
		t.Helper()
		if a, err := m.Unposted(t.Context()); err != nil || a.ID != want {
			t.Fatalf("%+v, %v; want %s", a, err, want)
		}
	}
	next("2")
	next("2") // it was not posted yet
	for _, id := range []string{"2", "3"} {
		next(id)
		if err := m.Posted(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		apply(t, m, bad("a", "g", noon)) // counting is no reason to post again
	}
	if _, err := m.Unposted(t.Context()); fault.Of(err) != fault.NotFound {
		t.Errorf("all were posted: %v", err)
	}
}

func TestSamplesAreCondensed(t *testing.T) {
	m := openMonitor(t)
	for i := range 40 {
		if i >= 15 && i < 30 {
			continue // the hub was not running
		}
		if err := m.SaveSamples(t.Context(), noon.Add(time.Duration(i)*time.Minute), map[string]float64{"x": float64(i), "y": 1}); err != nil {
			t.Fatal(err)
		}
	}
	quarter := 15 * time.Minute
	for range 2 { // a second time changes nothing
		if err := m.Condense(t.Context(), quarter, noon.Add(2*quarter)); err != nil {
			t.Fatal(err)
		}
	}
	samples := func(step time.Duration) []monitor.Sample {
		xs, err := m.Samples(t.Context(), "x", step, noon, noon.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return xs
	}
	if d := cmp.Diff([]monitor.Sample{{At: noon, Value: 7}}, samples(quarter)); d != "" {
		t.Error(d)
	}
	if err := m.Condense(t.Context(), quarter, noon.Add(3*quarter)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]monitor.Sample{{At: noon, Value: 7}, {At: noon.Add(2 * quarter), Value: 34.5}}, samples(quarter)); d != "" {
		t.Error(d)
	}
	if err := m.DropSamples(t.Context(), time.Minute, noon.Add(39*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]monitor.Sample{{At: noon.Add(39 * time.Minute), Value: 39}}, samples(time.Minute)); d != "" {
		t.Error(d)
	}
}

func TestExpiringIsToldOnceUntilRenewed(t *testing.T) {
	m := openMonitor(t)
	e := monitor.Expiry{Device: "a", Warn: noon, NotAfter: noon.Add(time.Hour)}
	apply(t, m, monitor.Recorded{Device: "a", Status: posture.Trusted}, e)
	due := func(at time.Time) []monitor.Expiry {
		es, err := m.Expiring(t.Context(), at, 10)
		if err != nil {
			t.Fatal(err)
		}
		return es
	}
	if d := cmp.Diff([]monitor.Expiry{}, due(noon.Add(-1)), cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]monitor.Expiry{e}, due(noon)); d != "" {
		t.Error(d)
	}
	apply(t, m, monitor.Expiry{Device: "a", NotAfter: e.NotAfter})
	if es := due(noon); len(es) != 0 {
		t.Errorf("told twice: %+v", es)
	}
	if s, err := m.Recorded(t.Context(), "a"); s != posture.Trusted || err != nil {
		t.Errorf("its status is %q, %v", s, err)
	}
}

func TestProbeWrites(t *testing.T) {
	if err := openMonitor(t).Probe(t.Context(), noon); err != nil {
		t.Error(err)
	}
}
