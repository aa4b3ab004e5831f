package virtual

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"holdfast/device/board"
	"holdfast/internal/atomicfile"
)

// rtcFile is the clock's state: how far it is from the host's clock, and the
// time at which it stands when it is stuck.
type rtcFile struct {
	Offset time.Duration `json:"offset"` // nanoseconds
	Stood  time.Time     `json:"stood"`
}

func loadRTC(p paths) (rtcFile, error) {
	var f rtcFile
	text, err := os.ReadFile(p.rtc())
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	return f, err
}

func saveRTC(p paths, f rtcFile) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return atomicfile.Write(p.rtc(), text, 0o600)
}

// rtc is the clock. It implements board.RTC.
type rtc struct {
	paths paths
	stuck bool
}

func (r rtc) Now() (time.Time, error) {
	f, err := loadRTC(r.paths)
	if err != nil {
		return time.Time{}, fmt.Errorf("clock: %w", err)
	}
	if r.stuck {
		return f.Stood, nil
	}
	return time.Now().Add(f.Offset).UTC().Round(0), nil
}

func (r rtc) Set(t time.Time) error {
	if r.stuck {
		return nil // it does as it is told and does not move
	}
	f, err := loadRTC(r.paths)
	if err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	f.Offset = time.Until(t)
	return saveRTC(r.paths, f)
}

// watchdog implements board.Watchdog for one boot.
type watchdog struct {
	expired chan struct{} // closed once the watchdog bites

	mu      sync.Mutex
	timer   *time.Timer // nil until armed
	timeout time.Duration
}

func newWatchdog() *watchdog { return &watchdog{expired: make(chan struct{})} }

func (w *watchdog) Arm(timeout time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if timeout < time.Second {
		return errors.New("watchdog: the timeout is below a second")
	}
	w.timeout = timeout
	if w.timer == nil {
		w.timer = time.AfterFunc(timeout, func() { close(w.expired) })
		return nil
	}
	w.feed()
	return nil
}

func (w *watchdog) Feed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return board.ErrNotArmed
	}
	w.feed()
	return nil
}

// feed starts the time over, unless the watchdog has bitten.
func (w *watchdog) feed() {
	if w.timer.Stop() {
		w.timer.Reset(w.timeout)
	}
}

// off ends the watchdog, with the board's power.
func (w *watchdog) off() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

// fuses are the security counter of a board without one in a TPM. It
// implements board.Fuses.
type fuses struct {
	mu    *sync.Mutex // one burns at a time
	paths paths
}

func (f fuses) Minimum() (uint32, error) {
	s, err := LoadSettings(string(f.paths))
	return s.Fuses.SecurityCounter, err
}

func (f fuses) Burn() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := LoadSettings(string(f.paths))
	if err != nil {
		return err
	}
	if s.Fuses.CounterIndex != 0 {
		return errors.New("fuses: the TPM has the counter")
	}
	s.Fuses.SecurityCounter++
	return SaveSettings(string(f.paths), s)
}

// noiseSource names the noise source.
const noiseSource = "virtual board's noise (getrandom of its host)"

// noise returns n bytes of noise.
func noise(n int, bad bool) []byte {
	if bad {
		return bytes.Repeat([]byte{0xA5}, n)
	}
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
