// Package twin is the rule of device twins: what tags, desired and reported
// properties may hold and how they change. Each is a JSON object that is
// changed by merge patches (RFC 7396). Operators write tags and desired
// properties, the device writes reported properties and reads both but the
// tags. Names, limits and versions are Azure IoT Hub's.
package twin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"holdfast/iothub"
)

// Rule is a rule that a patch may break.
type Rule string

// The rules.
const (
	Syntax Rule = "syntax" // it is no JSON, or a name comes twice
	Shape  Rule = "shape"  // it is not a JSON object
	Name   Rule = "name"   // a name is too long or has a forbidden character
	Value  Rule = "value"  // a string is too long, a number out of range
	Depth  Rule = "depth"  // too many levels
	Size   Rule = "size"   // the section would be too large
)

// Error says which rule a patch breaks, and where.
type Error struct {
	Path   string // names from the top of the section, joined by "."; empty: the section
	Rule   Rule
	Detail string
}

// Error returns the text, which the peer may read.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Detail
	}
	return fmt.Sprintf("%.200s: %s", e.Path, e.Detail)
}

// Code returns the protocol's code for the error.
func (e *Error) Code() iothub.Code {
	switch e.Rule {
	case Syntax, Shape:
		return iothub.CodeDeserialize
	case Size:
		return iothub.CodeTooLarge
	}
	return iothub.CodeArgument
}

// Section is a part of a twin.
type Section string

// The sections.
const (
	Tags     Section = "tags"     // the operators', which the device does not see
	Desired  Section = "desired"  // what operators want of the device
	Reported Section = "reported" // what the device says of itself
)

// Limit returns how many bytes a section may hold, as Object.Bytes counts.
func (s Section) Limit() int {
	if s == Tags {
		return 8 << 10
	}
	return 32 << 10
}

// Properties are a section that has a version. It begins with 1 and grows by 1
// with each patch that is accepted, whether it changes anything or not.
type Properties struct {
	Values  Object
	Version int64
}

// Twin is a device's twin.
type Twin struct {
	Tags              Object
	Desired, Reported Properties
}

// New returns the twin of a device that nobody has written to.
func New() Twin {
	return Twin{Tags: Object{}, Desired: Properties{Object{}, 1}, Reported: Properties{Object{}, 1}}
}

// Change is a change of one section: Patch is merged into it or, with Replace,
// takes its place.
type Change struct {
	Section Section
	Patch   Object
	Replace bool
}

// Apply returns t as c changes it, or an *Error when the section gets too
// large.
func (t Twin) Apply(c Change) (Twin, error) {
	values, version := t.section(c.Section)
	base := *values
	if c.Replace {
		base = nil
	}
	merged := Merge(base, c.Patch)
	if n := merged.Bytes(); n > c.Section.Limit() {
		return Twin{}, &Error{Rule: Size, Detail: fmt.Sprintf("would have %d bytes, at most %d are allowed", n, c.Section.Limit())}
	}
	*values = merged
	if version != nil {
		*version++
	}
	return t, nil
}

// section returns where a section of t is; tags have no version of their own.
func (t *Twin) section(s Section) (*Object, *int64) {
	switch s {
	case Desired:
		return &t.Desired.Values, &t.Desired.Version
	case Reported:
		return &t.Reported.Values, &t.Reported.Version
	}
	return &t.Tags, nil
}

// ETag names the state of what operators write, tags and desired properties,
// so that one does not overwrite what another wrote meanwhile. What the device
// reports does not change it.
func (t Twin) ETag() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(t.Desired.Version))
	b = t.Tags.append(b, -1)
	b = t.Desired.Values.append(b, -1)
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// Document returns what a device gets that asks for its twin: desired and
// reported properties, each with its version.
func (t Twin) Document() []byte {
	b := append([]byte(`{"desired":`), t.Desired.Values.JSON(t.Desired.Version)...)
	b = append(append(b, `,"reported":`...), t.Reported.Values.JSON(t.Reported.Version)...)
	return append(b, '}')
}
