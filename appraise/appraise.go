// Package appraise judges Evidence (RFC 9334): a TPM 2.0 quote, the event log
// behind it, certified counters and a certified key. It is pure: what the hub
// remembers of a device, the Reference Values of its group and the time arrive
// as arguments.
//
// An appraisal has two halves. First the evidence is verified: Failure names
// the step that did not hold, and nothing else in the evidence is believed.
// Then what it says is judged, event by event, and becomes rows and Facts.
// Invariants:
//   - Nothing is a fact that no quoted register or certified value covers.
//   - An event's type and, for digests of code, its data are not covered by
//     the register (TCG PC Client Platform Firmware Profile, section 10.2).
//     So an event is known by register and digest, or by a rule that demands
//     that the digest is that of the data and that the data has one of a few
//     forms which no code can have.
//   - Any input ends in an Outcome; none panics.
package appraise

import (
	"encoding/json"
	"fmt"
	"time"

	"holdfast/evidence"
	"holdfast/identity"
)

// Class is what an endorsement root vouches for.
type Class string

// The classes of endorsement.
const (
	Hardware Class = "hardware"
	Software Class = "software" // a software TPM: its owner can make it say anything
)

// Limits of the evidence.
const (
	MaxEventLog = 128 << 10 // bytes
	MaxEvents   = 2048
	MaxClaims   = 16 << 10 // bytes
	MaxCounters = 8
	maxTPM      = 1 << 10 // bytes of one TPM structure
)

// Input is all that an appraisal depends on besides the time.
type Input struct {
	Evidence    evidence.Attestation
	Binding     identity.Digest // qualifying data expected of every signature
	AK          []byte          // TPMT_PUBLIC, as it was activated at birth
	Endorsement Class
	Simulation  bool        // the group is one for simulated devices
	References  []Reference // of the device's group
	Previous    *State      // nil: nothing was appraised under this AK
}

// State is what the hub remembers of a TPM from one appraisal to the next.
type State struct {
	Clock    Clock     `json:"clock"`
	Counters []Counter `json:"counters,omitempty"`
	// Origin is the security counter that the boot ROM measured first.
	Origin *SecurityCounter `json:"origin,omitempty"`
}

// Outcome is the result of an appraisal. With a Failure there are no Facts, no
// State to remember and no NextKey.
type Outcome struct {
	Result  evidence.Result
	Failure *Failure // nil: the evidence verified
	Facts   Facts
	State   State
	NextKey *identity.Digest // SHA-256 of the certified key's SubjectPublicKeyInfo; nil: none came
}

// Step names a check of the verifying half.
type Step string

// The steps in their order.
const (
	StepForm      Step = "form"            // evidence within its limits, claims readable
	StepAK        Step = "ak-template"     // a restricted signing key, fixed to its TPM
	StepSignature Step = "quote-signature" // quote made by the AK in a TPM
	StepBinding   Step = "quote-binding"   // qualifying data: nonce, device, session, claims
	StepPCRs      Step = "pcrs"            // registers are those the quote covers
	StepRequired  Step = "required-pcrs"   // registers that every device has to show
	StepEventLog  Step = "event-log"       // log is well-formed
	StepReplay    Step = "replay"          // log leads to the registers
	StepClock     Step = "clock"           // TPM's clock and reset counts never go back
	StepCounter   Step = "counter"         // certified, and never below what was seen
	StepNextKey   Step = "next-key"        // certified, and made in the TPM to stay there
)

// Failure says which step did not hold and why. Its text is for the log and an
// operator, not for the peer.
type Failure struct {
	Step   Step
	Reason string
}

// Error returns the step and the reason.
func (f *Failure) Error() string { return string(f.Step) + ": " + f.Reason }

func fail(step Step, format string, args ...any) *Failure {
	return &Failure{Step: step, Reason: fmt.Sprintf(format, args...)}
}

// Appraise verifies and judges evidence. Rows carry the time now.
func Appraise(in Input, now time.Time) Outcome {
	now = now.UTC()
	a := appraisal{in: in}
	if f := a.verify(); f != nil {
		return Outcome{
			Failure: f,
			Result:  evidence.Result{Time: now, Reason: f.Error(), Rows: failedRows(f, now)},
		}
	}
	if a.facts.Running != nil {
		a.facts.Running.Time = now
	}
	return Outcome{
		Facts:   a.facts,
		State:   State{Clock: a.clock, Counters: a.counters, Origin: a.origin()},
		NextKey: a.nextKey,
		Result:  evidence.Result{Time: now, Verified: true, Rows: a.rows(now)},
	}
}

// appraisal collects what one call of Appraise learns.
type appraisal struct {
	in       Input
	ak       signer
	claims   evidence.Claims
	clock    Clock
	events   []Event
	counters []Counter
	nextKey  *identity.Digest
	facts    Facts
}

// verify runs the steps in order, and judges the events once they are proven.
func (a *appraisal) verify() *Failure {
	for _, step := range []func() *Failure{
		a.checkForm, a.checkAK, a.checkQuote, a.checkLog, a.checkClock, a.checkCounters, a.checkNextKey,
	} {
		if f := step(); f != nil {
			return f
		}
	}
	a.facts = judge(a.events, a.in.References)
	a.facts.Counters = a.counters
	a.facts.TPMFirmwareChanged = a.in.Previous != nil && a.in.Previous.Clock.Firmware != a.clock.Firmware
	a.facts.Running = a.running()
	return nil
}

// checkForm refuses what is not worth parsing.
func (a *appraisal) checkForm() *Failure {
	e := &a.in.Evidence
	switch {
	case len(e.EventLog) > MaxEventLog:
		return fail(StepForm, "event log has %d bytes, limit %d", len(e.EventLog), MaxEventLog)
	case len(e.Claims) > MaxClaims:
		return fail(StepForm, "claims have %d bytes, limit %d", len(e.Claims), MaxClaims)
	case len(e.Counters) > MaxCounters:
		return fail(StepForm, "%d counters, limit %d", len(e.Counters), MaxCounters)
	}
	if err := json.Unmarshal(e.Claims, &a.claims); err != nil {
		return fail(StepForm, "claims: %v", err)
	}
	return nil
}
