package audit_test

import (
	"strings"
	"testing"

	"holdfast/audit"
)

func TestParseSettingsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"modulse: [mqtt]":                                                      "modulse",
		"fail_on: dreadful":                                                    "severity",
		"suppress: [{rule: A}]":                                                "reason",
		"suppress: [{reason: r, expires: 2027-01-01}]":                         "rule or a fingerprint",
		"suppress: [{rule: A, reason: r}]":                                     "expires",
		"suppress: [{rule: A, reason: r, expires: soon}]":                      "2027-01-31",
		"suppress: [{rule: A, reason: r, expires: 2027-01-01, file: '[a'}]":    "pattern",
		"suppress: [{rule: A, reason: r, expires: 2027-01-01, severity: low}]": "severity",
		"modules: mqtt":                                                        "mqtt",
	} {
		if _, err := audit.ParseSettings("s.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "s.yaml") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestParseSettings(t *testing.T) {
	s, err := audit.ParseSettings("s.yaml", []byte("modules: [mqtt, dns]\ncore: cortex-m4\nfail_on: high\nsuppress:\n  - rule: BUF-UNSAFE-01\n    file: third_party/*\n    reason: the vendor's, replaced in 2.0\n    expires: 2027-01-31\n"))
	if err != nil || len(s.Modules) != 2 || s.Core != "cortex-m4" || s.Suppress[0].Rule != "BUF-UNSAFE-01" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := audit.ParseSettings("s.yaml", nil); err != nil {
		t.Errorf("empty: %v", err)
	}
}

func TestParseBaselineRefuses(t *testing.T) {
	for _, text := range []string{"", "[]", `{"schema":"other"}`, `{"schema":"x","schema":"y"}`, `{"findings":1}`, strings.Repeat(`{"a":`, 10)} {
		if _, err := audit.ParseBaseline("b.json", []byte(text)); err == nil || !strings.Contains(err.Error(), "b.json") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add([]byte("modules: [mqtt]\nsuppress: [{rule: A, reason: r, expires: 2027-01-01}]"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = audit.ParseSettings("s.yaml", b) })
}

func FuzzParseBaseline(f *testing.F) {
	f.Add([]byte(`{"schema":"https://holdfast.example/schema/audit-baseline-1.json","findings":[]}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = audit.ParseBaseline("b.json", b) })
}
