// Package fleet is the registry of groups and devices, and the one place that
// decides what a device may do. Evidence comes in from wherever it is seen
// (birth, appraisal, issuer, session, logs); fleet keeps it, combines it into
// the device's posture, decides by the policy of its group, and acts: it
// grants or denies certificates, cuts the live session down or opens it again,
// tells the device, and has every change recorded in the ledger.
//
// Invariants:
//   - All acts on one device happen one after another: a decision is never
//     taken on a record that another act is changing.
//   - What tightens (quarantine, revocation) reaches the live session even when
//     the state cannot be written; what loosens only after it was.
//   - All state but the live sessions is in the store: a restart loses nothing.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"holdfast/access"
	"holdfast/appraise"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
	"holdfast/release"
)

// Ledger records what is relevant to security. details is a value that
// marshals to a JSON object.
type Ledger interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}

// Sessions acts on a device's live session, if there is one. Its methods are
// called while the device is being acted on: they must not wait for calls that
// the session itself makes to the Fleet.
type Sessions interface {
	// SetMode opens the session or cuts it down to quarantine.
	SetMode(ctx context.Context, device identity.Device, mode access.Mode, reason string) error
	// Revoke ends the session.
	Revoke(ctx context.Context, device identity.Device, reason string) error
	// Publish tells the device on $hub/posture how it stands.
	Publish(ctx context.Context, device identity.Device, r posture.Report) error
}

// Withdrawer makes certificates worthless beyond this registry: it puts them
// on the revocation lists. serial is as pki.SerialText has it, reason one of
// the pki package's reasons.
type Withdrawer interface {
	Withdraw(ctx context.Context, device identity.Device, class pki.Class, serial string, reason int) error
}

// Enrolments knows which devices may enter the registry by themselves. It is
// asked while the device is being acted on: it must not call back for it.
type Enrolments interface {
	// Enrolled returns the group that a device comes into that the registry does
	// not know, and by what. A fault of kind NotFound means that no enrolment
	// speaks of it, and its group's own CAs and ids decide; any other keeps it out.
	Enrolled(ctx context.Context, p pki.Peer) (group identity.Group, by string, err error)
}

// Config has what a Fleet works with.
type Config struct {
	Store      Store            // required
	Ledger     Ledger           // required
	Sessions   Sessions         // required
	Enrolments Enrolments       // asked of devices that the registry does not know; optional
	Releases   Releases         // what is signed and published; nil: nothing is
	Offers     Offers           // what rollouts offer; nil: nothing
	Audits     Audits           // what auditors said of images; nil: nothing
	Withdrawer Withdrawer       // called on revocation, and when a new birth supersedes an old one; optional
	Log        *slog.Logger     // required
	Now        func() time.Time // default time.Now
}

// Fleet is the registry. It is safe for concurrent use.
type Fleet struct {
	cfg   Config
	log   *slog.Logger
	locks keyed // one per device that is being acted on

	drain sync.Mutex // one at a time hands events to the ledger, in their order

	mu        sync.Mutex
	live      map[identity.Device][]live // in the order in which they were told
	records   map[identity.Device]Record
	groups    map[identity.Group]operator.Group
	gauges    map[identity.Group]*posture.Gauge // of groups
	cas       []authority                       // nil: to be read
	casEpoch  uint64                            // counts the changes of authorities
	strangers strangers
	refused   refused
	shelves   map[release.Product][]appraise.Published // as they were last seen; what is in it is never changed

	rejudging sync.Mutex // one at a time acts on what was published
	auditing  sync.Mutex // one at a time acts on what auditors said
	noticing  sync.Mutex // one at a time compares what is published with what was seen

	index index // its own lock may be taken under mu, not the other way round
}

// live is a session that is open now. A device has more than one for a moment,
// when a new one replaces another, and their beginnings and ends may be told in
// any order.
type live struct {
	session string
	class   pki.Class
	mode    access.Mode
	peer    pki.Peer // who opened it
}

// New makes a Fleet.
func New(cfg Config) (*Fleet, error) {
	if cfg.Store == nil || cfg.Ledger == nil || cfg.Sessions == nil || cfg.Log == nil {
		return nil, errors.New("fleet: store, ledger, sessions and log are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Store = stamped{cfg.Store}
	return &Fleet{cfg: cfg, log: cfg.Log, live: make(map[identity.Device][]live), records: make(map[identity.Device]Record), groups: make(map[identity.Group]operator.Group),
		gauges: make(map[identity.Group]*posture.Gauge), shelves: make(map[release.Product][]appraise.Published)}, nil
}

// Recheck is how often the devices with a session are decided on again: time
// alone makes evidence stale and ends the time of grace of a first certificate.
const Recheck = time.Minute

// Run hands over events that an earlier process left behind, and decides again
// on each device with a session every Recheck, until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	tick := time.NewTicker(Recheck)
	defer tick.Stop()
	for {
		f.handOver(ctx)
		if err := f.missedReleases(ctx); err != nil && ctx.Err() == nil {
			f.log.ErrorContext(ctx, "look at what is published", "err", err)
		}
		if err := f.missedAudits(ctx); err != nil && ctx.Err() == nil {
			f.log.ErrorContext(ctx, "look at what auditors said", "err", err)
		}
		for _, id := range f.connected() {
			if err := f.recheck(ctx, id); err != nil && ctx.Err() == nil {
				f.log.ErrorContext(ctx, "recheck", "device", id, "err", err)
			}
		}
		if err := f.warm(ctx); err != nil && ctx.Err() == nil {
			f.log.ErrorContext(ctx, "look through the fleet", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// recheck decides again on a device, and ends a session whose certificate is
// not the device's own any more: it has ended or been superseded, or its maker
// no longer speaks for the device. A panic is that device's error: the others
// are rechecked all the same.
func (f *Fleet) recheck(ctx context.Context, id identity.Device) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	defer f.locks.lock(id)()
	r, g, err := f.load(ctx, id)
	if err != nil {
		return err
	}
	if s, ok := f.session(id); ok && s.class == pki.Maker && r.Revoked == nil {
		if err := f.owns(ctx, s.peer, r, g); fault.Of(err) == fault.Denied {
			return f.cfg.Sessions.Revoke(ctx, id, fault.Public(err))
		}
	}
	_, err = f.changeLoaded(ctx, r, g, nil)
	return err
}

func (f *Fleet) connected() []identity.Device {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := make([]identity.Device, 0, len(f.live))
	for id := range f.live {
		ids = append(ids, id)
	}
	return ids
}

// Connected returns how many sessions are open.
func (f *Fleet) Connected() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.live)
}

func (f *Fleet) now() time.Time { return f.cfg.Now().UTC() }

// session returns the device's session that was told of last.
func (f *Fleet) session(id identity.Device) (live, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ss := f.live[id]
	if len(ss) == 0 {
		return live{}, false
	}
	return ss[len(ss)-1], true
}

// differs reports whether a session of the device is in another mode.
func (f *Fleet) differs(id identity.Device, mode access.Mode) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.live[id], func(s live) bool { return s.mode != mode })
}

// enter notes an open session.
func (f *Fleet) enter(id identity.Device, s live) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live[id] = append(f.live[id], s)
	f.index.sessions(id, f.live[id])
}

// keyed is a mutex per device. The zero value is ready.
type keyed struct {
	mu    sync.Mutex
	locks map[identity.Device]*counted
}

// counted is a lock and how many hold it or wait for it.
type counted struct {
	sync.Mutex
	users int
}

// lock waits for the device and returns what releases it.
func (k *keyed) lock(id identity.Device) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = make(map[identity.Device]*counted)
	}
	c := k.locks[id]
	if c == nil {
		c = new(counted)
		k.locks[id] = c
	}
	c.users++
	k.mu.Unlock()
	c.Lock()
	return func() {
		c.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if c.users--; c.users == 0 {
			delete(k.locks, id)
		}
	}
}

// lockRegistry waits for the groups and authorities; no device has the empty id.
func (f *Fleet) lockRegistry() (unlock func()) { return f.locks.lock("") }
