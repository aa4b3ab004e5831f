package appraise_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/appraise"
	"holdfast/finding"
	"holdfast/measure"
)

func said(auditor string, at time.Time, rows ...finding.Row) appraise.Audit {
	return appraise.Audit{Auditor: auditor, Program: "holdfast 1.2.0", Time: at, Rows: rows}
}

func stack(v measure.Verdict, reason string) finding.Row {
	return finding.Row{Measure: measure.MemoryStack, Verdict: v, Applies: true, Reason: reason}
}

// TestAuditRows: who said what of the image that runs, and who counts.
func TestAuditRows(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	runs := appraise.Running{Grade: measure.Attested, Time: now}
	pass, fail, none := stack(measure.Pass, "canaries are called"), stack(measure.Fail, "STK-CANARY-01: no canaries"), stack(measure.Unknown, "no code")
	for name, c := range map[string]struct {
		audits []appraise.Audit
		want   measure.Verdict
		reason string
	}{
		"a pass":                     {[]appraise.Audit{said("lab", now, pass)}, measure.Pass, "auditor lab (holdfast 1.2.0, 2026-11-22T10:00:00Z): canaries"},
		"a fail":                     {[]appraise.Audit{said("lab", now, fail)}, measure.Fail, "STK-CANARY-01"},
		"an unknown":                 {[]appraise.Audit{said("lab", now, none)}, measure.Unknown, "no code"},
		"nothing of it":              {[]appraise.Audit{said("lab", now)}, measure.Unknown, "does not speak of it"},
		"a fail before a pass":       {[]appraise.Audit{said("lab", now, pass), said("other", now.Add(-time.Hour), fail)}, measure.Fail, "auditor other"},
		"a pass before an unknown":   {[]appraise.Audit{said("lab", now, none), said("other", now.Add(-time.Hour), pass)}, measure.Pass, "auditor other"},
		"the newer of two":           {[]appraise.Audit{said("lab", now, pass), said("other", now.Add(time.Hour), pass)}, measure.Pass, "auditor other"},
		"words that are no words":    {[]appraise.Audit{said("lab", now, stack(measure.Fail, "a\nb\x1b[2J"))}, measure.Fail, ": ab[2J"},
		"very many words":            {[]appraise.Audit{said("lab", now, stack(measure.Fail, strings.Repeat("ä", 500)))}, measure.Fail, "…"},
		"no words, and odd programs": {[]appraise.Audit{{Auditor: "lab", Program: "x\n", Time: now, Rows: []finding.Row{stack(measure.Pass, "")}}}, measure.Pass, "(x?, "},
	} {
		rows := appraise.AuditRows(runs, c.audits)
		if len(rows) != len(appraise.AuditedMeasures()) {
			t.Fatalf("%s: %d rows", name, len(rows))
		}
		grade := measure.Audited
		if c.want == measure.Unknown {
			grade = measure.None
		}
		if r := rows[0]; r.Measure != measure.MemoryStack || r.Verdict != c.want || r.Grade != grade || !r.Time.Equal(now) || !strings.Contains(r.Reason, c.reason) || len(r.Reason) > 500 {
			t.Errorf("%s: %+v, want %s %q", name, r, c.want, c.reason)
		}
	}
}

// TestAuditRowsNeedAttestation: without proof of what runs nobody has spoken
// of it.
func TestAuditRowsNeedAttestation(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	audits := []appraise.Audit{said("lab", now, stack(measure.Pass, ""))}
	for name, r := range map[string]appraise.Running{
		"doubt":          {Grade: measure.Attested, Time: now, Doubt: "the boot ROM is not known"},
		"only a claim":   {Grade: measure.Claimed, Time: now},
		"no grade":       {Time: now},
		"only an audit ": {Grade: measure.Audited, Time: now},
	} {
		if rows := appraise.AuditRows(r, audits); rows != nil {
			t.Errorf("%s: %v", name, rows)
		}
	}
	if rows := appraise.AuditRows(appraise.Running{Grade: measure.Attested, Time: now}, nil); rows != nil {
		t.Errorf("nobody said anything: %v", rows)
	}
}
