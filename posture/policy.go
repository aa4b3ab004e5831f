package posture

import (
	"encoding/json/v2"
	"fmt"
	"slices"
	"time"

	"holdfast/identity"
	"holdfast/measure"
)

// MaxPolicy is the longest policy in bytes.
const MaxPolicy = 64 << 10

// The lifetimes of certificates where a policy does not say.
const (
	DefaultFull  = 24 * time.Hour
	DefaultShort = time.Hour
)

// MaxLifetime is the longest lifetime that a policy may give.
const MaxLifetime = 10 * 365 * 24 * time.Hour

// Full returns the lifetime of a certificate when all is met.
func (p Policy) Full() time.Duration {
	if p.FullLifetime <= 0 {
		return DefaultFull
	}
	return time.Duration(p.FullLifetime)
}

// Short returns the lifetime of a certificate when something is weak: never
// longer than the full one.
func (p Policy) Short() time.Duration {
	if p.ShortLifetime <= 0 {
		return min(DefaultShort, p.Full())
	}
	return min(time.Duration(p.ShortLifetime), p.Full())
}

// Demands reports whether p requires a measure.
func (p Policy) Demands(id measure.ID) bool {
	return slices.ContainsFunc(p.Require, func(q Requirement) bool { return q.Measure == id })
}

// Empty reports whether p demands nothing at all.
func (p Policy) Empty() bool { return len(p.Require) == 0 && len(p.Conditions) == 0 }

// Equal reports whether p and q say the same, whether compiled or not.
func (p Policy) Equal(q Policy) bool {
	return p.Name == q.Name && p.Version == q.Version && p.Full() == q.Full() && p.Short() == q.Short() &&
		slices.Equal(p.Require, q.Require) && slices.Equal(p.Conditions, q.Conditions)
}

// Check says what in p makes no sense, and where. Expressions are not looked
// into: Compile does.
func (p Policy) Check() error {
	if err := p.check(); err != nil {
		return fmt.Errorf("policy %q: %w", p.Name, err)
	}
	return nil
}

// ParsePolicy reads a policy from JSON, strictly: a member that does not
// exist or comes twice, a measure or grade that does not exist, a measure
// required twice, or lifetimes that make no sense is an error that says what
// and where. Lifetimes that are absent get their defaults. Its conditions are
// not compiled.
func ParsePolicy(b []byte) (Policy, error) {
	var p Policy
	if len(b) > MaxPolicy {
		return p, fmt.Errorf("policy has %d bytes, at most %d are allowed", len(b), MaxPolicy)
	}
	if err := json.Unmarshal(b, &p, json.RejectUnknownMembers(true)); err != nil {
		return Policy{}, fmt.Errorf("policy: %w", err)
	}
	if err := p.Check(); err != nil {
		return Policy{}, err
	}
	p.FullLifetime, p.ShortLifetime = Duration(p.Full()), Duration(p.Short())
	return p, nil
}

// check says what in p makes no sense, and where.
func (p Policy) check() error {
	if _, err := identity.ParseGroup(p.Name); err != nil {
		return fmt.Errorf("name: want letters, digits and \"-\" like a group's: %w", err)
	}
	if p.Version < 0 {
		return fmt.Errorf("version: %d is negative", p.Version)
	}
	seen := make(map[measure.ID]int, len(p.Require))
	for i, q := range p.Require {
		if err := q.check(); err != nil {
			return fmt.Errorf("require[%d]: %w", i, err)
		}
		if first, twice := seen[q.Measure]; twice {
			return fmt.Errorf("require[%d]: measure %q is already required by require[%d]", i, q.Measure, first)
		}
		seen[q.Measure] = i
	}
	if len(p.Conditions) > MaxConditions {
		return fmt.Errorf("conditions: there are %d, at most %d are allowed", len(p.Conditions), MaxConditions)
	}
	for i, c := range p.Conditions {
		if err := c.check(); err != nil {
			return fmt.Errorf("conditions[%d]: %w", i, err)
		}
	}
	return p.checkLifetimes()
}

func (q Requirement) check() error {
	if _, err := measure.Parse(string(q.Measure)); err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	if _, err := measure.ParseGrade(string(q.Grade)); err != nil {
		return fmt.Errorf("grade: %w", err)
	}
	if q.Grade == measure.None {
		return fmt.Errorf("grade: none demands nothing of %s: want claimed or better", q.Measure)
	}
	if q.MaxAge < 0 {
		return fmt.Errorf("max_age: %s is negative", time.Duration(q.MaxAge))
	}
	return nil
}

func (p Policy) checkLifetimes() error {
	full, short := time.Duration(p.FullLifetime), time.Duration(p.ShortLifetime)
	switch {
	case full < 0:
		return fmt.Errorf("full_lifetime: %s is negative", full)
	case short < 0:
		return fmt.Errorf("short_lifetime: %s is negative", short)
	case full > MaxLifetime:
		return fmt.Errorf("full_lifetime: %s is more than %s", full, MaxLifetime)
	case short > p.Full():
		return fmt.Errorf("short_lifetime: %s is more than the full lifetime of %s", short, p.Full())
	}
	return nil
}
