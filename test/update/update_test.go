package update_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/device"
	"holdfast/device/agent"
	"holdfast/device/board"
	"holdfast/device/board/virtual"
	"holdfast/device/hubtest"
	"holdfast/device/keys"
	"holdfast/device/provision"
	"holdfast/identity"
	"holdfast/internal/swtpm"
	"holdfast/internal/testkit"
	"holdfast/mcuboot"
	"holdfast/measure"
	"holdfast/pki"
	"holdfast/posture"
	"holdfast/release"
)

const (
	counter  = 0x01500010
	patience = 3 * time.Minute
)

// world is a board, what runs on it, and its hub.
type world struct {
	t    *testing.T
	dir  string // of the board
	hub  *hubtest.Hub
	repo *hubtest.Repository
	key  *ecdsa.PrivateKey
	ca   swtpm.CA // of the TPM's maker
	ek   []byte   // of the TPM

	mu     sync.Mutex
	events []virtual.Event
}

// image is firmware of a version: a program, with something of its own behind
// it.
func (w *world) image(program []byte, minor uint8, security uint32) []byte {
	w.t.Helper()
	own := slices.Concat(program, fmt.Appendf(nil, "\nversion 1.%d\n", minor))
	b, err := mcuboot.Build(virtual.Payload(own), mcuboot.Version{Major: 1, Minor: minor}, security, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func newWorld(t *testing.T) *world {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "board") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, hub: hubtest.New(t), repo: hubtest.NewRepository(t, "pump"), key: key, ca: swtpm.CA{Dir: t.TempDir()}}
	w.hub.Repository = w.repo
	w.hub.Posture = w.posture
	return w
}

// posture is what a hub says of a device whose evidence it has taken.
func (w *world) posture(pki.Class) posture.Report {
	r := posture.Report{Version: 1, Status: posture.Trusted}
	if len(w.hub.Evidence()) > 0 {
		r.Rows = []measure.Row{{Measure: measure.IdentityAttestation, Verdict: measure.Pass, Grade: measure.Attested, Time: time.Now()}}
	}
	return r
}

// create makes the board.
func (w *world) create(slotA []byte) {
	w.t.Helper()
	hash, err := identity.KeyDigest(&w.key.PublicKey)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := virtual.Config{Dir: w.dir, CA: w.ca, SlotA: slotA, Provision: w.maker,
		Settings: virtual.Settings{Fuses: virtual.Fuses{KeyHash: hash, Verify: true, DebugLock: true, Lifecycle: "deployed"},
			Args: []string{"run", "--state", "{data}"}, Hardware: "rev-b"}}
	if err := virtual.Create(w.t.Context(), cfg); err != nil {
		w.t.Fatal(err)
	}
}

// provision provisions the board's device.
func (w *world) provision(p provision.Provision) {
	w.t.Helper()
	if err := provision.Save(w.data(), p); err != nil {
		w.t.Fatal(err)
	}
}

// maker makes the security counter, at security version 1.
func (w *world) maker(tpm transport.TPM, s *virtual.Settings) error {
	k, err := keys.Open(keys.Config{TPM: tpm, Dir: w.t.TempDir()})
	if err != nil {
		return err
	}
	if err := k.DefineCounter(counter); err != nil {
		return err
	}
	w.ek = k.EKPublic()
	s.Fuses.CounterIndex, s.Counters = counter, []uint32{counter}
	if s.Fuses.CounterBase, err = k.ReadCounter(counter); err != nil {
		return err
	}
	_, err = k.IncrementCounter(counter)
	return err
}

func (w *world) data() string { return filepath.Join(w.dir, "data") }

// power switches the board on until the function it returns is called.
func (w *world) power() (off func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	console := &console{}
	go func() {
		done <- virtual.Run(ctx, virtual.RunConfig{Dir: w.dir, Console: console, Grace: 2 * time.Second, Backoff: 10 * time.Millisecond, Event: w.event})
	}()
	off = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the board: %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("console:\n%s", console.tail())
		}
	})
	w.t.Cleanup(off)
	return off
}

// console keeps what the firmware prints.
type console struct {
	mu   sync.Mutex
	text []byte
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	return len(p), nil
}

func (c *console) tail() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text[max(0, len(c.text)-8000):]
}

func (w *world) event(e virtual.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// happened counts events.
func (w *world) happened(ok func(virtual.Event) bool) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if ok(e) {
			n++
		}
	}
	return n
}

// eventually waits for a condition.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			w.t.Fatalf("never %s; reports %+v\nevents %+v", what, w.hub.Progress(), w.events)
		}
	}
}

// told waits for a report.
func (w *world) told(what string, ok func(release.Progress) bool) {
	w.t.Helper()
	w.eventually(what, func() bool { return slices.ContainsFunc(w.hub.Progress(), ok) })
}

func offer(rollout string, minor int) string {
	return fmt.Sprintf(`{"rollout":%q,"product":"pump","version":"1.%d.0","unpaused":true}`, rollout, minor)
}

// TestUpdateOnABoard is the life of firmware on a board: a good update, an older
// one, one that hangs, and at last somebody who has the flash in their hands.
func TestUpdateOnABoard(t *testing.T) {
	testkit.Need(t, "swtpm")
	testkit.Need(t, "swtpm_setup")
	w := newWorld(t)
	firmware, err := os.ReadFile(build(t, "holdfast-device"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := w.image(firmware, 0, 1), w.image(firmware, 1, 3)
	hangs := w.image([]byte("#!/bin/sh\nexec /bin/sleep 1000\n"), 2, 4)
	w.create(first)
	p := w.hub.Provision()
	p.ReleaseRoot, p.Product = w.repo.Root(), "pump"
	w.provision(p)
	all := release.Health{Checks: []string{release.CheckHub, release.CheckAttested, release.CheckWatchdog}, Seconds: 300}
	w.repo.Publish(w.repo.Image(first, all), w.repo.Image(second, all), w.repo.Image(hangs, release.Health{Checks: all.Checks, Seconds: 5}))
	patch := w.repo.Delta(first, second)
	off := w.power()

	w.eventually("connected", func() bool { return w.status().Phase == agent.Connected })
	memory := w.watchMemory()
	w.hub.Offer(offer("good", 1))
	w.told("committed", func(p release.Progress) bool { return p.Rollout == "good" && p.State == release.Committed && p.Final })
	w.eventually("its counter burned", func() bool { s := w.status(); return s.Update.Minimum == 3 && s.Update.Running.Minor == 1 })
	memory()
	if n := w.happened(func(e virtual.Event) bool { return e.Kind == virtual.EventBooted && e.Trial && e.Slot == "B" }); n != 1 {
		t.Errorf("%d trials", n)
	}
	if steps := w.hub.Steps(); slices.ContainsFunc(steps, func(s string) bool { return strings.HasPrefix(s, "/repository/blobs/") }) {
		t.Errorf("the image was fetched beside a delta of %d bytes", len(patch))
	}

	w.hub.Offer(offer("older", 0))
	w.told("refused as a rollback", func(p release.Progress) bool { return p.Rollout == "older" && p.Attack == release.Rollback && p.Final })

	w.hub.Offer(offer("bad", 2))
	w.told("reverted", func(p release.Progress) bool {
		return p.Rollout == "bad" && p.State == release.Reverting && p.Final && p.Reset == board.Expired && p.Reason != ""
	})
	trials := func() int {
		return w.happened(func(e virtual.Event) bool { return e.Kind == virtual.EventBooted && e.Trial && e.Version == "1.2.0" })
	}
	before := len(w.hub.Progress())
	w.hub.Offer(offer("bad", 2))
	w.eventually("told again how it ended", func() bool { return len(w.hub.Progress()) > before })
	if s := w.status(); s.Update.Running.Minor != 1 || s.Update.Minimum != 3 || trials() != 1 {
		t.Errorf("%+v after %d trials of the bad image", s.Update, trials())
	}

	off()
	w.oldImageInTheFlash(first)
}

func (w *world) status() device.Status {
	w.t.Helper()
	s, err := device.LoadStatus(w.data())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// oldImageInTheFlash puts what ran at first back into both slots: the boot ROM
// goes by the TPM's counter and starts neither.
func (w *world) oldImageInTheFlash(old []byte) {
	w.t.Helper()
	for _, slot := range []string{virtual.SlotA, virtual.SlotB} {
		if err := virtual.WriteSlot(w.dir, slot, old); err != nil {
			w.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	var console bytes.Buffer
	err := virtual.Run(ctx, virtual.RunConfig{Dir: w.dir, Console: &console, Event: w.event})
	if !errors.Is(err, virtual.ErrHalted) || !strings.Contains(err.Error(), string(mcuboot.LowSecurityCounter)) {
		w.t.Errorf("a board with its first image: %v", err)
	}
}
