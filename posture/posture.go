// Package posture decides what the verdicts on a device mean: which row of
// evidence counts, whether a policy's demands are met, weak or unmet, and what
// credentials follow from that. It is pure: evidence and the time arrive as
// arguments.
package posture

import (
	"time"

	"holdfast/measure"
)

// Status is how a device stands with its hub.
type Status string

// The statuses of a device.
const (
	Pending     Status = "pending"     // showed itself; an operator has to decide
	Refused     Status = "refused"     // asked to enrol and was refused
	Trusted     Status = "trusted"     // every demand of the policy is met
	Degraded    Status = "degraded"    // some demand is met only weakly
	Connected   Status = "connected"   // its policy demands nothing it cannot prove
	Quarantined Status = "quarantined" // some demand is unmet
	Offline     Status = "offline"     // no live session
	Revoked     Status = "revoked"     // opens nothing any more
)

// Source names where rows come from. A source's new rows replace its old ones.
type Source string

// The sources of rows.
const (
	Birth       Source = "birth"       // enrolment
	Attestation Source = "attestation" // an appraisal
	Certificate Source = "certificate" // what the issuer saw and did
	Session     Source = "session"     // the live TLS and MQTT session
	Logs        Source = "logs"        // what the device shipped
	Releases    Source = "releases"    // signed releases, held against the firmware that it attested
	Audits      Source = "audits"      // auditors' statements, held likewise
)

// Standing is the outcome of a demand, or of all of them together.
type Standing string

// The standings.
const (
	Met   Standing = "met"   // passes at the demanded grade and age
	Weak  Standing = "weak"  // passes at a lower grade, or stale
	Unmet Standing = "unmet" // fails, or unknown without grace
)

// Requirement is one line of a policy: a measure that has to pass, at least at
// a grade, on evidence no older than MaxAge (0: any age). GraceUnknown lets it
// be unknown (never failed) without being unmet: it then counts as weak.
type Requirement struct {
	Measure      measure.ID    `json:"measure"`
	Grade        measure.Grade `json:"grade"`
	MaxAge       Duration      `json:"max_age,omitempty"`
	GraceUnknown bool          `json:"grace_unknown,omitempty"`
}

// Policy says which rows a group's devices have to show and how long their
// certificates live.
type Policy struct {
	Name          string        `json:"name"`
	Version       int           `json:"version"`
	Require       []Requirement `json:"require"`
	FullLifetime  Duration      `json:"full_lifetime"`  // default 24 h
	ShortLifetime Duration      `json:"short_lifetime"` // default 1 h
	Conditions    []Condition   `json:"conditions,omitempty"`

	tests []Test // the conditions, compiled; none: each of them is unmet
}

// Outcome is how one requirement or condition came out, and why.
type Outcome struct {
	Measure  measure.ID `json:"measure"`        // empty: it is a condition
	When     string     `json:"when,omitempty"` // of a condition: its expression
	Standing Standing   `json:"standing"`
	Reason   string     `json:"reason"`
}

// Decision is what follows from a posture under a policy. Lifetime is how long
// the next certificate may live: zero means that none is issued.
type Decision struct {
	Standing Standing  `json:"standing"`
	Lifetime Duration  `json:"lifetime"`
	Outcomes []Outcome `json:"outcomes"` // one per requirement and condition, in the policy's order
}

// Report is what the hub tells a device of itself on $hub/posture.
type Report struct {
	Version  int64         `json:"version"`
	Status   Status        `json:"status"`
	Decision Decision      `json:"decision"`
	Renew    bool          `json:"renew"` // a better certificate waits for the device
	Rows     []measure.Row `json:"rows"`
	Time     time.Time     `json:"time"`
}
