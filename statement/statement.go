// Package statement says what an auditor found of a firmware so that others
// can hold it against what a device attests: an in-toto Statement (v1) in a
// DSSE envelope, signed with an auditor's key.
//
// Its subjects are the files that were judged and the images they yield. The
// hub believes a statement only about an image that is among Images with a
// match: the auditor has shown that what was judged is what is flashed.
package statement

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/finding"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/tuf"
)

// The types of an envelope's parts.
const (
	PayloadType   = "application/vnd.in-toto+json" // of in-toto's attestation framework
	Type          = "https://in-toto.io/Statement/v1"
	PredicateType = "https://holdfast.example/audit/v1"
)

// MaxSize is the largest envelope in bytes. MaxDepth is how deep its JSON may
// nest.
const (
	MaxSize  = 4 << 20
	MaxDepth = 12
)

// maxList bounds the lists of a statement.
const maxList = 4096

// Statement is what an auditor says.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Predicate `json:"predicate"`
}

// Subject is a file or an image, by its digest.
type Subject struct {
	Name   string `json:"name"`
	Digest struct {
		SHA256 identity.Digest `json:"sha256"`
	} `json:"digest"`
}

// Predicate is what was found.
type Predicate struct {
	Auditor  string                   `json:"auditor"`            // name and version of the program
	Rules    string                   `json:"rules"`              // digest of the rule set
	Time     time.Time                `json:"time"`               // when it was judged
	Revision string                   `json:"revision,omitempty"` // of the source, which process evidence is bound to
	Images   []finding.Image          `json:"images,omitempty"`
	Rows     []finding.Row            `json:"rows,omitempty"`
	Bullets  []finding.Row            `json:"bullets,omitempty"`
	Findings map[finding.Severity]int `json:"findings,omitempty"` // how many of each severity, suppressed ones left out
	Evidence []finding.Evidence       `json:"evidence,omitempty"`
}

// Image returns the image that a device measures as digest, and whether the
// statement is about it: the auditor has shown which input it carries.
func (s *Statement) Image(measured identity.Digest) (finding.Image, bool) {
	i := slices.IndexFunc(s.Predicate.Images, func(i finding.Image) bool { return i.Measured == measured && i.Matches != "" })
	if i < 0 {
		return finding.Image{}, false
	}
	return s.Predicate.Images[i], true
}

// Row returns the verdict on a measure. What the auditor did not judge is
// unknown.
func (s *Statement) Row(id measure.ID) finding.Row {
	i := slices.IndexFunc(s.Predicate.Rows, func(r finding.Row) bool { return r.Measure == id })
	if i < 0 {
		return finding.Row{Measure: id, Verdict: measure.Unknown, Reason: "the audit does not speak of it"}
	}
	return s.Predicate.Rows[i]
}

// parse reads a payload.
func parse(payload []byte) (*Statement, error) {
	if err := tuf.CheckStrict(payload, MaxSize, MaxDepth); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	var s Statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	return &s, s.Check()
}

// Check says what is wrong with a statement before it is signed or believed.
func (s *Statement) Check() error {
	p := s.Predicate
	switch {
	case s.Type != Type:
		return fmt.Errorf("statement: type %.100q, want %s", s.Type, Type)
	case s.PredicateType != PredicateType:
		return fmt.Errorf("statement: predicate %.100q, want %s", s.PredicateType, PredicateType)
	case len(s.Subject) == 0:
		return errors.New("statement: it has no subject")
	case max(len(s.Subject), len(p.Images), len(p.Rows), len(p.Bullets), len(p.Evidence)) > maxList:
		return fmt.Errorf("statement: a list is longer than %d", maxList)
	case p.Auditor == "" || p.Rules == "" || p.Time.IsZero():
		return errors.New("statement: auditor, rules or time is missing")
	}
	return s.checkLists()
}

func (s *Statement) checkLists() error {
	for _, r := range slices.Concat(s.Predicate.Rows, s.Predicate.Bullets) {
		if _, ok := measure.Find(r.Measure); !ok {
			return fmt.Errorf("statement: there is no measure %.100q", r.Measure)
		}
		if !slices.Contains([]measure.Verdict{measure.Pass, measure.Fail, measure.Unknown}, r.Verdict) {
			return fmt.Errorf("statement: %s: verdict %.100q", r.Measure, r.Verdict)
		}
	}
	seen := map[measure.ID]bool{}
	for _, r := range s.Predicate.Rows {
		if seen[r.Measure] {
			return fmt.Errorf("statement: %s has two rows", r.Measure)
		}
		seen[r.Measure] = true
	}
	for _, i := range s.Predicate.Images {
		if !s.about(i) {
			return fmt.Errorf("statement: image %.100q is not a subject, or what it matches is not", i.File)
		}
	}
	return nil
}

// about reports whether an image, and the input it matches, are subjects.
func (s *Statement) about(i finding.Image) bool {
	measured := slices.ContainsFunc(s.Subject, func(x Subject) bool { return x.Digest.SHA256 == i.Measured })
	matched := i.Matches == "" || slices.ContainsFunc(s.Subject, func(x Subject) bool { return x.Name == i.Matches })
	return measured && matched
}
