// Package update decides how firmware is replaced so that a device can neither
// be bricked nor taken back. It is one state machine in two parts, both pure:
//
//   - Record is what the boot chain keeps in flash: which slot is active, and
//     which one is to be tried once. Boot is the boot ROM's decision over it.
//   - Machine is the runtime's part: from an offer over download, verification
//     and trial to the commit. It says what is to be done (Action); others do it
//     (device/slots, device/updater) and tell it what happened (Event).
//
// Invariants:
//
//  1. Nothing boots that does not verify, or that is below the minimum
//     security version.
//  2. A trial is consumed, and that is on stable storage, before it boots. One
//     that was not confirmed is not booted again while the active slot is good.
//  3. The order of a commit: health passes, the record names the new slot as
//     active, the trial is cleared, and only then the counter is burned. Each
//     step may be repeated; a cut between two is mended at the next start.
//  4. Only the slot that does not run is ever written.
//
// On a machine with UEFI the record is in the boot variables: Active is the
// head of BootOrder, a trial that was not tried is BootNext, which the firmware
// deletes before it boots (invariant 2), and the rest of Trial is a variable of
// our own. A commit moves the slot to the head of BootOrder and then deletes
// that variable, which are the two writes of Record.Commit and Record.Clear.
package update

import (
	"fmt"
	"time"

	"holdfast/identity"
	"holdfast/mcuboot"
)

// Slot names one of the two places for firmware.
type Slot string

// The slots.
const (
	A Slot = "A"
	B Slot = "B"
)

// Other returns the other slot.
func (s Slot) Other() Slot {
	if s == A {
		return B
	}
	return A
}

// Valid reports whether s names a slot.
func (s Slot) Valid() bool { return s == A || s == B }

// Limits of a record's text, in bytes.
const (
	MaxReason = 160
	MaxReset  = 32
)

// Record is what the boot chain and the runtime keep in flash. The zero Record
// is that of a board whose flash has none: slot A is tried first.
type Record struct {
	Sequence uint64  `json:"sequence"`         // grows with each write
	Active   Slot    `json:"active,omitempty"` // boots when no trial is due; empty: A
	Trial    *Trial  `json:"trial,omitempty"`  // nil: none
	Last     Outcome `json:"last,omitzero"`    // of the last trial; empty while one is on
}

// Trial is an image that boots once, to prove itself.
type Trial struct {
	Slot            Slot            `json:"slot"`
	Digest          identity.Digest `json:"digest"` // what the boot ROM measures of it
	Version         mcuboot.Version `json:"version"`
	SecurityVersion uint32          `json:"security_version"`
	Seconds         uint32          `json:"deadline_seconds"` // that it has from its boot to its commit
	Tried           bool            `json:"tried,omitempty"`  // it has been booted
}

// Deadline is the time that the trial has from its boot to its commit.
func (t Trial) Deadline() time.Duration { return time.Duration(t.Seconds) * time.Second }

// Result is how a trial ended.
type Result uint8

// The results.
const (
	None      Result = iota
	Committed        // it runs from now on
	Reverted         // the image before it runs again
)

// String returns the result's name.
func (r Result) String() string {
	switch r {
	case None:
		return "none"
	case Committed:
		return "committed"
	case Reverted:
		return "reverted"
	}
	return fmt.Sprintf("result %d", uint8(r))
}

// MarshalText returns the result's name.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a result's name.
func (r *Result) UnmarshalText(text []byte) error {
	for _, known := range []Result{None, Committed, Reverted} {
		if known.String() == string(text) {
			*r = known
			return nil
		}
	}
	return fmt.Errorf("result %.20q: want none, committed or reverted", text)
}

// Outcome is how the last trial ended.
type Outcome struct {
	Result  Result          `json:"result"`
	Version mcuboot.Version `json:"version"`
	Digest  identity.Digest `json:"digest"`
	Reason  string          `json:"reason,omitempty"` // why it reverted, at most MaxReason bytes
	Reset   string          `json:"reset,omitempty"`  // cause of the reset that ended it, at most MaxReset bytes
}

// First returns the slot that boots when no trial is due.
func (r Record) First() Slot {
	if r.Active.Valid() {
		return r.Active
	}
	return A
}

// Trying reports whether a trial was booted and has not been committed.
func (r Record) Trying() bool {
	return r.Trial != nil && r.Trial.Tried && r.Active != r.Trial.Slot
}

// Stage returns the record with a trial to boot next, from the slot that runs.
func (r Record) Stage(running Slot, t Trial) Record {
	t.Tried = false
	r.Active, r.Trial, r.Last = running, &t, Outcome{}
	return r
}

// Unstage returns the record without a trial and without the outcome of one: a
// new attempt begins, or one was called off before it booted.
func (r Record) Unstage() Record {
	r.Trial, r.Last = nil, Outcome{}
	return r
}

// Consume returns the record of a trial that is about to boot.
func (r Record) Consume() Record {
	if r.Trial != nil {
		t := *r.Trial
		t.Tried = true
		r.Trial = &t
	}
	return r
}

// Revert returns the record of a trial that failed.
func (r Record) Revert(reason, reset string) Record {
	if r.Trial != nil {
		r.Last = Outcome{Result: Reverted, Version: r.Trial.Version, Digest: r.Trial.Digest,
			Reason: cut(reason, MaxReason), Reset: cut(reset, MaxReset)}
		r.Trial = nil
	}
	return r
}

// Commit returns the record with the trial's slot as the active one. The trial
// stays until Clear.
func (r Record) Commit() Record {
	if r.Trial != nil {
		r.Active = r.Trial.Slot
	}
	return r
}

// Adopt returns the record with the slot that runs as the active one, without a
// trial: the boot ROM fell back to it.
func (r Record) Adopt(running Slot) Record {
	r.Active, r.Trial = running, nil
	return r
}

// Clear returns the record of a commit that is complete.
func (r Record) Clear() Record {
	if r.Trial != nil {
		r.Last = Outcome{Result: Committed, Version: r.Trial.Version, Digest: r.Trial.Digest}
		r.Trial = nil
	}
	return r
}

// cut returns at most n bytes of s, printable ASCII alone.
func cut(s string, n int) string {
	b := []byte(s[:min(len(s), n)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
