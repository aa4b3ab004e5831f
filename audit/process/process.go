// Package process takes what code cannot show: evidence of how a firmware was
// made. Fuzzing, static analysis, memory checkers, walk-throughs, certification
// and clean builds each have a file, which names the source revision that it is
// about. Evidence of another revision, or of none, leaves its bullets unknown.
package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/audit/checks"
	"holdfast/finding"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/tuf"
)

// MaxSize is the largest piece of evidence in bytes; MaxDepth is how deep its
// JSON may nest.
const (
	MaxSize  = 64 << 20
	MaxDepth = 64
)

// Kind is what a piece of evidence shows.
type Kind string

// The kinds of evidence.
const (
	Fuzz          Kind = "fuzz"          // fuzzing found nothing that is left
	Analysis      Kind = "analysis"      // static analysis, SARIF 2.1.0
	Memory        Kind = "memory"        // tests under a memory checker or sanitizer
	Review        Kind = "review"        // a walk-through of the code
	Certification Kind = "certification" // of the product or the code it is made of
	Build         Kind = "build"         // a build's log: no warnings
)

// kinds lists what each kind speaks for, and how it is judged.
var kinds = map[Kind]struct {
	measure measure.ID
	bullets []string
	judge   func(b []byte, d document, now time.Time) (measure.Verdict, string)
}{
	Fuzz:          {measure.MonitorChecklist, []string{"take.fuzzing"}, judgeFuzz},
	Analysis:      {measure.MonitorChecklist, []string{"take.static-analysis"}, judgeSARIF},
	Memory:        {measure.MemoryStack, []string{"take.memory-checking"}, judgeMemory},
	Review:        {measure.MonitorChecklist, []string{"take.code-review", "avoid.obscurity"}, judgeReview},
	Certification: {measure.MonitorChecklist, []string{"take.certified-code"}, judgeCertificate},
	Build:         {measure.AppCompiler, []string{"take.clean-builds"}, judgeBuild},
}

// Kinds returns the kinds, by name.
func Kinds() []Kind {
	return []Kind{Analysis, Build, Certification, Fuzz, Memory, Review}
}

// ParseKind reads a kind.
func ParseKind(s string) (Kind, error) {
	if _, ok := kinds[Kind(s)]; !ok {
		return "", fmt.Errorf("evidence %.32q: want one of %v", s, Kinds())
	}
	return Kind(s), nil
}

// Piece is a piece of evidence as it was given.
type Piece struct {
	Kind Kind
	File string
	Data []byte
}

// Bullets returns the bullets that a kind speaks for.
func (k Kind) Bullets() []string { return slices.Clone(kinds[k].bullets) }

// Judge reads a piece and returns what it shows of a source revision, for the
// rows of the report and for the statement.
func Judge(p Piece, revision string, now time.Time) (checks.Grounds, finding.Evidence) {
	k := kinds[p.Kind]
	verdict, reason := p.judge(revision, now)
	g := checks.Grounds{By: "evidence:" + string(p.Kind), Measure: k.measure, Bullets: k.bullets, Verdict: verdict, Reason: reason, Applies: true}
	return g, finding.Evidence{Kind: string(p.Kind), File: p.File, SHA256: identity.Sum(p.Data), Verdict: verdict, Reason: reason}
}

// Unsigned returns what a piece shows that nobody signs for: nothing.
func Unsigned(p Piece) checks.Grounds {
	k := kinds[p.Kind]
	return checks.Grounds{By: "evidence:" + string(p.Kind), Measure: k.measure, Bullets: k.bullets, Verdict: measure.Unknown,
		Reason: "the evidence was given and is not signed: sign it with the report (--attest)", Applies: true}
}

func (p Piece) judge(revision string, now time.Time) (measure.Verdict, string) {
	if len(p.Data) > MaxSize {
		return measure.Unknown, fmt.Sprintf("%s: %d bytes: want %d at most", p.File, len(p.Data), MaxSize)
	}
	d, err := p.read()
	if err == nil {
		err = d.about(revision)
	}
	if err != nil {
		return measure.Unknown, fmt.Sprintf("%s: %v", p.File, err)
	}
	return kinds[p.Kind].judge(p.Data, d, now)
}

// document is a piece of evidence in our own form, and what others' forms have
// in common with it.
type document struct {
	Kind      Kind      `json:"kind"`
	Revision  string    `json:"revision"` // of the source
	Tool      string    `json:"tool"`
	Targets   []target  `json:"targets"`   // of fuzzing
	Tests     int       `json:"tests"`     // under a memory checker
	Errors    int       `json:"errors"`    // that it saw
	Reviewers []string  `json:"reviewers"` // of a walk-through
	Open      int       `json:"open"`      // its findings that are not mended
	Scheme    string    `json:"scheme"`    // of a certification
	Expires   time.Time `json:"expires"`

	revisions []string // that SARIF or a log names
}

// target is what was fuzzed.
type target struct {
	Name       string  `json:"name"`
	Executions uint64  `json:"executions"`
	Seconds    float64 `json:"seconds"`
	Crashes    int     `json:"crashes"` // that are not mended
}

func (p Piece) read() (document, error) {
	d := document{Kind: p.Kind}
	if p.Kind == Build {
		d.revisions = strings.FieldsFunc(string(p.Data), func(r rune) bool {
			return !strings.ContainsRune("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_", r)
		})
		return d, nil
	}
	if err := tuf.CheckStrict(withoutMark(p.Data), MaxSize, MaxDepth); err != nil && p.Kind != Analysis {
		return d, err
	}
	if p.Kind == Analysis {
		s, err := readSARIF(p.Data)
		d.revisions = s.revisions()
		return d, err
	}
	if err := json.Unmarshal(p.Data, &d); err != nil {
		return d, err
	}
	if d.Kind != p.Kind {
		return d, fmt.Errorf("it is evidence of %.32q, not of %s", d.Kind, p.Kind)
	}
	d.revisions = []string{d.Revision}
	return d, nil
}

// withoutMark drops a byte order mark, which some tools write.
func withoutMark(b []byte) []byte {
	if len(b) >= 3 && b[0] == 0xef && b[1] == 0xbb && b[2] == 0xbf {
		return b[3:]
	}
	return b
}

// about says why a document is not about a revision.
func (d document) about(revision string) error {
	switch {
	case revision == "":
		return errors.New("the revision of the source is not given (--revision)")
	case slices.Contains(d.revisions, revision):
		return nil
	case d.Revision != "":
		return fmt.Errorf("it is about revision %.80q, not %.80q", d.Revision, revision)
	}
	return fmt.Errorf("it does not name revision %.80q", revision)
}

func judgeFuzz(_ []byte, d document, _ time.Time) (measure.Verdict, string) {
	if len(d.Targets) == 0 {
		return measure.Unknown, "no target was fuzzed"
	}
	var runs uint64
	for _, t := range d.Targets {
		runs += t.Executions
		switch {
		case t.Crashes > 0:
			return measure.Fail, fmt.Sprintf("fuzz target %.80s has %d crashes that are not mended", t.Name, t.Crashes)
		case t.Executions == 0:
			return measure.Unknown, fmt.Sprintf("fuzz target %.80s never ran", t.Name)
		}
	}
	return measure.Pass, fmt.Sprintf("%d targets fuzzed %d times with %.40s, no crash left", len(d.Targets), runs, d.Tool)
}

func judgeMemory(_ []byte, d document, _ time.Time) (measure.Verdict, string) {
	switch {
	case d.Errors > 0:
		return measure.Fail, fmt.Sprintf("%.40s saw %d errors", d.Tool, d.Errors)
	case d.Tests == 0 || d.Tool == "":
		return measure.Unknown, "no test ran under a memory checker"
	}
	return measure.Pass, fmt.Sprintf("%d tests ran under %.40s without an error", d.Tests, d.Tool)
}

func judgeReview(_ []byte, d document, _ time.Time) (measure.Verdict, string) {
	switch {
	case len(d.Reviewers) == 0:
		return measure.Unknown, "nobody is named who walked through the code"
	case d.Open > 0:
		return measure.Fail, fmt.Sprintf("%d findings of the walk-through are not mended", d.Open)
	}
	return measure.Pass, fmt.Sprintf("walked through by %d, nothing left open", len(d.Reviewers))
}

func judgeCertificate(_ []byte, d document, now time.Time) (measure.Verdict, string) {
	switch {
	case d.Scheme == "":
		return measure.Unknown, "no scheme is named"
	case !d.Expires.IsZero() && now.After(d.Expires):
		return measure.Fail, fmt.Sprintf("the certification (%.60s) ended on %s", d.Scheme, d.Expires.Format(time.DateOnly))
	}
	return measure.Pass, fmt.Sprintf("certified: %.60s", d.Scheme)
}

// judgeBuild looks for what compilers print of warnings and errors.
func judgeBuild(b []byte, _ document, _ time.Time) (measure.Verdict, string) {
	var lines, bad int
	first := ""
	for line := range strings.Lines(string(b)) {
		lines++
		if strings.Contains(line, "warning: ") || strings.Contains(line, "error: ") || strings.Contains(line, "Warning[") || strings.Contains(line, "undefined reference") {
			if bad++; first == "" {
				first = strings.TrimSpace(line)
			}
		}
	}
	switch {
	case bad > 0:
		return measure.Fail, fmt.Sprintf("%d warnings and errors, the first: %.120s", bad, first)
	case lines < 2:
		return measure.Unknown, "the log shows no build"
	}
	return measure.Pass, fmt.Sprintf("%d lines without a warning", lines)
}

// severities of SARIF levels that count as found.
func counts(level string) bool { return level == "error" || level == "warning" || level == "" }

func judgeSARIF(b []byte, _ document, _ time.Time) (measure.Verdict, string) {
	s, err := readSARIF(b)
	if err != nil {
		return measure.Unknown, err.Error()
	}
	if len(s.Runs) == 0 {
		return measure.Unknown, "no analysis ran"
	}
	open, tools := 0, []string{}
	for _, r := range s.Runs {
		tools = append(tools, r.Tool.Driver.Name)
		for _, res := range r.Results {
			if counts(res.Level) && len(res.Suppressions) == 0 {
				open++
			}
		}
	}
	if open > 0 {
		return measure.Fail, fmt.Sprintf("%d results of %.80s are neither mended nor suppressed", open, strings.Join(tools, ", "))
	}
	return measure.Pass, fmt.Sprintf("%.80s found nothing that is left", strings.Join(tools, ", "))
}

// sarif is what is read of a SARIF 2.1.0 log.
type sarif struct {
	Version string `json:"version"`
	Runs    []struct {
		Tool struct {
			Driver struct {
				Name string `json:"name"`
			} `json:"driver"`
		} `json:"tool"`
		Provenance []struct {
			Revision string `json:"revisionId"`
		} `json:"versionControlProvenance"`
		Results []struct {
			Level        string            `json:"level"`
			Suppressions []json.RawMessage `json:"suppressions"`
		} `json:"results"`
	} `json:"runs"`
}

func readSARIF(b []byte) (sarif, error) {
	var s sarif
	if err := json.Unmarshal(withoutMark(b), &s); err != nil {
		return s, fmt.Errorf("SARIF: %w", err)
	}
	if s.Version != "2.1.0" {
		return s, fmt.Errorf("SARIF version %.20q: want 2.1.0", s.Version)
	}
	return s, nil
}

// revisions returns the revisions that every run names.
func (s sarif) revisions() []string {
	var all []string
	for i, r := range s.Runs {
		var own []string
		for _, p := range r.Provenance {
			if i == 0 || slices.Contains(all, p.Revision) {
				own = append(own, p.Revision)
			}
		}
		all = own
	}
	return all
}

// Info says in a line what a kind of evidence is, for help texts.
func (k Kind) Info() string {
	return map[Kind]string{
		Fuzz: "fuzzing, as JSON", Analysis: "static analysis, as SARIF 2.1.0", Memory: "tests under a memory checker, as JSON",
		Review: "a walk-through, as JSON", Certification: "a certification, as JSON", Build: "the log of a build",
	}[k]
}
