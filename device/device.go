// Package device is the runtime of a device: it joins a board, its keys, its
// clock, its logs and its link to the hub into one life (device/agent), and
// guards that life with the board's watchdog.
//
// Everything that outlasts a restart is in one state directory, of which each
// file is replaced whole or not at all.
package device

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/device/agent"
	"holdfast/device/board"
	"holdfast/device/call"
	"holdfast/device/clock"
	"holdfast/device/dial"
	"holdfast/device/entropy"
	"holdfast/device/guard"
	"holdfast/device/keys"
	"holdfast/device/link"
	"holdfast/device/provision"
	"holdfast/device/spool"
	"holdfast/device/updater"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/logs"
)

// linkLimit is how long the life of the device may show no progress: longer
// than its longest exchange with the hub.
const linkLimit = 5 * time.Minute

// Config says what a device is made of.
type Config struct {
	Dir     string       // the state directory, with a provision in it; see package provision
	Board   *board.Board // the caller closes it, after Close
	Version string       // of this program, as it is claimed to the hub
	Build   time.Time    // when this program was built: the least floor of the clock
	Log     slog.Handler // where log lines go beside the spool

	Watchdog  time.Duration // timeout of the board's watchdog; 0: a minute
	Telemetry time.Duration // between two readings; 0: 5 s
}

// Device is a device's runtime.
type Device struct {
	cfg       Config
	provision provision.Provision
	lock      *os.File
	spool     *spool.Spool
	clock     *clock.Clock
	entropy   *entropy.Monitor
	guard     *guard.Guard
	agent     *agent.Agent
	updater   *updater.Updater // nil: the status says why
	log       *slog.Logger
	started   time.Time
	firstRun  bool // the runtime runs for the first time in this boot

	mu     sync.Mutex // guards status, and writing it
	status Status
}

// Open makes a runtime of the state directory, which no other process may use
// meanwhile.
func Open(cfg Config) (*Device, error) {
	p, err := provision.Load(cfg.Dir)
	if err != nil {
		return nil, err
	}
	d := &Device{cfg: cfg, provision: p, started: time.Now()}
	if d.lock, err = lock(cfg.Dir); err != nil {
		return nil, err
	}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Device) open() (err error) {
	b := d.cfg.Board
	kernel := ""
	if b.Name == "linux" {
		kernel = kernelBoot()
	}
	var boot uint64
	if boot, d.firstRun, err = countBoot(d.cfg.Dir, kernel); err != nil {
		return err
	}
	if d.spool, err = spool.Open(spool.Config{Dir: filepath.Join(d.cfg.Dir, "spool"), Boot: boot}); err != nil {
		return err
	}
	d.log = slog.New(d.spool.Handler(d.cfg.Log))
	if d.clock, err = clock.Open(clock.Config{Path: filepath.Join(d.cfg.Dir, "floor.json"), Build: d.cfg.Build, RTC: b.RTC}); err != nil {
		return err
	}
	if d.entropy, err = entropy.New(entropy.Config{Source: b.Entropy, Name: b.EntropySource}); err != nil {
		return err
	}
	pulse := guard.NewPulse("link", linkLimit)
	if d.guard, err = d.newGuard(pulse); err != nil {
		return err
	}
	d.agent, err = d.newAgent(pulse)
	return err
}

func (d *Device) newGuard(pulse *guard.Pulse) (*guard.Guard, error) {
	b := d.cfg.Board
	program, err := guard.Program("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	checks := []guard.Check{program, guard.Memory("/proc/self/maps"), pulse}
	if b.Boot.Digest != (identity.Digest{}) && len(b.Boot.EventLog) > 0 {
		checks = append(checks, guard.Boot(b.Boot.Digest, b.Boot.EventLog))
	}
	return guard.New(guard.Config{Watchdog: b.Watchdog, Timeout: d.cfg.Watchdog, Checks: checks, Log: d.log})
}

func (d *Device) newAgent(pulse *guard.Pulse) (*agent.Agent, error) {
	roots, err := d.provision.Roots()
	if err != nil {
		return nil, err
	}
	hub, err := dial.New(dial.Config{Host: d.provision.Hub, Roots: roots, Judge: d.clock.Judge})
	if err != nil {
		return nil, err
	}
	https := func(ctx context.Context, cert *tls.Certificate) (*tls.Conn, error) {
		return hub.Dial(ctx, d.provision.HTTPSPort, "http/1.1", cert)
	}
	host := net.JoinHostPort(d.provision.Hub, strconv.Itoa(d.provision.HTTPSPort))
	caller := call.New(host, https)
	cfg := agent.Config{
		Hub: caller, Update: d.serveUpdates,
		Open: func(ctx context.Context, id identity.Device, cert *tls.Certificate) (agent.Session, error) {
			return d.session(ctx, hub, id, cert, pulse)
		},
		EventLog: d.cfg.Board.Boot.EventLog, Entropy: d.entropy, Clock: d.clock, Spool: d.spool,
		Claims: d.claims, Token: d.provision.Token, Forget: d.forget, Report: d.report,
		Beat: pulse.Beat, Log: d.log, Telemetry: d.cfg.Telemetry,
	}
	tpm, err := d.keys(&cfg)
	if err != nil {
		return nil, err
	}
	if err := d.openUpdater(caller, tpm); err != nil {
		return nil, err
	}
	return agent.New(cfg)
}

// keys gives the agent the keys of the board's TPM, which it returns, or files
// without one.
func (d *Device) keys(cfg *agent.Config) (*keys.TPM, error) {
	dir := filepath.Join(d.cfg.Dir, "keys")
	if d.cfg.Board.TPM == nil {
		k, err := openFile(dir)
		cfg.Birth, cfg.Operational = k, k
		return nil, err
	}
	k, err := openTPM(dir, d.cfg.Board)
	if err != nil {
		return nil, err
	}
	for index, why := range k.missing {
		d.log.Error("a counter that was made with the board is gone", "index", fmt.Sprintf("%#x", index), "err", why)
	}
	cfg.Birth, cfg.Operational, cfg.Attester = k, k, k
	return k.tpm, nil
}

func (d *Device) session(ctx context.Context, hub *dial.Dialer, id identity.Device, cert *tls.Certificate, pulse *guard.Pulse) (agent.Session, error) {
	conn, err := hub.Dial(ctx, d.provision.MQTTPort, "mqtt", cert)
	if err != nil {
		return nil, err
	}
	s, err := link.Open(ctx, conn, link.Config{Device: id, Beat: pulse.Beat, Updates: d.updater != nil})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (d *Device) forget() error { return d.provision.Forget(d.cfg.Dir) }

// Enroll lives until the device is born; see agent.Agent.Enroll.
func (d *Device) Enroll(ctx context.Context) error { return d.agent.Enroll(ctx) }

// Status returns what the device knows of itself now.
func (d *Device) Status() agent.Status { return d.agent.Status() }

// Run lives until ctx ends.
func (d *Device) Run(ctx context.Context) error {
	if err := d.aftermath(); err != nil {
		return err
	}
	b := d.cfg.Board
	d.log.Info("board", "name", b.Name, "slot", b.Boot.Slot, "version", b.Boot.Version,
		"reset", b.Boot.ResetCause, "entropy", b.EntropySource)
	for _, what := range slices.Sorted(maps.Keys(b.Missing)) {
		d.log.Info("board has not", "what", what, "err", b.Missing[what])
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.agent.Run(ctx) })
	g.Go(func() error { return d.guard.Run(ctx) })
	g.Go(func() error { return d.watchEntropy(ctx) })
	if d.updater != nil {
		g.Go(func() error { return d.updater.Run(ctx) })
	}
	return g.Wait()
}

// aftermath makes records of how the run before ended, if it ended badly.
func (d *Device) aftermath() error {
	if err := d.spool.CaptureCrashes(); err != nil {
		return err
	}
	if !d.firstRun || d.cfg.Board.Boot.ResetCause != board.Expired {
		return nil
	}
	return d.spool.Append(logs.Record{Level: "crash", Message: "the watchdog reset the board",
		Attrs: map[string]string{"reset": board.Expired}})
}

// watchEntropy goes on testing the source. A source that fails stops the
// making of keys, not the device.
func (d *Device) watchEntropy(ctx context.Context) error {
	if err := d.entropy.Run(ctx); err != nil {
		d.log.Error("entropy refused", "err", err)
	}
	return nil
}

// Close releases the state directory.
func (d *Device) Close() error {
	var err error
	if d.spool != nil {
		err = d.spool.Close()
	}
	return errors.Join(err, d.lock.Close())
}

// claims are what the device says of itself.
func (d *Device) claims() evidence.Claims {
	b, watchdog := d.cfg.Board, d.guard.Report()
	c := evidence.Claims{
		Runtime: d.cfg.Version, Entropy: d.entropy.Report(), Acceleration: b.Features, Watchdog: watchdog,
		Reset: b.Boot.ResetCause, LogsDropped: d.spool.Dropped(),
		Firmware:     evidence.Firmware{Slot: b.Boot.Slot, Version: b.Boot.Version, Refused: b.Boot.Refused},
		MemoryRWX:    !watchdog.Checks["memory"],
		DebuggerSeen: guard.Traced("/proc/self/status"),
	}
	if b.Boot.Digest != (identity.Digest{}) {
		c.Firmware.Digest = b.Boot.Digest.String()
	}
	var now time.Time
	if now, c.Clock = d.clock.Now(); c.Clock == clock.RTC {
		c.Time = &now
	}
	return c
}

// EK returns the public area (TPMT_PUBLIC) of the endorsement key of a board's
// TPM, which a group admits a device by. It makes the state directory where
// needed, and no process may use that meanwhile.
func EK(b *board.Board, dir string) ([]byte, error) {
	if b.TPM == nil {
		return nil, fmt.Errorf("the board has no TPM: %s", b.Missing["tpm"])
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }() // the lock goes with it
	k, err := openTPM(filepath.Join(dir, "keys"), b)
	if err != nil {
		return nil, err
	}
	return k.tpm.EKPublic(), nil
}
