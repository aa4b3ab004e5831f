package updater_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/delta"
	"holdfast/device/updater"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/update"
)

// world is a device with two slots, and a hub that it is connected to. What is
// in flash outlives the updater, as it does a restart.
type world struct {
	t    *testing.T
	path string

	mu       sync.Mutex
	slots    map[update.Slot][]byte
	record   update.Record
	running  update.Slot
	trial    bool
	minimum  uint32
	touched  bool // the slot that runs was written
	resets   []string
	crash    func(a update.Action) error // before an action of the slots; may be nil
	counter  error
	blobs    map[identity.Digest][]byte
	deltas   map[identity.Digest][]byte // by the digest of what they make
	asked    []string
	releases map[mcuboot.Version]release.Release
	refresh  func() error // may be nil
	healthy  map[string]error
	clock    tuf.Clock
	reports  []release.Progress
	refuse   error // of reports
	offers   chan []byte
	down     chan struct{}
	slow     chan struct{} // if not nil, contents wait for it after their first half
	status   updater.Status
}

func version(minor uint8) mcuboot.Version { return mcuboot.Version{Major: 1, Minor: minor} }

// firmware is an image of the test's form: what the slot holds says what it is.
func firmware(v mcuboot.Version, security uint32) []byte {
	head := fmt.Sprintf("image %d %d %d\n", v.Major, v.Minor, security)
	body := bytes.Repeat([]byte(head), 90<<10)
	return body[:1<<20+7*len(head)+3]
}

// measure is what a boot ROM would measure of it.
func measure(image []byte) identity.Digest {
	return identity.Sum(append([]byte("measured "), image...))
}

// look is what the boot ROM finds in a slot.
func look(image []byte) (update.Image, error) {
	var major, minor uint8
	var security uint32
	if _, err := fmt.Sscanf(string(image[:min(len(image), 40)]), "image %d %d %d\n", &major, &minor, &security); err != nil {
		return update.Image{}, errors.New("not an image")
	}
	return update.Image{Measured: measure(image), Version: mcuboot.Version{Major: major, Minor: minor}, SecurityVersion: security}, nil
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, path: filepath.Join(t.TempDir(), "update.json"), running: update.A, minimum: 1,
		slots: map[update.Slot][]byte{update.A: firmware(version(3), 1)},
		blobs: map[identity.Digest][]byte{}, deltas: map[identity.Digest][]byte{}, releases: map[mcuboot.Version]release.Release{},
		healthy: map[string]error{release.CheckHub: nil, release.CheckAttested: nil},
		clock:   tuf.At(time.Now()), offers: make(chan []byte, 1), down: make(chan struct{})}
	w.publish(version(3), 1)
	w.publish(version(4), 2)
	return w
}

// publish makes a release.
func (w *world) publish(v mcuboot.Version, security uint32) release.Release {
	image := firmware(v, security)
	r := release.Release{Image: release.Blob{Length: int64(len(image)), SHA256: identity.Sum(image)},
		Target: release.Target{Product: "pump", Version: v, SecurityVersion: security, Measured: measure(image),
			Health: release.Health{Checks: []string{release.CheckHub, release.CheckAttested}, Seconds: 600}}}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.releases[v], w.blobs[r.Image.SHA256] = r, image
	return r
}

func (w *world) offer(v mcuboot.Version) string {
	return fmt.Sprintf(`{"rollout":"r1","product":"pump","version":%q,"unpaused":true}`, v)
}

// Facts and what follows are the board's slots.

func (w *world) Facts() (update.Facts, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	img, err := look(w.slots[w.running])
	img.Slot = w.running
	return update.Facts{Running: img, Trial: w.trial, Record: w.record, Minimum: w.minimum}, errors.Join(err, w.counter)
}

func (w *world) Running() (io.ReaderAt, release.Blob) {
	w.mu.Lock()
	defer w.mu.Unlock()
	image := w.slots[w.running]
	return bytes.NewReader(image), release.Blob{Length: int64(len(image)), SHA256: identity.Sum(image)}
}

func (w *world) Do(a update.Action, m update.Machine) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.crash != nil {
		if err := w.crash(a); err != nil {
			return err
		}
	}
	inactive := w.slots[w.running.Other()]
	switch a {
	case update.VerifySlot:
		img, err := look(inactive)
		if err != nil || img.Measured != m.Target.Measured || identity.Sum(inactive) != m.Target.Image.SHA256 {
			return release.Refuse(release.ArbitrarySoftware, errors.New("the slot holds something else"))
		}
	case update.MarkTrial:
		w.record = w.record.Stage(w.running, update.Trial{Slot: w.running.Other(), Digest: m.Target.Measured, Version: m.Target.Version,
			SecurityVersion: m.Target.SecurityVersion, Seconds: uint32(m.Target.Health.Seconds)})
	case update.DropTrial:
		w.record = w.record.Unstage()
	case update.MarkCommitted:
		w.record = w.record.Commit()
	case update.ClearTrial:
		w.record = w.record.Clear()
	case update.BurnCounter:
		img, err := look(w.slots[w.running])
		w.minimum = max(w.minimum, img.SecurityVersion)
		return err
	case update.Reset:
		w.resets = append(w.resets, string(m.State))
	default:
		return fmt.Errorf("no such action: %s", a)
	}
	return nil
}

func (w *world) Write(rel release.Release, offset int64) (updater.Writer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slot := w.running.Other()
	have := min(offset-offset%4096, int64(len(w.slots[slot])))
	w.slots[slot] = bytes.Clone(w.slots[slot][:have])
	w.asked = append(w.asked, fmt.Sprintf("write from %d", have))
	return &writer{w: w, slot: slot, rel: rel}, nil
}

type writer struct {
	w    *world
	slot update.Slot
	rel  release.Release
}

func (w *writer) Offset() int64 {
	w.w.mu.Lock()
	defer w.w.mu.Unlock()
	return int64(len(w.w.slots[w.slot]))
}

func (w *writer) Write(p []byte) (int, error) {
	w.w.mu.Lock()
	defer w.w.mu.Unlock()
	w.w.touched = w.w.touched || w.slot == w.w.running
	if len(w.w.slots[w.slot])+len(p) > int(w.rel.Image.Length) {
		w.w.t.Error("wrote more than was signed")
	}
	w.w.slots[w.slot] = append(w.w.slots[w.slot], p...)
	return len(p), nil
}

func (w *writer) Sync() error { return nil }

func (w *writer) Finish() error {
	w.w.mu.Lock()
	defer w.w.mu.Unlock()
	if sum := sha256.Sum256(w.w.slots[w.slot]); identity.Digest(sum) != w.rel.Image.SHA256 {
		return release.Refuse(release.ArbitrarySoftware, errors.New("not what was signed"))
	}
	return nil
}

// catalogue is the metadata of a world.
type catalogue struct{ w *world }

func (c catalogue) Refresh(context.Context) error {
	c.w.mu.Lock()
	f := c.w.refresh
	c.w.mu.Unlock()
	if f != nil {
		return f()
	}
	return nil
}

func (c catalogue) Find(v mcuboot.Version) (release.Release, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	r, ok := c.w.releases[v]
	switch {
	case !ok:
		return r, release.Refuse(release.ArbitrarySoftware, fmt.Errorf("no signed metadata lists %s", v))
	case r.Withdrawn != "":
		return r, release.Refuse(release.WithdrawnRelease, errors.New(r.Withdrawn))
	}
	return r, nil
}

// Blob and Delta are the repository's contents.

func (w *world) Blob(ctx context.Context, b release.Blob, from int64, _ func(error)) io.ReadCloser {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, fmt.Sprintf("blob from %d", from))
	return w.content(ctx, w.blobs[b.SHA256], from)
}

func (w *world) Delta(ctx context.Context, _, to release.Blob, _ func(error)) (io.ReadCloser, int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.deltas[to.SHA256]
	if !ok {
		return nil, 0, errors.New("the hub has no delta")
	}
	w.asked = append(w.asked, "delta")
	return w.content(ctx, d, 0), int64(len(d)), nil
}

func (w *world) content(ctx context.Context, b []byte, from int64) io.ReadCloser {
	b = b[min(from, int64(len(b))):]
	if w.slow == nil {
		return io.NopCloser(bytes.NewReader(b))
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(b[:len(b)/2]), gate{ctx, w.slow}, bytes.NewReader(b[len(b)/2:])))
}

// gate is empty, once it opens.
type gate struct {
	ctx  context.Context
	open chan struct{}
}

func (g gate) Read([]byte) (int, error) {
	select {
	case <-g.open:
		return 0, io.EOF
	case <-g.ctx.Done():
		return 0, g.ctx.Err()
	}
}

// makeDelta has the hub offer a delta between two versions.
func (w *world) makeDelta(from, to mcuboot.Version) []byte {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	a, b := w.blobs[w.releases[from].Image.SHA256], w.blobs[w.releases[to].Image.SHA256]
	var out bytes.Buffer
	if _, err := delta.Make(w.t.Context(), bytes.NewReader(a), int64(len(a)), bytes.NewReader(b), int64(len(b)), &out); err != nil {
		w.t.Fatal(err)
	}
	w.deltas[identity.Sum(b)] = out.Bytes()
	return out.Bytes()
}

// Offers, Progress and Done are the session.

func (w *world) Offers() <-chan []byte { return w.offers }
func (w *world) Done() <-chan struct{} { return w.down }

func (w *world) Progress(_ context.Context, p release.Progress) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	w.reports = append(w.reports, p)
	return nil
}

// device is a run of the updater.
type device struct {
	*updater.Updater
	stop func()
}

// start runs an updater in a session, as after a boot.
func (w *world) start() *device {
	w.t.Helper()
	checks := map[string]func() error{}
	for name := range w.healthy {
		checks[name] = func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.healthy[name]
		}
	}
	u, err := updater.New(updater.Config{Path: w.path, Product: "pump", Hardware: "rev-b", Slots: w, Metadata: catalogue{w}, Source: w,
		Clock: w.now, Checks: checks, Started: time.Now(), Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
		Changed: func(s updater.Status) { w.mu.Lock(); defer w.mu.Unlock(); w.status = s }})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := u.Run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	parts.Go(func() { u.Serve(ctx, w) })
	d := &device{Updater: u, stop: sync.OnceFunc(func() { cancel(); parts.Wait() })}
	w.t.Cleanup(d.stop)
	return d
}

func (w *world) now() tuf.Clock {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.clock
	if !c.Now.IsZero() {
		c.Now = time.Now()
	}
	return c
}

// boot ends a run and boots again, as the boot ROM does.
func (w *world) boot(d *device, cause string) *device {
	w.t.Helper()
	d.stop()
	w.mu.Lock()
	c := update.Boot(w.record, func(s update.Slot) (update.Image, error) { return look(w.slots[s]) }, w.minimum, cause)
	w.record, w.running, w.trial = c.Record, c.Image.Slot, c.Trial
	w.mu.Unlock()
	if !w.running.Valid() {
		w.t.Fatal("nothing boots")
	}
	return w.start()
}

// runs is the version that was booted.
func (w *world) runs() mcuboot.Version {
	w.mu.Lock()
	defer w.mu.Unlock()
	img, _ := look(w.slots[w.running])
	return img.Version
}

func (w *world) told() []release.Progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]release.Progress(nil), w.reports...)
}

// last is the newest report.
func (w *world) last() release.Progress {
	w.t.Helper()
	all := w.told()
	if len(all) == 0 {
		w.t.Fatal("nothing was reported")
	}
	return all[len(all)-1]
}

// do runs f in a bubble with a world and its device.
func do(t *testing.T, f func(t *testing.T, w *world, d *device)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.start()
		f(t, w, d)
		if w.touched {
			t.Error("the slot that runs was written")
		}
	})
}

// offered sends an offer and lets the device do what comes of it.
func (w *world) offered(body string) {
	w.offers <- []byte(body)
	w.pass(20 * time.Second)
}

// pass lets time pass, and waits for what comes of it. What the test has looked
// at before, it has looked at before that.
func (w *world) pass(d time.Duration) {
	w.now() // takes the lock
	time.Sleep(d)
	synctest.Wait()
}
