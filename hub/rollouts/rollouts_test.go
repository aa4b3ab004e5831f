package rollouts_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/rollouts"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/rollout"
)

func TestARolloutGoesFromWaveToWave(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 20)
	w.add("fans", 3)
	r := w.start(v14)
	if r.Stage != "planning" || w.products["pumps"] != "pump" {
		t.Errorf("%+v, products %v", r, w.products)
	}
	for wave, limit := range []int{2, 8, 14, 20} {
		w.pass()
		r = w.show(r.ID)
		if offered := r.Counts.Offered; r.Wave != wave+1 || r.Limit != limit || offered+r.Counts.Done != limit || len(w.wanted()) != offered {
			t.Fatalf("wave %d: %+v, %d want it", wave+1, r, len(w.wanted()))
		}
		w.later(time.Hour) // who is at work is waited for
		w.pass()
		for _, d := range w.wanted() {
			w.report(d, release.Downloading)
		}
		w.pass()
		for _, d := range w.wanted() {
			w.update(d)
		}
		w.pass()
		if r = w.show(r.ID); r.Counts.Done != limit || r.Wave != wave+1 || r.Soaked.IsZero() {
			t.Fatalf("wave %d is done: %+v", wave+1, r)
		}
		w.later(10 * time.Minute)
	}
	w.pass()
	if r = w.show(r.ID); r.Stage != "finished" || r.Counts.Done != 20 || r.Ended.IsZero() {
		t.Errorf("%+v", r)
	}
	var kinds []string
	for _, line := range w.recorded() {
		kind, reason, _ := strings.Cut(line, " ")
		if kinds = append(kinds, kind); reason == "" && kind != "rollout.start" {
			t.Errorf("%s without a reason", kind)
		}
	}
	if want := []string{"rollout.start", "rollout.plan", "rollout.step", "rollout.step", "rollout.step", "rollout.finish"}; !slices.Equal(kinds, want) {
		t.Errorf("recorded %v", w.recorded())
	}
	for id, d := range w.devices {
		if (d.facts.Group == "fans") != (d.times == 0) {
			t.Errorf("%s of %s was told %d times", id, d.facts.Group, d.times)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 2)
	w.add("old", 1)
	w.add("makers", 1)
	w.with("old-0000", func(d *device) { d.facts.Running, d.facts.Attested = published(v15), published(v15).Measured })
	w.with("makers-0000", func(d *device) { d.facts.Unproven = "its certificate is its maker's" })
	withdrawn := published(v15)
	withdrawn.Withdrawn = "it leaks"
	w.releases[v15] = withdrawn
	w.products["fans"] = "fan"
	w.add("fans", 1)
	group := func(g identity.Group) func(*operator.StartRollout) {
		return func(in *operator.StartRollout) { in.Groups = []identity.Group{g} }
	}
	for want, tt := range map[string]struct {
		v      mcuboot.Version
		change func(*operator.StartRollout)
		kind   fault.Kind
	}{
		"no release 2":           {mcuboot.Version{Major: 2}, group("pumps"), fault.NotFound},
		"withdrawn: it leaks":    {v15, group("pumps"), fault.Conflict},
		"which is newer":         {v14, group("old"), fault.Conflict},
		"already":                {v13, group("pumps"), fault.Conflict},
		"maker's":                {v14, group("makers"), fault.Conflict},
		"no devices in [nobody]": {v14, group("nobody"), fault.Conflict},
		"group fans runs fan":    {v14, group("fans"), fault.Conflict},
		"which groups or":        {v14, func(in *operator.StartRollout) { in.Groups = nil }, fault.Invalid},
		"one of the two":         {v14, func(in *operator.StartRollout) { in.Devices = []identity.Device{"pumps-0000"} }, fault.Invalid},
		"no device \"x\"":        {v14, func(in *operator.StartRollout) { in.Groups, in.Devices = nil, []identity.Device{"x"} }, fault.NotFound},
		"share of 101":           {v14, func(in *operator.StartRollout) { in.Canary = 101 }, fault.Invalid},
		"halt on 100%":           {v14, func(in *operator.StartRollout) { in.HaltOn = 100 }, fault.Invalid},
		"soak of -1s":            {v14, func(in *operator.StartRollout) { in.Soak = -1 }, fault.Invalid},
		"maintenance window":     {v14, func(in *operator.StartRollout) { in.Windows = []release.Window{{From: "a", To: "b"}} }, fault.Invalid},
	} {
		in := operator.StartRollout{Product: "pump", Version: tt.v, Groups: []identity.Group{"pumps"}, RolloutPlan: operator.RolloutPlan{HaltOn: 2}}
		tt.change(&in)
		if r, err := w.Start(t.Context(), "ops", in); fault.Of(err) != tt.kind || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %+v, %v", want, r, err)
		}
	}
	if rs, err := w.Rollouts(t.Context(), operator.RolloutQuery{}); err != nil || len(rs) != 0 {
		t.Errorf("%v, %v", rs, err)
	}
}

func TestFailuresHalt(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 20)
	id := w.start(v14).ID
	w.pass()
	canary := w.wanted()
	w.update(canary[0])
	w.report(canary[1], release.Reverting, reverts)
	w.pass()
	r := w.show(id)
	if r.Stage != "halted" || r.Counts.Failed != 1 || r.Causes["reverted"] != 1 || !strings.Contains(r.Reason, "1 of 2 decided devices failed (1 reverted), more than 10%") {
		t.Errorf("%+v", r)
	}
	ds, err := w.Devices(t.Context(), id, operator.RolloutDeviceQuery{State: "failed"})
	if err != nil || len(ds) != 1 || ds[0].Device != canary[1] || ds[0].Cause != "reverted" || ds[0].Reason != "no hub in time" {
		t.Errorf("%+v, %v", ds, err)
	}
	w.later(100 * time.Hour)
	w.pass()
	if r := w.show(id); r.Stage != "halted" || len(w.wanted()) != 1 {
		t.Errorf("went on: %+v", r)
	}
	if o := w.comes(canary[1]); o.Rollout != "" {
		t.Errorf("a halted rollout offers %+v", o)
	}

	// the failure stands in the way of going on, until it is to try again
	if _, err := w.Act(t.Context(), "ops", id, rollouts.Resume, operator.RolloutAct{}, ""); fault.Of(err) != fault.Conflict || !strings.Contains(err.Error(), "retry first") {
		t.Error(err)
	}
	if r := w.act(id, rollouts.Retry, operator.RolloutAct{Devices: []identity.Device{canary[1]}}); r.Stage != "halted" || r.Counts.Waiting != 19 {
		t.Errorf("%+v", r)
	}
	w.act(id, rollouts.Resume, operator.RolloutAct{Reason: "the network is back"})
	w.pass()
	if o := w.devices[canary[1]].told; o.Attempt != 1 || o.Rollout != id {
		t.Errorf("told %+v", o)
	}
	if r := w.finish(id); r.Stage != "finished" || r.Counts.Done != 20 {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"rollout.device-failed " + string(canary[1]) + " no hub in time", "rollout.halt 1 of 2", "rollout.retry", "rollout.resume the network is back"} {
		if !slices.ContainsFunc(w.recorded(), func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("%s is not in %q", want, w.recorded())
		}
	}
}

// To no more devices than a wave allows it is offered, however many come at once.
func TestDevicesComeAtOnce(t *testing.T) {
	w := newWorld(t)
	ids := w.add("pumps", 60)
	for _, id := range ids {
		w.with(id, func(d *device) { d.facts.Connected = false })
	}
	id := w.start(v14).ID
	w.pass()
	if r := w.show(id); r.Counts.Waiting != 60 {
		t.Fatalf("%+v", r)
	}
	var all sync.WaitGroup
	for _, d := range ids {
		all.Go(func() { w.comes(d) })
	}
	w.pass()
	all.Wait()
	w.pass()
	if r := w.show(id); r.Counts.Offered != 6 || len(w.wanted()) != 6 {
		t.Errorf("%+v, %d want it", r, len(w.wanted()))
	}
	if r := w.finish(id); r.Stage != "finished" || r.Counts.Done != 60 {
		t.Errorf("%+v", r)
	}
}

// Devices that are away hold nothing up, and get the release when they come.
func TestDevicesThatAreAway(t *testing.T) {
	w := newWorld(t)
	ids := w.add("pumps", 20)
	for _, id := range ids[:3] {
		w.with(id, func(d *device) { d.facts.Connected = false })
	}
	id := w.start(v14).ID
	for range 10 {
		w.pass()
		for _, d := range w.wanted() {
			w.update(d)
		}
		w.pass()
		w.later(11 * time.Minute)
	}
	if r := w.show(id); r.Stage != "running" || r.Counts.Done != 17 || r.Counts.Waiting != 3 || r.Limit != 20 {
		t.Fatalf("%+v", r)
	}
	if o := w.comes(ids[0]); o.Rollout != id || o.Deadline.IsZero() {
		t.Errorf("told %+v", o)
	}
	w.update(ids[0])
	w.pass()
	w.later(73 * time.Hour)
	w.pass()
	if r := w.show(id); r.Stage != "finished" || r.Counts.Done != 18 || r.Counts.Waiting != 2 {
		t.Fatalf("%+v", r)
	}
	if o := w.comes(ids[1]); o.Rollout != id || !o.Deadline.IsZero() || !o.Unpaused {
		t.Errorf("who comes later is told %+v", o)
	}
	w.update(ids[1])
	if r := w.show(id); r.Counts.Done != 19 {
		t.Errorf("%+v", r)
	}
	w.comes(ids[2])
	w.report(ids[2], release.Committed)
	w.pass()
	if r := w.show(id); r.Counts.Done != 19 || r.Counts.Committed != 1 {
		t.Errorf("what is not proved counts: %+v", r)
	}
	w.with(ids[2], func(d *device) { d.facts.Attested = published(v14).Measured })
	w.later(time.Minute)
	w.pass()
	if r := w.show(id); r.Counts.Done != 20 || r.Stage != "finished" {
		t.Errorf("%+v", r)
	}
}

// A device that comes into the group later gets what the group was brought to,
// and is in what is on its way.
func TestDevicesJoin(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 10)
	first := w.start(v14).ID
	w.finish(first)
	newcomer := func(id identity.Device) {
		w.mu.Lock()
		w.devices[id] = &device{facts: rollout.Facts{Group: "pumps", Attested: published(v13).Measured, Running: published(v13)}}
		w.mu.Unlock()
	}
	newcomer("new-1")
	if o := w.comes("new-1"); o.Rollout != first || o.Version != v14 {
		t.Errorf("told %+v", o)
	}
	w.update("new-1")

	second := w.start(v15).ID
	w.pass()
	newcomer("new-2")
	if o := w.comes("new-2"); o.Rollout != first {
		t.Errorf("while another one begins it is told %+v", o)
	}
	w.update("new-2")
	if r := w.finish(second); r.Counts.Done != 12 {
		t.Errorf("%+v", r)
	}
	if o := w.comes("new-2"); o.Rollout != "" {
		t.Errorf("who is done is told %+v", o)
	}
	newcomer("new-3")
	if o := w.comes("new-3"); o.Rollout != second {
		t.Errorf("told %+v", o)
	}
	if r := w.show(first); r.Counts.Done != 12 {
		t.Errorf("%+v", r)
	}
}

func TestARolloutSupersedes(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 20)
	first := w.start(v14).ID
	w.pass()
	canary := w.wanted()
	w.report(canary[0], release.Downloading)
	second := w.start(v15).ID
	w.pass()
	w.pass()
	if r := w.show(first); r.Stage != "superseded" || r.Counts.Superseded != 20 {
		t.Errorf("%+v", r)
	}
	w.report(canary[0], release.Committed, func(g *release.Progress) { g.Rollout, g.Version = first, v14 }) // too late, and no harm
	for id, d := range w.devices {
		if d.told.Rollout == first {
			t.Errorf("%s is still told %+v", id, d.told)
		}
	}
	if r := w.finish(second); r.Stage != "finished" || r.Counts.Done != 20 {
		t.Errorf("%+v", r)
	}
	if _, err := w.Act(t.Context(), "ops", first, rollouts.Halt, operator.RolloutAct{}, ""); fault.Of(err) != fault.Conflict {
		t.Error(err)
	}
}

func TestPauseAndResume(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 20)
	id := w.start(v14, func(in *operator.StartRollout) { in.Windows = []release.Window{{From: "22:00", To: "04:00"}} }).ID
	w.pass()
	canary := w.wanted()
	if o := w.devices[canary[0]].told; !o.Unpaused || len(o.Windows) != 1 {
		t.Errorf("told %+v", o)
	}
	tag := w.show(id).ETag
	if r := w.act(id, rollouts.Pause, operator.RolloutAct{Reason: "a storm"}); r.Stage != "paused" || r.Reason != "a storm" || r.ETag == tag {
		t.Errorf("%+v", r)
	}
	if _, err := w.Act(t.Context(), "ops", id, rollouts.Resume, operator.RolloutAct{}, tag); iothub.CodeOf(err) != iothub.CodePrecondition {
		t.Errorf("an old ETag: %v", err)
	}
	before := w.devices[canary[0]].version
	w.pass()
	for _, d := range canary {
		if got := w.devices[d]; got.told.Unpaused || got.told.Rollout != id || got.version <= before {
			t.Errorf("told %+v, version %d after %d", got.told, got.version, before)
		}
		w.with(d, func(d *device) { d.facts.Connected = false })
	}
	w.later(200 * time.Hour) // nobody is late while nobody may begin
	w.pass()
	if r := w.show(id); r.Stage != "paused" || r.Counts.Offered != 2 {
		t.Errorf("%+v", r)
	}
	w.act(id, rollouts.Resume, operator.RolloutAct{})
	w.pass()
	if r := w.show(id); r.Stage != "running" || r.Counts.Offered != 2 {
		t.Errorf("%+v", r)
	}
	for _, d := range canary {
		if o := w.comes(d); !o.Unpaused {
			t.Errorf("told %+v", o)
		}
	}
	if r := w.finish(id); r.Stage != "finished" {
		t.Errorf("%+v", r)
	}
	for verb, in := range map[string]operator.RolloutAct{"explode": {}, rollouts.Pause: {}, rollouts.Resume: {}, rollouts.Retry: {}} {
		if r, err := w.Act(t.Context(), "ops", id, verb, in, ""); err == nil {
			t.Errorf("%s of a finished rollout: %+v", verb, r)
		}
	}
	if _, err := w.Act(t.Context(), "ops", "pump-none", rollouts.Halt, operator.RolloutAct{}, ""); fault.Of(err) != fault.NotFound {
		t.Error(err)
	}
}

func TestAWithdrawnReleaseHalts(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 20)
	done := w.start(v14).ID
	w.finish(done)
	id := w.start(v15).ID
	w.pass()
	for _, v := range []mcuboot.Version{v14, v15} {
		r := published(v)
		r.Withdrawn = "it leaks"
		w.releases[v] = r
	}
	w.pass()
	for _, id := range []string{done, id} {
		if r := w.show(id); r.Stage != "halted" || !strings.Contains(r.Reason, "withdrawn: it leaks") {
			t.Errorf("%+v", r)
		}
	}
	if n := len(w.wanted()); n != 0 {
		t.Errorf("%d devices are still told to run it", n)
	}
	if _, err := w.Act(t.Context(), "ops", id, rollouts.Resume, operator.RolloutAct{}, ""); fault.Of(err) != fault.Conflict || !strings.Contains(err.Error(), "it leaks") {
		t.Error(err)
	}
	w.mu.Lock()
	w.devices["late"] = &device{facts: rollout.Facts{Group: "pumps"}}
	w.mu.Unlock()
	if o := w.comes("late"); o.Rollout != "" {
		t.Errorf("who comes later is told %+v", o)
	}
}

func TestSilenceCrashesAndFalseClaimsHalt(t *testing.T) {
	for name, fails := range map[string]func(*world, identity.Device){
		"silent": func(w *world, d identity.Device) {
			w.report(d, release.Trying)
			w.with(d, func(d *device) { d.facts.Connected, d.facts.Seen = false, w.time })
			w.later(31 * time.Minute)
		},
		"crashed": func(w *world, d identity.Device) {
			w.update(d)
			w.pass()
			w.later(time.Minute)
			w.Crashed(d, time.Time{}, "the watchdog reset the board")
		},
		"unproved": func(w *world, d identity.Device) {
			w.report(d, release.Committed)
			w.later(31 * time.Minute)
		},
		"overdue": func(w *world, d identity.Device) {
			w.report(d, release.Staged)
			w.later(72 * time.Hour)
		},
		"refused": func(w *world, d identity.Device) {
			w.report(d, release.Idle, func(g *release.Progress) { g.Final, g.Attack = true, release.Rollback })
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.add("pumps", 10)
			id := w.start(v14).ID
			w.pass()
			canary := w.wanted()
			if len(canary) != 1 {
				t.Fatalf("canary %v", canary)
			}
			fails(w, canary[0])
			w.pass() // finds it out
			w.pass() // and decides
			if r := w.show(id); r.Stage != "halted" || r.Causes[name] != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A crash that is older than the update, or of a device that has not committed,
// says nothing of the release.
func TestOtherCrashes(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 10)
	id := w.start(v14).ID
	w.Crashed("pumps-0000", time.Time{}, "long ago")
	w.pass()
	d := w.wanted()[0]
	w.Crashed(d, time.Time{}, "before it had begun")
	w.pass()
	w.update(d)
	w.Crashed(d, w.now().Add(-time.Hour), "of an older time")
	w.Crashed("nobody", time.Time{}, "unknown")
	w.pass()
	if r := w.show(id); r.Stage != "running" || r.Counts.Failed != 0 || r.Counts.Done != 1 {
		t.Errorf("%+v", r)
	}
}

func TestWhoCannotIsExcluded(t *testing.T) {
	w := newWorld(t)
	ids := w.add("pumps", 10)
	w.with(ids[0], func(d *device) { d.facts.Unproven = "its certificate is its maker's" })
	w.with(ids[1], func(d *device) { d.facts.Revoked = true })
	w.with(ids[2], func(d *device) { d.facts.Running, d.facts.Attested = published(v15), published(v15).Measured })
	w.with(ids[3], func(d *device) { d.facts.Running, d.facts.Attested = published(v14), published(v14).Measured })
	w.with(ids[4], func(d *device) { d.deaf = true })
	id := w.start(v14, func(in *operator.StartRollout) { in.Canary, in.Soak = 100, 0 }).ID
	w.pass()
	if r := w.show(id); r.Counts.Excluded != 3 || r.Counts.Done != 1 || r.Counts.Offered != 5 || r.Counts.Waiting != 1 {
		t.Errorf("%+v", r)
	}
	w.report(ids[5], release.Idle, func(g *release.Progress) {
		g.Final, g.Attack, g.Reason = true, release.WrongProduct, "hardware rev-a"
	})
	w.later(61 * time.Second)
	w.pass()
	r := w.show(id)
	for cause, n := range map[string]int{"no-attestation": 1, "revoked": 1, "newer": 1, "no-updater": 1, "other-product": 1} {
		if r.Causes[cause] != n {
			t.Errorf("%s: %d of %v", cause, r.Causes[cause], r.Causes)
		}
	}
	ds, err := w.Devices(t.Context(), id, operator.RolloutDeviceQuery{State: "excluded"})
	if err != nil || len(ds) != 5 || slices.ContainsFunc(ds, func(d operator.RolloutDevice) bool { return d.Reason == "" }) {
		t.Errorf("%+v, %v", ds, err)
	}
	if r := w.finish(id); r.Stage != "finished" || r.Counts.Done != 5 {
		t.Errorf("%+v", r)
	}

	// one that turns out to ask for updates after all is in again
	w.with(ids[4], func(d *device) { d.deaf = false })
	if o := w.comes(ids[4]); o.Rollout != id {
		t.Errorf("told %+v", o)
	}
}

// A hub that is killed anywhere goes on where it stood.
func TestARolloutSurvivesTheHub(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 300)
	id := w.start(v14).ID
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.Pass(ctx) // killed before its devices are known
	again := func() {
		t.Helper()
		if err := w.store.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
	}
	again()
	w.mu.Lock()
	w.failing = errors.New("killed")
	w.mu.Unlock()
	w.pass() // while they are listed
	w.mu.Lock()
	w.failing = nil
	w.mu.Unlock()
	again()
	for range 40 {
		w.pass()
		again()
		ids := w.wanted()
		for _, d := range ids[:min(len(ids), (len(ids)+1)/2)] {
			w.update(d)
		}
		again()
		for _, d := range w.wanted() {
			w.comes(d)
			w.update(d)
		}
		w.later(6 * time.Minute)
		if r := w.show(id); r.Stage == "finished" {
			if r.Counts.Done != 300 {
				t.Errorf("%+v", r)
			}
			break
		}
	}
	if r := w.show(id); r.Stage != "finished" {
		t.Errorf("%+v", r)
	}
	steps := 0
	for _, line := range w.recorded() {
		if strings.HasPrefix(line, "rollout.step") {
			steps++
		}
	}
	if steps != 3 {
		t.Errorf("%d steps in %q", steps, w.recorded())
	}
}

func TestNamedDevices(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 5)
	w.add("fans", 5)
	r := w.start(v14, func(in *operator.StartRollout) {
		in.Groups, in.Devices = nil, []identity.Device{"pumps-0001", "fans-0002", "pumps-0001"}
	})
	if len(r.Devices) != 2 || !slices.Equal(r.Groups, []identity.Group{"fans", "pumps"}) {
		t.Errorf("%+v", r)
	}
	if r := w.finish(r.ID); r.Counts.Done != 2 {
		t.Errorf("%+v", r)
	}
	for _, tt := range []struct {
		groups []identity.Group
		n      int
	}{{nil, 1}, {[]identity.Group{"pumps"}, 0}, {[]identity.Group{"pumps", "fans", "x"}, 1}} {
		rs, err := w.Rollouts(t.Context(), operator.RolloutQuery{Groups: tt.groups})
		if err != nil || len(rs) != tt.n {
			t.Errorf("for %v: %d, %v", tt.groups, len(rs), err)
		}
	}
}

func TestRolloutsAreListed(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 3)
	a := w.start(v14).ID
	b := w.start(v15).ID
	w.pass()
	w.pass()
	for _, tt := range []struct {
		q    operator.RolloutQuery
		want []string
	}{
		{operator.RolloutQuery{}, []string{b, a}}, {operator.RolloutQuery{Limit: 1}, []string{b}}, {operator.RolloutQuery{After: b}, []string{a}},
		{operator.RolloutQuery{Live: true}, []string{b}}, {operator.RolloutQuery{Stage: "superseded"}, []string{a}}, {operator.RolloutQuery{Product: "fan"}, nil},
		{operator.RolloutQuery{Group: "pumps"}, []string{b, a}}, {operator.RolloutQuery{Group: "fans"}, nil},
	} {
		rs, err := w.Rollouts(t.Context(), tt.q)
		var ids []string
		for _, r := range rs {
			ids = append(ids, r.ID)
		}
		if err != nil || !slices.Equal(ids, tt.want) {
			t.Errorf("%+v: %v, %v", tt.q, ids, err)
		}
	}
}

// TestRolloutsOfADevice: the newest first, and none that whoever asks does not
// see whole.
func TestRolloutsOfADevice(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 2)
	w.add("fans", 1)
	a := w.start(v14).ID
	w.pass()
	b := w.start(v15, func(in *operator.StartRollout) {
		in.Groups, in.Devices, in.Canary = nil, []identity.Device{"pumps-0001", "fans-0000"}, 100
	}).ID
	w.pass()
	w.pass()
	for _, tt := range []struct {
		device identity.Device
		groups []identity.Group
		want   []string // with the device's state
	}{
		{"pumps-0001", nil, []string{b + " 1.5.0 offered", a + " 1.4.0 superseded"}}, {"pumps-0001", []identity.Group{"pumps"}, []string{a + " 1.4.0 superseded"}},
		{"fans-0000", []identity.Group{"pumps", "fans"}, []string{b + " 1.5.0 offered"}}, {"nobody", nil, nil},
	} {
		rs, err := w.Of(t.Context(), tt.device, tt.groups)
		var got []string
		for _, r := range rs {
			if r.Device != tt.device {
				t.Errorf("of %s: %+v", tt.device, r)
			}
			got = append(got, r.Rollout+" "+r.Version.String()+" "+r.State)
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s for %v: %v, %v; want %v", tt.device, tt.groups, got, err, tt.want)
		}
	}
}

func TestProgressRefuses(t *testing.T) {
	w := newWorld(t)
	w.add("pumps", 3)
	id := w.start(v14).ID
	w.pass()
	d := w.wanted()[0]
	for name, body := range map[string]string{
		"nothing": "", "no JSON": "committed", "an array": "[]", "a version that is none": `{"version":"x","state":"idle"}`,
		"too long": `{"reason":"` + strings.Repeat("x", release.MaxProgress) + `"}`, "a long name": `{"rollout":"` + strings.Repeat("x", 65) + `"}`,
	} {
		if err := w.Progress(t.Context(), d, []byte(body)); fault.Of(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.report(d, release.Committed, func(g *release.Progress) { g.Rollout = "pump-unknown" })
	w.report(d, release.Committed, func(g *release.Progress) { g.Attempt = 7 })
	w.report("pumps-0001", release.Committed, func(g *release.Progress) { g.Rollout = "" })
	if r := w.show(id); r.Counts.Offered != 1 || r.Counts.Waiting != 2 {
		t.Errorf("%+v", r)
	}
	cfg := rollouts.Config{}
	if _, err := rollouts.New(t.Context(), cfg); err == nil {
		t.Error("took a config without anything")
	}
}

func FuzzProgress(f *testing.F) {
	w := newWorld(f)
	w.add("pumps", 1)
	id := w.start(v14).ID
	w.pass()
	f.Add([]byte(`{"rollout":"` + id + `","state":"downloading","bytes":-1}`))
	f.Add([]byte(`{"rollout":"` + id + `","state":"reverting","final":true,"reason":"\u0000"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		err := w.Progress(t.Context(), "pumps-0000", body)
		if k := fault.Of(err); err != nil && k != fault.Invalid {
			t.Errorf("%q: %v", body, err)
		}
	})
}
