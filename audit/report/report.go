// Package report writes what an audit found: as text for a terminal, as JSON
// (schema: finding/report.schema.json), as SARIF 2.1.0 for code hosts and
// editors, and as one HTML file with the checklist filled in.
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"holdfast/audit/checks"
	"holdfast/finding"
	"holdfast/measure"
)

// Format is a form of a report.
type Format string

// The forms.
const (
	Text  Format = "text"
	JSON  Format = "json"
	SARIF Format = "sarif"
	HTML  Format = "html"
)

// ParseFormat reads the name of a form.
func ParseFormat(s string) (Format, error) {
	if slices.Contains([]Format{Text, JSON, SARIF, HTML}, Format(s)) {
		return Format(s), nil
	}
	return "", fmt.Errorf("format %.20q: want text, json, sarif or html", s)
}

// Options say how a report is written.
type Options struct {
	Color   bool // of text: for a terminal
	Verbose bool // of text: with what is known, suppressed and not decided
}

// Write writes a report in a form.
func Write(w io.Writer, f Format, r *finding.Report, o Options) error {
	switch f {
	case JSON:
		return writeJSON(w, r)
	case SARIF:
		return writeJSON(w, sarif(r))
	case HTML:
		return writeHTML(w, r)
	}
	return writeText(w, r, o)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// group is the findings of one measure.
type group struct {
	Measure  measure.Measure
	Row      finding.Row
	Findings []finding.Finding
}

// groups returns the measures that the report speaks of: those with the
// gravest findings first.
func groups(r *finding.Report) []group {
	var all []group
	for _, row := range r.Rows {
		m, _ := measure.Find(row.Measure) // rows are of measures
		g := group{Measure: m, Row: row}
		for _, f := range r.Findings {
			if f.Measure == row.Measure {
				g.Findings = append(g.Findings, f)
			}
		}
		all = append(all, g)
	}
	slices.SortStableFunc(all, func(a, b group) int { return cmp.Compare(b.worst(), a.worst()) })
	return all
}

// worst ranks a group by its gravest finding.
func (g group) worst() int {
	worst := -1
	for _, f := range g.Findings {
		worst = max(worst, slices.Index(finding.Severities(), f.Severity))
	}
	return worst
}

// rule returns a rule of the catalogue; one that is not in it has its id alone.
func rule(id string) checks.Rule {
	r, ok := checks.Find(id)
	if !ok {
		return checks.Rule{ID: id, Title: id}
	}
	return r
}

// standing is how a row reads: pass, fail, unknown, or not applicable.
func standing(r finding.Row) string {
	if !r.Applies {
		return "not applicable"
	}
	return string(r.Verdict)
}
