package update_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/update"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// running is a machine of a board rev-b that runs v1, minimum 2.
func running() update.Machine {
	r := catalogue[v1]
	m, _ := update.Machine{}.Next(update.Booted{Facts: update.Facts{Product: "pump", Hardware: "rev-b", Minimum: 2,
		Running: update.Image{Slot: update.A, Measured: r.Measured, Version: r.Version, SecurityVersion: r.SecurityVersion},
		Record:  update.Record{Active: update.A}}}, noon)
	return m
}

// after lets a machine take events and returns the last one's actions.
func after(m update.Machine, events ...update.Event) (update.Machine, []update.Action) {
	var actions []update.Action
	for _, e := range events {
		m, actions = m.Next(e, noon)
	}
	return m, actions
}

func TestOffersAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		attack release.Attack
		spoil  func(e *update.Offered)
	}{
		"metadata":          {release.IndefiniteFreeze, func(e *update.Offered) { e.Err = release.Refuse(release.IndefiniteFreeze, errors.New("expired")) }},
		"another release":   {release.MixAndMatch, func(e *update.Offered) { e.Release = catalogue[v3] }},
		"another product":   {release.WrongProduct, func(e *update.Offered) { e.Release.Product, e.Offer.Product = "valve", "valve" }},
		"another board":     {release.WrongProduct, func(e *update.Offered) { e.Release.Hardware = []string{"rev-a"} }},
		"withdrawn":         {release.WithdrawnRelease, func(e *update.Offered) { e.Release.Withdrawn = "it bricks" }},
		"below the minimum": {release.Rollback, func(e *update.Offered) { e.Release.SecurityVersion = 1 }},
		"an older version": {release.Rollback, func(e *update.Offered) {
			e.Release.Version, e.Offer.Version = mcuboot.Version{Major: 1}, mcuboot.Version{Major: 1}
		}},
		"the same version, other bytes": {release.ArbitrarySoftware, func(e *update.Offered) {
			e.Release.Version, e.Offer.Version = catalogue[v1].Version, catalogue[v1].Version
		}},
		"a deadline that has passed": {"", func(e *update.Offered) { e.Offer.Deadline = noon.Add(-time.Second) }},
		"a version between": {"", func(e *update.Offered) {
			e.Release.Requires = []release.Requirement{{Product: "pump", Version: mcuboot.Version{Major: 1, Minor: 1, Revision: 1}}}
		}},
		"another product first": {"", func(e *update.Offered) { e.Release.Requires = []release.Requirement{{Product: "valve"}} }},
	} {
		t.Run(name, func(t *testing.T) {
			e := offer(v2, 1, true)
			c.spoil(&e)
			m, actions := after(running(), e)
			p := m.Progress()
			if m.Busy() || !slices.Equal(actions, []update.Action{update.Report}) || !p.Final || p.Reason == "" || p.Attack != c.attack {
				t.Errorf("%s, %v, report %+v; want attack %q", m.State, actions, p, c.attack)
			}
			// The same attempt is not tried again, and says the same again.
			if again, actions := after(m, offer(v2, 1, true)); name != "another product" && name != "an older version" && name != "the same version, other bytes" &&
				(again.Busy() || !slices.Equal(actions, []update.Action{update.Report}) || !cmp.Equal(again.Progress(), p)) {
				t.Errorf("again: %s, %v, report %+v", again.State, actions, again.Progress())
			}
		})
	}
}

func TestAttemptsEnd(t *testing.T) {
	got, actions := after(running(), offer(v2, 1, true))
	if got.State != release.Downloading || !slices.Equal(actions, []update.Action{update.Report, update.Download}) {
		t.Fatalf("%s, %v", got.State, actions)
	}
	staged := []update.Event{offer(v2, 1, true), update.Downloaded{}, update.Verified{}}
	trial := func() update.Machine {
		m, _ := after(running(), staged...)
		f := m.Facts
		f.Trial, f.Running = true, update.Image{Slot: update.B, Measured: catalogue[v2].Measured, Version: catalogue[v2].Version, SecurityVersion: 3}
		f.Record = f.Record.Stage(update.A, update.Trial{Slot: update.B, Digest: catalogue[v2].Measured}).Consume()
		m, _ = after(m, update.Booted{Facts: f})
		if m.State != release.Confirming {
			t.Fatalf("a trial boots, and the machine is %s", m.State)
		}
		return m
	}
	for name, c := range map[string]struct {
		m       update.Machine
		events  []update.Event
		state   release.State
		actions []update.Action
	}{
		"refused download":    {running(), []update.Event{offer(v2, 1, true), update.Refused{Err: errors.New("no")}}, release.Idle, []update.Action{update.Stop, update.Report}},
		"refused image":       {running(), []update.Event{offer(v2, 1, true), update.Downloaded{}, update.Refused{Err: errors.New("no")}}, release.Idle, []update.Action{update.Report}},
		"trial asked for":     {running(), staged, release.Trying, []update.Action{update.Report, update.MarkTrial, update.Reset}},
		"mark fails":          {running(), append(slices.Clone(staged), update.Failed{Action: update.MarkTrial, Err: errors.New("no")}), release.Idle, []update.Action{update.DropTrial, update.Report}},
		"called off":          {running(), []update.Event{offer(v2, 1, true), update.Offered{}}, release.Idle, []update.Action{update.Stop}},
		"withdrawn meanwhile": {running(), []update.Event{offer(v2, 1, true), withdrawnMeanwhile()}, release.Idle, []update.Action{update.Stop, update.Report}},
		"paused":              {running(), []update.Event{offer(v2, 1, true), offer(v2, 1, false)}, release.Downloading, []update.Action{update.Stop}},
		"goes on":             {running(), []update.Event{offer(v2, 1, false), offer(v2, 1, true)}, release.Downloading, []update.Action{update.Download}},
		"another offer":       {running(), []update.Event{offer(v2, 1, true), offer(v3, 1, true)}, release.Downloading, []update.Action{update.Stop, update.Report, update.Download}},
		"healthy":             {trial(), []update.Event{update.HealthPassed{}}, release.Committed, []update.Action{update.MarkCommitted, update.ClearTrial, update.BurnCounter, update.Report}},
		"sick":                {trial(), []update.Event{update.HealthFailed{Reason: "sick"}}, release.Reverting, []update.Action{update.Report, update.Reset}},
		"too late":            {trial(), []update.Event{update.DeadlinePassed{}}, release.Reverting, []update.Action{update.Report, update.Reset}},
		"commit fails":        {trial(), []update.Event{update.HealthPassed{}, update.Failed{Action: update.MarkCommitted, Err: errors.New("no")}}, release.Reverting, []update.Action{update.Report, update.Reset}},
		"offer during trial":  {trial(), []update.Event{offer(v3, 1, true)}, release.Confirming, nil},
		"late health":         {running(), []update.Event{update.HealthPassed{}}, "", nil},
		"late download":       {running(), []update.Event{update.Downloaded{}, update.Verified{}, update.Tick{}}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, actions := after(c.m, c.events...)
			if m.State != c.state || !slices.Equal(actions, c.actions) {
				t.Errorf("%q, %v; want %q, %v", m.State, actions, c.state, c.actions)
			}
		})
	}
}

func withdrawnMeanwhile() update.Offered {
	e := offer(v2, 1, true)
	e.Release.Withdrawn = "it bricks"
	return e
}

func TestChunksCount(t *testing.T) {
	m, _ := after(running(), offer(v2, 1, true), update.Chunk{Bytes: 4}, update.Chunk{Bytes: 3}, update.Chunk{Bytes: 11})
	if m.Bytes != 4 || m.Progress().Bytes != 4 || m.Progress().Length != 10 {
		t.Errorf("%d bytes, report %+v", m.Bytes, m.Progress())
	}
}

func TestWindows(t *testing.T) {
	at := func(h, min int) time.Time { return time.Date(2026, 5, 1, h, min, 0, 0, time.UTC) }
	day, night := []release.Window{{From: "08:00", To: "16:30"}}, []release.Window{{From: "22:00", To: "04:00"}}
	for _, c := range []struct {
		windows []release.Window
		now     time.Time
		open    bool
	}{
		{nil, time.Time{}, true}, {day, time.Time{}, false}, {day, at(8, 0), true}, {day, at(16, 29), true}, {day, at(16, 30), false}, {day, at(7, 59), false},
		{night, at(23, 0), true}, {night, at(3, 59), true}, {night, at(4, 0), false}, {night, at(12, 0), false},
		{append(day, night...), at(23, 0), true}, {[]release.Window{{From: "8", To: "x"}}, at(9, 0), false},
	} {
		e := offer(v2, 1, true)
		e.Offer.Windows = c.windows
		m := running()
		for _, e := range []update.Event{e, update.Downloaded{}, update.Verified{}} {
			m, _ = m.Next(e, c.now)
		}
		if opened := m.State == release.Trying; opened != c.open {
			t.Errorf("%v at %s: %s", c.windows, c.now, m.State)
		}
	}
	// What is staged waits for its window, and not beyond its deadline.
	e := offer(v2, 1, true)
	e.Offer.Windows, e.Offer.Deadline = night, at(20, 0)
	m, _ := after(running(), e, update.Downloaded{}, update.Verified{})
	late, actions := m.Next(update.Tick{}, at(20, 1))
	if late.State != release.Idle || !slices.Equal(actions, []update.Action{update.DropTrial, update.Report}) {
		t.Errorf("beyond the deadline: %s, %v", late.State, actions)
	}
}

func TestMachineSurvivesARestart(t *testing.T) {
	m, _ := after(running(), offer(v2, 1, true), update.Chunk{Bytes: 4})
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back update.Machine
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	back, actions := after(back, update.Booted{Facts: m.Facts})
	if diff := cmp.Diff(m, back); diff != "" || !slices.Equal(actions, []update.Action{update.Download}) {
		t.Errorf("%v (-want +got):\n%s", actions, diff)
	}
	// A machine that has lost its file goes by the record.
	f := m.Facts
	f.Trial, f.Running = true, update.Image{Slot: update.B, Measured: identity.Sum([]byte("x")), SecurityVersion: 3}
	f.Record = f.Record.Stage(update.A, update.Trial{Slot: update.B, Digest: f.Running.Measured, Seconds: 60}).Consume()
	lost, actions := after(update.Machine{}, update.Booted{Facts: f})
	if lost.State != release.Confirming || lost.Target.Health.Deadline() != time.Minute || !slices.Contains(actions, update.CheckHealth) {
		t.Errorf("%s, target %+v, %v", lost.State, lost.Target, actions)
	}
	// A commit that was cut is mended, the counter last.
	f.Trial, f.Record = false, f.Record.Commit()
	if _, actions := after(update.Machine{}, update.Booted{Facts: f}); !slices.Equal(actions, []update.Action{update.ClearTrial, update.BurnCounter}) {
		t.Errorf("mends %v", actions)
	}
}
