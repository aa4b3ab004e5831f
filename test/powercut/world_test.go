package powercut_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/cryptotest"
	"time"

	"holdfast/device/board"
	"holdfast/device/board/virtual"
	"holdfast/device/slots"
	"holdfast/identity"
	"holdfast/internal/flash/flashtest"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/update"
)

// The flash: small, so that every cut of it can be tried.
const (
	sector   = 512
	slotSize = 16 * sector
	payload  = 6000 // bytes of each image
	block    = 512  // is programmed at once
	chunk    = 700  // comes from the network at once
	syncEach = 4096 // bytes between two syncs of a download
)

// The areas of the chip.
const (
	areaA = iota
	areaB
	areaRecord
)

// fault is what a release does on trial.
type fault string

const (
	good  fault = ""
	sick  fault = "health" // its checks fail
	hangs fault = "hang"   // the watchdog resets it
	exits fault = "exit"   // it ends by itself
)

// firmware is a signed release.
type firmware struct {
	release.Release
	image []byte
	fault fault
}

// scenario is what happens: the images and the order in which a hub offers
// them. Releases[0] is in slot A at first.
type scenario struct {
	name     string
	keyHash  identity.Digest
	releases []firmware
}

// newScenario makes a scenario of releases with the security versions given; all
// but the first and the last have the fault.
func newScenario(t *testing.T, name string, f fault, security ...uint32) *scenario {
	t.Helper()
	cryptotest.SetGlobalRandom(t, *seed) // else the id of a cut would mean another one next time
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{name: name, keyHash: hash}
	for i, version := range security {
		image, err := mcuboot.Build(bytes.Repeat([]byte{byte(i + 1), 0xa5}, payload/2), mcuboot.Version{Major: 1, Minor: uint8(i)}, version, key)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := mcuboot.Parse(image)
		if err != nil {
			t.Fatal(err)
		}
		r := firmware{image: image, Release: release.Release{
			Target: release.Target{Product: "pump", Version: parsed.Version, SecurityVersion: version, Measured: parsed.Digest,
				Health: release.Health{Checks: []string{release.CheckHub}, Seconds: 60}},
			Image: release.Blob{Length: int64(len(image)), SHA256: parsed.Blob},
		}}
		if i > 0 && i < len(security)-1 {
			r.fault = f
		}
		s.releases = append(s.releases, r)
	}
	return s
}

// hub is an honest hub: it offers a release until it is committed; one that
// fails it offers again, and a bad one it gives up for the next.
type hub struct {
	Next    int // the release that it offers
	Attempt int
	Done    bool
}

// report takes what a device says.
func (h *hub) report(s *scenario, p release.Progress) {
	want := s.releases[h.Next]
	if !p.Final || p.Version != want.Version || p.Attempt != h.Attempt || h.Done {
		return
	}
	switch {
	case p.State == release.Committed:
		h.Attempt = 1
		if h.Done = h.Next == len(s.releases)-1; !h.Done {
			h.Next++
		}
	case want.fault != good && p.State == release.Reverting:
		h.Next, h.Attempt = h.Next+1, 1
	default:
		h.Attempt++
	}
}

// state is what outlasts a power cut, and what a test remembers of it.
type state struct {
	chip     *flashtest.Chip
	counter  uint32
	saved    []byte // the runtime's file
	hub      hub
	promised int     // the release whose commit has returned
	maybe    int     // the release whose commit has begun; 0: none
	armed    bool    // a trial was marked and has not booted since
	rotten   [2]bool // slots with bit rot
}

// begin is a board that runs its first release.
func (s *scenario) begin() state {
	c := &flashtest.Chip{}
	c.Area(slotSize, sector, s.releases[0].image)
	c.Area(slotSize, sector, nil)
	c.Area(2*sector, sector, nil)
	return state{chip: c, counter: s.releases[0].SecurityVersion, saved: []byte("{}"), hub: hub{Next: 1, Attempt: 1}}
}

// key is the same for states from which the same happens.
func (s state) key() identity.Digest {
	h := sha256.New()
	for _, a := range s.chip.Areas() {
		h.Write(a.Bytes())
	}
	fmt.Fprintf(h, "%d %+v %d %d %v %v %s", s.counter, s.hub, s.promised, s.maybe, s.armed, s.rotten, s.saved)
	return identity.Digest(h.Sum(nil))
}

// moment is just before something changes for good.
type moment struct {
	state // without chip
	at    flashtest.Snapshot
	op    flashtest.Op // empty: the counter, the file or the hub
	what  string
}

// world is a device with its power on.
type world struct {
	state
	s       *scenario
	rom     virtual.ROM
	moments []moment // nil unless watched
	watched bool
	m       update.Machine
	slots   *slots.Slots
	queue   []update.Event
	cause   string // of the reset that ends this boot; empty: it goes on
}

// live switches the power on and lets everything happen until the hub has what
// it wanted. It returns the moments on the way and what went wrong.
func (s *scenario) live(from state, watched bool) ([]moment, error) {
	// A state may be lived through more than once.
	from.chip = from.chip.Snapshot().Cut(nil, flashtest.Op{}, 0)
	w := &world{state: from, s: s, watched: watched}
	areas := w.chip.Areas()
	w.rom = virtual.ROM{A: areas[areaA], B: areas[areaB], Record: areas[areaRecord], Fuses: virtual.Fuses{KeyHash: s.keyHash, Verify: true}}
	w.chip.Before = func(op flashtest.Op) { w.point(op, op.String()) }
	cause := board.PowerOn
	for range 40 {
		b := w.rom.Boot(w.counter, cause)
		if err := w.judge(b); err != nil {
			return w.moments, err
		}
		if b.Parsed == nil {
			return w.moments, nil // judged: nothing may boot
		}
		done, err := w.run(b)
		if err != nil || done {
			return w.moments, err
		}
		cause = w.cause
	}
	return w.moments, errors.New("forty boots, and no end of it")
}

// point notes a moment.
func (w *world) point(op flashtest.Op, what string) {
	if w.watched {
		m := moment{state: w.state, at: w.chip.Snapshot(), op: op, what: what}
		m.chip = nil
		w.moments = append(w.moments, m)
	}
}

// holds returns the release that a slot holds byte for byte, or -1.
func (w *world) holds(slot int) int {
	got := w.chip.Areas()[slot].Bytes()
	for i, r := range w.s.releases {
		want := append(bytes.Clone(r.image), bytes.Repeat([]byte{0xff}, slotSize-len(r.image))...)
		if bytes.Equal(got, want) {
			return i
		}
	}
	return -1
}

// judge checks what the boot ROM has chosen, by comparing bytes.
func (w *world) judge(b virtual.Booted) error {
	if b.Parsed == nil {
		for slot := range 2 {
			if i := w.holds(slot); i >= 0 && w.s.releases[i].SecurityVersion >= w.counter {
				return fmt.Errorf("nothing boots, and slot %d has release %d", slot, i)
			}
		}
		if w.rotten == [2]bool{} {
			return errors.New("nothing boots, and nothing is rotten")
		}
		return nil
	}
	slot := areaA
	if b.Image.Slot == update.B {
		slot = areaB
	}
	i := w.holds(slot)
	switch {
	case i < 0:
		return fmt.Errorf("slot %d boots and holds no release", slot)
	case w.s.releases[i].Measured != b.Image.Measured:
		return fmt.Errorf("slot %d boots as something else", slot)
	case w.s.releases[i].SecurityVersion < w.counter:
		return fmt.Errorf("release %d boots below the counter, %d", i, w.counter)
	case b.Trial && !w.armed:
		return fmt.Errorf("release %d boots as a trial again", i)
	case !b.Trial && i != w.promised && (i != w.maybe || w.maybe == 0) && w.rotten == [2]bool{}:
		return fmt.Errorf("release %d boots, %d was committed", i, w.promised)
	}
	if !b.Trial {
		w.promised = i // a commit that was cut has happened or not, for good
	}
	w.maybe = 0
	if b.Trial {
		w.armed = false
		sure := w.chip.Snapshot().Cut(func(int) bool { return false }, flashtest.Op{}, 0)
		if !update.Load(pair(sure)).Trying() {
			return errors.New("a trial boots that is not consumed on stable storage")
		}
	}
	return nil
}

// Minimum implements slots.Counter.
func (w *world) Minimum() (uint32, error) { return w.counter, nil }

// Burn implements slots.Counter.
func (w *world) Burn() error {
	w.point(flashtest.Op{}, "burn the counter")
	w.counter++
	if least := w.s.releases[w.promised].SecurityVersion; w.counter > least && w.rotten == [2]bool{} {
		return fmt.Errorf("the counter goes to %d, release %d is committed with %d", w.counter, w.promised, least)
	}
	return nil
}

// run is one boot of the runtime. It ends with a reset, or when all is done.
func (w *world) run(b virtual.Booted) (done bool, err error) {
	w.cause, w.queue, w.m = "", nil, update.Machine{}
	if err := json.Unmarshal(w.saved, &w.m); err != nil {
		return false, fmt.Errorf("the runtime's file: %w", err)
	}
	w.slots, err = slots.Open(slots.Config{A: w.rom.A, B: w.rom.B, Record: w.rom.Record, Block: block,
		Running: b.Image.Slot, Trial: b.Trial, KeyHash: w.s.keyHash, Counter: w, Reset: func(string) error {
			w.cause = board.Requested
			return nil
		}})
	if err != nil {
		return false, err
	}
	facts, err := w.slots.Facts()
	if err != nil {
		return false, err
	}
	facts.Product = "pump"
	w.queue = append(w.queue, update.Booted{Facts: facts})
	for range 1000 {
		switch {
		case w.cause != "":
			return false, nil
		case len(w.queue) > 0:
			e := w.queue[0]
			w.queue = w.queue[1:]
			if err := w.tell(e); err != nil {
				return false, err
			}
		case w.hub.Done && !w.m.Busy():
			return true, w.finished()
		case !w.m.Busy():
			r := w.s.releases[w.hub.Next]
			w.queue = append(w.queue, update.Offered{Release: r.Release, Offer: release.Offer{
				Rollout: "r", Product: "pump", Version: r.Version, Attempt: w.hub.Attempt, Unpaused: true}})
		default:
			return false, fmt.Errorf("the updater waits for nothing: %s", w.m.State)
		}
	}
	return false, errors.New("a thousand events, and no end of it")
}

// finished checks how everything has to be in the end.
func (w *world) finished() error {
	last := w.s.releases[len(w.s.releases)-1]
	rec := update.Load(pair(w.chip))
	switch {
	case w.slots.Running().Measured != last.Measured:
		return fmt.Errorf("in the end %s runs, want %s", w.slots.Running().Version, last.Version)
	case w.counter != last.SecurityVersion:
		return fmt.Errorf("in the end the counter is %d, want %d", w.counter, last.SecurityVersion)
	case rec.Trial != nil || rec.Active != w.slots.Running().Slot:
		return fmt.Errorf("in the end the record is %+v", rec)
	}
	return nil
}

// tell lets the machine take an event and does what it says.
func (w *world) tell(e update.Event) error {
	next, actions := w.m.Next(e, time.Time{})
	w.m = next
	text, err := json.Marshal(w.m)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, w.saved) {
		w.point(flashtest.Op{}, "save the runtime's file")
		w.saved = text
	}
	for _, a := range actions {
		if w.cause != "" {
			return nil
		}
		if err := w.do(a); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	return nil
}

func (w *world) do(a update.Action) error {
	switch a {
	case update.Report:
		w.point(flashtest.Op{}, "report")
		w.hub.report(w.s, w.m.Progress())
		return nil
	case update.Download:
		return w.download()
	case update.Stop:
		return nil
	case update.VerifySlot:
		var e update.Event = update.Verified{}
		if err := w.slots.Do(a, w.m); err != nil {
			if w.rotten == [2]bool{} {
				return err // the network is honest, and nothing is rotten
			}
			e = update.Refused{Err: err}
		}
		w.queue = append(w.queue, e)
		return nil
	case update.CheckHealth:
		return w.health()
	case update.MarkTrial:
		w.armed = true
	case update.MarkCommitted:
		w.maybe = w.running()
		if err := w.slots.Do(a, w.m); err != nil {
			return err
		}
		w.promised, w.maybe = w.running(), 0
		return nil
	}
	return w.slots.Do(a, w.m)
}

// running returns the release that runs.
func (w *world) running() int {
	for i, r := range w.s.releases {
		if r.Measured == w.slots.Running().Measured {
			return i
		}
	}
	return -1
}

func (w *world) health() error {
	switch w.s.releases[w.running()].fault {
	case sick:
		w.queue = append(w.queue, update.HealthFailed{Reason: "the hub cannot be reached"})
	case hangs:
		w.cause = board.Expired
	case exits:
		w.cause = board.Exited
	default:
		w.queue = append(w.queue, update.HealthPassed{})
	}
	return nil
}

// download streams the target from where it stands.
func (w *world) download() error {
	var image []byte
	for _, r := range w.s.releases {
		if r.Measured == w.m.Target.Measured {
			image = r.image
		}
	}
	out, err := w.slots.Resume(w.m.Target, w.m.Bytes)
	if err != nil {
		return err
	}
	synced := out.Offset()
	for at := out.Offset(); at < int64(len(image)); {
		n, err := out.Write(image[at:min(at+chunk, int64(len(image)))])
		if err != nil {
			return err
		}
		if at += int64(n); at-synced < syncEach {
			continue
		}
		if err := out.Sync(); err != nil {
			return err
		}
		synced = out.Offset()
		if err := w.tell(update.Chunk{Bytes: synced}); err != nil {
			return err
		}
	}
	if err := out.Finish(); err != nil {
		if w.rotten == [2]bool{} {
			return err
		}
		w.queue = append(w.queue, update.Refused{Err: err})
		return nil
	}
	w.queue = append(w.queue, update.Downloaded{})
	return nil
}
