package rollout

import (
	"fmt"
	"time"
)

// Stage is where a rollout stands.
type Stage string

// The stages. From the first three a rollout can go on by itself or by an
// operator; a halted one goes on only by an operator; the last two are over.
const (
	Planning   Stage = "planning" // its devices are being listed
	Running    Stage = "running"
	Paused     Stage = "paused"
	Halted     Stage = "halted"
	Finished   Stage = "finished"   // devices that come later are still offered it
	Superseded Stage = "superseded" // another rollout of the product has all its devices
)

// Stages are all stages.
func Stages() []Stage { return []Stage{Planning, Running, Paused, Halted, Finished, Superseded} }

// Over reports whether the rollout has come to its end.
func (s Stage) Over() bool { return s == Finished || s == Superseded }

// State is where a device stands in a rollout.
type State string

// The states of a device.
const (
	Excluded  State = "excluded"   // it cannot take the release; the reason says why
	Waiting   State = "waiting"    // its turn has not come, or it is away
	Offered   State = "offered"    // it was told
	Updating  State = "updating"   // it is at work
	Committed State = "committed"  // it says that it has committed; its attestation does not show it yet
	Done      State = "done"       // and its attestation shows it
	Failed    State = "failed"     // see Cause
	Replaced  State = "superseded" // another rollout has it now
)

// States are all states of a device, in the order of an update.
func States() []State {
	return []State{Waiting, Offered, Updating, Committed, Done, Failed, Excluded, Replaced}
}

// InFlight reports whether the device was offered the release and is undecided.
func (s State) InFlight() bool { return s == Offered || s == Updating || s == Committed }

// Reached reports whether the device was offered the release.
func (s State) Reached() bool { return s.InFlight() || s == Done || s == Failed }

// Cause is why a device failed, or is excluded.
type Cause string

// The causes.
const (
	Refused  Cause = "refused"  // the device refused it
	Reverted Cause = "reverted" // its trial failed
	Crashed  Cause = "crashed"  // it crashed, or its watchdog reset it, after it had committed
	Silent   Cause = "silent"   // nothing was heard of it
	Overdue  Cause = "overdue"  // its deadline passed
	Unproved Cause = "unproved" // it says that it runs the release and attests something else

	Revoked   Cause = "revoked"
	Unproven  Cause = "no-attestation" // nothing it runs can be proved
	Newer     Cause = "newer"          // it runs a newer release
	Foreign   Cause = "other-product"  // it runs another product, or is other hardware
	NoUpdater Cause = "no-updater"     // it is connected and does not ask for updates
)

// passing reports whether a device that failed for the cause may still succeed
// by itself.
func (c Cause) passing() bool { return c == Silent || c == Overdue || c == Unproved }

// Counts is how many devices are in each state, and of those that failed or are
// excluded, how many for each cause.
type Counts struct {
	States map[State]int
	Causes map[Cause]int
	Last   time.Time // when one of them last changed its state
}

// Reached returns how many were offered the release.
func (c Counts) Reached() int { return c.InFlight() + c.Decided() }

// InFlight returns how many were offered it and are undecided.
func (c Counts) InFlight() int {
	return c.States[Offered] + c.States[Updating] + c.States[Committed]
}

// Decided returns how many have succeeded or failed.
func (c Counts) Decided() int { return c.States[Done] + c.States[Failed] }

// Total returns how many devices the rollout is for.
func (c Counts) Total() int { return c.States[Waiting] + c.Reached() }

// Rollout is a plan on its way.
type Rollout struct {
	Plan
	Seq     int64     `json:"-"` // in the order of their starts
	Rev     int64     `json:"rev"`
	By      string    `json:"by"`
	Stage   Stage     `json:"stage"`
	Reason  string    `json:"reason"` // of the stage
	Started time.Time `json:"started"`
	Changed time.Time `json:"changed"`          // of stage or wave
	Ended   time.Time `json:"ended,omitzero"`   // zero: it has not
	Resumed time.Time `json:"resumed,omitzero"` // before that no time counts against a device
	Wave    int       `json:"wave"`             // 0: the canary
	Opened  time.Time `json:"opened,omitzero"`  // of the wave
}

// Decision is what follows for a rollout.
type Decision struct {
	Stage  Stage  // it becomes; the same: it stays
	Wave   int    // likewise
	Reason string // of a change
	Room   int    // to how many more devices it may be offered now
}

// Decide says what follows for a rollout with so many devices in each state.
// Only what is running goes on; what is paused can still be halted, and what is
// halted be superseded.
func Decide(r Rollout, c Counts, now time.Time) Decision {
	stay := Decision{Stage: r.Stage, Wave: r.Wave}
	if !r.Stage.Over() && r.Stage != Planning && c.States[Replaced] > 0 && c.States[Waiting]+c.InFlight() == 0 {
		return Decision{Stage: Superseded, Wave: r.Wave, Reason: "another rollout of " + string(r.Product) + " has its devices"}
	}
	if r.Stage != Running && r.Stage != Paused {
		return stay
	}
	total := c.Total()
	limit := r.Limit(r.Wave, total)
	if reason := failing(r.Plan, c, limit); reason != "" {
		return Decision{Stage: Halted, Wave: r.Wave, Reason: reason}
	}
	if r.Stage == Paused {
		return stay
	}
	stay.Room = max(limit-c.Reached(), 0)
	switch quiet := now.Sub(Quiet(r, c)); {
	case total == 0:
		return Decision{Stage: Finished, Wave: r.Wave, Reason: "no device is left that could take " + r.Path()}
	case c.InFlight() > 0:
		return stay
	case stay.Room == 0 && quiet >= r.Soak:
		return next(r, c, limit, fmt.Sprintf("%s of %s: %d of %d devices run it, %d failed; nothing has changed for %s",
			waveName(r), r.Path(), c.States[Done], total, c.States[Failed], r.Soak))
	case stay.Room > 0 && c.States[Done] > 0 && quiet >= max(r.Deadline, r.Soak):
		return next(r, c, limit, fmt.Sprintf("%s of %s: %d of %d devices run it, %d failed; the others have not come for %s",
			waveName(r), r.Path(), c.States[Done], total, c.States[Failed], r.Deadline))
	}
	return stay
}

// Quiet returns since when nothing has changed in a wave: from then on it soaks.
func Quiet(r Rollout, c Counts) time.Time { return latest(c.Last, r.Opened, r.Resumed) }

// failing says why a rollout must not go on, or "".
func failing(p Plan, c Counts, limit int) string {
	failed, decided := c.States[Failed], c.Decided()
	over := func(of int) bool { return int64(failed)*int64(All) > int64(p.HaltOn)*int64(of) }
	if failed == 0 || !over(max(limit, decided)) && (decided < MinDecided || !over(decided)) {
		return ""
	}
	return fmt.Sprintf("%d of %d decided devices failed (%s), more than %s", failed, decided, c.causes(), p.HaltOn)
}

// causes lists why devices failed.
func (c Counts) causes() string {
	var text string
	for _, cause := range []Cause{Refused, Reverted, Crashed, Silent, Overdue, Unproved} {
		if n := c.Causes[cause]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, cause)
		}
	}
	if text == "" {
		return "no cause"
	}
	return text[2:]
}

func next(r Rollout, c Counts, limit int, reason string) Decision {
	if limit == c.Total() {
		return Decision{Stage: Finished, Wave: r.Wave, Reason: reason}
	}
	d := Decision{Stage: Running, Wave: r.Wave + 1, Reason: reason}
	for r.Limit(d.Wave, c.Total()) == limit { // of few devices several steps are the same
		d.Wave++
	}
	return d
}

// Path names the release.
func (p Plan) Path() string { return string(p.Product) + " " + p.Version.String() }

func waveName(r Rollout) string {
	if r.Wave == 0 {
		return "canary"
	}
	return fmt.Sprintf("wave %d of %d", r.Wave+1, r.Waves())
}

func latest(ts ...time.Time) time.Time {
	var last time.Time
	for _, t := range ts {
		if t.After(last) {
			last = t
		}
	}
	return last
}
