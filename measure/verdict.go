package measure

import (
	"fmt"
	"slices"
	"time"
)

// ID names a measure, as "firmware.secure-boot". Ids are stable: code, wire,
// API, command line and documents all use them.
type ID string

// Verdict is what is known of a measure on a device.
type Verdict string

// The verdicts. What cannot be proven is Unknown, never Pass.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"
	Unknown Verdict = "unknown"
)

// Grade says how a verdict is known.
type Grade string

// The grades, from the strongest to none at all.
const (
	Observed Grade = "observed" // the hub saw it itself
	Attested Grade = "attested" // signed by a hardware root of trust
	Audited  Grade = "audited"  // a signed statement about the attested image
	Claimed  Grade = "claimed"  // the device says so
	None     Grade = "none"     // no evidence
)

// grades returns the grades, the strongest first.
func grades() []Grade { return []Grade{Observed, Attested, Audited, Claimed, None} }

// Meets reports whether evidence of grade g satisfies a demand for grade want.
// What is not a grade satisfies nothing and is satisfied by nothing.
func (g Grade) Meets(want Grade) bool {
	have, need := slices.Index(grades(), g), slices.Index(grades(), want)
	return have >= 0 && have <= need
}

// ParseGrade returns s as a grade.
func ParseGrade(s string) (Grade, error) {
	if g := Grade(s); slices.Contains(grades(), g) {
		return g, nil
	}
	return "", fmt.Errorf("grade %q: want observed, attested, audited, claimed or none", s)
}

// Row is the verdict on one measure of one device, with the evidence's grade,
// a reason in words for a person, and the time of the evidence (UTC). A row
// that is shown without evidence has the time of showing: so far nothing proves
// it. A kept one has the zero time.
type Row struct {
	Measure ID        `json:"measure"`
	Verdict Verdict   `json:"verdict"`
	Grade   Grade     `json:"grade"`
	Reason  string    `json:"reason"`
	Time    time.Time `json:"time"`
}
