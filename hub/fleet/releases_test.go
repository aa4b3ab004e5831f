package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/access"
	"holdfast/appraise"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
	"holdfast/release"
)

// shop publishes releases and offers them.
type shop struct {
	mu     sync.Mutex
	all    []release.Release
	offers map[identity.Device]appraise.Offered
	broken error
}

func (s *shop) Signed(_ context.Context, d identity.Digest) (release.Release, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(r release.Release) bool { return r.Measured == d })
	if i < 0 {
		return release.Release{}, false
	}
	return s.all[i], true
}

func (s *shop) Published(_ context.Context, p release.Product) ([]release.Release, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.all), func(r release.Release) bool { return r.Product != p }), s.broken
}

func (s *shop) Offered(_ context.Context, id identity.Device) (appraise.Offered, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.offers[id]
	return o, ok, nil
}

func (s *shop) publish(p release.Product, minor uint8) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, release.Release{Target: release.Target{Product: p, Version: mcuboot.Version{Major: 1, Minor: minor}, SecurityVersion: uint32(minor),
		Measured: image(p, minor), Health: release.Health{Seconds: 600}}})
}

// set changes a published release.
func (s *shop) set(p release.Product, minor uint8, change func(*release.Release)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if s.all[i].Product == p && s.all[i].Version.Minor == minor {
			change(&s.all[i])
		}
	}
}

func (s *shop) withdraw(p release.Product, minor uint8, why string) {
	s.set(p, minor, func(r *release.Release) { r.Withdrawn = why })
}

func (s *shop) unpublish(p release.Product, minor uint8) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(r release.Release) bool { return r.Product == p && r.Version.Minor == minor })
}

func image(p release.Product, minor uint8) identity.Digest {
	return digest(fmt.Sprint(p, " 1.", minor))
}

// runs reports an appraisal that shows an image, with the counter at minimum.
func (w *world) runs(id identity.Device, p release.Product, minor uint8, minimum uint64) {
	w.t.Helper()
	w.must1(w.Appraised(w.t.Context(), id, fmt.Sprintf("%s 1.%d.0", p, minor),
		&appraise.Running{Digest: image(p, minor), Grade: measure.Attested, Time: w.clock(), Minimum: &minimum}, w.appraisal()))
}

// firmware checks the rows of releases: verdict, and a part of its reason.
func (w *world) firmware(id identity.Device, signing, downgrade, update string) {
	w.t.Helper()
	d, err := w.Device(w.t.Context(), id)
	w.must(err)
	for m, want := range map[measure.ID]string{measure.FirmwareSigning: signing, measure.FirmwareDowngrade: downgrade, measure.FirmwareUpdate: update} {
		i := slices.IndexFunc(d.Posture, func(r measure.Row) bool { return r.Measure == m })
		verdict, reason, _ := strings.Cut(want, ": ")
		if r := d.Posture[i]; string(r.Verdict) != verdict || !strings.Contains(r.Reason, reason) {
			w.t.Errorf("%s of %s: %s %q, want %q", m, id, r.Verdict, r.Reason, want)
		}
	}
}

// withProduct gives the pumps their product.
func (w *world) withProduct() {
	w.t.Helper()
	w.must1(w.SetGroup(w.t.Context(), "admin", "pumps", operator.SetGroup{Simulation: true, Product: "pump"}))
}

func TestReleasesJudgeWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.shop.publish("pump", 3)
	w.withProduct()
	w.healthy("pump-01", "pumps")
	w.firmware("pump-01", "unknown: nothing attests", "unknown: nothing attests", "unknown: nothing attests")

	w.runs("pump-01", "pump", 3, 3)
	w.firmware("pump-01", "pass: release pump 1.3.0", "pass: security version 3", "pass: the newest")
	w.status("pump-01", posture.Trusted)

	w.pass(time.Hour)
	w.shop.publish("pump", 4)
	w.must(w.ReleasesChanged(t.Context()))
	w.firmware("pump-01", "pass: ", "pass: ", "fail: behind 1.4.0 since 2026-11-20")
	d := w.status("pump-01", posture.Trusted)
	if f := d.Firmware; f == nil || f.Product != "pump" || f.Version.String() != "1.3.0" || f.Behind.String() != "1.4.0" || !f.BehindSince.Equal(w.clock()) || f.Minimum == nil || *f.Minimum != 3 {
		t.Errorf("firmware %+v", f)
	}

	w.runs("pump-01", "pump", 4, 3) // on trial
	w.firmware("pump-01", "pass: ", "pass: on trial", "pass: ")
	w.pass(2 * time.Hour)
	w.runs("pump-01", "pump", 4, 3)
	w.firmware("pump-01", "pass: ", "fail: has not been burned", "pass: ")
	w.status("pump-01", posture.Quarantined)
	w.runs("pump-01", "pump", 4, 4)
	w.firmware("pump-01", "pass: ", "pass: ", "pass: ")
	w.status("pump-01", posture.Trusted)
	w.runs("pump-01", "pump", 3, 4)
	w.firmware("pump-01", "pass: ", "fail: counter stands at 4, and security version 3 runs", "fail: behind 1.4.0")
	w.status("pump-01", posture.Quarantined)
}

// TestWithdrawnReleaseFailsAtOnce: nobody waits for the devices that run it; what
// became of them is in the ledger, and their sessions feel it.
func TestWithdrawnReleaseFailsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.shop.publish("pump", 3)
	w.shop.publish("pump", 4)
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Simulation: true, Product: "pump",
		Text: "policy strict\nrequire firmware.signing attested 25h"}))
	for _, id := range []identity.Device{"pump-01", "pump-02", "pump-03"} {
		w.addByEK(id, "pumps")
		w.born(tpm(string(id)), "b-"+string(id))
	}
	w.runs("pump-01", "pump", 4, 4)
	w.runs("pump-02", "pump", 4, 4) // has no session
	w.runs("pump-03", "pump", 3, 3)
	w.must(w.ReleasesChanged(t.Context()))
	before := w.ledger.count("verdict pump-01")

	w.shop.withdraw("pump", 4, "it leaks")
	w.must(w.ReleasesChanged(t.Context()))
	w.firmware("pump-01", "fail: release pump 1.4.0 was withdrawn: it leaks", "pass: ", "fail: no newer release")
	w.firmware("pump-02", "fail: it leaks", "pass: ", "fail: ")
	w.firmware("pump-03", "pass: ", "pass: ", "pass: the newest")
	w.status("pump-01", posture.Quarantined)
	w.status("pump-02", posture.Quarantined)
	if n := w.ledger.count("verdict pump-01") - before; n != 2 {
		t.Errorf("%d verdicts of pump-01 in the ledger, want 2", n)
	}
	w.told("pump-01", 2, "pump 1.4.0", "it leaks")
	w.told("pump-03", 1, "pump 1.3.0", "")
	if f := w.must2(w.Device(t.Context(), "pump-01")).Firmware; f == nil || f.Withdrawn != "it leaks" {
		t.Errorf("firmware %+v", f)
	}

	w.shop.withdraw("pump", 4, "") // a mistake, taken back
	w.must(w.ReleasesChanged(t.Context()))
	w.firmware("pump-01", "pass: ", "pass: ", "pass: ")
	w.shop.unpublish("pump", 4)
	w.must(w.ReleasesChanged(t.Context()))
	w.firmware("pump-01", "fail: no signed release", "unknown: ", "unknown: ")
	w.shop.publish("pump", 4)
	w.must(w.ReleasesChanged(t.Context()))
	w.firmware("pump-01", "pass: ", "pass: ", "pass: ")
}

// told checks what the ledger has of a device's firmware, and how often.
func (w *world) told(id identity.Device, times int, release, withdrawn string) {
	w.t.Helper()
	kind := fleet.KindFirmware + " " + string(id)
	is, _ := w.ledger.last[kind]["firmware"].(map[string]any)
	text := func(key string) string { s, _ := is[key].(string); return s }
	if n := w.ledger.count(kind); n != times || text("release") != release || text("withdrawn") != withdrawn {
		w.t.Errorf("the ledger has %d times what %s runs, last %v", n, id, is)
	}
}

// TestLedgerHasWhatRuns: once for each change, whatever is appraised or decided.
func TestLedgerHasWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.shop.publish("pump", 3)
	w.shop.publish("pump", 4)
	w.withProduct()
	w.healthy("pump-01", "pumps")
	for n, minor := range []uint8{3, 4, 3} {
		w.runs("pump-01", "pump", minor, uint64(minor))
		w.runs("pump-01", "pump", minor, uint64(minor))
		w.must1(w.Appraised(t.Context(), "pump-01", "", nil, w.rows(measure.Fail, measure.Observed, measure.IdentityAttestation)))
		w.must1(w.Appraised(t.Context(), "pump-01", "", &appraise.Running{Digest: digest("other"), Doubt: "no boot ROM", Time: w.clock()}, w.appraisal()))
		w.runs("pump-01", "pump", minor, uint64(minor))
		w.told("pump-01", n+1, fmt.Sprintf("pump 1.%d.0", minor), "")
	}
	w.restart()
	w.must(w.ReleasesChanged(t.Context()))
	w.runs("pump-01", "pump", 3, 3)
	w.told("pump-01", 3, "pump 1.3.0", "")
}

// TestWithdrawalCutsTheSessionDown under a policy that demands signed firmware.
func TestWithdrawalCutsTheSessionDown(t *testing.T) {
	w := newWorld(t)
	w.shop.publish("pump", 4)
	w.withProduct()
	w.healthy("pump-01", "pumps")
	w.runs("pump-01", "pump", 4, 4)
	w.must(w.ReleasesChanged(t.Context()))
	w.shop.withdraw("pump", 4, "it leaks")
	w.must(w.ReleasesChanged(t.Context()))
	w.status("pump-01", posture.Degraded) // of the standard policy
	if m := w.gate.mode("pump-01"); m != access.Full {
		t.Errorf("the session is %s", m)
	}
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Simulation: true, Text: "policy strict\nrequire firmware.signing attested"}))
	if m := w.gate.mode("pump-01"); m != access.Quarantine {
		t.Errorf("the session is %s", m)
	}
	w.gate.mu.Lock()
	defer w.gate.mu.Unlock()
	if r := w.gate.last["pump-01"]; r.Status != posture.Quarantined || !strings.Contains(strings.Join(r.Decision.Reasons(), ""), "it leaks") {
		t.Errorf("the device was told %s %q", r.Status, r.Decision.Reasons())
	}
}

// TestReleasesOutliveARestart: since when a release is there, and that what
// changed was not acted on yet, is on disk.
func TestReleasesOutliveARestart(t *testing.T) {
	w := newWorld(t)
	w.shop.publish("pump", 3)
	w.withProduct()
	w.healthy("pump-01", "pumps")
	w.runs("pump-01", "pump", 3, 3)
	w.shop.publish("pump", 4)
	w.must(w.ReleasesChanged(t.Context()))
	since := w.clock()
	w.pass(40 * 24 * time.Hour)
	w.restart()
	w.must(w.ReleasesChanged(t.Context()))
	w.runs("pump-01", "pump", 3, 3)
	if f := w.must2(w.Device(t.Context(), "pump-01")).Firmware; f == nil || !f.BehindSince.Equal(since) || f.Late(w.clock()) != "40 days behind 1.4.0" {
		t.Errorf("firmware %+v", f)
	}

	// Somebody else's question noticed the withdrawal, and then the hub stopped.
	w.shop.withdraw("pump", 3, "it leaks")
	w.addByEK("pump-09", "pumps")
	w.born(tpm("pump-09"), "b-pump-09")
	w.runs("pump-09", "pump", 3, 3)
	w.firmware("pump-09", "fail: it leaks", "pass: ", "fail: ")
	w.restart()
	w.must(w.ReleasesChanged(t.Context()))
	w.firmware("pump-01", "fail: it leaks", "pass: ", "fail: ")
}

// TestRunLooksAtReleases: whoever publishes need not say so.
func TestRunLooksAtReleases(t *testing.T) {
	w := newWorld(t)
	w.shop.publish("pump", 3)
	w.withProduct()
	w.healthy("pump-01", "pumps")
	w.runs("pump-01", "pump", 3, 3)
	w.shop.withdraw("pump", 3, "it leaks")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	deadline := time.After(time.Minute)
	for w.ledger.count("verdict pump-01") == 0 || !fails(w.must2(w.Device(t.Context(), "pump-01")), measure.FirmwareSigning) {
		select {
		case <-deadline:
			t.Fatal("nobody looked")
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	w.must(<-done)
}

func fails(d operator.Device, id measure.ID) bool {
	return slices.ContainsFunc(d.Posture, func(r measure.Row) bool { return r.Measure == id && r.Verdict == measure.Fail })
}

// TestReleasesThatCannotBeReadChangeNothing: what cannot be done now is tried again.
func TestReleasesThatCannotBeReadChangeNothing(t *testing.T) {
	w := newWorld(t)
	w.shop.publish("pump", 3)
	w.withProduct()
	w.healthy("pump-01", "pumps")
	w.runs("pump-01", "pump", 3, 3)
	w.shop.withdraw("pump", 3, "it leaks")
	w.shop.broken = errors.New("no disk")
	if err := w.ReleasesChanged(t.Context()); err == nil {
		t.Error("it says that all is well")
	}
	w.firmware("pump-01", "pass: ", "pass: ", "pass: ")
	w.shop.broken = nil
	w.must(w.ReleasesChanged(t.Context()))
	w.firmware("pump-01", "fail: ", "pass: ", "fail: ")
}

// TestOffersOfRollouts: a device has time until it is offered what others have.
func TestOffersOfRollouts(t *testing.T) {
	w := newWorld(t)
	w.shop.publish("pump", 3)
	w.shop.publish("pump", 4)
	w.shop.publish("pump", 5)
	w.withProduct()
	w.healthy("pump-01", "pumps")
	w.shop.offers = map[identity.Device]appraise.Offered{"pump-01": {Product: "pump", Version: mcuboot.Version{Major: 1, Minor: 4}, Since: w.clock()}}
	w.runs("pump-01", "pump", 3, 3)
	w.firmware("pump-01", "pass: ", "pass: ", "fail: behind 1.4.0")
	w.runs("pump-01", "pump", 4, 4)
	w.firmware("pump-01", "pass: ", "pass: ", "pass: its rollout offers 1.4.0")
	w.shop.offers = nil
	w.runs("pump-01", "pump", 4, 4)
	w.firmware("pump-01", "pass: ", "pass: ", "fail: behind 1.5.0")
}

// TestFirmwareOfOtherKinds: what no release is, and what no group names.
func TestFirmwareOfOtherKinds(t *testing.T) {
	w := newWorld(t)
	w.shop.publish("pump", 3)
	w.shop.publish("valve", 7)
	w.withProduct()
	w.healthy("pump-01", "pumps")
	w.runs("pump-01", "valve", 7, 7)
	w.firmware("pump-01", "fail: is valve 1.7.0; the group's product is pump", "unknown: ", "unknown: ")
	w.status("pump-01", posture.Degraded)

	w.must1(w.Appraised(t.Context(), "pump-01", "own 1.0", &appraise.Running{Digest: digest("own"), Reference: "own 1.0", Grade: measure.Attested, Time: w.clock()}, w.appraisal()))
	w.firmware("pump-01", "unknown: known by an operator's reference as own 1.0, not a signed release", "unknown: ", "unknown: ")
	w.status("pump-01", posture.Trusted)

	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Simulation: true, Product: operator.NoProduct}))
	w.runs("pump-01", "valve", 7, 7)
	w.firmware("pump-01", "pass: release valve 1.7.0", "pass: ", "pass: ") // its own product's releases count
	w.shop.withdraw("valve", 7, "it leaks")
	w.must(w.ReleasesChanged(t.Context()))
	w.firmware("pump-01", "fail: it leaks", "pass: ", "fail: ")
}

// TestFirmwareIsWhatWasLastAttested: what did not verify attests nothing, and
// does not make the image young again.
func TestFirmwareIsWhatWasLastAttested(t *testing.T) {
	w := newWorld(t)
	w.shop.publish("pump", 4)
	w.withProduct()
	w.healthy("pump-01", "pumps")
	_, _, err := w.Attested(t.Context(), "pump-01")
	w.refused(err, fault.NotFound)
	_, _, err = w.Attested(t.Context(), "nobody")
	w.refused(err, fault.NotFound)

	w.runs("pump-01", "pump", 4, 3)
	at := w.clock()
	d, when, err := w.Attested(t.Context(), "pump-01")
	w.must(err)
	if d != image("pump", 4) || !when.Equal(at) {
		t.Errorf("%s at %s", d, when)
	}

	w.pass(time.Hour)
	w.must1(w.Appraised(t.Context(), "pump-01", "", nil, w.rows(measure.Fail, measure.Observed, measure.IdentityAttestation)))
	_, _, err = w.Attested(t.Context(), "pump-01")
	w.refused(err, fault.NotFound)
	w.firmware("pump-01", "unknown: nothing attests", "unknown: ", "unknown: ")
	if f := w.must2(w.Device(t.Context(), "pump-01")).Firmware; f != nil {
		t.Errorf("firmware %+v", f)
	}
	w.runs("pump-01", "pump", 4, 3)
	w.firmware("pump-01", "pass: ", "fail: not been burned", "pass: ") // no second trial
	if f := w.must2(w.Device(t.Context(), "pump-01")).Firmware; f == nil || !f.Since.Equal(at) {
		t.Errorf("firmware %+v", f)
	}

	for name, r := range map[string]appraise.Running{
		"doubt":   {Digest: image("pump", 4), Grade: measure.Attested, Time: w.clock(), Doubt: "the boot ROM is not known"},
		"claimed": {Digest: image("pump", 4), Grade: measure.Claimed, Time: w.clock()},
	} {
		w.must1(w.Appraised(t.Context(), "pump-01", "", &r, w.appraisal()))
		if d, _, err := w.Attested(t.Context(), "pump-01"); fault.Of(err) != fault.NotFound {
			t.Errorf("%s: %s, %v", name, d, err)
		}
	}
	w.runs("pump-01", "pump", 4, 4)
	w.born(tpm("pump-01"), "b2")
	_, _, err = w.Attested(t.Context(), "pump-01") // the old AK's word
	w.refused(err, fault.NotFound)
}

func TestProductOfAGroup(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []string{"Pump", "a/b", "targets", "--"} {
		_, err := w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Product: bad})
		w.refused(err, fault.Invalid)
	}
	product := func(want release.Product) {
		t.Helper()
		g, err := w.Group(t.Context(), "pumps")
		w.must(err)
		if g.Product != want {
			t.Errorf("product %q, want %q", g.Product, want)
		}
	}
	w.must(w.SetProduct(t.Context(), "rollout:1", "pumps", "pump"))
	product("pump")
	n := w.ledger.count("group.set ")
	w.must(w.SetProduct(t.Context(), "rollout:1", "pumps", "pump"))
	if w.ledger.count("group.set ") != n {
		t.Error("what was so already is recorded")
	}
	w.refused(w.SetProduct(t.Context(), "rollout:2", "pumps", "valve"), fault.Conflict)
	w.refused(w.SetProduct(t.Context(), "rollout:2", "nobody", "valve"), fault.NotFound)
	w.refused(w.SetProduct(t.Context(), "rollout:2", "bench", "root"), fault.Invalid)
	if by := w.ledger.last["group.set "]["by"]; by != "rollout:1" {
		t.Errorf("the ledger says by %v", by)
	}
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Simulation: true}))
	product("pump") // not said: it stays
	w.restart()
	product("pump")
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Simulation: true, Product: operator.NoProduct}))
	product("")
}

func TestSeenIsKept(t *testing.T) {
	w := newWorld(t)
	s := w.store.Fleet()
	want := []fleet.Seen{
		{Version: mcuboot.Version{Major: 1, Build: 7}, Digest: digest("a"), Since: w.clock(), Settled: true},
		{Version: mcuboot.Version{Major: 1}, Digest: digest("b"), Since: w.clock(), Withdrawn: w.clock().Add(time.Nanosecond), Gone: true},
	}
	for _, keep := range [][]fleet.Seen{want, want[1:], nil} {
		w.must(s.SaveSeen(t.Context(), "pump", keep))
		got, err := s.Seen(t.Context(), "pump")
		w.must(err)
		if diff := cmp.Diff(keep, got); diff != "" {
			t.Error(diff)
		}
	}
	w.must(s.SaveSeen(t.Context(), "valve", want))
	ps, err := s.Products(t.Context())
	w.must(err)
	if !slices.Equal(ps, []release.Product{"valve"}) {
		t.Errorf("products %v", ps)
	}
}
