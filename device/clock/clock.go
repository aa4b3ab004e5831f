// Package clock answers what time it is on a device that may not know.
//
// The floor is the latest time that has certainly passed: the build time, what
// was committed before, never less. It survives power loss and never goes
// back. A real-time clock that reads less is wrong, and the time then is
// unknown: not 1970, and not the floor either. Certificates are judged at the
// clock's time where it is known. Where it is not, a chain is taken if there
// is any time from the floor on at which it is valid; what had expired before
// the floor stays refused.
package clock

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"holdfast/internal/atomicfile"
)

// The states of the clock, as claimed to the hub.
const (
	RTC     = "rtc"     // the real-time clock reads a possible time
	Floor   = "floor"   // there is no readable clock: only the floor is known
	Unknown = "unknown" // the clock reads a time before the floor: it is wrong
)

// Reader is a real-time clock.
type Reader interface {
	Now() (time.Time, error)
}

// Config says what a clock is made of.
type Config struct {
	Path  string    // file that keeps the floor
	Build time.Time // when this program was built
	RTC   Reader    // nil without one
}

// Clock is a device's clock. It may be used concurrently.
type Clock struct {
	cfg Config

	mu     sync.Mutex // guards floor and the file, and judged
	floor  time.Time
	judged time.Time // when the last chain was valid that Judge had to look for
}

// file is the form of the file.
type file struct {
	Floor time.Time `json:"floor"`
}

// Open reads the floor and raises it to the build time. A floor that cannot be
// read is an error: to forget it would make it go back.
func Open(cfg Config) (*Clock, error) {
	c := &Clock{cfg: cfg}
	b, err := os.ReadFile(cfg.Path)
	if err == nil {
		var f file
		if err = json.Unmarshal(b, &f); err == nil {
			c.floor = f.Floor
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open clock: %w", err)
	}
	return c, c.Commit(cfg.Build)
}

// Commit raises the floor to t, which the caller must have from an
// authenticated source. An earlier t changes nothing.
func (c *Clock) Commit(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !t.After(c.floor) {
		return nil
	}
	b, err := json.Marshal(file{t.UTC()})
	if err != nil {
		return fmt.Errorf("raise time floor: %w", err)
	}
	if err := atomicfile.Write(c.cfg.Path, b, 0o600); err != nil {
		return fmt.Errorf("raise time floor: %w", err)
	}
	c.floor = t.UTC()
	return nil
}

// Now returns the time and the state of the clock. Unless the state is RTC the
// time is the floor.
func (c *Clock) Now() (time.Time, string) {
	c.mu.Lock()
	floor := c.floor
	c.mu.Unlock()
	if c.cfg.RTC == nil {
		return floor, Floor
	}
	now, err := c.cfg.RTC.Now()
	switch {
	case err != nil:
		return floor, Floor
	case now.Before(floor):
		return floor, Unknown
	}
	return now.UTC(), RTC
}

// maxJudgements bounds how often Judge asks: once, and once more for each
// certificate of the longest chain in use.
const maxJudgements = 5

// Judge calls verify, which verifies a peer's certificates at the time that it
// is given and returns their error. While the clock is not known and a
// certificate is not valid yet, verify is called again with the time at which
// that certificate becomes valid: such a time may well have come. A time that
// was found so is where the next call begins, until the program ends.
func (c *Clock) Judge(verify func(now time.Time) error) error {
	now, state := c.Now()
	if state != RTC {
		now = c.resume(now)
	}
	for i := 1; ; i++ {
		err := verify(now)
		if err == nil && state != RTC {
			c.remember(now)
		}
		starts, early := notYetValid(err, now)
		if state == RTC || !early || i == maxJudgements {
			return err
		}
		now = starts
	}
}

func (c *Clock) resume(floor time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.judged.After(floor) {
		return c.judged
	}
	return floor
}

func (c *Clock) remember(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judged = now
}

// notYetValid reports whether err says that a certificate is not valid yet at
// a time, and when it becomes valid.
func notYetValid(err error, now time.Time) (time.Time, bool) {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if !ok || invalid.Reason != x509.Expired || invalid.Cert == nil {
		return time.Time{}, false
	}
	return invalid.Cert.NotBefore, invalid.Cert.NotBefore.After(now)
}

// Expired reports whether a certificate that ends at notAfter has certainly
// expired.
func (c *Clock) Expired(notAfter time.Time) bool {
	now, _ := c.Now()
	return now.After(notAfter)
}
