package virtual

import "time"

// EventKind says what happened to a board.
type EventKind string

// The kinds of events.
const (
	EventRefused  EventKind = "refused"  // the boot ROM refused a slot: Slot, Reason, Detail
	EventReverted EventKind = "reverted" // a trial has failed, the slot before it boots: Version, Reason, Cause
	EventBooted   EventKind = "booted"   // the firmware was started: Slot, Version, Digest, Cause, Trial
	EventReset    EventKind = "reset"    // the firmware is gone, the board boots again: Cause, Detail
	EventHalted   EventKind = "halted"   // no slot may boot, or the security counter is missing (Reason): Detail
	EventOff      EventKind = "off"      // the power is off
)

// Event is something that happened to a board.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    EventKind `json:"event"`
	Slot    string    `json:"slot,omitempty"`
	Version string    `json:"version,omitempty"`
	Digest  string    `json:"digest,omitempty"` // of the firmware image, hexadecimal
	Cause   string    `json:"cause,omitempty"`  // of the reset: see package board
	Reason  string    `json:"reason,omitempty"` // of a refusal, as it was measured
	Detail  string    `json:"detail,omitempty"`
	Trial   bool      `json:"trial,omitempty"` // it boots once, to prove itself
}
