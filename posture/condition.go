package posture

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"holdfast/identity"
	"holdfast/measure"
)

// The limits of conditions.
const (
	MaxConditions = 32
	MaxExpression = 1024 // bytes
	MaxReason     = 200  // bytes
)

// Condition is a line of a policy that a table of measures cannot say: while
// the expression holds, the posture is no better than Then. The language of
// expressions is that of posture/policy.
type Condition struct {
	When   string   `json:"when" doc:"expression in CEL, over device, rows and now"`
	Then   Standing `json:"then" enum:"weak,unmet" doc:"how the device stands while it holds"`
	Reason string   `json:"reason" doc:"why, for people"`
}

// Subject is the device that a decision is on.
type Subject struct {
	Device  identity.Device
	Group   identity.Group
	Release string // name and version of the firmware that it attested; empty: none
}

// View is what a condition looks at.
type View struct {
	Subject
	Marks Marks
	Now   time.Time
}

// Test is a compiled expression.
type Test struct {
	Holds func(View) (bool, error)
	Timed bool // the time is part of what it looks at
	// Turns says when Holds would say something else of the same marks, because
	// time has passed; zero: never. Nil with Timed: at any time.
	Turns func(View) time.Time
}

// Compile returns p with its conditions compiled: without, each of them counts
// as unmet. An expression that does not compile is an error. Those of the
// built-in policies have a faster form of their own.
func (p Policy) Compile(compile func(expression string) (Test, error)) (Policy, error) {
	p.tests = make([]Test, len(p.Conditions))
	for i, c := range p.Conditions {
		if t, ok := builtinTest(c.When); ok {
			p.tests[i] = t
			continue
		}
		t, err := compile(c.When)
		if err != nil {
			return Policy{}, fmt.Errorf("conditions[%d]: when: %w", i, err)
		}
		p.tests[i] = t
	}
	return p, nil
}

var errNotCompiled = errors.New("is not compiled")

// weigh is how one condition stands. Where it cannot be evaluated the device
// gets nothing by that.
func (p Policy) weigh(i int, v View) (Standing, error) {
	if i >= len(p.tests) {
		return Unmet, errNotCompiled
	}
	holds, err := p.tests[i].Holds(v)
	switch {
	case err != nil:
		return Unmet, fmt.Errorf("cannot be evaluated: %w", err)
	case holds && p.Conditions[i].Then == Weak:
		return Weak, nil
	case holds:
		return Unmet, nil
	}
	return Met, nil
}

// condition is weigh with its words.
func (p Policy) condition(i int, v View) Outcome {
	c := p.Conditions[i]
	s, err := p.weigh(i, v)
	o := Outcome{When: c.When, Standing: s, Reason: c.Reason}
	switch {
	case err != nil:
		o.Reason = fmt.Sprintf("the condition %v: %s", err, c.Reason)
	case s == Met:
		o.Reason = "does not hold: " + c.Reason
	}
	return o
}

func (c Condition) check() error {
	switch {
	case c.Then != Weak && c.Then != Unmet:
		return fmt.Errorf("then: %q: want weak or unmet", c.Then)
	case !printable(c.When, MaxExpression):
		return fmt.Errorf("when: want one line of 1 to %d bytes", MaxExpression)
	case !printable(c.Reason, MaxReason):
		return fmt.Errorf("reason: want one line of 1 to %d bytes", MaxReason)
	}
	return nil
}

// printable reports whether s is one line of text with something in it.
func printable(s string, most int) bool {
	return strings.TrimSpace(s) == s && s != "" && len(s) <= most && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || !unicode.IsPrint(r) })
}

// viewOf is what conditions look at, of rows.
func viewOf(s Subject, rows []measure.Row, now time.Time) View {
	return View{Subject: s, Marks: MarksOf(rows), Now: now}
}
