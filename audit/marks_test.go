package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"holdfast/finding"
)

func found() []finding.Finding {
	return []finding.Finding{
		{Rule: "A-1", Fingerprint: "f1", Severity: finding.High, Location: finding.InFile("src/a.c"), Message: "one"},
		{Rule: "A-1", Fingerprint: "f2", Severity: finding.Low, Location: finding.Location{File: "lib.a!b.o", Symbol: "main"}, Message: "two"},
		{Rule: "B-1", Fingerprint: "f3", Severity: finding.Critical, Location: finding.InFile("app.elf"), Message: "three"},
	}
}

func TestSuppressions(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, text string
		marked     string // of each finding whether it is suppressed
		trouble    string
	}{
		{"by rule", "{rule: A-1, reason: r, expires: 2027-01-01}", "yyn", ""},
		{"by file", "{rule: A-1, file: '*.o', reason: r, expires: 2027-01-01}", "nyn", ""},
		{"by whole name", "{rule: A-1, file: 'src/*', reason: r, expires: 2027-01-01}", "ynn", ""},
		{"by symbol", "{rule: A-1, symbol: main, reason: r, expires: 2027-01-01}", "nyn", ""},
		{"by fingerprint", "{fingerprint: f3, reason: r, expires: 2027-01-01}", "nny", ""},
		{"on its last day", "{rule: B-1, reason: r, expires: 2026-11-22}", "nny", ""},
		{"expired", "{rule: B-1, reason: r, expires: 2026-11-21}", "nnn", "expired"},
		{"of nothing", "{rule: C-1, reason: r, expires: 2027-01-01}", "nnn", "covers nothing"},
	} {
		s, err := ParseSettings("s.yaml", []byte("suppress: ["+c.text+"]"))
		if err != nil {
			t.Fatal(c.name, err)
		}
		all, marked := found(), ""
		troubles := s.suppress(all, now)
		for _, f := range all {
			marked += map[bool]string{true: "y", false: "n"}[f.Suppressed != ""]
		}
		if marked != c.marked {
			t.Errorf("%s: %s, want %s", c.name, marked, c.marked)
		}
		if (len(troubles) > 0) != (c.trouble != "") || c.trouble != "" && !strings.Contains(troubles[0].Message, c.trouble) {
			t.Errorf("%s: troubles %v", c.name, troubles)
		}
	}
}

func TestBaselineKnowsWhatItHas(t *testing.T) {
	r := &finding.Report{Findings: found()[:2]}
	text, err := json.Marshal(NewBaseline(r))
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseBaseline("b.json", text)
	if err != nil {
		t.Fatal(err)
	}
	r.Findings = found()
	b.mark(r.Findings)
	if r.New(finding.Info) != 1 || !r.Findings[0].Known || r.Findings[2].Known {
		t.Errorf("%+v", r.Findings)
	}
	r.Findings[2].Suppressed = "r"
	if r.New(finding.Info) != 0 || r.Counts()[finding.Critical] != 0 {
		t.Error("what is suppressed counts")
	}
}
