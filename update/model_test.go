package update_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/update"
)

// TestModel explores an abstract device, with the real machine and the real
// boot decision in it, against an adversary: he makes the hub offer what he
// likes, has any bytes or none come from the network, fails actions, cuts the
// power between any two steps and lets a slot rot. What he cannot do is sign.
var depth = flag.Int("model-depth", 3, "choices of the adversary that the model explores; what follows by itself is none")

// The images of the model. The device begins with v1.
const (
	garbage = iota - 1 // no signature
	v1
	v2
	v3
	older     // than v1, with a lower counter
	withdrawn // newer than all
	foreign   // of another product
	images
)

// catalogue is what signed metadata says of each.
var catalogue = func() [images]release.Release {
	var all [images]release.Release
	for i, x := range []struct {
		minor    uint8
		security uint32
	}{v1: {1, 2}, v2: {2, 3}, v3: {3, 4}, older: {0, 1}, withdrawn: {9, 9}, foreign: {3, 4}} {
		r := &all[i]
		r.Product, r.Version, r.SecurityVersion = "pump", mcuboot.Version{Major: 1, Minor: x.minor}, x.security
		r.Measured = identity.Sum(fmt.Append(nil, "measured", i))
		r.Image = release.Blob{Length: 10, SHA256: identity.Sum(fmt.Append(nil, "image", i))}
		r.Health.Seconds = 60
	}
	all[withdrawn].Withdrawn = "it bricks"
	all[foreign].Product = "valve"
	return all
}()

func imageOf(measured identity.Digest) int {
	return slices.IndexFunc(catalogue[:], func(r release.Release) bool { return r.Measured == measured })
}

// device is a state of the model.
type device struct {
	// What outlasts a power cut.
	slots   [2]int // what each holds
	rec     update.Record
	minimum uint32
	saved   string // the machine's file

	// What does not.
	on       bool
	running  update.Slot
	m        update.Machine
	text     string          // of m
	todo     []update.Action // of the last event; "save" is the machine's file
	loading  bool            // a download runs
	verified bool

	// What the model remembers.
	committed int
	maybe     int // whose commit has begun, or garbage
	armed     bool
	rotten    bool // slots may hold anything now
	failures  int  // actions that have failed
	cause     string
	wrong     string // what must not be
}

const save update.Action = "save"

func slotIndex(s update.Slot) int {
	if s == update.B {
		return 1
	}
	return 0
}

func begin() device {
	return device{slots: [2]int{v1, garbage}, minimum: catalogue[v1].SecurityVersion, saved: "{}", maybe: garbage, cause: "power-on"}
}

// key is the same for states from which the same follows.
func (d device) key() [32]byte {
	b := append(make([]byte, 0, 2048), d.saved...)
	b = append(append(b, 0), d.text...)
	trial := func(t *update.Trial) {
		if t != nil {
			b = fmt.Append(b, t.Slot, imageOf(t.Digest), t.Tried)
		}
	}
	trial(d.rec.Trial)
	f := d.m.Facts
	trial(f.Record.Trial)
	return sha256.Sum256(fmt.Append(b, d.slots, d.rec.Active, d.rec.Last.Result, imageOf(d.rec.Last.Digest), d.rec.Last.Reset, d.minimum, d.on, d.running,
		f.Record.Active, f.Record.Last.Result, f.Minimum, f.Trial, d.todo, d.loading, d.verified, d.committed, d.maybe, d.armed, d.rotten, d.failures, d.cause))
}

// cut takes the power away.
func (d device) cut(cause string) device {
	d.on, d.running, d.m, d.text, d.todo, d.loading, d.verified, d.cause = false, "", update.Machine{}, "", nil, false, false, cause
	return d
}

// boot is the boot ROM: the state in which it has started something, and that
// in which the record was written and the power gone again.
func (d device) boot() (booted, cut *device) {
	c := update.Boot(d.rec, func(s update.Slot) (update.Image, error) {
		i := d.slots[slotIndex(s)]
		if i == garbage {
			return update.Image{}, mcuboot.WrongSignature
		}
		r := catalogue[i]
		return update.Image{Measured: r.Measured, Version: r.Version, SecurityVersion: r.SecurityVersion}, nil
	}, d.minimum, d.cause)
	if c.Write {
		c.Record.Sequence++
		d.rec = c.Record
		gone := d.cut("power-on")
		cut = &gone
	}
	i := garbage
	if c.Image != (update.Image{}) {
		i = imageOf(c.Image.Measured)
	}
	switch {
	case i == garbage && !d.rotten:
		d.wrong = "nothing boots"
	case i == garbage && slices.ContainsFunc(d.slots[:], func(s int) bool { return s != garbage && catalogue[s].SecurityVersion >= d.minimum }):
		d.wrong = "nothing boots, and something could"
	case i == garbage:
		return nil, cut // bricked by rot in the only good slot
	case d.slots[slotIndex(c.Image.Slot)] != i:
		d.wrong = "what boots is not what the slot holds"
	case catalogue[i].SecurityVersion < d.minimum:
		d.wrong = "boots below the minimum"
	case i == withdrawn || i == foreign || i == older:
		d.wrong = fmt.Sprintf("image %d boots", i)
	case c.Trial && !d.armed:
		d.wrong = "boots a trial twice"
	case !c.Trial && i != d.committed && i != d.maybe && !d.rotten:
		d.wrong = fmt.Sprintf("image %d boots, %d was committed", i, d.committed)
	}
	if c.Trial {
		d.armed = false
	} else {
		d.committed = i
	}
	d.on, d.running, d.maybe = true, c.Image.Slot, garbage
	if err := json.Unmarshal([]byte(d.saved), &d.m); err != nil {
		d.wrong = err.Error()
	}
	d = d.tell(update.Booted{Facts: update.Facts{Running: c.Image, Trial: c.Trial, Record: d.rec, Minimum: d.minimum, Product: "pump"}})
	return &d, cut
}

// tell lets the machine take an event.
func (d device) tell(e update.Event) device {
	var actions []update.Action
	d.m, actions = d.m.Next(e, time.Time{})
	text, err := json.Marshal(d.m)
	if err != nil {
		d.wrong = err.Error()
	}
	d.text = string(text)
	d.todo = append([]update.Action{save}, actions...)
	return d
}

// act does the next action.
func (d device) act() device {
	a := d.todo[0]
	d.todo = d.todo[1:]
	inactive := slotIndex(d.running.Other())
	switch a {
	case save:
		d.saved = d.text
	case update.Download:
		if d.rec.Trying() {
			return d.fail(a)
		}
		if d.rec.Trial != nil || d.rec.Last.Result != update.None {
			d.rec = d.rec.Unstage()
		}
		d.loading, d.verified, d.slots[inactive] = true, false, garbage
	case update.Stop:
		d.loading = false
	case update.VerifySlot:
		d.verified = d.slots[inactive] == imageOf(d.m.Target.Measured) && d.m.Target.SecurityVersion >= d.minimum
		if d.verified {
			return d.tell(update.Verified{})
		}
		return d.tell(update.Refused{Err: release.Refuse(release.ArbitrarySoftware, errors.New("not what was signed"))})
	case update.DropTrial:
		if d.rec.Trial != nil && d.rec.Trial.Tried {
			return d.fail(a)
		}
		d.slots[inactive] = garbage
		if d.rec.Trial != nil {
			d.rec = d.rec.Unstage()
		}
	case update.MarkTrial:
		if !d.verified || d.rec.Trying() {
			return d.fail(a)
		}
		r := d.m.Target
		d.rec, d.armed = d.rec.Stage(d.running, update.Trial{Slot: d.running.Other(), Digest: r.Measured, Version: r.Version, SecurityVersion: r.SecurityVersion, Seconds: 60}), true
	case update.Reset:
		return d.cut("requested")
	case update.MarkCommitted:
		return d.commit()
	case update.ClearTrial:
		if d.rec.Trying() {
			d.wrong = "clears a trial that was not committed"
		}
		d.rec = d.rec.Clear()
	case update.BurnCounter:
		if d.rec.Active != d.running || d.rec.Trial != nil {
			return d.fail(a)
		}
		if least := catalogue[d.slots[slotIndex(d.running)]].SecurityVersion; d.minimum < least {
			d.minimum++
			d.todo = append([]update.Action{a}, d.todo...)
		}
	case update.Report:
		p := d.m.Progress()
		if p.Final && p.State == release.Committed && (p.Version != d.m.Facts.Running.Version || d.rec.Active != d.running) {
			d.wrong = "reports a commit that has not happened"
		}
	}
	return d
}

func (d device) commit() device {
	t := d.rec.Trial
	switch {
	case t == nil:
		d.rec = d.rec.Adopt(d.running)
	case !t.Tried || t.Slot != d.running:
		return d.fail(update.MarkCommitted)
	default:
		d.rec = d.rec.Commit()
	}
	d.committed = d.slots[slotIndex(d.running)]
	return d
}

// fail is an action that fails; those after it are not done.
func (d device) fail(a update.Action) device {
	d.todo = nil
	return d.tell(update.Failed{Action: a, Err: errors.New("it failed")})
}

func offer(i, attempt int, unpaused bool) update.Offered {
	r := catalogue[i]
	return update.Offered{Release: r, Offer: release.Offer{Rollout: "r", Product: r.Product, Version: r.Version, Attempt: attempt, Unpaused: unpaused}}
}

// loaded is the end of a download that brought an image, or garbage. What is
// not the target never becomes an image in the slot: the writer has not written
// its beginning.
func (d device) loaded(i int) device {
	d.loading = false
	if i == garbage || i != imageOf(d.m.Target.Measured) {
		return d.tell(update.Refused{Err: release.Refuse(release.ArbitrarySoftware, errors.New("wrong digest"))})
	}
	d.slots[slotIndex(d.running.Other())] = i
	return d.tell(update.Downloaded{})
}

// next are the state that follows by itself, if one does, and those that the
// adversary can make instead.
func (d device) next() (follows *device, chosen []device) {
	if !d.on {
		booted, cut := d.boot()
		if cut != nil {
			chosen = append(chosen, *cut)
		}
		if !d.rotten {
			for slot := range d.slots {
				rot := d
				rot.rotten, rot.slots[slot] = true, garbage
				chosen = append(chosen, rot)
			}
		}
		return booted, chosen
	}
	chosen = append(chosen, d.cut("power-on"))
	if len(d.todo) > 0 {
		if d.failures == 0 && !slices.Contains([]update.Action{save, update.Stop, update.Report}, d.todo[0]) {
			failed := d
			failed.failures++
			chosen = append(chosen, failed.fail(d.todo[0]))
		}
		acted := d.act()
		return &acted, chosen
	}
	return nil, append(chosen, d.events()...)
}

// events are what the adversary can have happen to a machine that waits.
func (d device) events() []device {
	var all []device
	for i := range images {
		for attempt := range 2 {
			all = append(all, d.tell(offer(i, attempt, true)))
		}
	}
	lie := offer(v2, 0, true)
	lie.Release = catalogue[v3]
	all = append(all, d.tell(offer(v2, 0, false)), d.tell(update.Offered{}), d.tell(lie),
		d.tell(update.Offered{Offer: offer(v3, 0, true).Offer, Err: release.Refuse(release.IndefiniteFreeze, errors.New("expired"))}))
	switch d.m.State {
	case release.Downloading:
		if d.loading {
			for i := range images {
				all = append(all, d.loaded(i))
			}
			all = append(all, d.loaded(garbage))
		}
	case release.Confirming:
		all = append(all, d.tell(update.HealthPassed{}), d.tell(update.HealthFailed{Reason: "sick"}), d.tell(update.DeadlinePassed{}), d.cut("watchdog"), d.cut("exited"))
	case release.Staged, release.Reverting:
		all = append(all, d.tell(update.Tick{}))
	}
	return all
}

// honest lets an honest hub and network finish an update to v3 and says why
// they could not. known are states from which they can.
func (d device) honest(known map[[32]byte]bool) string {
	attempt, asked := 100, 0
	var path [][32]byte
	for range 400 {
		key := d.key()
		if known[key] {
			break
		}
		path = append(path, key)
		switch {
		case d.wrong != "":
			return d.wrong
		case !d.on:
			booted, _ := d.boot()
			if booted == nil {
				return "" // rot took the only image
			}
			d = *booted
		case len(d.todo) > 0:
			d = d.act()
		case d.m.State == release.Downloading && d.loading:
			d = d.loaded(imageOf(d.m.Target.Measured))
		case d.m.State == release.Confirming:
			d = d.tell(update.HealthPassed{})
		case !d.m.Busy() && d.committed == v3 && d.rec.Active == d.running && d.rec.Trial == nil && d.minimum == catalogue[v3].SecurityVersion:
			known[key] = true
		case !d.m.Busy() && d.committed == v3 && d.rec.Active == d.running:
			d = d.cut("power-on") // an action that failed is done at the next start
		case d.m.State == release.Reverting:
			d = d.tell(update.Tick{})
		case asked == 20:
			return fmt.Sprintf("asked twenty times, and is %s with image %d", d.m.State, d.committed)
		default:
			asked++
			if !d.m.Busy() {
				attempt++
			}
			d = d.tell(offer(v3, attempt, true))
		}
	}
	if !known[d.key()] {
		return "does not end"
	}
	for _, key := range path {
		known[key] = true
	}
	return ""
}

// model is what has been explored.
type model struct {
	t           *testing.T
	all         []entry
	seen        map[[32]byte]bool
	known       map[[32]byte]bool
	transitions int
	bricked     int
}

// entry is a state and the one that it came from.
type entry struct {
	device
	from int
}

// add enters a state and those that follow from it by themselves, and returns
// the adversary's choices in all of them.
func (m *model) add(d device, from int) []entry {
	var chosen []entry
	for {
		m.transitions++
		key := d.key()
		if d.wrong != "" {
			m.t.Fatalf("%s\n%s", d.wrong, m.path(from))
		}
		if m.seen[key] {
			return chosen
		}
		m.seen[key] = true
		m.all = append(m.all, entry{d, from})
		from = len(m.all) - 1
		if why := d.honest(m.known); why != "" {
			m.t.Fatalf("an honest hub cannot finish: %s\n%s", why, m.path(from))
		}
		follows, others := d.next()
		for _, o := range others {
			chosen = append(chosen, entry{o, from})
		}
		if follows == nil {
			if !d.on {
				m.bricked++
			}
			return chosen
		}
		d = *follows
	}
}

// path says how a state has come about.
func (m *model) path(i int) string {
	var steps []string
	for ; i >= 0; i = m.all[i].from {
		d, trial := m.all[i], "none"
		if t := d.rec.Trial; t != nil {
			trial = fmt.Sprintf("%s in %s, tried %v", t.Version, t.Slot, t.Tried)
		}
		steps = append(steps, fmt.Sprintf("on %v, slot %s of %v, active %s, trial %s, last %s, minimum %d, %s %s %v",
			d.on, d.running, d.slots, d.rec.Active, trial, d.rec.Last.Result, d.minimum, d.m.State, d.m.Target.Version, d.todo))
	}
	slices.Reverse(steps)
	return strings.Join(steps, "\n")
}

func TestModel(t *testing.T) {
	start := time.Now()
	m := &model{t: t, seen: map[[32]byte]bool{}, known: map[[32]byte]bool{}}
	level := m.add(begin(), -1)
	for range *depth {
		var next []entry
		for _, e := range level {
			next = append(next, m.add(e.device, e.from)...)
		}
		level = next
	}
	t.Logf("%d states, %d transitions, %d choices of the adversary deep; in %d states rot has taken the only image; in %s",
		len(m.all), m.transitions, *depth, m.bricked, time.Since(start).Round(time.Millisecond))
}
