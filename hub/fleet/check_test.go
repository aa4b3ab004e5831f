package fleet_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

func TestCheckPolicyRefuses(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct {
		in   operator.PolicyCheck
		kind fault.Kind
	}{
		"nothing":       {operator.PolicyCheck{}, fault.Invalid},
		"both":          {operator.PolicyCheck{Text: "policy p", Policy: []byte(`{"name":"p"}`)}, fault.Invalid},
		"bad text":      {operator.PolicyCheck{Text: "policy p\nrequire app.debugging attested"}, fault.Invalid},
		"bad JSON":      {operator.PolicyCheck{Policy: []byte(`{"name":"p","x":1}`)}, fault.Invalid},
		"bad condition": {operator.PolicyCheck{Text: "policy p\nwhen devise unmet \"x\""}, fault.Invalid},
		"no such group": {operator.PolicyCheck{Text: "policy p", Group: "none"}, fault.NotFound},
	} {
		if _, err := w.CheckPolicy(t.Context(), tt.in); err == nil || fault.Of(err) != tt.kind {
			t.Errorf("%s: %v, want a fault of kind %s", name, err, tt.kind)
		}
	}
}

func TestCheckPolicySaysWhoWouldLose(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-1", "pumps") // in a session, trusted
	w.healthy("pump-2", "pumps") // offline, well
	w.SessionClosed(t.Context(), "pump-2", "s1")
	w.healthy("pump-3", "pumps") // in a session, cut down already
	w.report("pump-3", posture.Attestation, w.rows(measure.Fail, measure.Attested, measure.AppDebug))
	w.healthy("pump-4", "pumps") // revoked
	w.must1(w.Act(t.Context(), "admin", "pump-4", "revoke", "lost"))
	w.addByEK("pump-5", "pumps") // never seen
	w.healthy("board-1", "bench")

	check := func(group identity.Group, text string) operator.PolicyEffect {
		t.Helper()
		fx, err := w.CheckPolicy(t.Context(), operator.PolicyCheck{Group: group, Text: "policy p version 1\n" + text})
		w.must(err)
		return fx
	}
	sum := func(fx operator.PolicyEffect) string {
		var who []string
		for _, c := range fx.Changes {
			who = append(who, fmt.Sprintf("%s:%s>%s:%s>%s", c.Device, c.From, c.To, c.Status, c.Becomes))
		}
		return fmt.Sprintf("%d devices, gain %d, shorter %d, lose %d, quarantined %d, unchanged %d: %s", fx.Devices, fx.Gain, fx.Shorter, fx.Lose, fx.Quarantined, fx.Unchanged, strings.Join(who, " "))
	}
	got := sum(check("pumps", "require memory.stack audited"))
	if want := "5 devices, gain 0, shorter 0, lose 2, quarantined 1, unchanged 3: pump-1:met>unmet:trusted>quarantined pump-2:met>unmet:offline>quarantined"; got != want {
		t.Errorf("what nobody proves: %s\nwant %s", got, want)
	}
	got = sum(check("pumps", "require app.debug attested\nrequire crypto.entropy attested"))
	if want := "5 devices, gain 0, shorter 2, lose 0, quarantined 0, unchanged 3: pump-1:met>weak:trusted>degraded pump-2:met>weak:offline>offline"; got != want {
		t.Errorf("a higher grade: %s\nwant %s", got, want)
	}
	got = sum(check("pumps", `when rows["app.debug"].verdict == "fail" weak "open"`))
	if want := "5 devices, gain 2, shorter 0, lose 0, quarantined 0, unchanged 3: pump-3:unmet>weak:quarantined>degraded pump-5:unmet>met:offline>offline"; got != want {
		t.Errorf("a condition: %s\nwant %s", got, want)
	}
	if fx := check("", "require memory.stack audited"); fx.Devices != 6 || fx.Lose != 3 || len(fx.Changes) != 3 || fx.Changes[0].Device != "board-1" || fx.Changes[0].Becomes != posture.Quarantined {
		t.Errorf("all groups: %s", sum(fx))
	}
	fx := check("pumps", "require memory.stack audited")
	if diff := cmp.Diff([]string{"memory.stack: unknown: its firmware image has not been audited"}, fx.Changes[0].Reasons); diff != "" {
		t.Errorf("reasons: %s", diff)
	}
	if fx.Policy.Name != "p" {
		t.Errorf("policy %+v", fx.Policy)
	}
	w.status("pump-1", posture.Trusted) // nothing has changed
}

func TestCheckPolicyListsTheWorst(t *testing.T) {
	w := newWorld(t)
	w.must1(w.SetGroup(t.Context(), "admin", "many", operator.SetGroup{PolicyName: posture.Lenient}))
	for i := range 103 {
		w.must1(w.AddDevice(t.Context(), "admin", operator.AddDevice{ID: identity.Device(fmt.Sprintf("box-%03d", i)), Group: "many", Token: true}))
	}
	fx, err := w.CheckPolicy(t.Context(), operator.PolicyCheck{Text: "policy p\nrequire app.debug attested", Group: "many"})
	w.must(err)
	if len(fx.Changes) != 100 || fx.Left != 3 || fx.Lose != 103 || fx.Changes[99].Device != "box-099" {
		t.Errorf("%d changes and %d left of %d", len(fx.Changes), fx.Left, fx.Lose)
	}
}

// TestCheckPolicyForesees: what the dry-run says is what comes of setting it.
func TestCheckPolicyForesees(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	lost := 0
	for seed := range uint64(4) {
		c := newCrowd(t, 100+seed)
		for range 250 {
			c.happen()
		}
		text := "policy next\n"
		for _, id := range measure.IDs() {
			if r.IntN(8) == 0 {
				text += fmt.Sprintf("require %s observed 3h\n", id)
			}
		}
		text += `when rows["app.debug"].verdict == "fail" weak "open"`
		before := map[identity.Device]operator.Device{}
		for _, id := range c.ids {
			d, err := c.Device(t.Context(), id)
			c.must(err)
			before[id] = d
		}
		fx, err := c.CheckPolicy(t.Context(), operator.PolicyCheck{Group: "pumps", Text: text})
		c.must(err)
		c.must1(c.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Text: text, Simulation: true}))
		changes := map[identity.Device]operator.PolicyChange{}
		for _, ch := range fx.Changes {
			changes[ch.Device] = ch
		}
		var want operator.PolicyEffect
		for _, id := range c.ids {
			was := before[id]
			if was.Group != "pumps" {
				continue
			}
			is, err := c.Device(t.Context(), id)
			c.must(err)
			want.Devices++
			from, to := was.Decision.Standing, is.Decision.Standing
			barred := was.Status == posture.Revoked || was.Status == posture.Refused || strings.HasPrefix(was.Reason, "quarantined by")
			ch, listed := changes[id]
			switch {
			case barred || from == to:
				want.Unchanged++
				if listed {
					t.Errorf("%s is listed: %+v", id, ch)
				}
				continue
			case to == posture.Unmet:
				want.Lose++
				if was.Connected && was.Status != posture.Quarantined && is.Status == posture.Quarantined {
					want.Quarantined++
				}
			case from == posture.Met:
				want.Shorter++
			default:
				want.Gain++
			}
			if ch.From != from || ch.To != to || ch.Status != was.Status || ch.Becomes != is.Status {
				t.Errorf("%s: foreseen %+v, came from %s %s to %s %s", id, ch, from, was.Status, to, is.Status)
			}
		}
		lost += want.Lose + want.Gain
		got := operator.PolicyEffect{Devices: fx.Devices, Gain: fx.Gain, Shorter: fx.Shorter, Lose: fx.Lose, Quarantined: fx.Quarantined, Unchanged: fx.Unchanged}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("seed %d (-came +foreseen):\n%s", seed, diff)
		}
	}
	if lost == 0 {
		t.Error("nobody gained or lost: the test shows nothing")
	}
}

func TestVersionsOfAPolicyOnlyGoUp(t *testing.T) {
	w := newWorld(t)
	set := func(text string) (operator.Group, error) {
		return w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Text: text, Simulation: true})
	}
	version := func(g operator.Group, err error, want int) {
		t.Helper()
		w.must(err)
		if g.Policy.Version != want {
			t.Errorf("version %d, want %d", g.Policy.Version, want)
		}
		gs, err := w.Groups(t.Context())
		w.must(err)
		for _, g := range gs {
			if g.ID == "pumps" && g.Policy.Version != want {
				t.Errorf("stored version %d, want %d", g.Policy.Version, want)
			}
		}
	}
	g, err := set("policy pumps version 7\nrequire app.debug attested")
	version(g, err, 7)
	g, err = set("policy pumps version 7\nrequire app.debug attested\n# the same")
	version(g, err, 7)
	g, err = set("policy pumps\nrequire app.debug attested")
	version(g, err, 7) // nothing changes
	for _, old := range []string{
		"policy pumps version 7\nrequire app.debug claimed", "policy pumps version 6\nrequire app.debug attested", "policy other version 1",
		"policy pumps version 7\nrequire app.debug attested\nwhen true weak \"x\"",
	} {
		_, err := set(old)
		w.refused(err, fault.Conflict)
		if err == nil || !strings.Contains(fault.Public(err), "version 7") {
			t.Errorf("%v says nothing of the version", err)
		}
	}
	g, err = set("policy pumps\nrequire app.debug claimed")
	version(g, err, 8)
	g, err = w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{PolicyName: posture.Standard, Simulation: true})
	version(g, err, 9)
	g, err = w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{PolicyName: posture.Standard, Simulation: true})
	version(g, err, 9)
	g, err = w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Simulation: true, FileKeys: true})
	version(g, err, 9) // it keeps its policy
	_, err = w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{PolicyName: posture.Bench, Text: "policy p"})
	w.refused(err, fault.Invalid)
	g, err = w.SetGroup(t.Context(), "admin", "new", operator.SetGroup{Text: "policy p"})
	w.must(err)
	if g.Policy.Version != 1 {
		t.Errorf("a new group's policy has version %d, want 1", g.Policy.Version)
	}
}

// TestConditionsCutSessionsDown, before and after a restart.
func TestConditionsCutSessionsDown(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-1", "pumps")
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Simulation: true,
		Text: "policy pumps\nwhen rows[\"app.debug\"].verdict == \"fail\" && device.group == \"pumps\" unmet \"the debug port is open\"\nwhen now > timestamp(\"2026-11-20T18:00:00Z\") weak \"late\""}))
	w.status("pump-1", posture.Trusted)
	w.report("pump-1", posture.Attestation, w.rows(measure.Fail, measure.Attested, measure.AppDebug))
	if d := w.status("pump-1", posture.Quarantined); d.Reason != "the debug port is open" {
		t.Errorf("reason %q", d.Reason)
	}
	if w.gate.mode("pump-1") != access.Quarantine {
		t.Error("the session was not cut down")
	}
	w.restart()
	a, err := w.Admit(t.Context(), peer(pki.Operational, "pump-1", "1-pump-1"))
	w.must(err)
	if a.Mode != access.Quarantine || a.Reason != "the debug port is open" {
		t.Errorf("admitted to %s: %q", a.Mode, a.Reason)
	}
	w.report("pump-1", posture.Attestation, w.appraisal())
	w.pass(30 * time.Minute)
	w.connect(peer(pki.Operational, "pump-1", "1-pump-1"), "s2")
	w.status("pump-1", posture.Trusted)
	w.pass(7 * time.Hour)
	if d := w.status("pump-1", posture.Degraded); d.Reason != "late" {
		t.Errorf("reason %q", d.Reason)
	}
	p, err := w.Page(t.Context(), operator.FleetQuery{Status: posture.Degraded})
	w.must(err)
	if p.Total != 1 || len(p.Devices) != 1 {
		t.Errorf("%+v, want the one device", p)
	}
}

// TestANewPolicyDecidesOnWhoeverStandsOtherwise: what is recorded of devices
// without a session follows a new policy too, where it changes how they stand.
func TestANewPolicyDecidesOnWhoeverStandsOtherwise(t *testing.T) {
	w := newWorld(t)
	for _, id := range []identity.Device{"pump-1", "pump-2"} {
		w.healthy(id, "pumps")
		w.SessionClosed(t.Context(), id, "s1")
	}
	w.report("pump-2", posture.Attestation, append(w.appraisal(), w.rows(measure.Pass, measure.Audited, measure.MemoryStack)...))
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Simulation: true, Text: "policy p\nrequire memory.stack audited"}))
	if n := w.ledger.count(fleet.KindStatus + " pump-1"); n < 2 {
		t.Errorf("pump-1 has %d records of its status, want that it is quarantined now", n)
	}
	r, err := w.store.Fleet().Device(t.Context(), "pump-1")
	w.must(err)
	if r.Status != posture.Quarantined || r.Decision.Standing != posture.Unmet {
		t.Errorf("pump-1 is recorded as %s, %s", r.Status, r.Decision.Standing)
	}
	if r, err = w.store.Fleet().Device(t.Context(), "pump-2"); err != nil || r.Status != posture.Trusted {
		t.Errorf("pump-2 is recorded as %s: %v", r.Status, err)
	}
}
