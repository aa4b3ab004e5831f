package rollouts_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/rollouts"
	"holdfast/hub/store"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/rollout"
)

var (
	v13 = mcuboot.Version{Major: 1, Minor: 3}
	v14 = mcuboot.Version{Major: 1, Minor: 4}
	v15 = mcuboot.Version{Major: 1, Minor: 5}
)

// published is a release as the repository has it.
func published(v mcuboot.Version) release.Release {
	return release.Release{Target: release.Target{Product: "pump", Version: v, SecurityVersion: 1, Measured: identity.Sum([]byte(v.String()))}}
}

// device is one of the world's: what it runs, and what it was told last.
type device struct {
	facts    rollout.Facts
	deaf     bool // it has not subscribed
	told     release.Offer
	version  uint64
	times    int
	attempts map[string]int // that it has begun, by rollout
}

// world is everything around a service, with a clock that moves when it is told.
type world struct {
	*rollouts.Service
	t     testing.TB
	store *store.Store
	path  string

	mu       sync.Mutex
	time     time.Time
	devices  map[identity.Device]*device
	releases map[mcuboot.Version]release.Release
	products map[identity.Group]release.Product
	ledger   []string // kind, device and reason of each record
	failing  error    // of the registry
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, path: filepath.Join(t.TempDir(), "db"), time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), devices: map[identity.Device]*device{},
		releases: map[mcuboot.Version]release.Release{}, products: map[identity.Group]release.Product{}}
	for _, v := range []mcuboot.Version{v13, v14, v15} {
		w.releases[v] = published(v)
	}
	w.open()
	t.Cleanup(func() { w.store.Close() })
	return w
}

// open opens the store and makes a service on it, as a hub does that starts.
func (w *world) open() {
	w.t.Helper()
	var err error
	if w.store, err = store.Open(w.t.Context(), w.path); err != nil {
		w.t.Fatal(err)
	}
	w.Service, err = rollouts.New(w.t.Context(), rollouts.Config{Store: w.store.Rollouts(), Releases: w, Registry: w, Sessions: w, Products: w, Ledger: w,
		Log: slog.New(slog.DiscardHandler), Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

// later lets time pass.
func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

// add puts devices into a group, connected and running 1.3.0.
func (w *world) add(g identity.Group, n int) []identity.Device {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []identity.Device
	for i := range n {
		id := identity.Device(fmt.Sprintf("%s-%04d", g, i))
		w.devices[id] = &device{facts: rollout.Facts{Group: g, Attested: published(v13).Measured, Running: published(v13), Connected: true}, attempts: map[string]int{}}
		ids = append(ids, id)
	}
	return ids
}

// with changes a device.
func (w *world) with(id identity.Device, change func(*device)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w.devices[id])
}

func (w *world) Release(_ context.Context, _ release.Product, v mcuboot.Version) (release.Release, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r, ok := w.releases[v]; ok {
		return r, nil
	}
	return release.Release{}, fault.New(fault.NotFound, "there is no release %s", v)
}

func (w *world) Members(_ context.Context, g identity.Group) ([]identity.Device, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []identity.Device
	for id, d := range w.devices {
		if d.facts.Group == g {
			ids = append(ids, id)
		}
	}
	return slices.Sorted(slices.Values(ids)), nil
}

func (w *world) Facts(_ context.Context, id identity.Device) (rollout.Facts, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failing != nil {
		return rollout.Facts{}, w.failing
	}
	if d, ok := w.devices[id]; ok {
		return d.facts, nil
	}
	return rollout.Facts{}, fault.New(fault.NotFound, "there is no device %q", id)
}

func (w *world) Connected(id identity.Device) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.devices[id].facts.Connected
}

func (w *world) Offer(_ context.Context, id identity.Device, version uint64, o release.Offer) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.devices[id]
	if !d.facts.Connected || d.deaf {
		return false, nil
	}
	d.told, d.version, d.times = o, version, d.times+1
	return true, nil
}

func (w *world) SetProduct(_ context.Context, _ string, g identity.Group, p release.Product) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if had := w.products[g]; had != "" && had != p {
		return fault.New(fault.Conflict, "group %s runs %s", g, had)
	}
	w.products[g] = p
	return nil
}

func (w *world) Record(_ context.Context, kind string, id identity.Device, details any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	reason, _ := details.(map[string]any)["reason"].(string)
	line := kind
	for _, s := range []string{string(id), reason} {
		if s != "" {
			line += " " + s
		}
	}
	w.ledger = append(w.ledger, line)
	return nil
}

// kinds returns the kinds of what was recorded of rollouts, without those of
// devices.
func (w *world) recorded() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ledger)
}

// start starts a rollout of the group pumps, or changes what is asked for first.
func (w *world) start(v mcuboot.Version, change ...func(*operator.StartRollout)) operator.Rollout {
	w.t.Helper()
	in := operator.StartRollout{Product: "pump", Version: v, Groups: []identity.Group{"pumps"}, RolloutPlan: operator.RolloutPlan{Canary: 10, Step: 30, Soak: 600, HaltOn: 10}}
	for _, c := range change {
		c(&in)
	}
	r, err := w.Start(w.t.Context(), "ops", in)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) show(id string) operator.Rollout {
	w.t.Helper()
	r, err := w.Rollout(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) act(id, verb string, in operator.RolloutAct) operator.Rollout {
	w.t.Helper()
	r, err := w.Act(w.t.Context(), "ops", id, verb, in, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// report has a device report a state of what it was told to run.
func (w *world) report(id identity.Device, s release.State, change ...func(*release.Progress)) {
	w.t.Helper()
	w.mu.Lock()
	o := w.devices[id].told
	w.mu.Unlock()
	g := release.Progress{Rollout: o.Rollout, Attempt: o.Attempt, Product: o.Product, Version: o.Version, State: s, Final: s == release.Committed}
	for _, c := range change {
		c(&g)
	}
	body, err := json.Marshal(g)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.Progress(w.t.Context(), id, body); err != nil {
		w.t.Fatal(err)
	}
}

// update has a device take what it was told to run.
func (w *world) update(id identity.Device) {
	w.t.Helper()
	w.report(id, release.Downloading)
	w.mu.Lock()
	d := w.devices[id]
	d.facts.Attested, d.facts.Running = published(d.told.Version).Measured, published(d.told.Version)
	w.mu.Unlock()
	w.report(id, release.Committed)
}

func reverts(g *release.Progress) { g.Final, g.Reason = true, "no hub in time" }

// told returns the devices that are told to run something that they do not run,
// by id.
func (w *world) wanted() []identity.Device {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []identity.Device
	for _, id := range slices.Sorted(maps.Keys(w.devices)) {
		if d := w.devices[id]; d.told.Rollout != "" && d.facts.Running.Version != d.told.Version {
			ids = append(ids, id)
		}
	}
	return ids
}

// comes connects a device, which asks for updates.
func (w *world) comes(id identity.Device) release.Offer {
	w.t.Helper()
	w.with(id, func(d *device) { d.facts.Connected, d.facts.Seen = true, w.time })
	version, o, err := w.Wanted(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	w.with(id, func(d *device) { d.told, d.version = o, version })
	return o
}

func (w *world) pass() { w.Pass(w.t.Context()) }

// finish has all devices take what they are offered, wave after wave, until the
// rollout is at rest.
func (w *world) finish(id string) operator.Rollout {
	w.t.Helper()
	for range 30 {
		w.pass()
		for _, d := range w.wanted() {
			w.update(d)
		}
		w.pass()
		w.later(11 * time.Minute)
		if r := w.show(id); r.Stage != "running" && r.Stage != "planning" {
			return r
		}
	}
	w.t.Fatalf("it does not come to an end: %+v", w.show(id))
	return operator.Rollout{}
}
