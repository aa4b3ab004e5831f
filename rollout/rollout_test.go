package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/rollout"
)

var (
	start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	fresh = identity.Sum([]byte("1.4.0"))
	stale = identity.Sum([]byte("1.3.0"))
	v14   = mcuboot.Version{Major: 1, Minor: 4}
)

func plan() rollout.Plan {
	return rollout.Plan{ID: "pump-x", Product: "pump", Version: v14, Groups: []identity.Group{"pumps"}, Measured: fresh,
		Canary: 5_00, Step: 25_00, Soak: 10 * time.Minute, HaltOn: 2_00, Deadline: 72 * time.Hour, SilentAfter: 30 * time.Minute}
}

func running() rollout.Rollout {
	return rollout.Rollout{Plan: plan(), Seq: 3, Rev: 1, Stage: rollout.Running, Started: start, Opened: start}
}

func TestPlanRefuses(t *testing.T) {
	if err := plan().Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*rollout.Plan){
		"an id":            func(p *rollout.Plan) { p.ID = "" },
		"digest":           func(p *rollout.Plan) { p.Measured = identity.Digest{} },
		"0 groups":         func(p *rollout.Plan) { p.Groups = nil },
		"65 groups":        func(p *rollout.Plan) { p.Groups = make([]identity.Group, 65) },
		"10001 devices":    func(p *rollout.Plan) { p.Devices = make([]identity.Device, 10_001) },
		"canary of 0%":     func(p *rollout.Plan) { p.Canary = 0 },
		"canary of 101%":   func(p *rollout.Plan) { p.Canary = 101_00 },
		"step of 0%":       func(p *rollout.Plan) { p.Step = 0 },
		"step of 100.01%":  func(p *rollout.Plan) { p.Step = 100_01 },
		"halt on 100%":     func(p *rollout.Plan) { p.HaltOn = rollout.All },
		"halt on -1%":      func(p *rollout.Plan) { p.HaltOn = -1_00 },
		"soak of -1s":      func(p *rollout.Plan) { p.Soak = -time.Second },
		"soak of 721h":     func(p *rollout.Plan) { p.Soak = 721 * time.Hour },
		"deadline of 0s":   func(p *rollout.Plan) { p.Deadline = 0 },
		"silent after 1s":  func(p *rollout.Plan) { p.SilentAfter = time.Second },
		"17 maintenance":   func(p *rollout.Plan) { p.Windows = make([]release.Window, 17) },
		`window "25:00"`:   func(p *rollout.Plan) { p.Windows = []release.Window{{From: "25:00", To: "01:00"}} },
		`window "1:00"`:    func(p *rollout.Plan) { p.Windows = []release.Window{{From: "1:00", To: "02:00"}} },
		"it has no length": func(p *rollout.Plan) { p.Windows = []release.Window{{From: "01:00", To: "01:00"}} },
	} {
		p := plan()
		spoil(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestPercent(t *testing.T) {
	for in, want := range map[string]rollout.Percent{"5%": 5_00, "2.5%": 2_50, "100%": 100_00, "0%": 0, "0.01%": 1, "33.33%": 33_33} {
		if p, err := rollout.ParsePercent(in); err != nil || p != want || p.String() != in {
			t.Errorf("%s: %d (%s), %v", in, p, p, err)
		}
	}
	for _, in := range []string{"", "5", "%", "-5%", "101%", "NaN%", "Inf%", "1e1%", "0x5%", "5 %", "5%%", "+5%"} {
		if p, err := rollout.ParsePercent(in); err == nil {
			t.Errorf("took %q as %s", in, p)
		}
	}
	for n, want := range map[int]int{0: 0, 1: 1, 20: 1, 21: 2, 100: 5, 100_000: 5000} {
		if got := rollout.Percent(5_00).Of(n); got != want {
			t.Errorf("5%% of %d: %d, want %d", n, got, want)
		}
	}
}

func TestWindow(t *testing.T) {
	if w, err := rollout.ParseWindow("22:00-04:00"); err != nil || w != (release.Window{From: "22:00", To: "04:00"}) {
		t.Errorf("%v, %v", w, err)
	}
	for _, in := range []string{"", "22:00", "22-04", "22:00-24:00", "22:00-04:00-05:00", "x-y"} {
		if w, err := rollout.ParseWindow(in); err == nil {
			t.Errorf("took %q as %v", in, w)
		}
	}
}

// The order is the same whenever it is asked for, another one in each rollout,
// and says nothing of the ids: of a thousand that follow one another the first
// and the last hundred are spread over all of it.
func TestOrder(t *testing.T) {
	const n = 1000
	ids := make([]identity.Device, n)
	for i := range ids {
		ids[i] = identity.Device(fmt.Sprintf("pump-%04d", i))
	}
	order := func(id string) []identity.Device {
		out := slices.Clone(ids)
		slices.SortFunc(out, func(a, b identity.Device) int { return int(min(max(rollout.Rank(id, a)-rollout.Rank(id, b), -1), 1)) })
		return out
	}
	a, again, b := order("pump-a"), order("pump-a"), order("pump-b")
	if !slices.Equal(a, again) || slices.Equal(a, b) {
		t.Error("the order is not one of each rollout")
	}
	first := 0
	for _, d := range a[:n/2] {
		if d < ids[n/10] {
			first++
		}
	}
	if first < n/10/4 || first > n/10*3/4 {
		t.Errorf("of the first %d ids %d are in the first half", n/10, first)
	}
}

func TestLimits(t *testing.T) {
	p := plan()
	for n, want := range map[int][]int{0: {0, 0, 0, 0, 0}, 1: {1, 1, 1, 1, 1}, 10: {1, 3, 6, 8, 10}, 100: {5, 30, 55, 80, 100}} {
		var got []int
		for wave := range p.Waves() {
			got = append(got, p.Limit(wave, n))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d devices: %v, want %v", n, got, want)
		}
	}
}

// counts makes counts of pairs of a state and a number.
func counts(last time.Time, pairs ...any) rollout.Counts {
	c := rollout.Counts{States: map[rollout.State]int{}, Causes: map[rollout.Cause]int{}, Last: last}
	for i := 0; i < len(pairs); i += 2 {
		c.States[pairs[i].(rollout.State)] = pairs[i+1].(int)
	}
	c.Causes[rollout.Reverted] = c.States[rollout.Failed]
	return c
}

func TestDecide(t *testing.T) {
	const (
		w, o, u, cm, d, f, x, s = rollout.Waiting, rollout.Offered, rollout.Updating, rollout.Committed, rollout.Done, rollout.Failed, rollout.Excluded, rollout.Replaced
	)
	long, soon := start.Add(-time.Hour), start.Add(-time.Minute)
	far := start.Add(-100 * time.Hour)
	for _, tt := range []struct {
		name   string
		wave   int
		counts rollout.Counts
		stage  rollout.Stage
		to     int // the wave
		room   int
		reason string
	}{
		{"nothing is offered", 0, counts(long, w, 100), rollout.Running, 0, 5, ""},
		{"some of the canary is there", 0, counts(long, w, 98, o, 2), rollout.Running, 0, 3, ""},
		{"the canary is at work", 0, counts(long, w, 95, o, 2, u, 2, cm, 1), rollout.Running, 0, 0, ""},
		{"the canary waits for proof", 0, counts(long, w, 95, cm, 1, d, 4), rollout.Running, 0, 0, ""},
		{"the canary is done and soaks", 0, counts(soon, w, 95, d, 5), rollout.Running, 0, 0, ""},
		{"the canary has soaked", 0, counts(long, w, 95, d, 5), rollout.Running, 1, 0, "canary of pump 1.4.0: 5 of 100"},
		{"a second wave begins", 1, counts(long, w, 95, d, 5), rollout.Running, 1, 25, ""},
		{"the last wave has soaked", 4, counts(long, d, 100), rollout.Finished, 4, 0, "wave 5 of 5"},
		{"excluded ones hold nothing up", 4, counts(long, d, 3, x, 97), rollout.Finished, 4, 0, ""},
		{"of few devices steps are left out", 0, counts(long, w, 1, d, 1), rollout.Running, 2, 0, ""}, // 5 % and 30 % of two are one
		{"one of a small canary failed", 0, counts(long, w, 95, u, 4, f, 1), rollout.Halted, 0, 0, "1 of 1 decided devices failed (1 reverted), more than 2%"},
		{"few of many failed", 1, counts(long, w, 70_000, u, 29_990, d, 9, f, 1), rollout.Running, 1, 0, ""},
		{"too many of the decided failed", 1, counts(long, w, 70_000, u, 29_970, d, 28, f, 2), rollout.Halted, 1, 0, "2 of 30"},
		{"as many as are allowed failed", 4, counts(long, d, 98, f, 2), rollout.Finished, 4, 0, ""},
		{"one more failed", 4, counts(long, d, 97, f, 3), rollout.Halted, 4, 0, ""},
		{"some have not come for a while", 4, counts(long, d, 90, w, 10), rollout.Running, 4, 10, ""},
		{"some have not come within the deadline", 4, counts(far, d, 90, w, 10), rollout.Finished, 4, 0, "the others have not come for 72h"},
		{"some of a wave have not come within the deadline", 1, counts(far, d, 20, w, 80), rollout.Running, 2, 0, "have not come"},
		{"nobody has ever come", 0, counts(far, w, 100), rollout.Running, 0, 5, ""},
		{"no device is left", 0, counts(long, x, 3), rollout.Finished, 0, 0, "no device is left"},
		{"another rollout has them", 0, counts(long, s, 3, x, 1), rollout.Superseded, 0, 0, "another rollout"},
		{"another rollout has the rest", 1, counts(long, s, 70, d, 30), rollout.Superseded, 1, 0, "another rollout"},
		{"another rollout has the rest, and some failed", 1, counts(long, s, 70, d, 20, f, 10), rollout.Superseded, 1, 0, "another rollout"},
	} {
		r := running()
		r.Wave, r.Opened = tt.wave, far
		got := rollout.Decide(r, tt.counts, start)
		if got.Stage != tt.stage || got.Wave != tt.to || got.Room != tt.room || !strings.Contains(got.Reason, tt.reason) {
			t.Errorf("%s: %+v", tt.name, got)
		}
		for _, stage := range []rollout.Stage{rollout.Planning, rollout.Halted, rollout.Finished, rollout.Superseded, rollout.Paused} {
			r.Stage = stage
			got := rollout.Decide(r, tt.counts, start)
			want := stage
			switch {
			case stage == rollout.Paused && tt.stage == rollout.Halted:
				want = rollout.Halted
			case (stage == rollout.Paused || stage == rollout.Halted) && tt.stage == rollout.Superseded:
				want = rollout.Superseded
			}
			if got.Room != 0 || got.Wave != r.Wave || got.Stage != want {
				t.Errorf("%s while %s: %+v", tt.name, stage, got)
			}
		}
	}
}

// A soak begins anew with a wave, and when an operator lets it go on.
func TestSoakBeginsAnew(t *testing.T) {
	r, c := running(), counts(start.Add(-time.Hour), rollout.Waiting, 95, rollout.Done, 5)
	for what, at := range map[string]*time.Time{"opened": &r.Opened, "resumed": &r.Resumed} {
		was := *at
		*at = start.Add(-9 * time.Minute)
		if d := rollout.Decide(r, c, start); d.Wave != 0 {
			t.Errorf("%s 9 minutes ago: %+v", what, d)
		}
		*at = was.Add(-time.Hour)
	}
}

func TestEnter(t *testing.T) {
	runs := func(p release.Product, v mcuboot.Version) release.Release {
		return release.Release{Target: release.Target{Product: p, Version: v}}
	}
	for _, tt := range []struct {
		name  string
		facts rollout.Facts
		state rollout.State
		cause rollout.Cause
	}{
		{"one of which nothing is known", rollout.Facts{}, rollout.Waiting, ""},
		{"one that runs something unknown", rollout.Facts{Attested: stale}, rollout.Waiting, ""},
		{"one that runs an older release", rollout.Facts{Attested: stale, Running: runs("pump", mcuboot.Version{Major: 1, Minor: 3})}, rollout.Waiting, ""},
		{"one that runs it", rollout.Facts{Attested: fresh, Running: runs("pump", v14)}, rollout.Done, ""},
		{"one that runs a newer release", rollout.Facts{Attested: stale, Running: runs("pump", mcuboot.Version{Major: 2})}, rollout.Excluded, rollout.Newer},
		{"one that runs another product", rollout.Facts{Attested: stale, Running: runs("fan", mcuboot.Version{Major: 1})}, rollout.Excluded, rollout.Foreign},
		{"one that is revoked", rollout.Facts{Revoked: true, Attested: fresh}, rollout.Excluded, rollout.Revoked},
		{"one of a maker", rollout.Facts{Unproven: "its certificate is its maker's"}, rollout.Excluded, rollout.Unproven},
	} {
		d := plan().Enter("pump-01", tt.facts, start)
		if d.State != tt.state || d.Cause != tt.cause || (d.State == rollout.Excluded) != (d.Cause != "" && d.Reason != "") {
			t.Errorf("%s: %+v", tt.name, d)
		}
	}
	drill := plan()
	drill.OlderUnsafe = true
	if d := drill.Enter("pump-01", rollout.Facts{Attested: stale, Running: runs("pump", mcuboot.Version{Major: 2})}, start); d.State != rollout.Waiting {
		t.Errorf("one that runs a newer release, in a drill: %+v", d)
	}
}
