package virtual_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/device/board"
	"holdfast/device/board/bus"
	"holdfast/device/board/virtual"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/internal/swtpm"
	"holdfast/internal/testkit"
	"holdfast/mcuboot"
)

// TestMain lets the test binary be the firmware too.
func TestMain(m *testing.M) {
	if path := os.Getenv(bus.Variable); path != "" {
		if err := firmware(path, os.Args[1:]); err != nil {
			fmt.Println("firmware:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// report is what the firmware says of the board it runs on.
type report struct {
	Boot       board.Boot
	PCRs       map[int][]byte
	ResetCount uint32
	Noise      []byte
	First      time.Time // of the clock
	Second     time.Time // after it was set an hour ahead
	Features   []string
	Missing    map[string]string
	Args       []string
	Platform   string // the error of using the platform hierarchy
}

func firmware(path string, args []string) error {
	b, err := bus.Attach(path)
	if err != nil {
		return err
	}
	r := report{Boot: b.Boot, Features: b.Features, Missing: b.Missing, Args: args, Noise: make([]byte, 32)}
	if b.TPM != nil {
		if err := r.tpm(b.TPM); err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(b.Entropy, r.Noise); err != nil {
		return err
	}
	if r.First, err = b.RTC.Now(); err != nil {
		return err
	}
	if err := b.RTC.Set(r.First.Add(time.Hour)); err != nil {
		return err
	}
	if r.Second, err = b.RTC.Now(); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	return act(b, args)
}

func (r *report) tpm(tpm transport.TPM) error {
	clock, err := tpm2.ReadClock{}.Execute(tpm)
	if err != nil {
		return err
	}
	r.ResetCount = clock.CurrentTime.ClockInfo.ResetCount
	r.PCRs = map[int][]byte{}
	for _, i := range r.Boot.PCRs {
		v, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
			{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(uint(i))}}}}.Execute(tpm)
		if err != nil {
			return err
		}
		r.PCRs[i] = v.PCRValues.Digests[0].Buffer
	}
	_, err = tpm2.HierarchyChangeAuth{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(tpm)
	r.Platform = fmt.Sprint(err)
	return nil
}

// act does what the first argument says, on the first boot after power-on;
// later, and otherwise, it waits for the end.
func act(b *board.Board, args []string) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	if b.Boot.ResetCause == board.PowerOn {
		switch args[0] {
		case "exit":
			return errors.New("bye")
		case "reset":
			if err := b.Reset("update"); err != nil {
				return err
			}
		case "starve":
			if err := b.Watchdog.Feed(); !errors.Is(err, board.ErrNotArmed) {
				return fmt.Errorf("feed before arm: %v", err)
			}
			if err := errors.Join(b.Watchdog.Arm(time.Second), b.Watchdog.Feed()); err != nil {
				return err
			}
		}
	}
	<-ended
	return b.Close()
}

// bench is a board under test.
type bench struct {
	t       *testing.T
	dir     string
	events  chan virtual.Event
	reports chan report
	cancel  context.CancelFunc
	done    chan error
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// make creates a board whose firmware is this test binary.
func makeBoard(t *testing.T, change func(*virtual.Settings)) *bench {
	t.Helper()
	testkit.Need(t, "swtpm")
	testkit.Need(t, "swtpm_setup")
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var images [2][]byte
	for i := range images {
		images[i], err = mcuboot.Build(virtual.Payload(program), mcuboot.Version{Major: 1, Minor: uint8(i)}, 1, key)
		if err != nil {
			t.Fatal(err)
		}
	}
	s := virtual.Settings{Fuses: virtual.Fuses{KeyHash: hash, Verify: true, DebugLock: true, Lifecycle: "deployed"},
		Args: []string{"run", "{data}"}}
	if change != nil {
		change(&s)
	}
	dir, err := os.MkdirTemp("", "board")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := virtual.Config{Dir: dir, Settings: s, SlotA: images[0], SlotB: images[1], CA: swtpm.CA{Dir: t.TempDir()}}
	if err := virtual.Create(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, dir: dir}
}

// on powers the board on.
func (b *bench) on() {
	b.events, b.reports, b.done = make(chan virtual.Event, 64), make(chan report, 64), make(chan error, 1)
	ctx, cancel := context.WithCancel(b.t.Context())
	b.cancel = cancel
	cfg := virtual.RunConfig{Dir: b.dir, Event: func(e virtual.Event) { b.events <- e }, Console: &console{b: b}, Backoff: time.Millisecond}
	done := b.done
	go func() { done <- virtual.Run(ctx, cfg) }()
	b.t.Cleanup(func() { cancel() })
}

// off cuts the power in order.
func (b *bench) off() {
	b.t.Helper()
	b.cancel()
	if err := b.wait(); err != nil {
		b.t.Error(err)
	}
}

const patience = time.Minute

func (b *bench) wait() error {
	b.t.Helper()
	select {
	case err := <-b.done:
		return err
	case <-time.After(patience):
		b.t.Fatal("the board does not end")
		return nil
	}
}

// event waits for the next event, which must be of a kind.
func (b *bench) event(kind virtual.EventKind) virtual.Event {
	b.t.Helper()
	select {
	case e := <-b.events:
		if e.Kind != kind {
			b.t.Fatalf("event %+v, want %s", e, kind)
		}
		return e
	case <-time.After(patience):
		b.t.Fatalf("no event, want %s", kind)
		return virtual.Event{}
	}
}

func (b *bench) report() report {
	b.t.Helper()
	select {
	case r := <-b.reports:
		return r
	case <-time.After(patience):
		b.t.Fatal("the firmware says nothing")
		return report{}
	}
}

// console reads the firmware's reports.
type console struct {
	b   *bench
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf.Write(p)
	for {
		i := bytes.IndexByte(c.buf.Bytes(), '\n')
		if i < 0 {
			return len(p), nil
		}
		var r report
		if line := c.buf.Next(i + 1); json.Unmarshal(line, &r) == nil {
			c.b.reports <- r
		} else {
			c.b.t.Logf("firmware: %s", line)
		}
	}
}

// replay has go-attestation judge the log against the registers, and returns
// the events as text.
func replay(t *testing.T, r report) []string {
	t.Helper()
	log, err := attest.ParseEventLog(r.Boot.EventLog)
	if err != nil {
		t.Fatal(err)
	}
	var pcrs []attest.PCR
	for _, i := range slices.Sorted(maps.Keys(r.PCRs)) {
		pcrs = append(pcrs, attest.PCR{Index: i, Digest: r.PCRs[i], DigestAlg: crypto.SHA256})
	}
	events, err := log.Verify(pcrs)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, e := range events {
		switch uint32(e.Type) {
		case evidence.EventAction, evidence.EventIPL, evidence.EventPostCode:
			texts = append(texts, fmt.Sprintf("%d %s %x", e.Index, e.Data, e.Digest[:4]))
		case evidence.EventSeparator:
			texts = append(texts, fmt.Sprintf("%d separator", e.Index))
		default:
			texts = append(texts, fmt.Sprintf("%d %d", e.Index, e.Type))
		}
	}
	return texts
}

func TestHealthyBoot(t *testing.T) {
	b := makeBoard(t, nil)
	b.on()
	booted, r := b.event(virtual.EventBooted), b.report()
	if booted.Slot != "A" || booted.Version != "1.0.0" || booted.Cause != board.PowerOn || booted.Digest != r.Boot.Digest.String() {
		t.Errorf("booted %+v", booted)
	}
	rom, err := virtual.ROMDigest()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"0 8", fmt.Sprintf("0 boot ROM %x", rom[:4]),
		"7 2147483649", "7 2147483649", "7 2147483649", "7 2147483649",
		fmt.Sprintf(`4 {"slot":"A","version":"1.0.0"} %x`, r.Boot.Digest[:4]),
		"0 separator", "1 separator", "2 separator", "3 separator", "4 separator", "5 separator", "6 separator", "7 separator",
	}
	if diff := cmp.Diff(want, replay(t, r)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if bytes.Equal(r.Noise, make([]byte, 32)) || len(slices.Compact(slices.Clone(r.Noise))) < 8 {
		t.Errorf("noise %x", r.Noise)
	}
	if d := r.Second.Sub(r.First); d < time.Hour || d > time.Hour+patience {
		t.Errorf("the clock went from %v to %v", r.First, r.Second)
	}
	if !slices.Contains(r.Features, "tpm") || len(r.Missing) != 0 {
		t.Errorf("features %v, missing %v", r.Features, r.Missing)
	}
	if want := []string{"run", virtual.DataDir(b.dir)}; !slices.Equal(r.Args, want) {
		t.Errorf("arguments %v, want %v", r.Args, want)
	}
	if !strings.Contains(r.Platform, "TPM_RC") {
		t.Errorf("the platform hierarchy is open: %v", r.Platform)
	}
	b.off()
	b.event(virtual.EventOff)

	// Off and on: the TPM counts it, the clock keeps its hour.
	b.on()
	again := b.report()
	if again.ResetCount <= r.ResetCount {
		t.Errorf("resetCount %d after %d", again.ResetCount, r.ResetCount)
	}
	if !maps.EqualFunc(again.PCRs, r.PCRs, bytes.Equal) {
		t.Error("the same boot measures differently")
	}
	if again.First.Before(r.Second) {
		t.Errorf("the clock went back from %v to %v", r.Second, again.First)
	}
	b.off()
}

func TestTamperedImageIsRefusedAndMeasured(t *testing.T) {
	b := makeBoard(t, nil)
	if err := virtual.Tamper(b.dir, "A"); err != nil {
		t.Fatal(err)
	}
	b.on()
	if e := b.event(virtual.EventRefused); e.Slot != "A" || e.Reason != "wrong hash" {
		t.Errorf("refused %+v", e)
	}
	if e := b.event(virtual.EventBooted); e.Slot != "B" || e.Version != "1.1.0" {
		t.Errorf("booted %+v", e)
	}
	r := b.report()
	b.off()
	if diff := cmp.Diff([]string{"slot A: wrong hash"}, r.Boot.Refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	text := "refused slot A: wrong hash"
	sum := identity.Sum([]byte(text))
	if events := replay(t, r); !slices.Contains(events, fmt.Sprintf("4 %s %x", text, sum[:4])) {
		t.Errorf("the refusal is not in the log: %q", events)
	}

	if err := virtual.Tamper(b.dir, "B"); err != nil {
		t.Fatal(err)
	}
	b.on()
	if err := b.wait(); !errors.Is(err, virtual.ErrHalted) {
		t.Errorf("both slots tampered: %v", err)
	}
	b.event(virtual.EventRefused)
	b.event(virtual.EventRefused)
	b.event(virtual.EventHalted)
}

func TestTamperedImageBootsWithoutVerification(t *testing.T) {
	b := makeBoard(t, func(s *virtual.Settings) { s.Fuses.Verify = false })
	b.on()
	healthy := b.report()
	b.off()
	if err := virtual.Tamper(b.dir, "A"); err != nil {
		t.Fatal(err)
	}
	b.on()
	tampered := b.report()
	b.off()
	if tampered.Boot.Slot != "A" || tampered.Boot.Digest == healthy.Boot.Digest {
		t.Errorf("booted %+v after %+v", tampered.Boot, healthy.Boot)
	}
	if bytes.Equal(tampered.PCRs[4], healthy.PCRs[4]) {
		t.Error("the modification was not measured")
	}
	replay(t, tampered)
}

func TestResets(t *testing.T) {
	for _, c := range []struct{ act, cause, detail string }{
		{"starve", board.Expired, "the watchdog was not fed"},
		{"reset", board.Requested, "update"},
		{"exit", board.Exited, "exit status 1"},
	} {
		t.Run(c.act, func(t *testing.T) {
			b := makeBoard(t, func(s *virtual.Settings) { s.Args = []string{c.act} })
			b.on()
			b.event(virtual.EventBooted)
			first := b.report()
			if e := b.event(virtual.EventReset); e.Cause != c.cause || e.Detail != c.detail {
				t.Errorf("reset %+v", e)
			}
			if e := b.event(virtual.EventBooted); e.Cause != c.cause {
				t.Errorf("booted %+v", e)
			}
			second := b.report()
			b.off()
			if second.Boot.ResetCause != c.cause || second.ResetCount <= first.ResetCount {
				t.Errorf("%s, resetCount %d after %d", second.Boot.ResetCause, second.ResetCount, first.ResetCount)
			}
			replay(t, second)
		})
	}
}

func TestFaults(t *testing.T) {
	b := makeBoard(t, func(s *virtual.Settings) {
		s.Faults = virtual.Faults{StuckClock: true, BadEntropy: true, NoTPM: true}
		s.Fuses.DebugLock = false
	})
	b.on()
	r := b.report()
	b.off()
	if !r.First.Equal(r.Second) || r.First.IsZero() {
		t.Errorf("the stuck clock went from %v to %v", r.First, r.Second)
	}
	if !bytes.Equal(r.Noise, bytes.Repeat(r.Noise[:1], len(r.Noise))) {
		t.Errorf("noise %x", r.Noise)
	}
	if r.Missing["tpm"] == "" || len(r.Boot.EventLog) != 0 || slices.Contains(r.Features, "tpm") {
		t.Errorf("a board without a TPM: %+v", r)
	}
}

func TestCreateRefuses(t *testing.T) {
	none := virtual.Settings{Faults: virtual.Faults{NoTPM: true}}
	dir := t.TempDir()
	if err := virtual.Create(t.Context(), virtual.Config{Dir: dir, Settings: none}); err == nil {
		t.Error("created a board without an image")
	}
	cfg := virtual.Config{Dir: dir, Settings: none, SlotA: []byte("x")}
	if err := virtual.Create(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := virtual.Create(t.Context(), cfg); err == nil {
		t.Error("created a board over another")
	}
	if err := virtual.Tamper(dir, "A"); err == nil {
		t.Error("tampered with what is no image")
	}
	if err := virtual.Tamper(dir, "C"); err == nil {
		t.Error("tampered with a slot that is not there")
	}
	if err := os.WriteFile(dir+"/board.json", []byte(`{"fuses":{},"unknown":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := virtual.Run(t.Context(), virtual.RunConfig{Dir: dir}); err == nil || errors.Is(err, virtual.ErrHalted) {
		t.Errorf("settings with an unknown key: %v", err)
	}
}
