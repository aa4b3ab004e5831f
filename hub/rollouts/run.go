package rollouts

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/release"
	"holdfast/rollout"
)

// How many devices are dealt with in one transaction, and told at a time.
const (
	batch   = 250
	tellers = 16
)

// step does what follows for a rollout now.
func (s *Service) step(ctx context.Context, id string) error {
	r, err := s.byID(id)
	if err != nil || r.Stage == rollout.Superseded {
		return err
	}
	if r, err = s.checkRelease(ctx, r); err != nil {
		return err
	}
	if r.Stage == rollout.Planning {
		if r, err = s.plan(ctx, r); err != nil {
			return err
		}
	}
	if r.Stage.Over() {
		return s.latecomers(ctx, r)
	}
	if r, err = s.decide(ctx, r); err != nil {
		return err
	}
	if r.Stage == rollout.Running {
		if err := s.lookAt(ctx, r); err != nil {
			return err
		}
		if err := s.fill(ctx, r); err != nil {
			return err
		}
	}
	return s.tell(ctx, r)
}

// latecomers looks at the devices that were offered the release of a rollout
// that has finished, while there are any.
func (s *Service) latecomers(ctx context.Context, r rollout.Rollout) error {
	s.mu.Lock()
	none := s.settled[r.Seq]
	s.settled[r.Seq] = true // until one comes
	s.mu.Unlock()
	if none {
		return nil
	}
	err := s.lookAt(ctx, r)
	var c rollout.Counts
	if err == nil {
		c, err = s.cfg.Store.Counts(ctx, r.Seq)
	}
	if err != nil || c.InFlight() > 0 {
		s.unsettle(r)
	}
	return err
}

// unsettle notes that a rollout may have devices in flight.
func (s *Service) unsettle(r rollout.Rollout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.settled, r.Seq)
}

// checkRelease halts a rollout whose release was withdrawn or is gone. One that
// has finished is halted too: nobody who comes later gets it any more.
func (s *Service) checkRelease(ctx context.Context, r rollout.Rollout) (rollout.Rollout, error) {
	if r.Stage == rollout.Halted || r.Stage == rollout.Finished && s.outdone(r) {
		return r, nil
	}
	why, err := s.unfit(ctx, r.Plan)
	if err != nil || why == "" {
		return r, err
	}
	return s.halt(ctx, r, "hub", why)
}

// outdone reports whether a newer rollout of the product has brought its release
// to all groups of r: nobody gets r's any more.
func (s *Service) outdone(r rollout.Rollout) bool {
	return slices.ContainsFunc(s.snapshot(), func(o rollout.Rollout) bool {
		return o.Seq > r.Seq && o.Product == r.Product && o.Stage == rollout.Finished && len(o.Devices) == 0 &&
			!slices.ContainsFunc(r.Groups, func(g identity.Group) bool { return !slices.Contains(o.Groups, g) })
	})
}

// unfit says why a plan's release must not be installed, or "".
func (s *Service) unfit(ctx context.Context, p rollout.Plan) (string, error) {
	rel, err := s.cfg.Releases.Release(ctx, p.Product, p.Version)
	switch {
	case fault.Of(err) == fault.NotFound && err != nil:
		return "the release " + p.Path() + " is not published", nil
	case err != nil:
		return "", err
	case rel.Withdrawn != "":
		return "the release was withdrawn: " + rel.Withdrawn, nil
	case rel.Measured != p.Measured:
		return "the release " + p.Path() + " is another one than when this began", nil
	}
	return "", nil
}

// halt halts a rollout that is not over, or that has finished.
func (s *Service) halt(ctx context.Context, r rollout.Rollout, by, reason string) (rollout.Rollout, error) {
	r, err := s.change(ctx, r.Seq, func(r *rollout.Rollout, c rollout.Counts) ([]Event, error) {
		if r.Stage == rollout.Halted || r.Stage == rollout.Superseded {
			return nil, nil
		}
		s.turn(r, rollout.Halted, reason)
		return []Event{event(ledger.RolloutHalt, *r, by, reason, counted(c))}, nil
	})
	if err == nil {
		s.log.WarnContext(ctx, "rollout is halted", "rollout", r.ID, "reason", reason)
	}
	return r, err
}

// turn brings a rollout to a stage. Devices in flight have to be told.
func (s *Service) turn(r *rollout.Rollout, to rollout.Stage, reason string) {
	r.Stage, r.Reason, r.Changed = to, reason, s.now()
	r.Rev++
	r.Ended = time.Time{}
	if to.Over() {
		r.Ended = r.Changed
	}
}

// counted is what the ledger is told of how many devices stand where.
func counted(c rollout.Counts) map[string]any {
	states := map[rollout.State]int{}
	for state, n := range c.States {
		if n > 0 {
			states[state] = n
		}
	}
	return map[string]any{"devices": states, "causes": c.Causes}
}

// decide lets a rollout go on, or ends it.
func (s *Service) decide(ctx context.Context, r rollout.Rollout) (rollout.Rollout, error) {
	c, err := s.cfg.Store.Counts(ctx, r.Seq)
	if err != nil {
		return r, err
	}
	s.mu.Lock()
	s.counts[r.Seq] = c
	s.mu.Unlock()
	if d := rollout.Decide(r, c, s.now()); d.Stage == r.Stage && d.Wave == r.Wave {
		return r, nil
	}
	return s.change(ctx, r.Seq, func(r *rollout.Rollout, c rollout.Counts) ([]Event, error) {
		d := rollout.Decide(*r, c, s.now()) // once more, on what is so now
		switch {
		case d.Stage != r.Stage:
			s.turn(r, d.Stage, d.Reason)
		case d.Wave != r.Wave:
			r.Wave, r.Reason, r.Changed, r.Opened = d.Wave, d.Reason, s.now(), s.now()
		default:
			return nil, nil
		}
		kinds := map[rollout.Stage]ledger.Kind{rollout.Running: ledger.RolloutStep, rollout.Halted: ledger.RolloutHalt,
			rollout.Finished: ledger.RolloutFinish, rollout.Superseded: ledger.RolloutFinish}
		more := counted(c)
		more["wave"], more["stage"] = r.Wave+1, r.Stage
		s.log.InfoContext(ctx, "rollout goes on", "rollout", r.ID, "stage", r.Stage, "wave", r.Wave+1, "reason", r.Reason)
		return []Event{event(kinds[d.Stage], *r, "hub", d.Reason, more)}, nil
	})
}

// plan enters the devices of a rollout, and starts it. After a crash it begins
// anew: who is there already is left as it is.
func (s *Service) plan(ctx context.Context, r rollout.Rollout) (rollout.Rollout, error) {
	ids, err := s.members(ctx, r.Plan)
	if err != nil {
		return r, err
	}
	others := s.others(r)
	for some := range slices.Chunk(ids, batch) {
		ds := make([]rollout.Device, 0, len(some))
		for _, id := range some {
			f, err := s.facts(ctx, id)
			if err != nil {
				return r, err
			}
			ds = append(ds, r.Enter(id, f, s.now()))
		}
		taken, err := s.cfg.Store.Enter(ctx, r, ds, others, s.now())
		if err != nil {
			return r, err
		}
		for _, id := range taken { // what it was told does not hold any more
			if _, err := s.push(ctx, id); err != nil {
				s.log.WarnContext(ctx, "take an offer back", "device", id, "err", err)
			}
		}
		if now, err := s.byID(r.ID); err != nil || now.Stage != rollout.Planning { // somebody halted it
			return now, err
		}
	}
	r, err = s.change(ctx, r.Seq, func(r *rollout.Rollout, c rollout.Counts) ([]Event, error) {
		if r.Stage != rollout.Planning {
			return nil, nil
		}
		s.turn(r, rollout.Running, "its devices are known")
		r.Opened = r.Changed
		return []Event{event(ledger.RolloutPlan, *r, "hub", r.Reason, counted(c))}, nil
	})
	s.again()
	return r, err
}

// members returns the devices that a plan names.
func (s *Service) members(ctx context.Context, p rollout.Plan) ([]identity.Device, error) {
	if len(p.Devices) > 0 {
		return p.Devices, nil
	}
	var all []identity.Device
	for _, g := range p.Groups {
		ids, err := s.cfg.Registry.Members(ctx, g)
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	return all, nil
}

// facts are those of a device; one that the registry does not know any more
// counts as revoked.
func (s *Service) facts(ctx context.Context, id identity.Device) (rollout.Facts, error) {
	f, err := s.cfg.Registry.Facts(ctx, id)
	if fault.Of(err) == fault.NotFound && err != nil {
		return rollout.Facts{Revoked: true}, nil
	}
	return f, err
}

// others are the rollouts of the product that lose their devices to r.
func (s *Service) others(r rollout.Rollout) []int64 {
	var seqs []int64
	for _, o := range s.snapshot() {
		if o.Seq < r.Seq && o.Product == r.Product && o.Stage != rollout.Superseded {
			seqs = append(seqs, o.Seq)
		}
	}
	return seqs
}

// fill offers the release to devices that wait, as far as the wave allows.
func (s *Service) fill(ctx context.Context, r rollout.Rollout) error {
	since := r.Opened
	if r.Resumed.After(since) {
		since = r.Resumed
	}
	s.mu.Lock()
	done := s.filled[r.Seq].Equal(since)
	s.mu.Unlock()
	if done {
		return nil // who comes is offered it when it comes
	}
	for ctx.Err() == nil {
		c, err := s.cfg.Store.Counts(ctx, r.Seq)
		if err != nil {
			return err
		}
		room := rollout.Decide(r, c, s.now()).Room
		if room == 0 {
			return nil
		}
		ds, err := s.cfg.Store.Turn(ctx, r.Seq, since, batch)
		if err != nil {
			return err
		}
		if len(ds) == 0 {
			s.mu.Lock()
			s.filled[r.Seq] = since
			s.mu.Unlock()
			return nil
		}
		if err := s.offer(ctx, r, ds, room); err != nil {
			return err
		}
		if now, err := s.byID(r.ID); err != nil || now.Stage != rollout.Running || now.Rev != r.Rev {
			return err
		}
	}
	return ctx.Err()
}

// offer offers the release to those of some waiting devices that are there, at
// most to room of them, and notes which are away.
func (s *Service) offer(ctx context.Context, r rollout.Rollout, ds []rollout.Device, room int) error {
	now, facts := s.now(), map[identity.Device]rollout.Facts{}
	var ids []identity.Device
	asked := map[identity.Device]bool{} // for the second time
	for _, d := range ds {
		if s.cfg.Registry.Connected(d.ID) {
			if room--; room < 0 {
				break
			}
			f, err := s.facts(ctx, d.ID)
			if err != nil {
				return err
			}
			facts[d.ID], asked[d.ID] = f, !d.Due.IsZero()
		}
		ids = append(ids, d.ID)
	}
	var offered []rollout.Device
	err := s.cfg.Store.ChangeDevices(ctx, r.Seq, ids, func(counts func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []Event) {
		f, there := facts[d.ID]
		switch {
		case d.State != rollout.Waiting:
			return d, nil
		case !there:
			d.Tried, d.Due = now, time.Time{}
			return d, nil
		}
		n := s.take(r, d, f, counts, now)
		if n.State == rollout.Offered {
			offered = append(offered, n)
		}
		return n, ofDevice(r, d, n)
	})
	if err != nil {
		return err
	}
	return s.deliver(ctx, r, offered, asked)
}

// take offers the release to a waiting device if the wave has room for it.
func (s *Service) take(r rollout.Rollout, d rollout.Device, f rollout.Facts, counts func() (rollout.Counts, error), now time.Time) rollout.Device {
	if n := r.Enter(d.ID, f, now); n.State != rollout.Waiting { // since it was listed
		d.State, d.Cause, d.Reason, d.Changed, d.Due = n.State, n.Cause, n.Reason, now, time.Time{}
		return d
	}
	if r.Stage != rollout.Finished {
		c, err := counts()
		if err != nil || c.Reached() >= r.Limit(r.Wave, c.Total()) {
			return d
		}
	}
	d = r.Offer(d, now)
	d.Told = r.Rev + 1
	return d
}

// deliver tells devices of their offers, and takes back those that reached
// nobody.
func (s *Service) deliver(ctx context.Context, r rollout.Rollout, ds []rollout.Device, asked map[identity.Device]bool) error {
	reached := make([]bool, len(ds))
	tell, tellCtx := errgroup.WithContext(ctx)
	tell.SetLimit(tellers)
	for i, d := range ds {
		tell.Go(func() error {
			o, _ := r.Wanted(d)
			ok, err := s.sent(tellCtx, d.ID, r.OfferVersion(d), o)
			if err != nil {
				s.log.WarnContext(tellCtx, "offer a release", "device", d.ID, "err", err)
			}
			reached[i] = ok
			return nil
		})
	}
	if err := tell.Wait(); err != nil {
		return err
	}
	var back []identity.Device
	for i, d := range ds {
		if !reached[i] {
			back = append(back, d.ID)
		}
	}
	if len(back) == 0 {
		return nil
	}
	now := s.now()
	return s.cfg.Store.ChangeDevices(ctx, r.Seq, back, func(_ func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []Event) {
		if d.State != rollout.Offered {
			return d, nil // it came meanwhile, and is at work
		}
		connected := s.cfg.Registry.Connected(d.ID)
		if connected && asked[d.ID] {
			n := d.Deaf(now)
			return n, ofDevice(r, d, n)
		}
		return d.Undelivered(connected, now), nil
	})
}

func (s *Service) sent(ctx context.Context, id identity.Device, version uint64, o release.Offer) (bool, error) {
	ok, err := s.cfg.Sessions.Offer(ctx, id, version, o)
	if ok {
		s.stats.Offers.Inc("delivered")
	} else {
		s.stats.Offers.Inc("away")
	}
	return ok, err
}

// lookAt looks at the devices whose time has come: those of which nothing was
// heard, whose deadline passed, whose commit is to be proved; and those that
// are connected and have not asked for updates.
func (s *Service) lookAt(ctx context.Context, r rollout.Rollout) error {
	for ctx.Err() == nil {
		now := s.now()
		ds, err := s.cfg.Store.Due(ctx, r.Seq, now, batch)
		if err != nil || len(ds) == 0 {
			return err
		}
		var ids []identity.Device
		var waiting []rollout.Device
		facts := map[identity.Device]rollout.Facts{}
		for _, d := range ds {
			if d.State == rollout.Waiting {
				waiting = append(waiting, d)
				continue
			}
			if facts[d.ID], err = s.facts(ctx, d.ID); err != nil {
				return err
			}
			ids = append(ids, d.ID)
		}
		err = s.cfg.Store.ChangeDevices(ctx, r.Seq, ids, func(_ func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []Event) {
			n := r.Look(d, facts[d.ID], s.up, now)
			return n, ofDevice(r, d, n)
		})
		if err != nil {
			return err
		}
		if err := s.offer(ctx, r, waiting, len(waiting)); err != nil {
			return err
		}
		if err := s.rest(ctx, r, waiting); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// rest lets devices that still wait be, until they come or the next wave does.
func (s *Service) rest(ctx context.Context, r rollout.Rollout, ds []rollout.Device) error {
	var ids []identity.Device
	for _, d := range ds {
		ids = append(ids, d.ID)
	}
	now := s.now()
	return s.cfg.Store.ChangeDevices(ctx, r.Seq, ids, func(_ func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []Event) {
		if d.State == rollout.Waiting && !d.Due.After(now) {
			d.Due = time.Time{}
		}
		return d, nil
	})
}

// tell tells devices in flight of a stage that has changed since they were
// told.
func (s *Service) tell(ctx context.Context, r rollout.Rollout) error {
	for ctx.Err() == nil {
		ds, err := s.cfg.Store.Untold(ctx, r.Seq, r.Rev+1, batch)
		if err != nil || len(ds) == 0 {
			return err
		}
		var ids []identity.Device
		tell, tellCtx := errgroup.WithContext(ctx)
		tell.SetLimit(tellers)
		for _, d := range ds {
			ids = append(ids, d.ID)
			tell.Go(func() error {
				if _, err := s.push(tellCtx, d.ID); err != nil {
					s.log.WarnContext(tellCtx, "tell a device of its rollout", "device", d.ID, "err", err)
				}
				return nil
			})
		}
		if err := tell.Wait(); err != nil {
			return err
		}
		err = s.cfg.Store.ChangeDevices(ctx, r.Seq, ids, func(_ func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []Event) {
			d.Told = r.Rev + 1 // who was away is told when it comes
			return d, nil
		})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// push tells a device what is wanted of it now.
func (s *Service) push(ctx context.Context, id identity.Device) (bool, error) {
	rows, err := s.cfg.Store.Of(ctx, id)
	if err != nil {
		return false, err
	}
	version, o := s.wanted(rows)
	return s.sent(ctx, id, version, o)
}

// wanted is what a device is to be told by the rollouts that it is in, the
// newest first.
func (s *Service) wanted(rows []rollout.Device) (version uint64, o release.Offer) {
	for _, d := range rows {
		r, err := s.byID(d.Rollout)
		if err != nil {
			continue
		}
		version = max(version, r.OfferVersion(d))
		if o, says := r.Wanted(d); says {
			return version, o
		}
	}
	return version, release.Offer{}
}
