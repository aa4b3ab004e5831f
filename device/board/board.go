// Package board says what a device's hardware gives its runtime: a TPM, a
// source of noise, a clock, a watchdog, and what the boot left behind. The
// runtime sees every board through the struct Board, whether it is a Linux
// machine (board/linux) or files and processes (board/bus, the firmware side
// of board/virtual). What a board has not is nil, with the reason in Missing.
package board

import (
	"errors"
	"io"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/identity"
	"holdfast/internal/flash"
)

// Board is the hardware of a device.
type Board struct {
	Name          string                    // "virtual" or "linux"
	TPM           transport.TPMCloser       // nil without one: keys are then in files
	Entropy       io.Reader                 // the raw noise source, for the health tests; never nil
	EntropySource string                    // what Entropy reads, such as /dev/hwrng
	RTC           RTC                       // nil without one
	Watchdog      Watchdog                  // nil without one
	Boot          Boot                      // what is known of this boot
	Hardware      string                    // revision of the hardware, as releases name them; may be empty
	Slots         *Slots                    // nil where firmware cannot be replaced
	Counters      []uint32                  // NV indices certified in each attestation
	Features      []string                  // cryptographic acceleration found, sorted: aes, sha2, tpm and the like
	Missing       map[string]string         // what the board has not ("tpm", "rtc", ...) and why
	Reset         func(reason string) error // asks for a reboot; nil when that is not possible
	Close         func() error              // releases the above and stops an armed watchdog where that is possible; never nil
}

// RTC is a clock that runs without power. Its time is only a claim: nobody
// has authenticated it.
type RTC interface {
	Now() (time.Time, error)
	Set(time.Time) error
}

// Watchdog resets the board when it is not fed in time.
type Watchdog interface {
	// Arm starts the watchdog with a timeout of at least one second. From
	// then on it is to be fed; it ends only with the power or, where the
	// hardware allows, with an orderly Board.Close.
	Arm(timeout time.Duration) error
	// Feed grants one more timeout. It refuses when the watchdog is not armed.
	Feed() error
}

// Slots is where a board keeps its firmware and what its boot chain goes by.
type Slots struct {
	A, B         flash.Area // the one that was booted is not to be written
	Record       flash.Area // two sectors
	KeyHash      identity.Digest
	CounterIndex uint32 // NV index of the security counter; 0: it is in Fuses
	CounterBase  uint64 // value of that counter at security version 0
	Fuses        Fuses  // nil where the TPM has the counter
}

// Fuses are the least security version of a board whose TPM does not count it.
type Fuses interface {
	// Minimum returns the least security version.
	Minimum() (uint32, error)
	// Burn raises it by one, for ever.
	Burn() error
}

// ErrNotArmed is returned by Watchdog.Feed before Arm.
var ErrNotArmed = errors.New("watchdog is not armed")

// The causes of a reset.
const (
	PowerOn   = "power-on"
	Expired   = "watchdog"  // the watchdog was not fed
	Requested = "requested" // the firmware asked for it
	Exited    = "exited"    // the firmware ended by itself
	Unknown   = "unknown"
)

// Boot is what the boot chain left behind.
type Boot struct {
	Digest     identity.Digest // SHA-256 of the measured firmware image; zero when not known
	Slot       string          // "A", "B" or empty
	Version    string          // of the firmware image
	Trial      bool            // it was booted to prove itself: unless it is committed the board goes back
	Refused    []string        // slots that were refused, as "slot A: why"
	ResetCause string          // one of the constants above
	EventLog   []byte          // TCG crypto-agile event log; empty without measured boot
	PCRs       []int           // the registers to quote
}
