package update

import (
	"time"

	"holdfast/mcuboot"
	"holdfast/release"
)

// Facts are what a runtime finds when it starts.
type Facts struct {
	Running  Image
	Trial    bool // the boot ROM booted it as a trial
	Record   Record
	Minimum  uint32
	Product  release.Product // what the device is; empty: not known yet, the first offer says
	Hardware string          // revision of the board
}

// Attempt names one try of one release by one rollout.
type Attempt struct {
	Rollout string          `json:"rollout,omitempty"`
	Attempt int             `json:"attempt,omitempty"`
	Version mcuboot.Version `json:"version"`
}

// End is an attempt that has ended, and what was reported of it.
type End struct {
	Attempt
	Report release.Progress `json:"report"`
}

// maxEnds is how many ended attempts a machine remembers.
const maxEnds = 16

// Machine is where an updater stands. The zero Machine is idle. It is a value:
// Next returns the next one. Its JSON form outlasts restarts; it has to be on
// stable storage before the actions that came with it are done. What is
// persisted is never trusted to be current: the event Booted comes first after
// each start, and the record, which the boot ROM goes by too, decides.
type Machine struct {
	State  release.State   `json:"state,omitempty"`
	Offer  release.Offer   `json:"offer,omitzero"`
	Target release.Release `json:"target,omitzero"` // as signed metadata states it
	Bytes  int64           `json:"bytes,omitempty"` // of the image, on stable storage in the slot
	Paused bool            `json:"paused,omitempty"`
	Reason string          `json:"reason,omitempty"` // why a trial is being reverted
	Ends   []End           `json:"ends,omitempty"`   // the newest last

	Facts Facts `json:"-"` // of this start
}

// Action is what a machine wants done. Actions are done in their order; when
// one fails, those after it are dropped and the machine is told (Failed). Stop
// and Report do not fail: a report that does not reach the hub waits.
type Action string

// The actions.
const (
	Download      Action = "download"       // stream the target into the inactive slot, from Bytes on; tell Chunk, then Downloaded
	Stop          Action = "stop"           // download no more
	VerifySlot    Action = "verify-slot"    // read the inactive slot and check it against Target; tell Verified or Refused
	DropTrial     Action = "drop-trial"     // no trial is to boot
	MarkTrial     Action = "mark-trial"     // the inactive slot boots next, once
	Reset         Action = "reset"          // boot
	CheckHealth   Action = "check-health"   // run Target's checks; tell HealthPassed, HealthFailed or DeadlinePassed
	MarkCommitted Action = "mark-committed" // the record names the running slot as active
	ClearTrial    Action = "clear-trial"    // the trial is over
	BurnCounter   Action = "burn-counter"   // raise the minimum to that of the running image
	Report        Action = "report"         // tell the hub Machine.Progress
)

// Event is something that happened to an updater.
type Event interface{ event() }

// The events.
type (
	// Booted is the first event after each start.
	Booted struct{ Facts Facts }
	// Offered is an offer of the hub and what verified metadata says of it.
	// An offer that comes while a trial is on changes nothing: it is to be
	// told again afterwards. The zero offer means: stay as you are.
	Offered struct {
		Offer   release.Offer
		Release release.Release // of the offer, from verified metadata
		Err     error           // why there is none
	}
	// Chunk says how much of the target is on stable storage.
	Chunk struct{ Bytes int64 }
	// Downloaded says that all of it is there.
	Downloaded struct{}
	// Verified says that the slot was read again and is the target.
	Verified struct{}
	// Refused says that the target cannot be installed: its download, its
	// image or its metadata. It is final for this attempt.
	Refused struct{ Err error }
	// Tick says that time has passed.
	Tick struct{}
	// HealthPassed says that all checks of the trial have passed.
	HealthPassed struct{}
	// HealthFailed says that the trial has to end.
	HealthFailed struct{ Reason string }
	// DeadlinePassed says that the trial has had its time.
	DeadlinePassed struct{}
	// Failed says that an action could not be done.
	Failed struct {
		Action Action
		Err    error
	}
)

func (Booted) event()         {}
func (Offered) event()        {}
func (Chunk) event()          {}
func (Downloaded) event()     {}
func (Verified) event()       {}
func (Refused) event()        {}
func (Tick) event()           {}
func (HealthPassed) event()   {}
func (HealthFailed) event()   {}
func (DeadlinePassed) event() {}
func (Failed) event()         {}

// Next returns the machine after an event and what is to be done. now is the
// zero time when the clock is not to be trusted: no window is open then, and
// an offer's deadline is not judged. An event that makes no sense in the
// machine's state changes nothing.
func (m Machine) Next(e Event, now time.Time) (Machine, []Action) {
	switch e := e.(type) {
	case Booted:
		return m.booted(e.Facts)
	case Offered:
		return m.offered(e, now)
	case Chunk:
		if m.State == release.Downloading && e.Bytes > m.Bytes && e.Bytes <= m.Target.Image.Length {
			m.Bytes = e.Bytes
		}
		return m, nil
	case Downloaded:
		if m.State == release.Downloading {
			m.State, m.Bytes = release.Verifying, m.Target.Image.Length
			return m, []Action{Report, VerifySlot}
		}
	case Verified:
		if m.State == release.Verifying {
			m.State = release.Staged
			return m.staged(now, Report)
		}
	case Refused:
		if m.installing() {
			return m.end("", e.Err)
		}
	case Tick:
		switch m.State {
		case release.Staged:
			return m.staged(now)
		case release.Reverting: // if it still runs, the reset has failed
			return m, []Action{Reset}
		}
	case HealthPassed:
		if m.State == release.Confirming {
			m.State = release.Committed
			m = m.ended(m.report(true))
			return m, []Action{MarkCommitted, ClearTrial, BurnCounter, Report}
		}
	case HealthFailed:
		return m.giveUp(e.Reason)
	case DeadlinePassed:
		return m.giveUp("the trial was not healthy by its deadline")
	case Failed:
		return m.failed(e)
	}
	return m, nil
}
