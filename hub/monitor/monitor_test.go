package monitor_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/fault"
	"holdfast/hub/monitor"
	"holdfast/hub/store"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/ledger"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// world is a monitor on a real store, and what it looks at.
type world struct {
	t       testing.TB
	m       *monitor.Monitor
	db      *store.Store
	now     time.Time
	devices map[identity.Device]operator.Device
	events  []iothub.Message
	gauges  map[string]float64
	counts  map[string]uint64
	cfg     monitor.Config
}

func newWorld(t testing.TB, change func(*monitor.Config)) *world {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, db: db, now: noon, devices: map[identity.Device]operator.Device{}, counts: map[string]uint64{}}
	w.cfg = monitor.Config{Store: db.Monitor(), Ledger: db, Journal: w, Registry: w, Events: w, Log: slog.New(slog.DiscardHandler),
		Source: monitor.Source{Gauges: func(context.Context) (map[string]float64, error) {
			if w.gauges == nil {
				return nil, errors.New("nobody knows")
			}
			return w.gauges, nil
		}, Counters: func() map[string]uint64 { return maps.Clone(w.counts) }},
		Now: func() time.Time { return w.now }}
	if change != nil {
		change(&w.cfg)
	}
	w.restart()
	return w
}

// restart is a new process on the same store.
func (w *world) restart() {
	w.t.Helper()
	var err error
	if w.m, err = monitor.New(w.cfg); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) Device(_ context.Context, id identity.Device) (operator.Device, error) {
	d, ok := w.devices[id]
	if !ok {
		return d, fault.New(fault.NotFound, "there is no device %q", id)
	}
	return d, nil
}

func (w *world) Away(_ context.Context, each func(identity.Device, time.Time)) error {
	for id, d := range w.devices {
		if !d.Connected {
			each(id, d.LastSeen)
		}
	}
	return nil
}

func (w *world) Lifecycle(_ context.Context, _ identity.Device, since time.Time, each func(iothub.Message) error) error {
	for _, m := range w.events {
		if !m.Time.Before(since) {
			if err := each(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) Record(ctx context.Context, kind string, d identity.Device, details any) error {
	b, err := json.Marshal(details)
	if err != nil {
		return err
	}
	_, err = w.db.AppendLedger(ctx, ledger.Entry{Time: w.now, Kind: ledger.Kind(kind), Device: d, Details: b})
	return err
}

// record puts a record into the ledger; follow has the monitor read it.
func (w *world) record(kind string, d identity.Device, details map[string]any) {
	w.t.Helper()
	if err := w.Record(w.t.Context(), kind, d, details); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) status(d identity.Device, from, to posture.Status) {
	w.t.Helper()
	w.record("device.status", d, map[string]any{"from": from, "to": to, "reasons": []string{"because"}})
}

func (w *world) do(job func(context.Context) error) {
	w.t.Helper()
	if err := job(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// alerts returns the alerts as "subject kind severity count state", the oldest first.
func (w *world) alerts() []string {
	w.t.Helper()
	as, err := w.m.Alerts(w.t.Context(), operator.AlertQuery{Limit: 500})
	if err != nil {
		w.t.Fatal(err)
	}
	out := []string{}
	for _, a := range as {
		state := "open"
		if !a.Cleared.IsZero() {
			state = "cleared"
		}
		id := string(a.Device)
		if id == "" {
			id = "-"
		}
		out = append(out, strings.Join([]string{id, a.Kind, a.Severity, strings.Repeat("+", a.Count), state}, " "))
	}
	slices.Reverse(out)
	return out
}

func (w *world) want(alerts ...string) {
	w.t.Helper()
	if d := cmp.Diff(alerts, w.alerts(), cmpopts.EquateEmpty()); d != "" {
		w.t.Error(d)
	}
}

func TestStatusesBecomeAlerts(t *testing.T) {
	w := newWorld(t, nil)
	w.devices["a"] = operator.Device{ID: "a", Group: "pumps"}
	w.status("a", "", posture.Trusted)
	w.do(w.m.Follow)
	if as := w.alerts(); len(as) != 0 {
		t.Fatalf("a device that is well: %q", as)
	}
	w.status("a", posture.Trusted, posture.Degraded)
	w.do(w.m.Follow)
	w.want("a degraded warning + open")
	w.status("a", posture.Degraded, posture.Quarantined)
	w.do(w.m.Follow)
	w.want("a degraded warning + cleared", "a quarantined critical + open")
	w.status("a", posture.Quarantined, posture.Trusted)
	w.do(w.m.Follow)
	w.want("a degraded warning + cleared", "a quarantined critical + cleared")
	w.status("a", posture.Trusted, posture.Revoked)
	w.do(w.m.Follow)
	w.want("a degraded warning + cleared", "a quarantined critical + cleared", "a revoked info + open")
	as, err := w.m.Alerts(t.Context(), operator.AlertQuery{Group: "pumps", Limit: 1})
	if err != nil || len(as) != 1 || as[0].From != posture.Trusted || as[0].To != posture.Revoked || !strings.Contains(as[0].Reason, "because") {
		t.Errorf("%+v, %v", as, err)
	}
}

func TestWhoComesInBecomesAlerts(t *testing.T) {
	w := newWorld(t, nil)
	w.devices["b"] = operator.Device{ID: "b"}
	w.record("device.pending", "", map[string]any{"ek": "ek1", "subject": "TPM maker", "remote": "192.0.2.1"})
	w.record("device.refused", "b", map[string]any{"ek": "ek2"})
	w.record("device.refused", "", map[string]any{"ek": "ek3"})
	w.record("device.refused", "", nil)
	w.record("device.refused", "", nil)
	w.do(w.m.Follow)
	w.want("- pending info + open", "b refused warning + open", "- refused warning + open", "- refused warning ++ open")
	w.record("device.accept", "c", map[string]any{"ek": "ek1"})
	w.record("device.born", "b", nil)
	w.record("device.turn-away", "", map[string]any{"ek": "ek3"})
	w.do(w.m.Follow)
	w.want("- pending info + cleared", "b refused warning + cleared", "- refused warning + cleared", "- refused warning ++ open")
}

func TestAnothersKeyIsAnAlert(t *testing.T) {
	w := newWorld(t, nil)
	w.record("certificate.refuse", "a", map[string]any{"reason": "rule key-reuse", "remote": "192.0.2.1"}) // its own key once more
	w.record("certificate.refuse", "b", map[string]any{"reason": "rule key-reuse", "key_of_another": true})
	w.record("session.refused", "c", map[string]any{"reason": "rule key-reuse", "key_of_another": true})
	w.do(w.m.Follow)
	w.want("b cloned critical + open", "c cloned critical + open")
}

func TestHaltedRolloutsAreAlerts(t *testing.T) {
	w := newWorld(t, nil)
	halt := map[string]any{"rollout": "pump-x", "reason": "2 of 30 decided devices failed"}
	w.record("rollout.step", "", halt)
	w.record("rollout.halt", "", halt)
	w.record("rollout.halt", "", map[string]any{"rollout": "pump-y"})
	w.do(w.m.Follow)
	w.want("- halted critical + open", "- halted critical + open")
	as, err := w.m.Alerts(t.Context(), operator.AlertQuery{Limit: 500})
	if err != nil || len(as) != 2 || !strings.HasPrefix(as[1].Reason, "rollout pump-x is halted") {
		t.Errorf("%+v, %v", as, err)
	}
	w.record("rollout.resume", "", halt)
	w.do(w.m.Follow)
	w.want("- halted critical + cleared", "- halted critical + open")
	w.record("rollout.finish", "", map[string]any{"rollout": "pump-y"}) // another one has its devices
	w.do(w.m.Follow)
	w.want("- halted critical + cleared", "- halted critical + cleared")
}

func TestEndingMetadataIsAnAlert(t *testing.T) {
	w := newWorld(t, nil)
	for _, role := range []string{"root", "pump"} {
		w.record("release.expiring", "", map[string]any{"role": role, "version": 3, "reason": role + " expires in 29 days"})
	}
	w.do(w.m.Follow)
	w.want("- ending warning + open", "- ending warning + open")
	w.record("release.metadata", "", map[string]any{"role": "pump", "version": 4})
	w.do(w.m.Follow)
	w.want("- ending warning + open", "- ending warning + cleared")
	w.record("release.root", "", map[string]any{"role": "root", "version": 4})
	w.do(w.m.Follow)
	w.want("- ending warning + cleared", "- ending warning + cleared")
}

// TestNothingIsLostOrComesTwice cuts the monitor off between any two records:
// each process begins anew, and the registry hands an event over once more.
// TestFirmwareBecomesAlerts: what runs a withdrawn release, or contradicts its
// counter, is an alert until something better is proved.
func TestFirmwareBecomesAlerts(t *testing.T) {
	w := newWorld(t, nil)
	w.devices["a"] = operator.Device{ID: "a", Group: "pumps"}
	firmware := func(release, withdrawn string) {
		w.record("device.firmware", "a", map[string]any{"firmware": map[string]any{"digest": "00", "release": release, "withdrawn": withdrawn}})
		w.do(w.m.Follow)
	}
	verdict := func(id measure.ID, to measure.Verdict) {
		w.record("verdict", "a", map[string]any{"change": posture.Change{Measure: id, From: measure.Unknown, To: to, Reason: "the counter stands at 5"}})
		w.do(w.m.Follow)
	}
	firmware("pump 1.3.0", "")
	verdict(measure.FirmwareDowngrade, measure.Pass)
	verdict(measure.AppDebug, measure.Fail)
	w.want()
	firmware("pump 1.3.0", "it leaks")
	w.want("a withdrawn warning + open")
	verdict(measure.FirmwareDowngrade, measure.Fail)
	verdict(measure.FirmwareDowngrade, measure.Unknown)
	w.want("a withdrawn warning + open", "a rollback critical + open")
	as, err := w.m.Alerts(t.Context(), operator.AlertQuery{Group: "pumps"})
	if err != nil || len(as) != 2 || as[0].Reason != "the counter stands at 5" || as[1].Reason != "it runs pump 1.3.0, which was withdrawn: it leaks" {
		t.Errorf("%+v, %v", as, err)
	}
	firmware("pump 1.4.0", "")
	verdict(measure.FirmwareDowngrade, measure.Pass)
	w.want("a withdrawn warning + cleared", "a rollback critical + cleared")
	verdict(measure.FirmwareDowngrade, measure.Fail)
	firmware("pump 1.4.0", "it leaks too")
	w.status("a", posture.Quarantined, posture.Revoked)
	w.do(w.m.Follow)
	w.want("a withdrawn warning ++ cleared", "a rollback critical ++ cleared", "a revoked info + open")
}

func TestNothingIsLostOrComesTwice(t *testing.T) {
	w := newWorld(t, nil)
	for n := range 5 {
		for range 2 {
			w.record("device.status", "a", map[string]any{"event": n + 1, "from": posture.Trusted, "to": posture.Quarantined})
			w.restart()
			w.do(w.m.Follow)
			w.do(w.m.Follow)
		}
	}
	w.want("a quarantined critical +++++ open")
}

func TestStrangeDetailsDoNotStopIt(t *testing.T) {
	w := newWorld(t, nil)
	w.record("policy.changed", "", map[string]any{"from": 3, "to": map[string]any{"x": 1}, "change": "all", "event": 9})
	w.record("verdict", "a", map[string]any{"change": "none"})
	w.record("device.status", "a", map[string]any{"to": 7})
	w.status("a", posture.Trusted, posture.Quarantined)
	w.do(w.m.Follow)
	w.want("a quarantined critical + open")
}

func TestAcknowledge(t *testing.T) {
	w := newWorld(t, nil)
	w.devices["a"] = operator.Device{ID: "a", Group: "pumps"}
	w.status("a", posture.Trusted, posture.Quarantined)
	w.do(w.m.Follow)
	as := func(p operator.Principal) (operator.Alert, error) {
		return w.m.Acknowledge(operator.With(t.Context(), p), "1")
	}
	if _, err := as(operator.Principal{Name: "mallory", Groups: []identity.Group{"lamps"}}); fault.Of(err) != fault.NotFound {
		t.Errorf("an alert of another's group: %v", err)
	}
	if _, err := w.m.Acknowledge(t.Context(), "99"); fault.Of(err) != fault.NotFound {
		t.Errorf("an alert that does not exist: %v", err)
	}
	for _, name := range []string{"alice", "bob"} {
		a, err := as(operator.Principal{Name: name, Groups: []identity.Group{"pumps"}, Via: operator.ViaToken, Remote: "192.0.2.1"})
		if err != nil || a.By != "alice" || a.Acknowledged != noon {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	rs, err := w.db.LedgerRecords(t.Context(), 2, 100)
	if err != nil || len(rs) != 1 || rs[0].Kind != "alert.acknowledge" || !strings.Contains(string(rs[0].Details), `"by":"alice"`) {
		t.Errorf("ledger: %+v, %v", rs, err)
	}
}

func TestDevicesAreMissed(t *testing.T) {
	w := newWorld(t, func(c *monitor.Config) {
		c.Offline = time.Hour
		c.OfflineOf = map[identity.Group]time.Duration{"slow": 10 * time.Hour, "never": 0}
	})
	for id, group := range map[identity.Device]identity.Group{"a": "g", "s": "slow", "n": "never", "q": "g", "x": "g"} {
		w.devices[id] = operator.Device{ID: id, Group: group}
		w.status(id, "", posture.Trusted)
		w.m.Opened(id, "1")
	}
	w.status("q", posture.Trusted, posture.Quarantined)
	w.do(w.m.Follow)
	for id := range w.devices {
		w.m.Closed(id, "1")
	}
	w.m.Opened("x", "2")
	w.m.Closed("x", "1") // the old one's end is told late
	w.now = noon.Add(59 * time.Minute)
	w.do(w.m.Missed)
	w.want("q quarantined critical + open")
	w.now = noon.Add(61 * time.Minute)
	for range 3 {
		w.do(w.m.Missed)
	}
	w.want("q quarantined critical + open", "a offline warning + open")
	w.now = noon.Add(11 * time.Hour)
	w.do(w.m.Missed)
	w.want("q quarantined critical + open", "a offline warning + open", "s offline warning + open")
	w.m.Opened("a", "3")
	w.do(w.m.Missed)
	w.want("q quarantined critical + open", "a offline warning + cleared", "s offline warning + open")
}

func TestRestartMissesNobodyAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	for _, id := range []identity.Device{"a", "b", "c"} {
		w.devices[id] = operator.Device{ID: id, LastSeen: noon.Add(-48 * time.Hour)}
		w.status(id, "", posture.Trusted)
	}
	w.do(w.m.Follow)
	w.do(w.m.LoadAway)
	w.do(w.m.Missed)
	w.want()
	w.m.Opened("a", "1")
	w.devices["a"] = operator.Device{ID: "a", Connected: true}
	w.now = noon.Add(20 * time.Minute)
	w.do(w.m.Missed)
	if as := w.alerts(); len(as) != 2 {
		t.Fatalf("%q", as)
	}
	w.restart()
	w.m.Opened("b", "1") // before it has read who is away
	w.do(w.m.LoadAway)
	w.now = noon.Add(40 * time.Minute)
	w.do(w.m.Missed)
	as := w.alerts()
	slices.Sort(as)
	if d := cmp.Diff([]string{"b offline warning + cleared", "c offline warning + open"}, as); d != "" {
		t.Error(d)
	}
}

func TestCertificatesThatEnd(t *testing.T) {
	w := newWorld(t, nil)
	issue := func(id identity.Device, class string) {
		w.record("certificate.issue", id, map[string]any{"class": class, "not_after": w.now.Add(24 * time.Hour)})
	}
	for _, id := range []identity.Device{"here", "away", "born"} {
		w.devices[id] = operator.Device{ID: id, Status: posture.Trusted}
		w.m.Opened(id, "1")
	}
	issue("here", "operational")
	issue("away", "operational")
	issue("born", "birth")
	w.do(w.m.Follow)
	w.m.Closed("away", "1")
	w.now = noon.Add(19 * time.Hour)
	w.do(w.m.Expiring)
	w.want()
	w.now = noon.Add(20*time.Hour + time.Minute)
	w.do(w.m.Expiring)
	w.do(w.m.Expiring)
	w.want("here expiring warning + open")
	issue("here", "operational")
	w.do(w.m.Follow)
	w.want("here expiring warning + cleared")
}

func TestSeriesHasGaps(t *testing.T) {
	w := newWorld(t, nil)
	w.gauges = map[string]float64{"connections": 5, "nonsense": 1}
	w.m.Begin()
	for i := range 6 {
		w.now = w.now.Add(time.Minute)
		if i == 3 {
			w.gauges = nil
			if err := w.m.Sample(t.Context()); err == nil {
				t.Fatal("no error where nobody knows")
			}
			w.gauges = map[string]float64{"connections": 7}
			continue
		}
		w.counts["messages"] += uint64(60 * i)
		w.do(w.m.Sample)
	}
	ss, err := w.m.Series(t.Context(), []string{"connections", "messages"}, noon.Add(-2*time.Minute), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	v := func(f float64) *float64 { return &f }
	want := []operator.Series{
		{Name: "connections", Unit: "devices", Start: noon.Add(-2 * time.Minute), Step: 60, Values: []*float64{nil, nil, v(5), v(5), v(5), nil, v(7), v(7)}},
		{Name: "messages", Unit: "1/s", Start: noon.Add(-2 * time.Minute), Step: 60, Values: []*float64{nil, nil, nil, v(1), v(2), nil, v(4), v(5)}},
	}
	if d := cmp.Diff(want, ss); d != "" {
		t.Error(d)
	}
}

func TestSeriesOfWeeksIsOfQuarters(t *testing.T) {
	w := newWorld(t, nil)
	w.gauges = map[string]float64{"pass": 3}
	w.m.Begin()
	for range 31 {
		w.now = w.now.Add(time.Minute)
		w.do(w.m.Sample)
	}
	w.now = noon.Add(5 * 24 * time.Hour)
	w.do(w.m.Sample) // drops the minutes
	ss, err := w.m.Series(t.Context(), []string{"pass"}, noon, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[time.Time]float64{}
	for i, v := range ss[0].Values {
		if v != nil {
			got[ss[0].Start.Add(time.Duration(i)*time.Duration(ss[0].Step)*time.Second)] = *v
		}
	}
	want := map[time.Time]float64{noon: 3, noon.Add(15 * time.Minute): 3, noon.Add(30 * time.Minute): 3}
	last := noon.Add(5*24*time.Hour - 15*time.Minute)
	want[last] = 3
	if d := cmp.Diff(want, got); d != "" || ss[0].Step != 900 {
		t.Errorf("step %d: %s", ss[0].Step, d)
	}
}

func TestSeriesRefusesNonsense(t *testing.T) {
	w := newWorld(t, nil)
	for name, ask := range map[string]func() ([]operator.Series, error){
		"name":   func() ([]operator.Series, error) { return w.m.Series(t.Context(), []string{"secrets"}, noon, 0) },
		"future": func() ([]operator.Series, error) { return w.m.Series(t.Context(), nil, noon.Add(time.Hour), 0) },
		"step":   func() ([]operator.Series, error) { return w.m.Series(t.Context(), nil, noon, -1) },
		"many":   func() ([]operator.Series, error) { return w.m.Series(t.Context(), make([]string, 99), noon, 0) },
	} {
		if _, err := ask(); fault.Of(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	ss, err := w.m.Series(t.Context(), nil, time.Time{}, 0)
	if err != nil || len(ss) != 5 {
		t.Fatalf("%d series, %v", len(ss), err)
	}
	if ss, err = w.m.Series(t.Context(), []string{"fail"}, noon.Add(-365*24*time.Hour), time.Second); err != nil || len(ss[0].Values) > 3001 {
		t.Errorf("%d values, %v", len(ss[0].Values), err)
	}
}

func TestSessions(t *testing.T) {
	w := newWorld(t, nil)
	w.devices["a"] = operator.Device{ID: "a", Connected: true}
	began := func(id string, at time.Time) {
		w.events = append(w.events, iothub.NewConnected("a", iothub.Connection{Session: id, Remote: "192.0.2.1:5", Mode: "full", TLS: "TLS 1.3", Suite: "S", Group: "X25519"}, at))
	}
	ended := func(id, cause string, at time.Time) {
		w.events = append(w.events, iothub.NewDisconnected("a", iothub.Connection{Session: id, Remote: "192.0.2.1:5", Cause: cause}, at))
	}
	day := 24 * time.Hour
	ended("lost-beginning", "left", noon.Add(-4*day))
	began("s1", noon.Add(-3*day))
	ended("s1", "silent", noon.Add(-3*day+time.Hour))
	began("no-end", noon.Add(-2*day))
	began("s2", noon.Add(-day))
	w.events = append(w.events, iothub.Message{Device: "a", Time: noon, Body: []byte("not JSON")})
	w.now = noon
	w.restart()
	w.now = noon.Add(time.Hour)
	began("s3", noon.Add(30*time.Minute))
	const tls = "TLS 1.3 S X25519"
	want := []operator.Session{
		{ID: "s3", Began: noon.Add(30 * time.Minute), Remote: "192.0.2.1:5", Mode: "full", TLS: tls},
		{ID: "s2", Began: noon.Add(-day), Ended: noon.Add(30 * time.Minute), Remote: "192.0.2.1:5", Mode: "full", TLS: tls, Reason: "not recorded: the hub had stopped or could not store it"},
		{ID: "no-end", Began: noon.Add(-2 * day), Ended: noon.Add(-day), Remote: "192.0.2.1:5", Mode: "full", TLS: tls, Reason: "not recorded: the hub had stopped or could not store it"},
		{ID: "s1", Began: noon.Add(-3 * day), Ended: noon.Add(-3*day + time.Hour), Remote: "192.0.2.1:5", Mode: "full", TLS: tls, Reason: "silent"},
		{ID: "lost-beginning", Ended: noon.Add(-4 * day), Remote: "192.0.2.1:5", Reason: "left"},
	}
	for _, limit := range []int{0, 2} {
		got, err := w.m.Sessions(t.Context(), "a", limit)
		n := len(want)
		if limit > 0 {
			n = limit
		}
		if d := cmp.Diff(want[:n], got); d != "" || err != nil {
			t.Errorf("limit %d: %s%v", limit, d, err)
		}
	}
	if _, err := w.m.Sessions(t.Context(), "nobody", 1); fault.Of(err) != fault.NotFound {
		t.Errorf("sessions of nobody: %v", err)
	}
}

func TestAlertsArePosted(t *testing.T) {
	posted := make(chan operator.Alert)
	w := newWorld(t, func(c *monitor.Config) {
		c.Hook = func(ctx context.Context, a operator.Alert) error {
			select {
			case posted <- a:
			case <-ctx.Done():
			}
			return nil
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.m.Run(ctx) }()
	deadline := time.After(20 * time.Second)
	for n := 0; ; n++ {
		w.status(identity.Device("d"+string(rune('a'+n%26))), posture.Trusted, posture.Quarantined)
		select {
		case a := <-posted:
			if a.Kind != monitor.Quarantined {
				t.Errorf("posted %+v", a)
			}
		case <-time.After(2 * time.Second): // until it has looked once, what is there is old
			continue
		case <-deadline:
			t.Fatal("nothing was posted")
		}
		break
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
