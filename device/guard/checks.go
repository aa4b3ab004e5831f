package guard

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/identity"
)

// Program checks that the file at path (/proc/self/exe: the program that runs)
// has the digest that it had when Program was called.
func Program(path string) (Check, error) {
	at, err := digest(path)
	if err != nil {
		return nil, fmt.Errorf("digest of the program: %w", err)
	}
	return check{"program", func() error {
		now, err := digest(path)
		if err == nil && now != at {
			err = errors.New("the program has changed since it started")
		}
		return err
	}}, nil
}

func digest(path string) (identity.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return identity.Digest{}, err
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return identity.Digest{}, err
	}
	return identity.Digest(h.Sum(nil)), nil
}

// Boot checks that the boot's event log has measured the image that the board
// says it runs.
func Boot(image identity.Digest, eventLog []byte) Check {
	return check{"boot", func() error {
		if !bytes.Contains(eventLog, image[:]) {
			return errors.New("the boot log has not measured the image that runs")
		}
		return nil
	}}
}

// Memory checks that no memory is writable and executable at once. path is
// /proc/self/maps.
func Memory(path string) Check {
	return check{"memory", func() error {
		where, err := writableCode(path)
		if err == nil && where != "" {
			err = fmt.Errorf("memory at %s is writable and executable", where)
		}
		return err
	}}
}

// writableCode returns the address of a mapping that is writable and
// executable, or "".
func writableCode(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 1 && strings.Contains(fields[1], "w") && strings.Contains(fields[1], "x") {
			return fields[0], nil
		}
	}
	return "", lines.Err()
}

// Pulse is a sign of life: whoever must not hang beats it.
type Pulse struct {
	name  string
	limit time.Duration
	last  atomic.Int64 // nanoseconds after begin
	begin time.Time
}

// NewPulse returns a Pulse that has just beaten, and that counts as dead after
// limit without a beat.
func NewPulse(name string, limit time.Duration) *Pulse {
	return &Pulse{name: name, limit: limit, begin: time.Now()}
}

// Beat is the sign.
func (p *Pulse) Beat() { p.last.Store(int64(time.Since(p.begin))) }

// Name implements Check.
func (p *Pulse) Name() string { return p.name }

// Check implements Check.
func (p *Pulse) Check() error {
	if quiet := time.Since(p.begin) - time.Duration(p.last.Load()); quiet > p.limit {
		return fmt.Errorf("no sign of life for %v", quiet.Round(time.Second))
	}
	return nil
}

// Traced reports whether a debugger is attached to this process. path is
// /proc/self/status.
func Traced(path string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if tracer, ok := strings.CutPrefix(line, "TracerPid:"); ok {
			return strings.TrimSpace(tracer) != "0"
		}
	}
	return false
}

// check is a Check made of a function.
type check struct {
	name string
	run  func() error
}

// Name implements Check.
func (c check) Name() string { return c.name }

// Check implements Check.
func (c check) Check() error { return c.run() }
