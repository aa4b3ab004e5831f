package linux

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/device/board"
)

// watchdog is a watchdog of the Linux watchdog API. It implements
// board.Watchdog. If the program dies, nobody feeds it.
type watchdog struct {
	path       string
	setTimeout func(fd, seconds int) error

	mu sync.Mutex
	f  *os.File // nil until armed
}

// findWatchdog looks for a watchdog without opening it, which would start it.
func findWatchdog(path string) (*watchdog, error) {
	if path == "" {
		return nil, errNotConfigured
	}
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return &watchdog{path: path, setTimeout: func(fd, seconds int) error {
		return unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, seconds)
	}}, nil
}

// Arm starts the watchdog. Fractions of seconds count as a whole one.
func (w *watchdog) Arm(timeout time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if timeout < time.Second {
		return errors.New("arm watchdog: the timeout is below a second")
	}
	if w.f == nil {
		f, err := os.OpenFile(w.path, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("arm watchdog: %w", err)
		}
		w.f = f
	}
	seconds := int((timeout + time.Second - 1) / time.Second)
	if err := w.setTimeout(int(w.f.Fd()), seconds); err != nil {
		return errors.Join(fmt.Errorf("arm watchdog: set timeout: %w", err), w.stop())
	}
	return nil
}

// Feed keeps the watchdog quiet for one more timeout.
func (w *watchdog) Feed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return board.ErrNotArmed
	}
	if _, err := w.f.Write([]byte{0}); err != nil {
		return fmt.Errorf("feed watchdog: %w", err)
	}
	return nil
}

// Close stops an armed watchdog, unless the kernel was told not to let it be
// stopped (nowayout).
func (w *watchdog) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	return w.stop()
}

func (w *watchdog) stop() error {
	_, err := w.f.Write([]byte("V")) // the "magic close" of the watchdog API
	err = errors.Join(err, w.f.Close())
	w.f = nil
	if err != nil {
		return fmt.Errorf("stop watchdog: %w", err)
	}
	return nil
}

// cardReset is WDIOF_CARDRESET: the watchdog made the last reset.
const cardReset = 0x0020

// resetCause reads the watchdog's boot status. Without the watchdog's mark the
// cause may be anything else.
func resetCause(path string) (string, error) {
	if path == "" {
		return "", errNotConfigured
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	status, err := strconv.ParseUint(strings.TrimSpace(string(text)), 0, 32)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if status&cardReset != 0 {
		return board.Expired, nil
	}
	return board.Unknown, nil
}
