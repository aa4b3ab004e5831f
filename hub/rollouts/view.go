package rollouts

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/rollout"
)

// The limits of lists.
const (
	defaultList    = 50
	maxList        = 500
	defaultDevices = 100
	maxDevices     = 1000
)

// Rollouts returns rollouts, the newest first.
func (s *Service) Rollouts(ctx context.Context, q operator.RolloutQuery) ([]operator.Rollout, error) {
	limit := min(cmp.Or(max(q.Limit, 0), defaultList), maxList)
	who := operator.Principal{Groups: q.Groups}
	out, passed := []operator.Rollout{}, q.After == ""
	for _, r := range s.snapshot() {
		if !passed {
			passed = r.ID == q.After
			continue
		}
		if len(out) == limit {
			break
		}
		if q.Product != "" && r.Product != q.Product || q.Stage != "" && string(r.Stage) != q.Stage || q.Live && r.Stage.Over() || q.Group != "" && !slices.Contains(r.Groups, q.Group) || !sees(who, r) {
			continue
		}
		c, err := s.cfg.Store.Counts(ctx, r.Seq)
		if err != nil {
			return nil, err
		}
		out = append(out, view(r, c))
	}
	return out, nil
}

// sees reports whether somebody is for all groups of a rollout.
func sees(who operator.Principal, r rollout.Rollout) bool {
	for _, g := range r.Groups {
		if !who.Sees(g) {
			return false
		}
	}
	return true
}

// Rollout returns a rollout; a fault of kind NotFound without.
func (s *Service) Rollout(ctx context.Context, id string) (operator.Rollout, error) {
	r, err := s.byID(id)
	if err != nil {
		return operator.Rollout{}, err
	}
	c, err := s.cfg.Store.Counts(ctx, r.Seq)
	return view(r, c), err
}

// Devices returns devices of a rollout by id.
func (s *Service) Devices(ctx context.Context, id string, q operator.RolloutDeviceQuery) ([]operator.RolloutDevice, error) {
	r, err := s.byID(id)
	if err != nil {
		return nil, err
	}
	q.Limit = min(cmp.Or(max(q.Limit, 0), defaultDevices), maxDevices)
	ds, err := s.cfg.Store.Devices(ctx, r.Seq, q)
	out := make([]operator.RolloutDevice, 0, len(ds))
	for _, d := range ds {
		out = append(out, deviceView(d))
	}
	return out, err
}

// Of returns the rollouts that a device is in, the newest first, of groups that
// are all among those given; nil: all.
func (s *Service) Of(ctx context.Context, id identity.Device, groups []identity.Group) ([]operator.DeviceRollout, error) {
	ds, err := s.cfg.Store.Of(ctx, id)
	out, who := make([]operator.DeviceRollout, 0, len(ds)), operator.Principal{Groups: groups}
	for _, d := range ds {
		if r, err := s.byID(d.Rollout); err == nil && sees(who, r) {
			out = append(out, operator.DeviceRollout{Rollout: r.ID, Product: r.Product, Version: r.Version, Stage: string(r.Stage), RolloutDevice: deviceView(d)})
		}
	}
	return out, err
}

func deviceView(d rollout.Device) operator.RolloutDevice {
	return operator.RolloutDevice{Device: d.ID, Group: d.Group, State: string(d.State), Cause: string(d.Cause), Reason: d.Reason, Step: string(d.Step),
		Bytes: d.Bytes, Length: d.Length, Attempt: d.Attempt, Offered: d.Offered, Changed: d.Changed}
}

// etag changes with the stage and the wave, and with what operators do.
func etag(r rollout.Rollout) string {
	return strconv.FormatInt(r.Seq, 36) + "-" + strconv.FormatInt(r.Rev, 36) + "-" + strconv.Itoa(r.Wave)
}

func view(r rollout.Rollout, c rollout.Counts) operator.Rollout {
	n := c.States
	v := operator.Rollout{ID: r.ID, Product: r.Product, Version: r.Version, Groups: r.Groups, Devices: r.Devices,
		Stage: string(r.Stage), Reason: r.Reason, By: r.By, Started: r.Started, Changed: r.Changed, Ended: r.Ended,
		Wave: r.Wave + 1, Waves: r.Waves(), Limit: r.Limit(r.Wave, c.Total()),
		RolloutPlan: operator.RolloutPlan{Canary: r.Canary.Float(), Step: r.Step.Float(), Soak: whole(r.Soak), HaltOn: r.HaltOn.Float(),
			Deadline: whole(r.Deadline), SilentAfter: whole(r.SilentAfter), Windows: r.Windows, OlderUnsafe: r.OlderUnsafe},
		Counts: operator.RolloutCounts{Waiting: n[rollout.Waiting], Offered: n[rollout.Offered], Updating: n[rollout.Updating], Committed: n[rollout.Committed],
			Done: n[rollout.Done], Failed: n[rollout.Failed], Excluded: n[rollout.Excluded], Superseded: n[rollout.Replaced]},
		Causes: map[string]int{}, ETag: etag(r)}
	for cause, k := range c.Causes {
		v.Causes[string(cause)] = k
	}
	if r.Stage == rollout.Running && c.InFlight() == 0 && c.Reached() > 0 && c.Reached() >= v.Limit {
		v.Soaked = rollout.Quiet(r, c).Add(r.Soak)
	}
	return v
}

func whole(d time.Duration) int64 { return int64(d / time.Second) }
