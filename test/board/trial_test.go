package board_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/device/board"
	"holdfast/device/board/bus"
	"holdfast/device/board/virtual"
	"holdfast/device/keys"
	"holdfast/device/slots"
	"holdfast/identity"
	"holdfast/internal/swtpm"
	"holdfast/internal/testkit"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/update"
)

// updaterArg is the first argument of the firmware that installs an update.
const updaterArg = "updater"

// What the firmware of a trial does, which is its second argument.
const (
	commits = "commit" // it proves itself
	exits   = "exit"   // it ends by itself
	hangs   = "hang"   // it does nothing, and never armed a watchdog
)

// said is what the firmware says of a boot.
type said struct {
	Version string
	Trial   bool
	Cause   string
	Minimum uint32
	Record  update.Record
}

// updater is firmware that installs the image next.img beside it when the power
// comes on, and as a trial does what it is told.
func updater(path, what string) error {
	b, err := bus.Attach(path)
	if err != nil {
		return err
	}
	s, err := open(b)
	if err != nil {
		return err
	}
	if b.Boot.Trial && what == commits {
		if err := errors.Join(s.Commit(), s.ClearTrial(), s.Burn()); err != nil {
			return err
		}
	}
	minimum, err := s.Minimum()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(said{b.Boot.Version, b.Boot.Trial, b.Boot.ResetCause, minimum, s.Record()}); err != nil {
		return err
	}
	switch {
	case b.Boot.Trial && what == exits:
		return errors.New("bye")
	case !b.Boot.Trial && b.Boot.ResetCause == board.PowerOn:
		if err := stage(s, what); err != nil {
			return err
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended
	return b.Close()
}

// open opens the slots as the runtime does.
func open(b *board.Board) (*slots.Slots, error) {
	cfg := slots.Config{A: b.Slots.A, B: b.Slots.B, Record: b.Slots.Record, Running: update.Slot(b.Boot.Slot), Trial: b.Boot.Trial,
		KeyHash: b.Slots.KeyHash, Counter: b.Slots.Fuses, Reset: b.Reset}
	if b.Slots.CounterIndex != 0 {
		k, err := keys.Open(keys.Config{TPM: b.TPM, Dir: "."})
		if err != nil {
			return nil, err
		}
		cfg.Counter = tpmCounter{k, b.Slots}
	}
	return slots.Open(cfg)
}

type tpmCounter struct {
	*keys.TPM
	slots *board.Slots
}

func (c tpmCounter) Minimum() (uint32, error) {
	n, err := c.ReadCounter(c.slots.CounterIndex)
	return uint32(n - c.slots.CounterBase), err
}

func (c tpmCounter) Burn() error {
	_, err := c.IncrementCounter(c.slots.CounterIndex)
	return err
}

// stage installs next.img, and boots it as a trial. One that hangs has a second.
func stage(s *slots.Slots, what string) error {
	health := release.Health{Seconds: 3600}
	if what == hangs {
		health.Seconds = 1
	}
	image, err := os.ReadFile("next.img")
	if errors.Is(err, os.ErrNotExist) || s.Running().Blob == identity.Sum(image) {
		return nil
	}
	img, err := mcuboot.Parse(image)
	if err != nil {
		return err
	}
	rel := release.Release{Image: release.Blob{Length: int64(len(image)), SHA256: identity.Sum(image)},
		Target: release.Target{Version: img.Version, SecurityVersion: img.SecurityCounter, Measured: img.Digest, Health: health}}
	w, err := s.Begin(rel)
	if err != nil {
		return err
	}
	if _, err := w.Write(image); err != nil {
		return err
	}
	return errors.Join(w.Finish(), s.VerifyInactive(rel), s.MarkTrial(), s.Reset("update"))
}

// machine is a board with its power on.
type machine struct {
	t      *testing.T
	events chan virtual.Event
	said   chan said
	done   chan error
	off    func()
}

// newUpdater makes a board of version 1.0.0 with version 2.0.0, security
// version 3, beside it, and returns its directory.
func newUpdater(t *testing.T, what string, noTPM bool) string {
	t.Helper()
	testkit.Need(t, "swtpm")
	testkit.Need(t, "swtpm_setup")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	var images [2][]byte
	for i, security := range []uint32{1, 3} {
		if images[i], err = mcuboot.Build(virtual.Payload(program), mcuboot.Version{Major: uint8(i + 1)}, security, key); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "board")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := virtual.Config{Dir: dir, CA: swtpm.CA{Dir: t.TempDir()}, SlotA: images[0], Settings: virtual.Settings{
		Fuses:  virtual.Fuses{KeyHash: hash, Verify: true, DebugLock: true, Lifecycle: "deployed", SecurityCounter: 1},
		Faults: virtual.Faults{NoTPM: noTPM}, Args: []string{updaterArg, what},
	}, Provision: func(tpm transport.TPM, s *virtual.Settings) error {
		k, err := keys.Open(keys.Config{TPM: tpm, Dir: t.TempDir()})
		if err == nil {
			err = k.DefineCounter(counter)
		}
		if err == nil {
			s.Fuses.CounterBase, err = k.ReadCounter(counter)
		}
		s.Fuses.CounterIndex = counter
		return err
	}}
	if err := virtual.Create(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(virtual.DataDir(dir), "next.img"), images[1], 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// on switches a board on.
func on(t *testing.T, dir string) *machine {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	m := &machine{t: t, events: make(chan virtual.Event, 64), said: make(chan said, 64), done: make(chan error, 1)}
	r, console := io.Pipe()
	go func() {
		d := json.NewDecoder(r)
		for {
			var s said
			if d.Decode(&s) != nil {
				_, _ = io.Copy(io.Discard, io.MultiReader(d.Buffered(), r)) // an error message; the next boot says nothing then
				return
			}
			m.said <- s
		}
	}()
	go func() {
		err := virtual.Run(ctx, virtual.RunConfig{Dir: dir, Console: console, Grace: time.Second, Backoff: time.Millisecond,
			Event: func(e virtual.Event) { m.events <- e }})
		_ = console.Close()
		m.done <- err
	}()
	m.off = func() {
		cancel()
		if err := <-m.done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(cancel)
	return m
}

// wait waits for an event of a kind; others pass by.
func (m *machine) wait(kind virtual.EventKind) virtual.Event {
	m.t.Helper()
	for {
		select {
		case e := <-m.events:
			if e.Kind == kind {
				return e
			}
			m.t.Logf("%+v", e)
		case <-time.After(5 * time.Minute):
			m.t.Fatalf("no event %s", kind)
		}
	}
}

func (m *machine) hear() said {
	m.t.Helper()
	select {
	case s := <-m.said:
		return s
	case <-time.After(5 * time.Minute):
		m.t.Fatal("the firmware says nothing")
		return said{}
	}
}

func TestTrialThatProvesItselfStays(t *testing.T) {
	for _, noTPM := range []bool{false, true} {
		t.Run(fmt.Sprintf("fuses=%v", noTPM), func(t *testing.T) {
			dir := newUpdater(t, commits, noTPM)
			m := on(t, dir)
			if e := m.wait(virtual.EventBooted); e.Version != "1.0.0" || e.Trial {
				t.Errorf("booted %+v", e)
			}
			first := m.hear()
			if e := m.wait(virtual.EventBooted); e.Version != "2.0.0" || !e.Trial || e.Slot != "B" || e.Cause != board.Requested {
				t.Errorf("booted %+v", e)
			}
			trial := m.hear()
			m.off()
			if first.Minimum != 1 && noTPM || first.Minimum != 0 && !noTPM || trial.Minimum != 3 || trial.Record.Active != update.B || trial.Record.Trial != nil {
				t.Errorf("before %+v, after %+v", first, trial)
			}
			// It is the active one now, and the old image never boots again.
			if err := virtual.Tamper(dir, virtual.SlotB); err != nil {
				t.Fatal(err)
			}
			m = on(t, dir)
			if e := m.wait(virtual.EventRefused); e.Slot != "B" {
				t.Errorf("refused %+v", e)
			}
			if e := m.wait(virtual.EventRefused); e.Slot != "A" || e.Reason != string(mcuboot.LowSecurityCounter) {
				t.Errorf("refused %+v", e)
			}
			m.wait(virtual.EventHalted)
			if err := <-m.done; !errors.Is(err, virtual.ErrHalted) {
				t.Error(err)
			}
			if n, err := virtual.Minimum(dir); err != nil || n == nil || *n != 3 {
				t.Errorf("minimum %v, %v", n, err)
			}
		})
	}
}

func TestTrialThatFailsReverts(t *testing.T) {
	for what, cause := range map[string]string{exits: board.Exited, hangs: board.Expired} {
		t.Run(what, func(t *testing.T) {
			m := on(t, newUpdater(t, what, true))
			m.wait(virtual.EventBooted)
			if e := m.wait(virtual.EventBooted); e.Version != "2.0.0" || !e.Trial {
				t.Errorf("booted %+v", e)
			}
			if e := m.wait(virtual.EventReverted); e.Version != "2.0.0" || e.Cause != cause || e.Reason == "" {
				t.Errorf("reverted %+v", e)
			}
			if e := m.wait(virtual.EventBooted); e.Version != "1.0.0" || e.Trial {
				t.Errorf("booted %+v", e)
			}
			m.off()
		})
	}
}

func TestMissingCounterHalts(t *testing.T) {
	dir := newUpdater(t, commits, false)
	tpm, err := swtpm.Start(t.Context(), filepath.Join(dir, "tpm"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tpm.Open()
	if err != nil {
		t.Fatal(err)
	}
	public, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(counter)}.Execute(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.NVUndefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NVIndex: tpm2.NamedHandle{Handle: counter, Name: public.NVName}}).Execute(conn); err != nil {
		t.Fatal(err)
	}
	if err := tpm.Stop(); err != nil {
		t.Fatal(err)
	}
	m := on(t, dir)
	if e := m.wait(virtual.EventHalted); e.Reason != "the security counter is missing" || e.Detail == "" {
		t.Errorf("halted %+v", e)
	}
	if err := <-m.done; !errors.Is(err, virtual.ErrHalted) || !errors.Is(err, virtual.ErrCounter) {
		t.Errorf("%v", err)
	}
}
