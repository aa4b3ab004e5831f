// Package policy has the text form of policies, which people keep in
// repositories, and the language of its conditions:
//
//	policy pumps version 7
//	lifetime full 24h short 1h
//
//	# measure                       grade     max age  unknown
//	require identity.hardware-root  attested
//	require firmware.secure-boot    attested  24h
//	require crypto.time             observed  1h       grace
//
//	when rows["app.debug"].verdict == "fail" && device.group == "pumps" unmet "the debug port is open"
//
// A line is a statement, a comment, or empty. What a table of measures cannot
// say is a condition in CEL. The form is described in docs/POLICIES.md.
package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/identity"
	"holdfast/measure"
	"holdfast/posture"
)

// Error is what is wrong at a place in a policy's text. Line and Column, in
// characters, begin at 1.
type Error struct {
	Line, Column int
	Text         string
}

func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Text)
}

// Parse reads a policy from its text form or from JSON, and compiles its
// conditions. Errors in text are of type *Error.
func Parse(b []byte) (posture.Policy, error) {
	if isJSON(b) {
		p, err := posture.ParsePolicy(b)
		if err != nil {
			return posture.Policy{}, err
		}
		return Bind(p)
	}
	f, err := read(b)
	if err != nil {
		return posture.Policy{}, err
	}
	return f.policy, nil
}

// isJSON reports whether b is in JSON rather than in text.
func isJSON(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && (b[0] == '{' || b[0] == '[')
}

// The statements, by their first word.
const (
	kwPolicy   = "policy"
	kwLifetime = "lifetime"
	kwRequire  = "require"
	kwWhen     = "when"
	kwVersion  = "version"
	kwFull     = "full"
	kwShort    = "short"
	kwGrace    = "grace"
)

// statement is a line as it will be printed. One without a keyword is a comment
// of its own, or empty.
type statement struct {
	keyword string
	cells   []string // canonical
	comment string
}

// file is a policy's text that has been read.
type file struct {
	policy posture.Policy
	lines  []statement
	seen   map[string]int // keyword or measure: its line
	tests  []posture.Test
	number int // of the line that is being read
}

func read(b []byte) (*file, error) {
	if len(b) > posture.MaxPolicy {
		return nil, &Error{1, 1, fmt.Sprintf("the policy has %d bytes, at most %d are allowed", len(b), posture.MaxPolicy)}
	}
	if !utf8.Valid(b) {
		return nil, &Error{1, 1, "the policy is not UTF-8 text"}
	}
	f := &file{seen: make(map[string]int)}
	for line := range strings.Lines(string(b)) {
		f.number++
		line = strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", " ")
		if err := f.line(line); err != nil {
			return nil, err
		}
	}
	if f.seen[kwPolicy] == 0 {
		return nil, &Error{max(1, f.number), 1, `there is no line "policy NAME"`}
	}
	return f, f.finish()
}

// finish checks the whole.
func (f *file) finish() error {
	p := f.policy
	if err := p.Check(); err != nil {
		return &Error{max(1, f.seen[kwLifetime]), 1, err.Error()}
	}
	p.FullLifetime, p.ShortLifetime = posture.Duration(p.Full()), posture.Duration(p.Short())
	next := 0
	p, err := p.Compile(func(string) (posture.Test, error) { next++; return f.tests[next-1], nil })
	f.policy = p
	return err
}

// errorf is an error at a place in the current line, counted in bytes.
func (f *file) errorf(line string, at int, format string, args ...any) error {
	return &Error{f.number, utf8.RuneCountInString(line[:min(at, len(line))]) + 1, fmt.Sprintf(format, args...)}
}

func (f *file) line(line string) error {
	ws, comment := words(line)
	if len(ws) == 0 {
		f.lines = append(f.lines, statement{comment: comment})
		return nil
	}
	keyword := ws[0]
	if keyword.text != kwPolicy && f.seen[kwPolicy] == 0 {
		return f.errorf(line, keyword.at, `want "policy NAME" before anything else`)
	}
	switch keyword.text {
	case kwPolicy, kwLifetime:
		if first := f.seen[keyword.text]; first > 0 {
			return f.errorf(line, keyword.at, "%s stands on line %d already", keyword.text, first)
		}
		f.seen[keyword.text] = f.number
	}
	var cells []string
	var err error
	switch keyword.text {
	case kwPolicy:
		cells, err = f.name(line, ws[1:])
	case kwLifetime:
		cells, err = f.lifetime(line, ws[1:])
	case kwRequire:
		cells, err = f.require(line, ws[1:])
	case kwWhen:
		cells, comment, err = f.when(line, keyword.at+len(kwWhen))
	default:
		err = f.errorf(line, keyword.at, "%q begins no line: want policy, lifetime, require or when", keyword.text)
	}
	f.lines = append(f.lines, statement{keyword.text, cells, comment})
	return err
}

// name reads "NAME [version N]".
func (f *file) name(line string, ws []word) ([]string, error) {
	if len(ws) == 0 {
		return nil, f.errorf(line, len(line), "want the policy's name")
	}
	if _, err := identity.ParseGroup(ws[0].text); err != nil {
		return nil, f.errorf(line, ws[0].at, `name: want letters, digits and "-" like a group's: %v`, err)
	}
	f.policy.Name = ws[0].text
	if len(ws) == 1 {
		return nameCells(f.policy), nil
	}
	if ws[1].text != kwVersion {
		return nil, f.errorf(line, ws[1].at, `%q: want "version" and a number, or nothing`, ws[1].text)
	}
	if len(ws) == 2 {
		return nil, f.errorf(line, len(line), "want the version's number")
	}
	n, err := strconv.Atoi(ws[2].text)
	if err != nil || n < 1 || strconv.Itoa(n) != ws[2].text {
		return nil, f.errorf(line, ws[2].at, "version %q: want a number from 1", ws[2].text)
	}
	f.policy.Version = n
	return nameCells(f.policy), f.rest(line, ws[3:])
}

// rest refuses words that are left over.
func (f *file) rest(line string, ws []word) error {
	if len(ws) > 0 {
		return f.errorf(line, ws[0].at, "%q does not belong here", ws[0].text)
	}
	return nil
}

// lifetime reads "full D", "short D" or both.
func (f *file) lifetime(line string, ws []word) ([]string, error) {
	given := map[string]bool{}
	for ; len(ws) > 0; ws = ws[2:] {
		which := ws[0]
		if which.text != kwFull && which.text != kwShort || given[which.text] {
			return nil, f.errorf(line, which.at, "%q: want full and short, each once and with its duration", which.text)
		}
		given[which.text] = true
		if len(ws) == 1 {
			return nil, f.errorf(line, len(line), "want a duration after %s", which.text)
		}
		d, err := duration(ws[1].text)
		if err != nil {
			return nil, f.errorf(line, ws[1].at, "%v", err)
		}
		if which.text == kwFull {
			f.policy.FullLifetime = d
		} else {
			f.policy.ShortLifetime = d
		}
	}
	if len(given) == 0 {
		return nil, f.errorf(line, len(line), "want full, short or both, each with its duration")
	}
	return lifetimeCells(f.policy), nil
}

// duration reads a duration that is more than none.
func duration(s string) (posture.Duration, error) {
	var d posture.Duration
	if err := d.UnmarshalText([]byte(s)); err != nil {
		return 0, err
	}
	if d <= 0 || time.Duration(d) > posture.MaxLifetime {
		return 0, fmt.Errorf("duration %q: want more than nothing, and at most %s", s, Text(posture.Duration(posture.MaxLifetime)))
	}
	return d, nil
}

// require reads "MEASURE GRADE [MAX-AGE] [grace]".
func (f *file) require(line string, ws []word) ([]string, error) {
	var q posture.Requirement
	if len(ws) < 2 {
		return nil, f.errorf(line, len(line), "want a measure and a grade")
	}
	id, err := measure.Parse(ws[0].text)
	if err != nil {
		return nil, f.errorf(line, ws[0].at, "%v%s", err, near(ws[0].text))
	}
	if first := f.seen[string(id)]; first > 0 {
		return nil, f.errorf(line, ws[0].at, "%s is already required on line %d", id, first)
	}
	f.seen[string(id)] = f.number
	q.Measure = id
	if q.Grade, err = measure.ParseGrade(ws[1].text); err != nil || q.Grade == measure.None {
		return nil, f.errorf(line, ws[1].at, "grade %q: want observed, attested, audited or claimed", ws[1].text)
	}
	ws = ws[2:]
	if len(ws) > 0 && ws[0].text != kwGrace {
		if q.MaxAge, err = duration(ws[0].text); err != nil {
			return nil, f.errorf(line, ws[0].at, `%v; or the word "grace"`, err)
		}
		ws = ws[1:]
	}
	if len(ws) > 0 && ws[0].text == kwGrace {
		q.GraceUnknown, ws = true, ws[1:]
	}
	f.policy.Require = append(f.policy.Require, q)
	return requireCells(q), f.rest(line, ws)
}

// near suggests a measure for one that does not exist: the one that shares the
// longest beginning, where that says something.
func near(s string) string {
	best, length := "", len("app.")
	for _, id := range measure.IDs() {
		n := 0
		for n < min(len(s), len(id)) && s[n] == id[n] {
			n++
		}
		if n > length {
			best, length = string(id), n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// when reads `EXPRESSION unmet|weak "REASON"`, and the comment after it.
func (f *file) when(line string, begin int) (cells []string, comment string, err error) {
	end := len(line)
	outside(line[begin:], func(part string, at int) bool {
		i := strings.IndexByte(part, '#')
		if i >= 0 {
			end = begin + at + i
		}
		return i < 0
	})
	comment = strings.TrimRight(line[end:], " ")
	body := strings.TrimRight(line[begin:end], " ")
	c, at, err := splitCondition(body)
	if err != nil {
		return nil, comment, f.errorf(line, begin+at, "%v", err)
	}
	if len(f.policy.Conditions) == posture.MaxConditions {
		return nil, comment, f.errorf(line, begin, "at most %d conditions are allowed", posture.MaxConditions)
	}
	first := begin + strings.Index(body, c.When)
	t, err := compile(c.When)
	var wrong *exprError
	switch {
	case errors.As(err, &wrong):
		column := utf8.RuneCountInString(line[:first]) + wrong.column
		return nil, comment, &Error{f.number, column + 1, wrong.text}
	case err != nil:
		return nil, comment, f.errorf(line, first, "%v", err)
	}
	f.policy.Conditions, f.tests = append(f.policy.Conditions, c), append(f.tests, t)
	return conditionCells(c), comment, nil
}

var errCondition = errors.New(`want an expression, unmet or weak, and a reason in quotes, as: when rows["app.debug"].verdict == "fail" unmet "the debug port is open"`)

// splitCondition takes a condition apart, or says what is wrong and where.
func splitCondition(body string) (c posture.Condition, at int, err error) {
	begin := -1 // of the last literal
	for i := 0; i < len(body); {
		if body[i] != '"' && body[i] != '\'' {
			i++
			continue
		}
		begin, i = i, pastLiteral(body, i)
		if i < len(body) {
			begin = -1
		}
	}
	if begin < 0 {
		return c, len(body), errCondition
	}
	if c.Reason, err = strconv.Unquote(body[begin:]); err != nil || body[begin] != '"' {
		return c, begin, errors.New("the reason is not a text in double quotes")
	}
	head := strings.TrimRight(body[:begin], " ")
	last := head[strings.LastIndexByte(head, ' ')+1:]
	if c.Then = posture.Standing(last); !slices.Contains([]posture.Standing{posture.Unmet, posture.Weak}, c.Then) {
		return c, len(head) - len(last), errCondition
	}
	if c.When = strings.TrimSpace(strings.TrimSuffix(head, last)); c.When == "" {
		return c, 0, errCondition
	}
	if err := (posture.Policy{Name: "p", Conditions: []posture.Condition{c}}).Check(); err != nil {
		_, text, _ := strings.Cut(err.Error(), "conditions[0]: ")
		return c, 0, errors.New(text)
	}
	return c, 0, nil
}
