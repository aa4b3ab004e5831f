package rollouts

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"holdfast/appraise"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/release"
	"holdfast/rollout"
)

// Wanted returns what a device that asks for updates is to be told, with the
// version of the offer. If it is its turn, or it comes late, it is offered a
// release by this. The zero Offer: it is to stay as it is.
func (s *Service) Wanted(ctx context.Context, id identity.Device) (version uint64, o release.Offer, err error) {
	if len(s.snapshot()) == 0 {
		return 0, o, nil
	}
	rows, err := s.cfg.Store.Of(ctx, id)
	if err != nil {
		return 0, o, err
	}
	f, err := s.facts(ctx, id)
	if err != nil || f.Revoked {
		return 0, o, err
	}
	entered, err := s.join(ctx, id, f, rows)
	if err != nil {
		return 0, o, err
	}
	if entered {
		if rows, err = s.cfg.Store.Of(ctx, id); err != nil {
			return 0, o, err
		}
	}
	for i, d := range rows {
		r, err := s.byID(d.Rollout)
		if err != nil {
			continue
		}
		if rows[i], err = s.comes(ctx, r, d, f); err != nil {
			return 0, o, err
		}
		if _, says := r.Wanted(rows[i]); says {
			break
		}
	}
	version, o = s.wanted(rows)
	return version, o, nil
}

// join enters a device that came into a group after its rollouts were planned:
// into what runs there, and into the last of each product that has finished.
func (s *Service) join(ctx context.Context, id identity.Device, f rollout.Facts, rows []rollout.Device) (entered bool, err error) {
	settled := map[release.Product]bool{}
	for _, r := range s.snapshot() {
		if settled[r.Product] || len(r.Devices) > 0 || !r.Covers(id, f.Group) {
			continue
		}
		if i := slices.IndexFunc(rows, func(d rollout.Device) bool { return d.Rollout == r.ID }); i >= 0 {
			settled[r.Product] = rows[i].State != rollout.Waiting || r.Stage == rollout.Finished
			continue
		}
		if r.Stage != rollout.Running && r.Stage != rollout.Paused && r.Stage != rollout.Finished {
			continue
		}
		settled[r.Product] = r.Stage == rollout.Finished
		if _, err := s.cfg.Store.Enter(ctx, r, []rollout.Device{r.Enter(id, f, s.now())}, nil, s.now()); err != nil {
			return entered, err
		}
		entered = true
	}
	return entered, nil
}

// comes takes in that a device of a rollout is here and asks for updates.
func (s *Service) comes(ctx context.Context, r rollout.Rollout, d rollout.Device, f rollout.Facts) (rollout.Device, error) {
	if r.Stage != rollout.Running && r.Stage != rollout.Finished {
		return d, nil
	}
	if !returns(d) {
		return d, nil
	}
	if why, err := s.unfit(ctx, r.Plan); err != nil || why != "" {
		return d, err
	}
	now, result := s.now(), d
	err := s.cfg.Store.ChangeDevices(ctx, r.Seq, []identity.Device{d.ID}, func(counts func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []Event) {
		if !returns(d) {
			result = d
			return d, nil
		}
		n := d
		if d.State == rollout.Failed { // it has its place in the wave already
			n = r.Offer(d, now)
			n.Told = r.Rev + 1
		} else {
			if d.State == rollout.Excluded {
				d.State, d.Cause, d.Reason = rollout.Waiting, "", ""
				d.Changed = now
			}
			n = s.take(r, d, f, counts, now)
		}
		result = n
		return n, ofDevice(r, d, n)
	})
	if result.State != d.State {
		s.unsettle(r)
		s.again()
	}
	return result, err
}

// returns reports whether a device that comes is to be offered the release: it
// waits, it had fallen silent, or was thought to have no updater.
func returns(d rollout.Device) bool {
	return d.State == rollout.Waiting || d.State == rollout.Failed && d.Cause == rollout.Silent || d.State == rollout.Excluded && d.Cause == rollout.NoUpdater
}

// Progress takes in what a device reports of an update; when it returns nil it
// is on disk. A report of a rollout that this hub does not know says nothing
// here and is taken all the same: the device is to be done with it.
func (s *Service) Progress(ctx context.Context, id identity.Device, payload []byte) error {
	if len(payload) > release.MaxProgress {
		return fault.New(fault.Invalid, "the report has %d bytes, at most %d are allowed", len(payload), release.MaxProgress)
	}
	var g release.Progress
	if err := json.Unmarshal(payload, &g); err != nil {
		return fault.New(fault.Invalid, "report of an update: %w", err)
	}
	if len(g.Rollout) > 64 || len(g.State) > 64 {
		return fault.New(fault.Invalid, "report of an update: a name is too long")
	}
	s.stats.Progress.Inc(string(g.State))
	r, err := s.byID(g.Rollout)
	if fault.Of(err) == fault.NotFound && err != nil {
		return nil
	}
	if err != nil {
		return err
	}
	var f rollout.Facts
	if g.State == release.Committed {
		if f, err = s.facts(ctx, id); err != nil {
			return err
		}
	}
	now, decided := s.now(), false
	err = s.cfg.Store.ChangeDevices(ctx, r.Seq, []identity.Device{id}, func(_ func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []Event) {
		n := r.Reported(d, g, now)
		if n.State == rollout.Committed && g.State == release.Committed {
			n = r.Look(n, f, s.up, now)
		}
		decided = n.State != d.State && !n.State.InFlight()
		return n, ofDevice(r, d, n)
	})
	if decided {
		s.again()
	}
	return err
}

// Offered returns what a rollout offers a device now, if one does.
func (s *Service) Offered(ctx context.Context, id identity.Device) (appraise.Offered, bool, error) {
	if len(s.snapshot()) == 0 {
		return appraise.Offered{}, false, nil
	}
	rows, err := s.cfg.Store.Of(ctx, id)
	if err != nil {
		return appraise.Offered{}, false, err
	}
	_, o := s.wanted(rows)
	i := slices.IndexFunc(rows, func(d rollout.Device) bool { return d.Rollout == o.Rollout })
	if o.Rollout == "" || i < 0 {
		return appraise.Offered{}, false, nil
	}
	return appraise.Offered{Product: o.Product, Version: o.Version, Since: rows[i].Offered}, true, nil
}

// maxCrashes bounds how many devices' crashes wait to be taken in.
const maxCrashes = 100_000

// Crashed takes in that a device has crashed, or that its watchdog reset it, at
// a time by its own clock, zero if it does not know. It does not wait.
func (s *Service) Crashed(id identity.Device, at time.Time, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 || len(s.crashes) >= maxCrashes {
		return
	}
	s.crashes[id] = report{at, what}
	s.again()
}

// takeCrashes takes in what was reported since.
func (s *Service) takeCrashes(ctx context.Context) {
	s.mu.Lock()
	crashes := s.crashes
	s.crashes = map[identity.Device]report{}
	s.mu.Unlock()
	for id, c := range crashes {
		if err := s.crashed(ctx, id, c); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "take in a crash", "device", id, "err", err)
		}
	}
}

func (s *Service) crashed(ctx context.Context, id identity.Device, c report) error {
	rows, err := s.cfg.Store.Of(ctx, id)
	if err != nil {
		return err
	}
	for _, d := range rows {
		r, err := s.byID(d.Rollout)
		if err != nil || r.Stage.Over() || r.Stage == rollout.Planning {
			continue
		}
		now := s.now()
		err = s.cfg.Store.ChangeDevices(ctx, r.Seq, []identity.Device{id}, func(_ func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []Event) {
			n := d.CrashedAt(c.at, c.what, now)
			return n, ofDevice(r, d, n)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
