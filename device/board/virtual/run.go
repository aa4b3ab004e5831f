package virtual

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/device/board"
	"holdfast/device/board/bus"
	"holdfast/identity"
	"holdfast/internal/child"
	"holdfast/internal/flash"
	"holdfast/internal/swtpm"
	"holdfast/release"
	"holdfast/update"
)

// ErrHalted is returned by Run when no slot may boot.
var ErrHalted = errors.New("no slot may boot")

// RunConfig says which board to run and who wants to know.
type RunConfig struct {
	// Dir is the board's directory. Required.
	Dir string
	// Event is called, from one goroutine, with what happens to the board.
	// It may be nil.
	Event func(Event)
	// Console takes what the firmware prints. Nil: console.log in Dir, which
	// each power-on begins anew.
	Console io.Writer
	// Grace is how long the firmware may take to end when the power is to go,
	// and how much longer than its deadline a trial may take before the board
	// resets it; 0: 10 seconds.
	Grace time.Duration
	// Backoff is the first delay before booting again a firmware that ended
	// within ten seconds of its start; it doubles up to a minute. 0: a second.
	Backoff time.Duration
}

const (
	defaultGrace   = 10 * time.Second
	defaultBackoff = time.Second
	longestBackoff = time.Minute
	stableAfter    = 10 * time.Second
)

// machine is a board with its power on.
type machine struct {
	RunConfig
	paths paths
	rom   identity.Digest
}

// Run powers the board on and boots it again after every reset, until ctx
// ends: then it shuts down in order and returns nil. It returns ErrHalted when
// no slot may boot.
func Run(ctx context.Context, cfg RunConfig) error {
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = defaultBackoff
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return fmt.Errorf("run board: %w", err)
	}
	m := &machine{RunConfig: cfg, paths: paths(dir)}
	if m.rom, err = ROMDigest(); err != nil {
		return fmt.Errorf("run board: %w", err)
	}
	if cfg.Console == nil {
		f, err := os.Create(m.paths.console())
		if err != nil {
			return fmt.Errorf("run board: %w", err)
		}
		defer func() { _ = f.Close() }() // a log of no promise
		m.Console = f
	}
	err = m.loop(ctx)
	m.tell(Event{Kind: EventOff})
	if err != nil {
		return fmt.Errorf("run board: %w", err)
	}
	return nil
}

func (m *machine) tell(e Event) {
	if m.Event != nil {
		e.Time = time.Now().UTC()
		m.Event(e)
	}
}

// loop is one boot after the other.
func (m *machine) loop(ctx context.Context) error {
	cause, delay := board.PowerOn, m.Backoff
	for {
		begin := time.Now()
		end, err := m.cycle(ctx, cause)
		switch {
		case errors.Is(err, ErrHalted):
			return err
		case ctx.Err() != nil:
			return end.err // what ctx cut short did not fail
		case err != nil:
			return err
		}
		m.tell(Event{Kind: EventReset, Cause: end.cause, Detail: end.detail})
		cause = end.cause
		if time.Since(begin) >= stableAfter {
			delay = m.Backoff
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
			delay = min(2*delay, longestBackoff)
		}
	}
}

// ending is how a boot ended.
type ending struct {
	cause  string
	detail string
	err    error // of shutting down in order
}

// cycle is one boot: power to the TPM, boot ROM, firmware, until it ends.
func (m *machine) cycle(ctx context.Context, cause string) (ending, error) {
	settings, err := LoadSettings(string(m.paths))
	if err != nil {
		return ending{}, err
	}
	var tpm *swtpm.TPM
	if !settings.Faults.NoTPM {
		if tpm, err = swtpm.Start(ctx, m.paths.tpm()); err != nil {
			return ending{}, err
		}
		defer tpm.Kill() // does nothing after Stop
	}
	rom, closeFlash, err := openROM(m.paths, settings)
	if err != nil {
		return ending{}, err
	}
	defer closeFlash()
	chosen, boot, err := m.boot(rom, tpm, cause)
	if err != nil {
		return ending{}, err
	}
	reset := make(chan string, 1)
	h := m.host(settings, boot, tpm, reset)
	if err := h.listen(m.paths); err != nil {
		return ending{}, err
	}
	defer h.close()
	defer h.watchdog.off()
	firmware, err := m.start(settings, rom, chosen, h.path())
	if err != nil {
		return ending{}, err
	}
	m.tell(Event{Kind: EventBooted, Slot: boot.Slot, Version: boot.Version, Digest: boot.Digest.String(), Cause: cause, Trial: boot.Trial})
	overdue := m.overdue(chosen)
	defer overdue.Stop()
	end := m.await(ctx, firmware, h.watchdog, reset, overdue.C, rom)
	if tpm != nil && end.cause != board.Expired && end.cause != board.Exited {
		end.err = errors.Join(end.err, tpm.Stop()) // else the power just goes
	}
	return end, nil
}

// boot is the boot ROM's work: choose a slot and measure.
func (m *machine) boot(rom ROM, tpm *swtpm.TPM, cause string) (Booted, board.Boot, error) {
	var conn transport.TPMCloser
	if tpm != nil {
		var err error
		if conn, err = tpm.Open(); err != nil {
			return Booted{}, board.Boot{}, err
		}
		defer func() { _ = conn.Close() }() // holds nothing between commands
	}
	least, err := minimum(rom.Fuses, conn)
	if err != nil {
		m.tell(Event{Kind: EventHalted, Reason: ErrCounter.Error(), Detail: err.Error()})
		return Booted{}, board.Boot{}, fmt.Errorf("%w: %w", ErrHalted, err)
	}
	if err := noteMinimum(m.paths, least); err != nil {
		return Booted{}, board.Boot{}, err
	}
	chosen := rom.Boot(least, cause)
	boot, err := m.report(chosen, cause)
	if err != nil || conn == nil {
		return chosen, boot, err
	}
	boot.PCRs = quoted
	boot.EventLog, err = measure(conn, m.rom, rom.Fuses, boot)
	return chosen, boot, err
}

// report tells what was chosen, and returns what the firmware is told of it.
func (m *machine) report(c Booted, cause string) (board.Boot, error) {
	boot := board.Boot{Slot: string(c.Image.Slot), Trial: c.Trial, ResetCause: cause}
	for _, r := range c.Refused {
		boot.Refused = append(boot.Refused, refused(r))
		m.tell(Event{Kind: EventRefused, Slot: string(r.Slot), Reason: reason(r.Err), Detail: r.Err.Error()})
	}
	if c.Reverted {
		last := c.Record.Last
		m.tell(Event{Kind: EventReverted, Version: last.Version.String(), Digest: last.Digest.String(), Cause: last.Reset, Reason: last.Reason})
	}
	if c.Parsed == nil {
		m.tell(Event{Kind: EventHalted, Detail: strings.Join(boot.Refused, "; ")})
		return boot, fmt.Errorf("%w: %s", ErrHalted, strings.Join(boot.Refused, "; "))
	}
	boot.Digest, boot.Version = c.Parsed.Digest, c.Parsed.Version.String()
	return boot, nil
}

// overdue returns a timer that is the boot ROM's own watchdog over a trial,
// which the firmware cannot feed. Without a trial it never fires.
func (m *machine) overdue(c Booted) *time.Timer {
	if !c.Trial {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return t
	}
	d := min(c.Record.Trial.Deadline(), release.MaxDeadline)
	if d == 0 {
		d = release.DefaultDeadline
	}
	return time.NewTimer(d + m.Grace)
}

func (m *machine) host(s Settings, boot board.Boot, tpm *swtpm.TPM, reset chan<- string) *host {
	h := &host{
		hello:    bus.Hello{Boot: boot, Counters: s.Counters, EntropySource: noiseSource, Hardware: s.Hardware, Missing: map[string]string{}},
		fuses:    fuses{new(sync.Mutex), m.paths},
		rtc:      rtc{m.paths, s.Faults.StuckClock},
		watchdog: newWatchdog(), bad: s.Faults.BadEntropy, reset: reset,
	}
	h.hello.Slots = &bus.Slots{A: m.paths.slot(SlotA), B: m.paths.slot(SlotB), Record: m.paths.record(),
		Size: s.slotSize(), RecordSize: recordSize, Sector: sectorSize,
		KeyHash: s.Fuses.KeyHash, CounterIndex: s.Fuses.CounterIndex, CounterBase: s.Fuses.CounterBase}
	if tpm == nil {
		h.hello.Missing["tpm"] = "the board is built without a TPM"
	} else {
		h.hello.TPM = tpm.Socket()
	}
	return h
}

// start copies the firmware from its slot and starts it.
func (m *machine) start(s Settings, rom ROM, chosen Booted, bus string) (*child.Child, error) {
	program := filepath.Join(m.paths.run(), "firmware")
	if err := writeProgram(program, func(w io.Writer) error { return rom.Load(chosen, w) }); err != nil {
		return nil, fmt.Errorf("load firmware: %w", err)
	}
	var args []string
	for _, a := range s.Args {
		args = append(args, strings.ReplaceAll(a, "{data}", m.paths.data()))
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = m.paths.data()
	cmd.Env = append([]string{"HOLDFAST_BOARD=" + bus}, s.Env...)
	cmd.Stdout, cmd.Stderr = m.Console, m.Console
	cmd.WaitDelay = time.Second // for a console that a child of the firmware holds open
	return child.Start(cmd)
}

// writeProgram writes a program that is to be started at once. While it is
// open nobody may fork: a child that inherited it for a moment would make
// starting it fail (ETXTBSY).
func writeProgram(path string, load func(io.Writer) error) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	_ = os.Remove(path) // one that runs cannot be written
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o500)
	if err != nil {
		return err
	}
	return errors.Join(load(f), f.Close())
}

// await returns when the firmware has ended, for whatever reason.
func (m *machine) await(ctx context.Context, firmware *child.Child, w *watchdog, reset <-chan string, overdue <-chan time.Time, rom ROM) ending {
	for {
		select {
		case <-ctx.Done():
			return ending{cause: board.PowerOn, err: firmware.Stop(m.Grace)}
		case <-w.expired:
			firmware.Kill()
			return ending{cause: board.Expired, detail: "the watchdog was not fed"}
		case <-overdue:
			if !update.Load(flash.Pair{Area: rom.Record}).Trying() {
				continue // it was committed
			}
			firmware.Kill()
			return ending{cause: board.Expired, detail: "the trial was not committed by its deadline"}
		case reason := <-reset:
			firmware.Kill()
			return ending{cause: board.Requested, detail: reason}
		case <-firmware.Done():
			detail := "exit status 0"
			if err := firmware.Err(); err != nil {
				detail = err.Error()
			}
			return ending{cause: board.Exited, detail: detail}
		}
	}
}
