package appraise

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/finding"
	"holdfast/measure"
)

// Audit is what a registered auditor said of an image, in a statement that was
// verified.
type Audit struct {
	Auditor string // its name on this hub
	Program string // name and version of the auditor's program
	Time    time.Time
	Rows    []finding.Row // its verdicts, one for each measure that it speaks of
}

// AuditedMeasures returns the measures that statements about an image prove.
func AuditedMeasures() []measure.ID {
	return []measure.ID{measure.MemoryStack, measure.MemoryBuffers, measure.MemoryNoExecRAM, measure.AppCompiler,
		measure.AppAlignment, measure.AppDebug, measure.AppUnusedFeatures, measure.MonitorChecklist}
}

// AuditRows judges what runs by what auditors said of its image, one row for
// each of AuditedMeasures. They are nil where no hardware root signed which
// image runs, or nobody said anything of it. Of several auditors a fail counts
// before a pass and a pass before an unknown, then the newer statement. A row
// has the time of the evidence that shows the image: its reason tells when the
// image was judged.
func AuditRows(r Running, audits []Audit) []measure.Row {
	if r.Doubt != "" || !r.Grade.Meets(measure.Attested) || len(audits) == 0 {
		return nil
	}
	rows := make([]measure.Row, 0, len(AuditedMeasures()))
	for _, id := range AuditedMeasures() {
		rows = append(rows, auditRow(id, r.Time, audits))
	}
	return rows
}

func auditRow(id measure.ID, at time.Time, audits []Audit) measure.Row {
	best := slices.MaxFunc(audits, func(a, b Audit) int {
		return cmp.Or(cmp.Compare(weight(a.row(id).Verdict), weight(b.row(id).Verdict)), a.Time.Compare(b.Time), cmp.Compare(b.Auditor, a.Auditor))
	})
	said := best.row(id)
	row := measure.Row{Measure: id, Verdict: said.Verdict, Grade: measure.Audited, Time: at,
		Reason: fmt.Sprintf("auditor %s (%s, %s): %s", best.Auditor, clean(best.Program), best.Time.UTC().Format(time.RFC3339), reasonOf(said))}
	if said.Verdict == measure.Unknown {
		row.Grade = measure.None
	}
	return row
}

// row returns the verdict on a measure. What the auditor did not judge is
// unknown.
func (a Audit) row(id measure.ID) finding.Row {
	i := slices.IndexFunc(a.Rows, func(r finding.Row) bool { return r.Measure == id })
	if i < 0 {
		return finding.Row{Measure: id, Verdict: measure.Unknown, Reason: "the audit does not speak of it"}
	}
	return a.Rows[i]
}

// weight orders verdicts as posture does when it combines sources.
func weight(v measure.Verdict) int {
	return slices.Index([]measure.Verdict{measure.Unknown, measure.Pass, measure.Fail}, v)
}

// maxSaid bounds what a reason repeats of an auditor's words, in bytes.
const maxSaid = 300

// reasonOf is an auditor's reason as one line of text. It begins with the rule
// that decided, which is the first that fails.
func reasonOf(r finding.Row) string {
	s := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '\uFFFD' {
			return -1
		}
		return c
	}, r.Reason)
	if len(s) > maxSaid {
		s = strings.ToValidUTF8(s[:maxSaid], "") + "…"
	}
	return cmp.Or(s, "it says no more")
}
