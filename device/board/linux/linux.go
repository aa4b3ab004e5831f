// Package linux is the board of a Linux machine: what its kernel shows of a
// TPM, a noise source, a clock, a watchdog and the measured boot.
package linux

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
	"golang.org/x/sys/unix"

	"holdfast/device/board"
)

// Config says where the kernel shows things. What is empty the board has not.
type Config struct {
	TPM            string // a TPM with a resource manager, or the Unix socket of a software TPM
	Noise          string // the hardware noise source; getrandom is used where it gives nothing
	RTC            string // the hardware clock, in UTC
	Watchdog       string // it is not opened before it is armed: opening starts it
	WatchdogStatus string // the cause of the last reset, as a number (Linux watchdog API, bootstatus)
	EventLog       string // the TCG event log of the boot
	CPU            string // /proc/cpuinfo
	Release        string // a file with the version of the system, as os-release(5)

	// PCRs are the registers to quote. Empty: 0 to 9 and 11 to 14, which the
	// firmware, the boot loader and a unified kernel image extend; not 10,
	// which IMA extends all the time.
	PCRs []int
	// Counters are the NV indices certified in each attestation.
	Counters []uint32
}

// Default is where Linux has things.
func Default() Config {
	return Config{
		TPM: "/dev/tpmrm0", Noise: "/dev/hwrng", RTC: "/dev/rtc0",
		Watchdog: "/dev/watchdog", WatchdogStatus: "/sys/class/watchdog/watchdog0/bootstatus",
		EventLog: "/sys/kernel/security/tpm0/binary_bios_measurements",
		CPU:      "/proc/cpuinfo", Release: "/etc/os-release",
	}
}

// maxEventLog is the largest event log that is read, in bytes.
const maxEventLog = 1 << 20

var errNotConfigured = errors.New("not configured")

// Open looks at the machine. What it has not, or does not let us use, is nil
// in the board, with the reason in Missing; Open itself does not fail.
func Open(cfg Config) *board.Board {
	b := &board.Board{Name: "linux", Counters: cfg.Counters, Missing: map[string]string{}}
	var closers []io.Closer
	missing := func(what string, err error) bool {
		if err != nil {
			b.Missing[what] = err.Error()
		}
		return err != nil
	}
	b.Boot = bootOf(cfg, missing)
	if f, err := os.Open(cfg.CPU); err == nil {
		b.Features = board.Features(f)
		_ = f.Close() // only read
	}
	if tpm, err := openTPM(cfg.TPM); !missing("tpm", err) {
		b.TPM, closers = tpm, append(closers, tpm)
		b.Features = slices.Sorted(slices.Values(append(b.Features, "tpm")))
	} else {
		b.Boot.PCRs = nil
	}
	b.Entropy, b.EntropySource = rand.Reader, "getrandom"
	if f, err := openNoise(cfg.Noise); !missing("noise", err) {
		b.Entropy, b.EntropySource, closers = f, cfg.Noise, append(closers, f)
	}
	if r, err := openRTC(cfg.RTC); !missing("rtc", err) {
		b.RTC = r
	}
	if w, err := findWatchdog(cfg.Watchdog); !missing("watchdog", err) {
		b.Watchdog, closers = w, append(closers, w)
	}
	if os.Getpid() == 1 {
		b.Reset = reset
	} else {
		b.Missing["reset"] = "not the first process of the machine"
	}
	b.Close = func() error { return closeAll(closers) }
	return b
}

func closeAll(closers []io.Closer) error {
	var err error
	for _, c := range closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

// openTPM opens a TPM and asks it something, so that one that is broken or
// may not be used shows at once.
func openTPM(path string) (transport.TPMCloser, error) {
	if path == "" {
		return nil, errNotConfigured
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	open := linuxtpm.Open
	if info.Mode()&os.ModeSocket != 0 {
		open = linuxudstpm.Open
	}
	tpm, err := open(path)
	if err != nil {
		return nil, err
	}
	if _, err := (tpm2.ReadClock{}).Execute(tpm); err != nil {
		return nil, errors.Join(fmt.Errorf("%s does not answer: %w", path, err), tpm.Close())
	}
	return tpm, nil
}

// openNoise opens a noise source that gives something: the kernel has a
// /dev/hwrng where there is no hardware behind it.
func openNoise(path string) (*os.File, error) {
	if path == "" {
		return nil, errNotConfigured
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(f, make([]byte, 16)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// bootOf collects what the boot left behind.
func bootOf(cfg Config, missing func(string, error) bool) board.Boot {
	boot := board.Boot{ResetCause: board.Unknown, PCRs: cfg.PCRs}
	if len(boot.PCRs) == 0 {
		boot.PCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14}
	}
	if cause, err := resetCause(cfg.WatchdogStatus); !missing("reset-cause", err) {
		boot.ResetCause = cause
	}
	if log, err := readLimited(cfg.EventLog); !missing("event-log", err) {
		boot.EventLog = log
	}
	if text, err := readLimited(cfg.Release); !missing("version", err) {
		boot.Version = version(string(text))
	}
	return boot
}

func readLimited(path string) ([]byte, error) {
	if path == "" {
		return nil, errNotConfigured
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxEventLog+1))
	if err == nil && len(data) > maxEventLog {
		err = fmt.Errorf("%s has more than %d bytes", path, maxEventLog)
	}
	return data, err
}

// version returns the system's name and version from os-release(5).
func version(release string) string {
	values := map[string]string{}
	for line := range strings.Lines(release) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		}
		values[name] = value
	}
	return strings.TrimSpace(values["ID"] + " " + values["VERSION_ID"])
}

// reset reboots the machine at once.
func reset(string) error {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return nil
}
