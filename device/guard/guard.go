// Package guard feeds the watchdog, but only while the device's integrity
// checks pass: a runtime that hangs, or that is no longer what was started,
// is reset by hardware that it cannot talk out of it.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"holdfast/evidence"
)

// Watchdog resets the board when it is not fed in time.
type Watchdog interface {
	Arm(timeout time.Duration) error
	Feed() error
}

// Check is a named condition for feeding.
type Check interface {
	Name() string
	// Check returns why the condition does not hold. It must not block for
	// long.
	Check() error
}

// Config says what is guarded.
type Config struct {
	Watchdog Watchdog      // nil without one: checks are then made for the report
	Timeout  time.Duration // of the watchdog; 0: a minute, at least three seconds
	Checks   []Check
	Log      *slog.Logger
}

const defaultTimeout = time.Minute

// Guard runs the checks and feeds the watchdog.
type Guard struct {
	cfg Config

	mu     sync.Mutex // guards what follows
	armed  bool
	checks map[string]bool
	failed error // of the last round
}

// New returns a Guard whose first round of checks has been made.
func New(cfg Config) (*Guard, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Timeout < 3*time.Second {
		return nil, fmt.Errorf("guard: a watchdog timeout of %v is too short", cfg.Timeout)
	}
	g := &Guard{cfg: cfg}
	g.round()
	return g, nil
}

// Run arms the watchdog and feeds it every third of its timeout. It returns
// when ctx ends; the watchdog then runs out unless the board stops it.
func (g *Guard) Run(ctx context.Context) error {
	g.arm()
	tick := time.NewTicker(g.cfg.Timeout / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if g.round() {
			g.feed()
		}
	}
}

// arm starts the watchdog. One that cannot be started is reported, and does
// not keep the device from its work.
func (g *Guard) arm() {
	if g.cfg.Watchdog == nil {
		return
	}
	if err := g.cfg.Watchdog.Arm(g.cfg.Timeout); err != nil {
		g.cfg.Log.Warn("watchdog not armed", "err", err)
		return
	}
	g.mu.Lock()
	g.armed = true
	g.mu.Unlock()
}

func (g *Guard) feed() {
	g.mu.Lock()
	armed := g.armed
	g.mu.Unlock()
	if !armed {
		return
	}
	if err := g.cfg.Watchdog.Feed(); err != nil {
		g.cfg.Log.Error("watchdog not fed", "err", err)
	}
}

// round makes every check and reports whether all passed.
func (g *Guard) round() bool {
	checks := make(map[string]bool, len(g.cfg.Checks))
	var failed error
	for _, c := range g.cfg.Checks {
		err := c.Check()
		checks[c.Name()] = err == nil
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", c.Name(), err))
		}
	}
	g.mu.Lock()
	news := failed != nil && g.failed == nil
	g.checks, g.failed = checks, failed
	g.mu.Unlock()
	if news {
		g.cfg.Log.Error("integrity check failed", "err", failed)
	}
	return failed == nil
}

// Report returns the state of the watchdog and the results of the last round.
func (g *Guard) Report() evidence.Watchdog {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := evidence.Watchdog{Armed: g.armed, Checks: make(map[string]bool, len(g.checks))}
	for name, ok := range g.checks {
		r.Checks[name] = ok
	}
	if g.armed {
		r.Timeout = int(g.cfg.Timeout / time.Second)
	}
	return r
}
