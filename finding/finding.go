// Package finding has the words of the firmware audit: what a rule found,
// where, how bad and how sure, what became of each bullet and measure, and the
// report that holds them, in its JSON form (schema: report.schema.json).
package finding

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"holdfast/identity"
	"holdfast/measure"
)

// Severity is how bad a finding is.
type Severity string

// The severities, from the least.
const (
	Info     Severity = "info"
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// Severities returns the severities, the least first.
func Severities() []Severity { return []Severity{Info, Low, Medium, High, Critical} }

// ParseSeverity reads a severity.
func ParseSeverity(s string) (Severity, error) {
	if i := slices.Index(Severities(), Severity(s)); i >= 0 {
		return Severities()[i], nil
	}
	return "", fmt.Errorf("severity %.32q: want info, low, medium, high or critical", s)
}

// Compare returns -1, 0 or 1 when s is below, at or above t.
func (s Severity) Compare(t Severity) int {
	return cmp.Compare(slices.Index(Severities(), s), slices.Index(Severities(), t))
}

// Confidence is how sure a rule is of its finding.
type Confidence string

// The confidences.
const (
	Certain Confidence = "certain" // a fact of the input
	Firm    Confidence = "firm"    // could be otherwise only by design
	Guess   Confidence = "guess"   // a pattern that is often this
)

// Location is where in the input something is. Offset and Address are -1
// where they mean nothing; Line counts from 1, 0 is none.
type Location struct {
	File    string `json:"file"`           // as it was given, with "!" before a member of an archive
	Offset  int64  `json:"offset"`         // bytes in the file
	Address int64  `json:"address"`        // in the device's memory
	Line    int    `json:"line,omitempty"` // of source text
	Symbol  string `json:"symbol,omitempty"`
}

// InFile is a location that is a file and no more.
func InFile(file string) Location { return Location{File: file, Offset: -1, Address: -1} }

// AtLine is a location in source text.
func AtLine(file string, line int) Location {
	return Location{File: file, Offset: -1, Address: -1, Line: line}
}

// String returns "file:12", "file+0x40" or "file @0x8000 (main)".
func (l Location) String() string {
	s := l.File
	switch {
	case l.Line > 0:
		s += ":" + strconv.Itoa(l.Line)
	case l.Address >= 0:
		s += fmt.Sprintf(" @%#x", l.Address)
	case l.Offset >= 0:
		s += fmt.Sprintf("+%#x", l.Offset)
	}
	if l.Symbol != "" {
		s += " (" + l.Symbol + ")"
	}
	return s
}

// Finding is one thing that a rule found wrong.
type Finding struct {
	Rule       string     `json:"rule"` // "TX-STACK-01"
	Measure    measure.ID `json:"measure"`
	Bullet     string     `json:"bullet,omitempty"` // of the checklist: "avoid.rand"
	Severity   Severity   `json:"severity"`
	Confidence Confidence `json:"confidence"`
	Location
	Message     string `json:"message"`              // secrets are masked
	Fix         string `json:"fix"`                  // how to mend it
	Fingerprint string `json:"fingerprint"`          // the same in the next build, for baselines
	Known       bool   `json:"known,omitempty"`      // in the baseline
	Suppressed  string `json:"suppressed,omitempty"` // the reason of the suppression that covers it
}

// Result is what one rule came to on the whole input.
type Result struct {
	Rule    string            `json:"rule"`
	Verdict measure.Verdict   `json:"verdict"`         // Unknown: it could not decide
	Reason  string            `json:"reason"`          // what it saw, or what it lacked
	Applies bool              `json:"applies"`         // false: nothing of its kind is in the input
	Facts   map[string]string `json:"facts,omitempty"` // what it rests on
}

// Row is the verdict on a measure or on a bullet of the checklist.
type Row struct {
	Measure measure.ID      `json:"measure"`
	Bullet  string          `json:"bullet,omitempty"`
	Verdict measure.Verdict `json:"verdict"`
	Applies bool            `json:"applies"`
	Reason  string          `json:"reason"`
	By      []string        `json:"by,omitempty"` // rules and evidence that it rests on
}

// Input is a file that was judged.
type Input struct {
	File   string          `json:"file"`
	Kind   string          `json:"kind"` // "elf", "hex", "srec", "uf2", "mcuboot", "binary", "map", "source", "config", ...
	Size   int64           `json:"size"`
	SHA256 identity.Digest `json:"sha256"`
	Arch   string          `json:"arch,omitempty"`
}

// Image is what a device would measure that runs an input: the digest that it
// attests, and whether the auditor has shown that the input's loadable
// segments are its payload.
type Image struct {
	File     string          `json:"file"`
	Measured identity.Digest `json:"measured"`
	Matches  string          `json:"matches,omitempty"` // the input whose segments it carries; empty: not shown
}

// Report is all that an audit found. It has no time in it: the same input gives
// the same report.
type Report struct {
	Schema   string     `json:"schema"`             // SchemaID
	Auditor  string     `json:"auditor"`            // version of the program
	Rules    string     `json:"rules"`              // digest of the rule set
	Revision string     `json:"revision,omitempty"` // of the source
	Inputs   []Input    `json:"inputs"`
	Images   []Image    `json:"images,omitempty"`
	Findings []Finding  `json:"findings"`
	Results  []Result   `json:"results"` // one for each rule
	Rows     []Row      `json:"rows"`    // one for each measure
	Bullets  []Row      `json:"bullets"` // one for each bullet
	Evidence []Evidence `json:"evidence,omitempty"`
	Troubles []Trouble  `json:"troubles,omitempty"`
}

// Evidence is a piece of evidence of how the firmware was made.
type Evidence struct {
	Kind    string          `json:"kind"` // "fuzz", "analysis", "build", ...
	File    string          `json:"file"`
	SHA256  identity.Digest `json:"sha256"`
	Verdict measure.Verdict `json:"verdict"`
	Reason  string          `json:"reason"`
}

// Trouble is a part of the input that could not be read.
type Trouble struct {
	Location
	Message string `json:"message"`
}

// SchemaID identifies the schema of reports.
const SchemaID = "https://holdfast.example/schema/audit-report-1.json"

// Counts returns how many findings of each severity there are, without those
// that are suppressed.
func (r *Report) Counts() map[Severity]int {
	n := map[Severity]int{}
	for _, f := range r.Findings {
		if f.Suppressed == "" {
			n[f.Severity]++
		}
	}
	return n
}

// New returns how many findings at or above a severity are neither in the
// baseline nor suppressed.
func (r *Report) New(least Severity) int {
	n := 0
	for _, f := range r.Findings {
		if !f.Known && f.Suppressed == "" && f.Severity.Compare(least) >= 0 {
			n++
		}
	}
	return n
}

// Sort puts findings into the order of reports: the gravest first, then by
// measure, rule and place.
func Sort(all []Finding) {
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(b.Severity.Compare(a.Severity), cmp.Compare(a.Measure, b.Measure), cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Offset, b.Offset),
			cmp.Compare(a.Address, b.Address), cmp.Compare(a.Message, b.Message))
	})
}
