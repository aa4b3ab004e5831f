package posture

import (
	"math"
	"time"

	"holdfast/measure"
)

// cause is why a demand came out as it did.
type cause byte

const (
	isMet cause = iota
	isFailing
	isDeferred // unknown, before the session that can prove it
	isGraced   // unknown, with the policy's grace
	isUnknown
	isLow   // of a lower grade
	isStale // older than the policy allows
	isAhead // from further ahead than clocks differ
)

func (c cause) standing() Standing {
	switch c {
	case isMet:
		return Met
	case isFailing, isUnknown:
		return Unmet
	}
	return Weak
}

// demand is a requirement as marks are held against it.
type demand struct {
	at       int   // place in the catalogue; negative: there is no such measure
	grade    byte  // rank
	maxAge   int64 // nanoseconds; 0: any age
	grace    bool
	deferred bool // nothing can prove it before the first session
}

func demandOf(q Requirement) demand {
	at, known := ordinals[q.Measure]
	if !known {
		at = -1
	}
	d := demand{at: at, grade: grader(q.Grade), maxAge: int64(q.MaxAge), grace: q.GraceUnknown}
	if _, err := measure.ParseGrade(string(q.Grade)); err != nil {
		d.grade = math.MaxUint8 // nothing meets what is no grade
	}
	_, d.deferred = afterFirst[q.Measure]
	return d
}

// weigh holds a mark against a demand.
func (d *demand) weigh(m mark, now int64, first bool) cause {
	age := since(now, m.at)
	switch {
	case m.verdict == markFail:
		return isFailing
	case m.verdict == markUnknown && first && d.deferred:
		return isDeferred
	case m.verdict == markUnknown && d.grace:
		return isGraced
	case m.verdict == markUnknown:
		return isUnknown
	case m.grade < d.grade:
		return isLow
	case d.maxAge > 0 && age > d.maxAge:
		return isStale
	case age < -int64(Skew):
		return isAhead
	}
	return isMet
}

// turns returns when weigh would say something else of the same mark, because
// time has passed.
func (d *demand) turns(c cause, m mark) int64 {
	switch {
	case c == isAhead:
		return since(m.at, int64(Skew))
	case c == isMet && d.maxAge > 0 && m.at < math.MaxInt64-d.maxAge:
		return m.at + d.maxAge + 1
	}
	return math.MaxInt64
}

// Gauge holds marks against one policy, for many devices: it says what Decide
// would say, without the words. It is safe for concurrent use.
type Gauge struct {
	policy  Policy
	demands []demand
	timed   bool // some condition's outcome may change at any time
}

// NewGauge returns the gauge of a policy.
func NewGauge(p Policy) *Gauge {
	g := &Gauge{policy: p}
	for _, q := range p.Require {
		g.demands = append(g.demands, demandOf(q))
	}
	for _, t := range p.tests {
		g.timed = g.timed || t.Timed && t.Turns == nil
	}
	return g
}

// Reading is what a Gauge reads.
type Reading struct {
	Standing Standing
	Failed   bool // a measure that the policy demands fails
	// Until is up to when the reading is right while the marks stay the same;
	// zero: for good. Of a policy with conditions on the time that nobody can
	// foresee it is a minute.
	Until time.Time
}

// turns is when the test would say something else, in nanoseconds.
func (t Test) turns(v View) int64 {
	if t.Turns == nil {
		return math.MaxInt64
	}
	if at := t.Turns(v); !at.IsZero() {
		return nanos(at)
	}
	return math.MaxInt64
}

// Policy returns the gauge's policy.
func (g *Gauge) Policy() Policy { return g.policy }

// Read decides on what v shows. first is as Decide has it.
func (g *Gauge) Read(v View, first bool) Reading {
	r := Reading{Standing: Met}
	now, until := nanos(v.Now), int64(math.MaxInt64)
	for i := range g.demands {
		d := &g.demands[i]
		m := v.Marks.mark(d.at)
		c := d.weigh(m, now, first)
		if c != isMet {
			r.Standing = worse(r.Standing, c.standing())
			r.Failed = r.Failed || c == isFailing
		}
		until = min(until, d.turns(c, m))
	}
	if g.timed {
		until = min(until, now+int64(time.Minute))
	}
	for i := range g.policy.Conditions {
		if r.Standing == Unmet {
			break
		}
		if i < len(g.policy.tests) {
			until = min(until, g.policy.tests[i].turns(v))
		}
		standing, _ := g.policy.weigh(i, v) // an error is unmet
		r.Standing = worse(r.Standing, standing)
	}
	if until != math.MaxInt64 {
		r.Until = time.Unix(0, until).UTC()
	}
	return r
}
