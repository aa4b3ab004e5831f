// Package fault is the one vocabulary of errors that cross a boundary.
//
// Inside the program errors are wrapped with what was being done. Where one
// reaches an edge (HTTP, MQTT, the command line) its kind decides the status,
// reason code or exit code, and only its public text travels to the peer.
// An error without a kind is Internal: the peer learns nothing of it.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what sort of refusal an error is.
type Kind string

// The kinds, and what each tells the peer.
const (
	Invalid     Kind = "invalid"     // the request is malformed or breaks a rule it could have known
	Denied      Kind = "denied"      // who asks may not
	NotFound    Kind = "not-found"   // no such thing
	Conflict    Kind = "conflict"    // the thing is in another state than the request assumes
	Unavailable Kind = "unavailable" // not now: overloaded, full or shutting down
	Integrity   Kind = "integrity"   // evidence, signature or stored data do not verify
	Pending     Kind = "pending"     // an operator has to decide first
	Internal    Kind = "internal"    // our own failure
)

// Error is an error of a kind. Public is what the peer may read; Cause is for
// the log alone, unless Public already contains its text.
type Error struct {
	Kind   Kind
	Public string
	Cause  error

	complete bool // Public contains the text of Cause
}

// Error returns the public text and the cause, for the log.
func (e *Error) Error() string {
	switch {
	case e.Cause == nil || e.complete:
		return e.Public
	case e.Public == "":
		return e.Cause.Error()
	}
	return e.Public + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// New makes an error of a kind with a text the peer may read. A %w in the
// format keeps its operand as the cause, and its text is public too.
func New(kind Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Public: err.Error(), Cause: errors.Unwrap(err), complete: true}
}

// Hide gives err a kind and a public text that says nothing of the cause,
// for verification failures: the log names the step, the peer does not learn it.
func Hide(kind Kind, public string, err error) error {
	return &Error{Kind: kind, Public: public, Cause: err}
}

// Of returns the kind of err: Internal when nothing in its chain has one.
func Of(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Public returns what a peer may read of err: its public text, or a phrase
// that names only the kind.
func Public(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Public != "" && e.Kind != Internal {
		return e.Public
	}
	return "internal error"
}
