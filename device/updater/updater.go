// Package updater replaces a device's firmware as package update decides: it
// looks up in verified metadata what the hub offers, streams it into the slot
// that does not run, has it tried, checks its health, and reports.
//
// An offer is only a hint. Whatever the hub sends, at most a refusal and a
// report come of it; nothing is written but the slot that does not run.
package updater

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"holdfast/internal/atomicfile"
	"holdfast/internal/backoff"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/update"
)

// Slots are the places for firmware; see package device/slots.
type Slots interface {
	Facts() (update.Facts, error)
	// Do does an action that is about slots.
	Do(a update.Action, m update.Machine) error
	// Running returns the image that runs.
	Running() (io.ReaderAt, release.Blob)
	// Write begins to write a release into the slot that does not run, from
	// an offset on of what was written before.
	Write(rel release.Release, offset int64) (Writer, error)
}

// Writer writes an image into a slot.
type Writer interface {
	io.Writer
	Offset() int64 // how much is there; at first it may be less than was asked for
	Sync() error   // puts it on stable storage
	Finish() error // after the last byte: refuses what is not what was signed
}

// Metadata says which releases there are; see package device/fetch.
type Metadata interface {
	Refresh(ctx context.Context) error
	Find(v mcuboot.Version) (release.Release, error)
}

// Source has the contents of releases; see package device/fetch. trouble is
// called with each error after which reading goes on.
type Source interface {
	Blob(ctx context.Context, b release.Blob, from int64, trouble func(error)) io.ReadCloser
	// Delta returns what makes one image of another, and its length.
	Delta(ctx context.Context, from, to release.Blob, trouble func(error)) (io.ReadCloser, int64, error)
}

// Config is what an updater works with. All of it is required, unless it says
// otherwise.
type Config struct {
	Path     string // of the file that outlasts restarts
	Product  release.Product
	Hardware string // the board's revision; may be empty
	Slots    Slots
	Metadata Metadata
	Source   Source
	Clock    func() tuf.Clock
	// Checks are the health checks that the device can make, by name; each
	// says why the device is not healthy yet. A release that wants another one
	// is refused.
	Checks  map[string]func() error
	Started time.Time     // about when this boot began: a trial's deadline counts from then
	Changed func(Status)  // called with each change; may be nil
	Refresh time.Duration // between two looks at the metadata without an offer; 0: 4 hours, with jitter
	Log     *slog.Logger
}

const (
	defaultRefresh = 4 * time.Hour
	tickEvery      = 10 * time.Second // a window is looked for so often
	reportEvery    = 5 * time.Second  // between two reports of a download
	resetPatience  = time.Minute      // for the board to reset
	flushPatience  = 5 * time.Second  // for the last report before a reset
)

// Updater updates one device.
type Updater struct {
	cfg    Config
	offers chan []byte
	told   chan telling // what goroutines tell the loop
	out    *outbox

	// These belong to the goroutine of Run.
	machine  update.Machine
	offer    release.Offer // the newest; zero: none
	later    bool          // it came while a trial was on: it has to be looked at again
	lookup   *task         // of metadata
	work     *task         // download, verification or health check
	reported time.Time     // of the newest report of a download
	delta    patch         // of the download
	kept     []byte        // of the machine, in the file

	mu     sync.Mutex // guards status
	status Status
}

// patch is how far the download of a delta is.
type patch struct{ bytes, length int64 }

// Status is what an updater knows of itself.
type Status struct {
	Off      string            `json:"off,omitempty"` // why the device takes no updates
	Product  release.Product   `json:"product,omitempty"`
	Hardware string            `json:"hardware,omitempty"`
	Running  mcuboot.Version   `json:"running,omitzero"`
	Minimum  uint32            `json:"minimum,omitempty"`  // least security version
	Progress *release.Progress `json:"progress,omitempty"` // the newest report
}

// New returns an Updater, in the state that it was in before the restart. It
// fails where the board's security counter cannot be read: then nothing may be
// installed.
func New(cfg Config) (*Updater, error) {
	if cfg.Path == "" || cfg.Product == "" || cfg.Slots == nil || cfg.Metadata == nil || cfg.Source == nil ||
		cfg.Clock == nil || cfg.Started.IsZero() || cfg.Log == nil {
		return nil, errors.New("updater: a required part is missing")
	}
	if cfg.Refresh == 0 {
		cfg.Refresh = defaultRefresh
	}
	u := &Updater{cfg: cfg, offers: make(chan []byte, 1), told: make(chan telling), out: newOutbox()}
	facts, err := cfg.Slots.Facts()
	if err != nil {
		return nil, fmt.Errorf("updater: %w", err)
	}
	facts.Product, facts.Hardware = cfg.Product, cfg.Hardware
	u.machine.Facts = facts
	u.status = Status{Product: cfg.Product, Hardware: cfg.Hardware, Running: facts.Running.Version, Minimum: facts.Minimum}
	return u, u.load()
}

// load reads the machine of before. One that cannot be read begins anew: the
// boot record decides what runs, and what is lost is only what was tried.
func (u *Updater) load() error {
	b, err := os.ReadFile(u.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("updater: %w", err)
	}
	facts := u.machine.Facts
	if err := json.Unmarshal(b, &u.machine); err != nil {
		u.cfg.Log.Warn("update state unreadable", "err", err)
		u.machine = update.Machine{}
	}
	u.machine.Facts, u.kept = facts, b
	return nil
}

// keep puts the machine on stable storage.
func (u *Updater) keep() error {
	b, err := json.Marshal(u.machine)
	if err != nil || string(b) == string(u.kept) {
		return err
	}
	if err := atomicfile.Write(u.cfg.Path, b, 0o600); err != nil {
		return err
	}
	u.kept = b
	return nil
}

// Status returns what the updater knows of itself now.
func (u *Updater) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.status
}

// Run updates the device until ctx ends.
func (u *Updater) Run(ctx context.Context) error {
	defer u.stop(&u.work)
	defer u.stop(&u.lookup)
	u.step(ctx, update.Booted{Facts: u.machine.Facts})
	switch {
	case !u.machine.Busy() && len(u.machine.Ends) > 0: // the power may have gone before it was told
		u.report(u.progress())
	case u.machine.Busy() && !u.trying(): // it may have been withdrawn meanwhile
		u.offer = u.machine.Offer
		u.look(ctx)
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	refresh := time.NewTimer(u.jitter())
	defer refresh.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case body := <-u.offers:
			u.offered(ctx, body)
		case t := <-u.told:
			u.hear(ctx, t)
		case <-tick.C:
			u.step(ctx, update.Tick{})
		case <-refresh.C:
			u.look(ctx)
			refresh.Reset(u.jitter())
		}
	}
}

// jitter spreads the looks of many devices.
func (u *Updater) jitter() time.Duration {
	return time.Duration((0.5 + rand.Float64()) * float64(u.cfg.Refresh))
}

// now is the time for windows and deadlines; zero when it is not known.
func (u *Updater) now() time.Time {
	if c := u.cfg.Clock(); c.Known() {
		return c.Now
	}
	return time.Time{}
}

// step tells the machine of an event and does what it wants done.
func (u *Updater) step(ctx context.Context, e update.Event) {
	before := u.machine.State
	next, actions := u.machine.Next(e, u.now())
	u.machine = next
	if next.State != before {
		u.cfg.Log.Info("update", "state", next.State, "version", next.Target.Version)
	}
	unkept := u.keep()
	if unkept != nil {
		u.cfg.Log.Error("update state not kept", "err", unkept)
	}
	for _, a := range actions {
		err := unkept
		if a != update.MarkTrial || err == nil { // a trial that would be forgotten is not begun
			err = u.do(ctx, a)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			u.cfg.Log.Error("update step failed", "step", a, "err", err)
			u.step(ctx, update.Failed{Action: a, Err: err})
			return
		}
	}
	u.again(ctx)
}

// again looks at the offer that came while a trial was on, once it is over.
func (u *Updater) again(ctx context.Context) {
	if u.later && !u.trying() {
		u.later = false
		u.look(ctx)
	}
}

// trying reports whether the machine does not listen to offers now.
func (u *Updater) trying() bool {
	switch u.machine.State {
	case release.Trying, release.Confirming, release.Reverting:
		return true
	}
	return false
}

// do does one action.
func (u *Updater) do(ctx context.Context, a update.Action) error {
	switch a {
	case update.Download:
		target, from := u.machine.Target, u.machine.Bytes
		u.begin(ctx, &u.work, func(ctx context.Context, tell func(any)) any { return u.download(ctx, target, from, tell) })
	case update.Stop:
		u.stop(&u.work)
	case update.VerifySlot:
		m := u.machine
		u.begin(ctx, &u.work, func(context.Context, func(any)) any { return u.verify(m) })
	case update.CheckHealth:
		h := u.machine.Target.Health
		u.begin(ctx, &u.work, func(ctx context.Context, _ func(any)) any { return u.health(ctx, h) })
	case update.Report:
		u.report(u.progress())
	case update.Reset:
		return u.reset(ctx)
	case update.MarkTrial:
		return u.mark()
	default:
		err := u.cfg.Slots.Do(a, u.machine)
		if err == nil && a == update.BurnCounter {
			u.burned()
		}
		return err
	}
	return nil
}

// mark has the slot tried next, if the release may be installed to this
// moment: it may have waited for its window for long.
func (u *Updater) mark() error {
	rel, err := u.cfg.Metadata.Find(u.machine.Target.Version)
	if err == nil && (rel.Image != u.machine.Target.Image || rel.Measured != u.machine.Target.Measured) {
		err = release.Refuse(release.MixAndMatch, fmt.Errorf("%s is another image now", rel.Path()))
	}
	if err != nil {
		return err
	}
	return u.cfg.Slots.Do(update.MarkTrial, u.machine)
}

// burned takes notice of the new minimum.
func (u *Updater) burned() {
	facts, err := u.cfg.Slots.Facts()
	if err != nil {
		u.cfg.Log.Error("security counter unreadable", "err", err)
		return
	}
	u.machine.Facts.Minimum = facts.Minimum
	u.change(func(s *Status) { s.Minimum = facts.Minimum })
}

// reset boots again, after the reports have had a moment to go out.
func (u *Updater) reset(ctx context.Context) error {
	flush, cancel := context.WithTimeout(ctx, flushPatience)
	u.out.flush(flush)
	cancel()
	if err := u.cfg.Slots.Do(update.Reset, u.machine); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(resetPatience):
		return errors.New("the board does not reset")
	}
}

// verify reads the slot again.
func (u *Updater) verify(m update.Machine) update.Event {
	err := u.cfg.Slots.Do(update.VerifySlot, m)
	switch {
	case err == nil:
		return update.Verified{}
	case release.AttackOf(err) != "":
		return update.Refused{Err: err}
	}
	return update.Failed{Action: update.VerifySlot, Err: err}
}

// progress is what is to be reported now.
func (u *Updater) progress() release.Progress {
	p := u.machine.Progress()
	if p.State == release.Downloading && u.delta.length > 0 {
		p.Delta, p.Bytes, p.Length = true, u.delta.bytes, u.delta.length
	}
	return p
}

// report queues a report, and notes it in the status.
func (u *Updater) report(p release.Progress) {
	u.out.put(p)
	u.change(func(s *Status) { s.Progress = &p })
}

func (u *Updater) change(f func(*Status)) {
	u.mu.Lock()
	f(&u.status)
	s := u.status
	u.mu.Unlock()
	if u.cfg.Changed != nil {
		u.cfg.Changed(s)
	}
}

// slow spaces out looks at metadata that is refused or cannot be had.
var slow = backoff.Policy{Base: 4 * time.Second, Cap: 10 * time.Minute}
