package report

import (
	"net/url"
	"strings"

	"holdfast/audit/checks"
	"holdfast/finding"
)

// The parts of SARIF 2.1.0 (OASIS Standard, errata 01) that are written.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Results     []sarifResult     `json:"results"`
		Artifacts   []sarifArtifact   `json:"artifacts"`
		Invocations []sarifInvocation `json:"invocations"`
		ColumnKind  string            `json:"columnKind"`
		Properties  map[string]any    `json:"properties,omitempty"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name            string      `json:"name"`
		SemanticVersion string      `json:"version"`
		Rules           []sarifRule `json:"rules"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifRule struct {
		ID      string         `json:"id"`
		Name    string         `json:"name"`
		Short   sarifText      `json:"shortDescription"`
		Full    sarifText      `json:"fullDescription"`
		Help    sarifText      `json:"help"`
		Default sarifDefault   `json:"defaultConfiguration"`
		Props   map[string]any `json:"properties"`
	}
	sarifDefault struct {
		Level string `json:"level"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
		Baseline     string            `json:"baselineState,omitempty"`
		Suppressions []sarifSuppressed `json:"suppressions,omitempty"`
		Properties   map[string]any    `json:"properties"`
	}
	sarifSuppressed struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifLogical struct {
		Name string `json:"name"`
		Kind string `json:"kind"`
	}
	sarifPhysical struct {
		Artifact sarifPlace    `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
		Address  *sarifAddress `json:"address,omitempty"`
	}
	sarifPlace struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine  int    `json:"startLine,omitempty"`
		ByteOffset *int64 `json:"byteOffset,omitempty"`
	}
	sarifAddress struct {
		Absolute int64 `json:"absoluteAddress"`
	}
	sarifArtifact struct {
		Location sarifPlace        `json:"location"`
		Length   int64             `json:"length"`
		Hashes   map[string]string `json:"hashes"`
	}
	sarifInvocation struct {
		Successful    bool          `json:"executionSuccessful"`
		Notifications []sarifNotice `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotice struct {
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
)

// sarif returns a report in SARIF's form.
func sarif(r *finding.Report) sarifLog {
	run := sarifRun{
		Tool:    sarifTool{sarifDriver{Name: "holdfast audit", SemanticVersion: r.Auditor, Rules: []sarifRule{}}},
		Results: []sarifResult{}, Artifacts: []sarifArtifact{}, ColumnKind: "unicodeCodePoints",
		Invocations: []sarifInvocation{{Successful: true}},
		Properties:  map[string]any{"rows": r.Rows, "bullets": r.Bullets},
	}
	at := map[string]int{}
	for i, res := range r.Results {
		at[res.Rule] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRuleOf(rule(res.Rule)))
	}
	for _, f := range r.Findings {
		run.Results = append(run.Results, sarifResultOf(f, at[f.Rule]))
	}
	for _, i := range r.Inputs {
		run.Artifacts = append(run.Artifacts, sarifArtifact{sarifPlace{uri(i.File)}, i.Size, map[string]string{"sha-256": i.SHA256.String()}})
	}
	for _, t := range r.Troubles {
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotice{"warning", sarifText{t.Message}, []sarifLocation{place(t.Location)}})
	}
	return sarifLog{"https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", "2.1.0", []sarifRun{run}}
}

func sarifRuleOf(r checks.Rule) sarifRule {
	return sarifRule{
		ID: r.ID, Name: strings.ReplaceAll(r.ID, "-", ""), Short: sarifText{r.Title}, Full: sarifText{r.Title + ". " + r.Why}, Help: sarifText{r.Fix},
		Default: sarifDefault{level(r.Severity)},
		Props: map[string]any{"measure": r.Measure, "bullets": r.Bullets, "section": r.Section, "tags": append([]string{"security"}, r.CWE...),
			"security-severity": score(r.Severity)},
	}
}

func sarifResultOf(f finding.Finding, index int) sarifResult {
	out := sarifResult{
		RuleID: f.Rule, RuleIndex: index, Level: level(f.Severity), Message: sarifText{f.Message}, Locations: []sarifLocation{place(f.Location)},
		Fingerprints: map[string]string{"holdfast/v1": f.Fingerprint}, Properties: map[string]any{"severity": f.Severity, "confidence": f.Confidence, "measure": f.Measure},
	}
	if f.Known {
		out.Baseline = "unchanged"
	}
	if f.Suppressed != "" {
		out.Suppressions = []sarifSuppressed{{"external", f.Suppressed}}
	}
	return out
}

func place(l finding.Location) sarifLocation {
	at := sarifLocation{Physical: sarifPhysical{Artifact: sarifPlace{uri(l.File)}}}
	switch {
	case l.Line > 0:
		at.Physical.Region = &sarifRegion{StartLine: l.Line}
	case l.Offset >= 0:
		at.Physical.Region = &sarifRegion{ByteOffset: &l.Offset}
	}
	if l.Address >= 0 {
		at.Physical.Address = &sarifAddress{l.Address}
	}
	if l.Symbol != "" {
		at.Logical = []sarifLogical{{l.Symbol, "function"}}
	}
	return at
}

// uri writes a file's name as a URI reference.
func uri(file string) string {
	return (&url.URL{Path: strings.ToValidUTF8(file, "?")}).String()
}

// level is SARIF's word for a severity.
func level(s finding.Severity) string {
	switch s {
	case finding.Critical, finding.High:
		return "error"
	case finding.Medium:
		return "warning"
	}
	return "note"
}

// score is a severity in the numbers that code hosts sort by.
func score(s finding.Severity) string {
	return map[finding.Severity]string{finding.Critical: "9.5", finding.High: "8.0", finding.Medium: "5.5", finding.Low: "3.0", finding.Info: "0.0"}[s]
}
