// Package checks is the catalogue of the audit: each rule with what it looks
// for, why, what it belongs to and how to mend what it finds, and the function
// that judges a subject by it. A file holds the rules of one theme.
//
// A rule that finds something fails. One that has seen enough to be sure
// passes, and says what it saw. One that has not says unknown and what it
// lacked: never pass. One that has nothing of its kind before it does not
// apply.
package checks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// Rule is one rule of the catalogue.
type Rule struct {
	ID         string     // "ENT-RAND-01": theme, subject, number; never given to another rule
	Measure    measure.ID // that a failure fails
	Bullets    []string   // of the checklist that it speaks for; the first is named in findings
	Severity   finding.Severity
	Confidence finding.Confidence
	Title      string   // what is wrong when it fails, in a few words
	Why        string   // why that matters
	Section    string   // of the source that demands it
	CWE        []string // "CWE-338"
	Fix        string   // how to mend it
	Bad, Good  string   // an example of each, a line or a few
	// Judge looks at the subject and tells the ruling what it sees. It changes
	// nothing of the subject and may run beside other rules.
	Judge func(*subject.Subject, *Ruling)

	// look, of rules over sources, looks at one of them: Judge is then made of it.
	look func(code, *Ruling)
}

// All returns the catalogue, by id.
func All() []Rule {
	all := slices.Concat(goRules(), entropyRules(), macroRules(), sourceRules(), buildRules(), memoryRules(), stackRules(), bufferRules(), debugRules(), watchdogRules(), versionRules(), secretRules(), certificateRules(),
		algorithmRules(), tlsProgramRules(), networkRules())
	slices.SortFunc(all, func(a, b Rule) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return all
}

// Find returns the rule with an id.
func Find(id string) (Rule, bool) {
	all := All()
	i := slices.IndexFunc(all, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return Rule{}, false
	}
	return all[i], true
}

// Ruling collects what one rule comes to.
type Ruling struct {
	rule     Rule
	findings []finding.Finding
	verdict  measure.Verdict // "" until something is said
	reason   string
	facts    map[string]string
	idle     bool // nothing of the rule's kind is there
}

// Found tells of something wrong, with the rule's severity and confidence. The
// message names no addresses and lines, which are in the location: baselines
// go by it. It shows no secret but masked (Mask).
func (r *Ruling) Found(at finding.Location, format string, a ...any) {
	r.FoundAs(r.rule.Severity, r.rule.Confidence, at, format, a...)
}

// FoundAs is Found with a severity and a confidence of its own.
func (r *Ruling) FoundAs(s finding.Severity, c finding.Confidence, at finding.Location, format string, a ...any) {
	f := finding.Finding{
		Rule: r.rule.ID, Measure: r.rule.Measure, Severity: s, Confidence: c,
		Location: at, Message: fmt.Sprintf(format, a...), Fix: r.rule.Fix,
	}
	if len(r.rule.Bullets) > 0 {
		f.Bullet = r.rule.Bullets[0]
	}
	r.findings = append(r.findings, f)
}

// Pass says that the rule has seen enough to be sure, and what it saw. A
// finding counts more, and so does what is not known of another part.
func (r *Ruling) Pass(format string, a ...any) {
	if r.verdict == "" {
		r.verdict, r.reason = measure.Pass, fmt.Sprintf(format, a...)
	}
}

// Unknown says what the rule lacked to decide. A finding counts more.
func (r *Ruling) Unknown(format string, a ...any) {
	if r.verdict != measure.Unknown {
		r.verdict, r.reason = measure.Unknown, fmt.Sprintf(format, a...)
	}
}

// Idle says that nothing of the rule's kind is in the subject.
func (r *Ruling) Idle(format string, a ...any) {
	if r.verdict == "" {
		r.idle, r.reason = true, fmt.Sprintf(format, a...)
	}
}

// Fact notes something that the ruling rests on.
func (r *Ruling) Fact(name, format string, a ...any) {
	if r.facts == nil {
		r.facts = map[string]string{}
	}
	r.facts[name] = fmt.Sprintf(format, a...)
}

// result returns what the rule came to.
func (r *Ruling) result() finding.Result {
	out := finding.Result{Rule: r.rule.ID, Verdict: r.verdict, Reason: r.reason, Applies: true, Facts: r.facts}
	graver := func(f finding.Finding) bool { return f.Severity != finding.Info }
	switch {
	case slices.ContainsFunc(r.findings, graver):
		out.Verdict, out.Reason = measure.Fail, r.findings[slices.IndexFunc(r.findings, graver)].Message
		if n := len(r.findings); n > 1 {
			out.Reason += fmt.Sprintf(" (and %d more)", n-1)
		}
	case r.verdict == "" && r.idle:
		out.Verdict, out.Applies = measure.Unknown, false
	case r.verdict == "":
		out.Verdict, out.Reason = measure.Unknown, "the input does not decide it"
	}
	return out
}

// fingerprints gives each finding what names it in the next build too: its
// rule, file, symbol and message, and its number among those that share them.
func fingerprints(all []finding.Finding) {
	seen := map[string]int{}
	for i := range all {
		f := &all[i]
		text := f.Rule + "\x00" + subject.Base(f.File) + "\x00" + f.Symbol + "\x00" + f.Message
		seen[text]++
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", text, seen[text]))
		f.Fingerprint = hex.EncodeToString(sum[:16])
	}
}

// Mask returns a secret as reports show it: its first two characters and how
// many there are.
func Mask(secret string) string {
	head := []rune(secret)
	if len(head) < 8 {
		return fmt.Sprintf("… (%d characters)", len(head))
	}
	return fmt.Sprintf("%s… (%d characters)", string(head[:2]), len(head))
}
