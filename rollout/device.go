package rollout

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/release"
)

// Device is where one device stands in a rollout. Of what it reports only the
// newest is kept.
type Device struct {
	Rollout string
	ID      identity.Device
	Group   identity.Group
	State   State
	Cause   Cause         // of a failure or an exclusion
	Reason  string        // likewise, in words
	Attempt int           // counts what operators had it try again
	Step    release.State // of its updater, while it is updating
	Bytes   int64         // downloaded so far
	Length  int64         // of what it downloads
	Offered time.Time     // when it was last offered; zero: not yet
	Heard   time.Time     // when something was last heard of it
	Changed time.Time     // of State
	Due     time.Time     // when it is to be looked at again; zero: never
	Tried   time.Time     // while it waits: when it was last found away
	Told    int64         // Rev of the offer that it was last told, plus one; zero: none
}

// Facts are what the hub knows of a device beside what it reports of updates.
type Facts struct {
	Group     identity.Group
	Revoked   bool
	Unproven  string          // why nothing that it runs can be proved; empty: it can
	Attested  identity.Digest // of the firmware that it last attested; zero: none
	Running   release.Release // of which Attested is; the zero Release: none that is known
	Connected bool
	Seen      time.Time // when it was last here
}

// How often a device is looked at whose commit is not proved yet, and
// after which time one that is connected and takes no offer is asked again.
const (
	proveEvery = 10 * time.Second
	askAgain   = time.Minute
)

// Enter says where a device begins in a rollout.
func (p Plan) Enter(id identity.Device, f Facts, now time.Time) Device {
	d := Device{Rollout: p.ID, ID: id, Group: f.Group, State: Waiting, Changed: now}
	switch {
	case f.Revoked:
		return d.exclude(Revoked, "it is revoked", now)
	case f.Unproven != "":
		return d.exclude(Unproven, f.Unproven, now)
	case f.Attested == p.Measured:
		d.State, d.Reason = Done, "it ran the release already"
	case f.Running.Product != "" && f.Running.Product != p.Product:
		return d.exclude(Foreign, "it runs "+f.Running.Path(), now)
	case !p.OlderUnsafe && f.Running.Product == p.Product && f.Running.Version.Compare(p.Version) > 0:
		return d.exclude(Newer, "it runs "+f.Running.Version.String()+", which is newer", now)
	}
	return d
}

func (d Device) exclude(c Cause, reason string, now time.Time) Device {
	d.State, d.Cause, d.Reason, d.Changed, d.Due = Excluded, c, clip(reason), now, time.Time{}
	return d
}

func (d Device) fail(c Cause, reason string, now time.Time) Device {
	d.State, d.Cause, d.Reason, d.Changed, d.Due = Failed, c, clip(reason), now, time.Time{}
	return d
}

// Offer says that a device that waits is offered the release, or one again that
// had fallen silent.
func (r Rollout) Offer(d Device, now time.Time) Device {
	d.State, d.Cause, d.Reason, d.Step, d.Told = Offered, "", "", "", 0
	d.Offered, d.Heard, d.Changed = now, now, now
	d.Due = r.due(d)
	return d
}

// Undelivered takes an offer back that nobody was there to take.
func (d Device) Undelivered(connected bool, now time.Time) Device {
	d.State, d.Changed, d.Tried, d.Due, d.Offered = Waiting, now, now, time.Time{}, time.Time{}
	if connected {
		d.Due = now.Add(askAgain)
	}
	return d
}

// Deaf excludes a device that is connected and does not ask for updates.
func (d Device) Deaf(now time.Time) Device {
	return d.exclude(NoUpdater, "it is connected and has not subscribed to $hub/update/#: it has no updater, or one that is off", now)
}

// Again has a device that failed, or could not, try once more.
func (d Device) Again(now time.Time) (Device, bool) {
	if d.State != Failed && (d.State != Excluded || d.Cause != NoUpdater && d.Cause != Foreign) {
		return d, false
	}
	d.State, d.Cause, d.Reason, d.Step, d.Changed, d.Tried, d.Due = Waiting, "", "", "", now, time.Time{}, time.Time{}
	d.Attempt++
	return d, true
}

// Reported takes in what a device reports of an update. What is of another
// attempt, or of a device that is decided for good, changes nothing: the same
// report may come many times.
func (r Rollout) Reported(d Device, g release.Progress, now time.Time) Device {
	open := d.State.InFlight() || d.State == Failed && (d.Cause == Silent || d.Cause.passing() && g.State == release.Committed)
	if g.Rollout != r.ID || g.Attempt != d.Attempt || !open && !(d.State == Done && g.State == release.Reverting) {
		return d
	}
	d.Heard, d.Bytes, d.Length = now, max(g.Bytes, 0), max(g.Length, 0)
	switch {
	case g.State == release.Reverting:
		return d.fail(Reverted, reasonOf(g, "the trial failed"), now)
	case g.State == release.Committed:
		d.become(Committed, now)
		d.Step, d.Due = "", now // the proof may be there already
		return d
	case g.Final && g.Attack == release.WrongProduct:
		return d.exclude(Foreign, reasonOf(g, "the release is not for it"), now)
	case g.Final:
		return d.fail(Refused, reasonOf(g, "the device gave no reason"), now)
	case d.State == Committed:
		return d // what it says came late
	default:
		d.become(Updating, now)
		d.Step = g.State
	}
	d.Due = r.due(d)
	return d
}

func (d *Device) become(s State, now time.Time) {
	if d.State != s {
		d.State, d.Cause, d.Reason, d.Changed = s, "", "", now
	}
}

// reasonOf is why a device says that it did not work out.
func reasonOf(g release.Progress, otherwise string) string {
	text := cmp.Or(g.Reason, otherwise)
	if g.Attack != "" && !strings.HasPrefix(g.Reason, string(g.Attack)) {
		text = strings.TrimSuffix(string(g.Attack)+": "+g.Reason, ": ")
	}
	if g.Reset != "" {
		text += " (reset: " + g.Reset + ")"
	}
	return text
}

// Look decides on a device in flight by what the hub knows of it. up is since
// when the hub runs: before that it could have heard nothing.
func (r Rollout) Look(d Device, f Facts, up, now time.Time) Device {
	if !d.State.InFlight() {
		d.Due = time.Time{}
		return d
	}
	heard := latest(d.Heard, f.Seen, up, r.Resumed)
	if f.Connected {
		heard = now
	}
	d.Heard = heard
	began := latest(d.Offered, r.Resumed)
	switch {
	case f.Revoked:
		return d.exclude(Revoked, "it was revoked", now)
	case d.State == Committed && f.Attested == r.Measured:
		d.State, d.Reason, d.Changed, d.Due = Done, "", now, time.Time{}
		return d
	case d.State == Committed && now.Sub(latest(d.Changed, up, r.Resumed)) >= r.SilentAfter:
		return d.fail(Unproved, "it says that it runs the release, and attests "+digestText(f), now)
	case now.Sub(began) >= r.Deadline:
		return d.fail(Overdue, fmt.Sprintf("it has not come to an end within %s; last: %s", r.Deadline, d.where()), now)
	case now.Sub(heard) >= r.SilentAfter:
		return d.fail(Silent, fmt.Sprintf("nothing was heard of it for %s; last: %s", r.SilentAfter, d.where()), now)
	}
	d.Due = r.due(d)
	return d
}

func digestText(f Facts) string {
	if f.Attested == (identity.Digest{}) {
		return "nothing"
	}
	if f.Running.Product != "" {
		return f.Running.Path()
	}
	return f.Attested.String()
}

func (d Device) where() string {
	if d.State == Updating && d.Step != "" {
		return string(d.Step)
	}
	return string(d.State)
}

// due is when a device in flight is to be looked at again.
func (r Rollout) due(d Device) time.Time {
	at := d.Heard.Add(r.SilentAfter)
	if end := latest(d.Offered, r.Resumed).Add(r.Deadline); end.Before(at) {
		at = end
	}
	if prove := d.Heard.Add(proveEvery); d.State == Committed && prove.Before(at) {
		at = prove
	}
	return at
}

// CrashedAt takes in that a device crashed or was reset by its watchdog, at a
// time by its own clock, zero if it does not know: after it had committed, that
// is the release's.
func (d Device) CrashedAt(at time.Time, what string, now time.Time) Device {
	if d.State != Committed && d.State != Done || d.Offered.IsZero() || !at.IsZero() && at.Before(d.Offered) {
		return d
	}
	return d.fail(Crashed, what, now)
}

// Replace gives a device that is not decided to another rollout.
func (d Device) Replace(by string, now time.Time) Device {
	if d.State == Waiting || d.State.InFlight() {
		d.State, d.Cause, d.Reason, d.Changed, d.Due = Replaced, "", "rollout "+by+" has it now", now, time.Time{}
	}
	return d
}

// Wanted returns what a device of a rollout is to be told, and whether the
// rollout has a say: one in which the device waits has none.
func (r Rollout) Wanted(d Device) (o release.Offer, says bool) {
	switch {
	case r.Stage == Planning || d.State == Replaced || d.State == Waiting && r.Stage != Halted:
		return release.Offer{}, false
	case !d.State.InFlight() || r.Stage == Halted || r.Stage == Superseded:
		return release.Offer{}, true
	}
	o = release.Offer{Rollout: r.ID, Product: r.Product, Version: r.Version, Windows: r.Windows, Attempt: d.Attempt, Unpaused: r.Stage != Paused}
	if r.Stage != Finished { // who comes late has all the time it wants
		o.Deadline = latest(d.Offered, r.Resumed).Add(r.Deadline).UTC()
	}
	return o, true
}

// OfferVersion numbers an offer: a later one has a higher number.
func (r Rollout) OfferVersion(d Device) uint64 {
	n := uint64(r.Seq)<<32 | uint64(r.Rev)<<8&(1<<32-1)
	if d.State.InFlight() {
		n |= 1
	}
	return n
}

// clip bounds a reason, and takes what is no text out of it.
func clip(s string) string {
	s = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s), "?")
	if len(s) > MaxReason {
		s = strings.ToValidUTF8(s[:MaxReason], "")
	}
	return s
}
