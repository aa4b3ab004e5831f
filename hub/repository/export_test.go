package repository

import (
	"context"
	"time"
)

// Interrupt asks before each change of the metadata directory; an error ends what
// is being done, as a power cut would.
func (r *Repository) Interrupt(before func(change string) error) { r.disk.before = before }

// Stall says how long a device may take over a chunk.
func (r *Repository) Stall(d time.Duration) { r.stall = d }

// Renew does what Run does once in a while.
func (r *Repository) Renew(ctx context.Context) error { return r.renew(ctx) }

// Warn does too.
func (r *Repository) Warn(ctx context.Context) { r.warn(ctx) }

// Sweep does too.
func (r *Repository) Sweep() error { return r.sweep() }

// UnneededFor is how long content stays that nothing names.
const UnneededFor = unneededFor

// Pace returns how long the chunks of one device of a group wait, where each comes
// at once.
func Pace(c Client, at time.Time, chunks int) time.Duration {
	ps := newPacers()
	p, _ := ps.enter(c)
	var wait time.Duration
	for range chunks {
		wait = max(p.device.take(p.chunk(), c.Rate, at), p.group.take(p.chunk(), c.GroupRate, at))
	}
	return wait
}
