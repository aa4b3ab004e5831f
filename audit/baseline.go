package audit

import (
	"encoding/json"
	"fmt"

	"holdfast/finding"
	"holdfast/tuf"
)

// baselineSchema identifies the form of baselines.
const baselineSchema = "https://holdfast.example/schema/audit-baseline-1.json"

// Baseline is what was found before and is accepted for the time being: only
// what is new fails.
type Baseline struct {
	Schema   string  `json:"schema"`
	Findings []known `json:"findings"`
}

// known is a finding of the baseline. What stands beside the fingerprint is for
// readers.
type known struct {
	Fingerprint string           `json:"fingerprint"`
	Rule        string           `json:"rule"`
	Severity    finding.Severity `json:"severity"`
	Place       string           `json:"place"`
	Message     string           `json:"message"`
}

// NewBaseline accepts what a report found.
func NewBaseline(r *finding.Report) Baseline {
	b := Baseline{Schema: baselineSchema, Findings: []known{}}
	for _, f := range r.Findings {
		b.Findings = append(b.Findings, known{f.Fingerprint, f.Rule, f.Severity, f.Location.String(), f.Message})
	}
	return b
}

// ParseBaseline reads a baseline; file names it in errors.
func ParseBaseline(file string, text []byte) (Baseline, error) {
	var b Baseline
	if err := tuf.CheckStrict(text, maxSettings, 4); err != nil {
		return b, fmt.Errorf("baseline %s: %w", file, err)
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("baseline %s: %w", file, err)
	}
	if b.Schema != baselineSchema {
		return Baseline{}, fmt.Errorf("baseline %s: schema %.100q, want %s", file, b.Schema, baselineSchema)
	}
	return b, nil
}

// mark marks the findings that the baseline has.
func (b Baseline) mark(all []finding.Finding) {
	has := map[string]bool{}
	for _, k := range b.Findings {
		has[k.Fingerprint] = true
	}
	for i := range all {
		all[i].Known = has[all[i].Fingerprint]
	}
}
