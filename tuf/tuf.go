// Package tuf verifies the metadata that says which firmware is whose: The
// Update Framework, version 1.0, over go-tuf, with a second, independent
// threshold of ML-DSA-65 signatures. Devices, the hub and the command line use
// the same rules. It does no I/O and has no clock.
//
// # The profile
//
// Of all that TUF permits, one shape is accepted:
//
//   - Metadata is canonical JSON with consistent snapshots. Every name appears
//     once, nothing is null, nothing is left over (CheckStrict), and what was
//     signed means the same to every reader: the signed part as it was received
//     and as it was understood have the same canonical bytes.
//   - root names the keys of root, targets, snapshot and timestamp, and no other
//     roles. The keys of snapshot and timestamp, which the hub holds, are not
//     among those of root and targets.
//   - targets lists no targets. It delegates "<product>/*", terminating, to a
//     role of the product's name, and delegates nothing else.
//   - A product's role lists its releases: path release.Path, length, SHA-256,
//     and release.Target as TUF's custom field. It delegates nothing.
//   - snapshot lists targets.json and the products' files; timestamp lists
//     snapshot.json. A role that was listed once stays listed.
//   - Classical keys are Ed25519 or ECDSA on P-256; a key's id is what go-tuf
//     computes of it.
//
// # ML-DSA
//
// root, targets and each product's role carry ML-DSA-65 signatures (FIPS 204,
// pure, empty context) over the same canonical bytes and in the same list as the
// classical ones: TUF ignores signatures of keys it does not know for a role.
// The keys and thresholds stand in the signed part of the delegating metadata
// under the name MLDSAField, as type MLDSA says. Both thresholds must hold, each
// counted by itself; a new root needs both of the old root and both of its own.
//
// # Time
//
// The caller says what it knows of the time (Clock). Metadata that has expired is
// refused as release.IndefiniteFreeze. Where the clock is not known, expiry
// cannot be judged: metadata is verified and its versions count from then on, but
// no release is given for installation (release.WrongClock) until the same
// question is asked with a known time. What had expired by the earliest time
// possible has expired.
//
// # What is remembered
//
// State is what a client keeps between runs: the newest of each file that was
// accepted. Each refusal of something older rests on it. OpenTrust refuses a
// state whose files contradict one another; that a state is as a whole older than
// what was seen before is nothing that it could notice: keeping it current and
// whole is the matter of whoever persists it.
//
// Versions that were pushed so high that nothing could follow are forgotten as
// TUF's section 5.3.11 says: when a new root no longer accepts the snapshot or
// the timestamp that is held, both are dropped. Targets and products are
// forgotten only when their own keys have been replaced.
package tuf

import (
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// The names of the top-level roles.
const (
	Root      = metadata.ROOT
	Targets   = metadata.TARGETS
	Snapshot  = metadata.SNAPSHOT
	Timestamp = metadata.TIMESTAMP
)

// Clock is what a caller knows of the time. The zero Clock knows nothing.
type Clock struct {
	Now   time.Time // what the clock says; zero: it has not been set
	Floor time.Time // the earliest that it can be: the program's build, the newest time ever proved
}

// At returns the Clock of a caller that trusts its clock.
func At(now time.Time) Clock { return Clock{Now: now} }

// Known reports whether expiry can be judged: the clock is set and not behind
// what is known to have passed.
func (c Clock) Known() bool { return !c.Now.IsZero() && !c.Now.Before(c.Floor) }

// earliest returns the earliest time that it can be.
func (c Clock) earliest() time.Time {
	if c.Known() {
		return c.Now
	}
	return c.Floor
}

// past reports whether t has passed for certain. An expiry is passed when it is
// reached (section 5.1: it must be higher than the time of the update).
func (c Clock) past(t time.Time) bool { return !c.earliest().Before(t) }
