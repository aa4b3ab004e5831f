// Package rollouts brings releases to devices, as package rollout decides. It
// lists the devices of a rollout, offers them the release wave by wave, takes
// in what they report and attest, and halts by itself. It installs nothing: a
// device believes signed metadata alone, so that the worst a rollout can do is
// to ask.
//
// Invariants:
//   - What is decided is stored before anybody is told, with what the ledger is
//     to record of it: a hub that is killed goes on where it stood.
//   - To more devices than a wave allows the release is not offered, whoever
//     comes at the same time.
//   - A device may be told the same offer, and report the same, any number of
//     times.
//   - Nothing but an operator lets a halted rollout go on.
//
// One process decides: the hub holds the lock of its state directory.
package rollouts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/tally"
	"holdfast/ledger"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/rollout"
)

// Releases knows what was published.
type Releases interface {
	// Release returns a release as verified metadata states it, one that was
	// withdrawn too. A fault of kind NotFound: there is no such release.
	Release(ctx context.Context, p release.Product, v mcuboot.Version) (release.Release, error)
}

// Registry knows the devices.
type Registry interface {
	// Members returns the devices of a group by id; a fault of kind NotFound
	// where there is no such group.
	Members(ctx context.Context, g identity.Group) ([]identity.Device, error)
	// Facts returns what is known of a device; a fault of kind NotFound where
	// there is none.
	Facts(ctx context.Context, d identity.Device) (rollout.Facts, error)
	// Connected reports whether the device has a session.
	Connected(d identity.Device) bool
}

// Sessions reaches devices.
type Sessions interface {
	// Offer tells a device what it is to run, and reports whether there is a
	// session that takes offers.
	Offer(ctx context.Context, d identity.Device, version uint64, o release.Offer) (bool, error)
}

// Products says what the devices of a group run.
type Products interface {
	// SetProduct gives a group its product, if it has none. A fault of kind
	// Conflict: it has another.
	SetProduct(ctx context.Context, by string, g identity.Group, p release.Product) error
}

// Ledger records what is relevant to security. details is a value that marshals
// to a JSON object.
type Ledger interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}

// Config is what a Service works with. Products and Now may be left out.
type Config struct {
	Store    Store
	Releases Releases
	Registry Registry
	Sessions Sessions
	Products Products
	Ledger   Ledger
	Log      *slog.Logger
	Now      func() time.Time // default time.Now
}

// Service brings releases to devices. It is safe for concurrent use.
type Service struct {
	cfg   Config
	log   *slog.Logger
	up    time.Time // since when devices could be heard
	wake  chan struct{}
	stats Stats

	changing sync.Mutex // one at a time changes a rollout and what is remembered of it
	handing  sync.Mutex // one at a time hands events to the ledger

	mu      sync.Mutex
	all     []rollout.Rollout          // the newest first; replaced, never changed
	counts  map[int64]rollout.Counts   // as last decided on
	filled  map[int64]time.Time        // the wave of which all that wait were found away
	settled map[int64]bool             // those that have finished and have no device in flight
	crashes map[identity.Device]report // to be taken in
}

// report is a crash that a device reported.
type report struct {
	at   time.Time
	what string
}

// Stats counts what was done since the process began.
type Stats struct {
	Offers   *tally.Vec // by outcome: delivered, away
	Progress *tally.Vec // reports by the state that they tell of
}

// New returns a Service that Run drives.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Releases == nil || cfg.Registry == nil || cfg.Sessions == nil || cfg.Ledger == nil || cfg.Log == nil {
		return nil, errors.New("rollouts: store, releases, registry, sessions, ledger and log are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var states []string
	for _, s := range []release.State{release.Idle, release.Downloading, release.Verifying, release.Staged, release.Trying, release.Confirming, release.Committed, release.Reverting} {
		states = append(states, string(s))
	}
	s := &Service{cfg: cfg, log: cfg.Log, wake: make(chan struct{}, 1), counts: map[int64]rollout.Counts{}, filled: map[int64]time.Time{}, settled: map[int64]bool{}, crashes: map[identity.Device]report{},
		stats: Stats{Offers: tally.NewVec([]string{"delivered", "away"}), Progress: tally.NewVec(states)}}
	s.up = s.now()
	for after := ""; ; {
		rs, err := cfg.Store.Rollouts(ctx, operator.RolloutQuery{After: after, Limit: pageOf})
		if err != nil {
			return nil, err
		}
		s.all = append(s.all, rs...)
		if len(rs) < pageOf {
			return s, nil
		}
		after = rs[len(rs)-1].ID
	}
}

const pageOf = 256

// now has no monotonic part, so that it is what the store gives back.
func (s *Service) now() time.Time { return s.cfg.Now().UTC().Round(0) }

// Stats returns what is counted.
func (s *Service) Stats() Stats { return s.stats }

// Look calls stages with how many rollouts there are of each stage, and devices
// with how many devices stand where in those that are not over.
func (s *Service) Look(stages func(n float64, stage string), devices func(n float64, state string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	byStage, byState := map[rollout.Stage]int{}, map[rollout.State]int{}
	for _, r := range s.all {
		byStage[r.Stage]++
		if !r.Stage.Over() {
			for state, n := range s.counts[r.Seq].States {
				byState[state] += n
			}
		}
	}
	for _, stage := range rollout.Stages() {
		stages(float64(byStage[stage]), string(stage))
	}
	for _, state := range rollout.States() {
		devices(float64(byState[state]), string(state))
	}
}

// snapshot returns all rollouts, the newest first. They are not to be changed.
func (s *Service) snapshot() []rollout.Rollout {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// byID returns a rollout; a fault of kind NotFound without.
func (s *Service) byID(id string) (rollout.Rollout, error) {
	for _, r := range s.snapshot() {
		if r.ID == id {
			return r, nil
		}
	}
	return rollout.Rollout{}, fault.New(fault.NotFound, "there is no rollout %.64q", id)
}

// remember replaces what is remembered of a rollout, or adds it.
func (s *Service) remember(r rollout.Rollout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.Clone(s.all)
	if i := slices.IndexFunc(s.all, func(o rollout.Rollout) bool { return o.Seq == r.Seq }); i >= 0 {
		s.all[i] = r
		return
	}
	s.all = append(s.all, r)
	slices.SortFunc(s.all, func(a, b rollout.Rollout) int { return cmp.Compare(b.Seq, a.Seq) })
}

// change changes a rollout, in the store first.
func (s *Service) change(ctx context.Context, seq int64, do func(*rollout.Rollout, rollout.Counts) ([]Event, error)) (rollout.Rollout, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	r, err := s.cfg.Store.Change(ctx, seq, do)
	if err == nil {
		s.remember(r)
	}
	return r, err
}

// again has Run look at once.
func (s *Service) again() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// How often a rollout is looked at: when something happened, but not more often
// than every settle, and by itself.
const (
	settle = 20 * time.Millisecond
	look   = time.Second
)

// Run decides and acts until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	for {
		s.Pass(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-time.After(look):
		}
		select { // more may have happened at the same time
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}

// Pass looks once at each rollout, and does what follows. What goes wrong with
// one is logged, and tried again with the next pass.
func (s *Service) Pass(ctx context.Context) {
	s.takeCrashes(ctx)
	for _, r := range slices.Backward(s.snapshot()) {
		if ctx.Err() != nil {
			return
		}
		if err := s.guarded(ctx, r.ID); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "rollout", "rollout", r.ID, "err", err)
		}
	}
	s.handOver(ctx)
}

// guarded turns a panic into an error: the hub goes on.
func (s *Service) guarded(ctx context.Context, id string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return s.step(ctx, id)
}

// handBatch bounds how many events are handed over at a time.
const handBatch = 256

// handOver gives stored events to the ledger, oldest first. What it does not
// take is tried again with the next pass.
func (s *Service) handOver(ctx context.Context) {
	s.handing.Lock()
	defer s.handing.Unlock()
	ctx = operator.With(context.WithoutCancel(ctx), operator.Principal{}) // what waits here may be somebody else's act
	for {
		n, err := s.handSome(ctx)
		if err != nil {
			s.log.ErrorContext(ctx, "hand events to the ledger", "err", err)
		}
		if err != nil || n < handBatch {
			return
		}
	}
}

func (s *Service) handSome(ctx context.Context) (int, error) {
	es, err := s.cfg.Store.Events(ctx, handBatch)
	if err != nil || len(es) == 0 {
		return 0, err
	}
	var done int64
	for _, e := range es {
		e.Details["number"] = e.Number
		if err = s.cfg.Ledger.Record(ctx, string(e.Kind), e.Device, e.Details); err != nil {
			break
		}
		done = e.Number
	}
	if done > 0 {
		err = errors.Join(err, s.cfg.Store.DropEvents(ctx, done))
	}
	return len(es), err
}

// event is what the ledger is told of a rollout. Of one group it says which.
func event(kind ledger.Kind, r rollout.Rollout, by, reason string, more map[string]any) Event {
	details := map[string]any{"rollout": r.ID, "product": r.Product, "version": r.Version, "groups": r.Groups, "by": by, "reason": reason}
	if len(r.Groups) == 1 {
		details["group"] = r.Groups[0]
	}
	for k, v := range more {
		details[k] = v
	}
	return Event{Kind: kind, Details: details}
}

// ofDevice is what the ledger is told of a device that failed, or that turned
// out to be unable.
func ofDevice(r rollout.Rollout, old, d rollout.Device) []Event {
	kinds := map[rollout.State]ledger.Kind{rollout.Failed: ledger.RolloutDeviceFailed, rollout.Excluded: ledger.RolloutDeviceExcluded}
	kind := kinds[d.State]
	if kind == "" || d.State == old.State && d.Cause == old.Cause {
		return nil
	}
	return []Event{{Kind: kind, Device: d.ID, Details: map[string]any{"rollout": r.ID, "product": r.Product, "version": r.Version,
		"by": "hub", "group": d.Group, "cause": d.Cause, "reason": d.Reason, "attempt": d.Attempt}}}
}
