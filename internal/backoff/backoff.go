// Package backoff spaces out attempts at something that fails, so that many
// devices that lost the same hub do not come back to it all at once.
//
// The delay before an attempt is drawn evenly from zero to a ceiling that
// doubles with every failure ("full jitter").
package backoff

import (
	"math"
	"math/rand/v2"
	"time"
)

// Policy says how long delays are. Both durations must be positive.
type Policy struct {
	Base time.Duration // ceiling of the first delay
	Cap  time.Duration // no ceiling is higher
}

// Ceiling returns the longest delay after attempt failures have gone before
// (0 for the first).
func (p Policy) Ceiling(attempt int) time.Duration {
	c := math.Ldexp(float64(p.Base), max(attempt, 0))
	return time.Duration(min(c, float64(p.Cap)))
}

// Delay returns the delay for an attempt; r in [0, 1) is the draw.
func (p Policy) Delay(attempt int, r float64) time.Duration {
	return time.Duration(r * float64(p.Ceiling(attempt)))
}

// Backoff counts the failures of one thing. Use it from one goroutine.
type Backoff struct {
	policy  Policy
	attempt int
}

// New returns a Backoff that has seen no failure.
func New(p Policy) *Backoff { return &Backoff{policy: p} }

// Next counts a failure and returns how long to wait before the next attempt.
func (b *Backoff) Next() time.Duration {
	d := b.policy.Delay(b.attempt, rand.Float64())
	b.attempt++
	return d
}

// Reset forgets the failures, after a success.
func (b *Backoff) Reset() { b.attempt = 0 }
