package rollouts

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/rollout"
)

// The verbs of Act.
const (
	Pause  = "pause"
	Resume = "resume"
	Halt   = "halt"
	Retry  = "retry"
)

// Start begins a rollout. Its release has to be published and not withdrawn; of
// its first devices some have to be able to take it. Rollouts of the product
// that are on their way lose the devices that this one names.
func (s *Service) Start(ctx context.Context, by string, in operator.StartRollout) (operator.Rollout, error) {
	rel, err := s.cfg.Releases.Release(ctx, in.Product, in.Version)
	if err != nil {
		return operator.Rollout{}, err
	}
	if rel.Withdrawn != "" {
		return operator.Rollout{}, fault.New(fault.Conflict, "%s was withdrawn: %s", rel.Path(), rel.Withdrawn)
	}
	p, err := s.newPlan(ctx, in)
	if err != nil {
		return operator.Rollout{}, err
	}
	p.Measured = rel.Measured
	if err := p.Check(); err != nil {
		return operator.Rollout{}, fault.New(fault.Invalid, "%w", err)
	}
	if err := s.feasible(ctx, p); err != nil {
		return operator.Rollout{}, err
	}
	if s.cfg.Products != nil {
		for _, g := range p.Groups {
			if err := s.cfg.Products.SetProduct(ctx, by, g, p.Product); err != nil {
				return operator.Rollout{}, err
			}
		}
	}
	now := s.now()
	r := rollout.Rollout{Plan: p, Rev: 1, By: by, Stage: rollout.Planning, Reason: "started by " + by, Started: now, Changed: now}
	s.changing.Lock()
	r, err = s.cfg.Store.Add(ctx, r, []Event{event(ledger.RolloutStart, r, by, "", map[string]any{"plan": planOf(p), "devices": p.Devices[:min(len(p.Devices), 100)]})})
	if err == nil {
		s.remember(r)
	}
	s.changing.Unlock()
	if err != nil {
		return operator.Rollout{}, err
	}
	s.again()
	return view(r, rollout.Counts{}), nil
}

// newPlan reads what an operator asks for.
func (s *Service) newPlan(ctx context.Context, in operator.StartRollout) (rollout.Plan, error) {
	p := rollout.Plan{ID: string(in.Product) + "-" + strings.ToLower(rand.Text()[:10]), Product: in.Product, Version: in.Version,
		Groups: slices.Compact(slices.Sorted(slices.Values(in.Groups))), Devices: slices.Compact(slices.Sorted(slices.Values(in.Devices))),
		Soak: seconds(in.Soak), Deadline: cmp.Or(seconds(in.Deadline), rollout.DefaultDeadline), SilentAfter: cmp.Or(seconds(in.SilentAfter), rollout.DefaultSilentAfter), Windows: in.Windows,
		OlderUnsafe: in.OlderUnsafe}
	var err error
	for _, share := range []struct {
		of        *rollout.Percent
		n         float64
		otherwise rollout.Percent
	}{{&p.Canary, in.Canary, rollout.DefaultCanary}, {&p.Step, in.Step, rollout.DefaultStep}, {&p.HaltOn, in.HaltOn, 0}} {
		if *share.of, err = rollout.PercentOf(share.n); err != nil {
			return p, fault.New(fault.Invalid, "%w", err)
		}
		*share.of = cmp.Or(*share.of, share.otherwise)
	}
	if (len(in.Groups) == 0) == (len(in.Devices) == 0) {
		return p, fault.New(fault.Invalid, "say which groups or which devices: one of the two")
	}
	for _, d := range p.Devices {
		f, err := s.cfg.Registry.Facts(ctx, d)
		if err != nil {
			return p, err
		}
		if !slices.Contains(p.Groups, f.Group) {
			p.Groups = append(p.Groups, f.Group)
		}
	}
	slices.Sort(p.Groups)
	return p, nil
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// feasible refuses a plan of which the first devices, if these are all or so
// many that it is no accident, cannot take the release.
func (s *Service) feasible(ctx context.Context, p rollout.Plan) error {
	const enough = 500
	ids, err := s.members(ctx, p)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return fault.New(fault.Conflict, "there are no devices in %v", p.Groups)
	}
	reasons, done := map[string]int{}, 0
	for _, id := range ids[:min(len(ids), enough)] {
		f, err := s.facts(ctx, id)
		if err != nil {
			return err
		}
		switch d := p.Enter(id, f, s.now()); d.State {
		case rollout.Waiting:
			return nil
		case rollout.Done:
			done++
		default:
			reasons[d.Reason]++
		}
	}
	if done > 0 && len(reasons) == 0 {
		return fault.New(fault.Conflict, "all devices run %s already", p.Path())
	}
	most := ""
	for reason, n := range reasons {
		if most == "" || n > reasons[most] || n == reasons[most] && reason < most {
			most = reason
		}
	}
	return fault.New(fault.Conflict, "no device could take %s; of %d: %s", p.Path(), reasons[most], most)
}

// Act does what an operator decides: pause lets no further device begin; resume
// goes on, also with one that was halted once what failed is to try again; halt
// takes all offers back; retry has devices that failed try again. tag is the
// ETag that the rollout has to have, empty for any.
func (s *Service) Act(ctx context.Context, by, id, verb string, in operator.RolloutAct, tag string) (operator.Rollout, error) {
	r, err := s.byID(id)
	if err != nil {
		return operator.Rollout{}, err
	}
	acts := map[string]func(context.Context, *rollout.Rollout, rollout.Counts) (ledger.Kind, rollout.Stage, error){
		Pause: s.pause, Resume: s.resume, Halt: s.stop, Retry: s.retryable,
	}
	do := acts[verb]
	switch {
	case do == nil:
		return operator.Rollout{}, fault.New(fault.Invalid, "verb %.20q: want pause, resume, halt or retry", verb)
	case verb != Retry && len(in.Devices) > 0:
		return operator.Rollout{}, fault.New(fault.Invalid, "%s concerns the whole rollout, not some devices", verb)
	}
	reason := cmp.Or(in.Reason, verb+" by "+by)
	retried := 0
	r, err = s.change(ctx, r.Seq, func(r *rollout.Rollout, c rollout.Counts) ([]Event, error) {
		if tag != "" && tag != "*" && tag != etag(*r) {
			return nil, iothub.Fail(iothub.CodePrecondition, "the rollout has gone on, its ETag is %s", etag(*r))
		}
		kind, stage, err := do(ctx, r, c)
		if err != nil {
			return nil, err
		}
		if kind == ledger.RolloutResume || kind == ledger.RolloutRetry && stage != r.Stage {
			r.Resumed = s.now()
		}
		if r.Rev++; stage != r.Stage {
			s.turn(r, stage, reason)
		}
		if r.Stage == rollout.Running && r.Opened.IsZero() {
			r.Opened = r.Changed
		}
		more := counted(c)
		if verb == Retry && len(in.Devices) > 0 {
			more["retry"] = in.Devices[:min(len(in.Devices), 100)]
		}
		return []Event{event(kind, *r, by, in.Reason, more)}, nil
	})
	if err == nil && verb == Retry {
		retried, err = s.retry(ctx, r, in.Devices)
	}
	if err != nil {
		return operator.Rollout{}, err
	}
	s.log.InfoContext(ctx, "rollout is "+string(r.Stage), "rollout", r.ID, "by", by, "verb", verb, "retried", retried)
	s.mu.Lock()
	delete(s.filled, r.Seq)
	s.mu.Unlock()
	s.handOver(ctx)
	s.again()
	return s.Rollout(ctx, id)
}

func (s *Service) pause(_ context.Context, r *rollout.Rollout, _ rollout.Counts) (ledger.Kind, rollout.Stage, error) {
	if r.Stage != rollout.Running {
		return "", "", fault.New(fault.Conflict, "the rollout is %s: only one that runs can be paused", r.Stage)
	}
	return ledger.RolloutPause, rollout.Paused, nil
}

func (s *Service) resume(ctx context.Context, r *rollout.Rollout, c rollout.Counts) (ledger.Kind, rollout.Stage, error) {
	if r.Stage != rollout.Paused && r.Stage != rollout.Halted {
		return "", "", fault.New(fault.Conflict, "the rollout is %s: there is nothing to resume", r.Stage)
	}
	why, err := s.unfit(ctx, r.Plan)
	if err != nil {
		return "", "", err
	}
	to := rollout.Running
	if r.Opened.IsZero() {
		to = rollout.Planning // it was halted before all its devices were known
	} else if why == "" {
		again := *r
		again.Stage = rollout.Running
		if d := rollout.Decide(again, c, s.now()); d.Stage == rollout.Halted {
			why = d.Reason + "; have them retry first"
		}
	}
	if why != "" {
		return "", "", fault.New(fault.Conflict, "it would be halted at once: %s", why)
	}
	return ledger.RolloutResume, to, nil
}

func (s *Service) stop(_ context.Context, r *rollout.Rollout, _ rollout.Counts) (ledger.Kind, rollout.Stage, error) {
	if r.Stage == rollout.Halted || r.Stage == rollout.Superseded {
		return "", "", fault.New(fault.Conflict, "the rollout is %s already", r.Stage)
	}
	return ledger.RolloutHalt, rollout.Halted, nil
}

func (s *Service) retryable(ctx context.Context, r *rollout.Rollout, c rollout.Counts) (ledger.Kind, rollout.Stage, error) {
	if r.Stage == rollout.Planning || r.Stage == rollout.Superseded {
		return "", "", fault.New(fault.Conflict, "the rollout is %s: nothing in it can be retried", r.Stage)
	}
	if c.States[rollout.Failed]+c.States[rollout.Excluded] == 0 {
		return "", "", fault.New(fault.Conflict, "no device of the rollout has failed")
	}
	if r.Stage == rollout.Finished {
		why, err := s.unfit(ctx, r.Plan)
		if err == nil && why != "" {
			err = fault.New(fault.Conflict, "%s", why)
		}
		return ledger.RolloutRetry, rollout.Running, err
	}
	return ledger.RolloutRetry, r.Stage, nil
}

// retry has devices try again: those named, or all that failed.
func (s *Service) retry(ctx context.Context, r rollout.Rollout, ids []identity.Device) (int, error) {
	n := 0
	again := func(ids []identity.Device) error {
		return s.cfg.Store.ChangeDevices(ctx, r.Seq, ids, func(_ func() (rollout.Counts, error), d rollout.Device) (rollout.Device, []Event) {
			d, ok := d.Again(s.now())
			if ok {
				n++
			}
			return d, nil
		})
	}
	if len(ids) > 0 {
		if err := again(ids); err != nil {
			return n, err
		}
		if n == 0 {
			return n, fault.New(fault.Conflict, "none of these devices has failed in this rollout")
		}
		return n, nil
	}
	for after := identity.Device(""); ; {
		ds, err := s.cfg.Store.Devices(ctx, r.Seq, operator.RolloutDeviceQuery{State: string(rollout.Failed), After: after, Limit: batch})
		if err != nil {
			return n, err
		}
		var some []identity.Device
		for _, d := range ds {
			some, after = append(some, d.ID), d.ID
		}
		if err := again(some); err != nil || len(ds) < batch {
			return n, err
		}
	}
}

func planOf(p rollout.Plan) map[string]any {
	plan := map[string]any{"canary": p.Canary.String(), "step": p.Step.String(), "soak": p.Soak.String(), "halt_on": p.HaltOn.String(),
		"deadline": p.Deadline.String(), "silent_after": p.SilentAfter.String(), "windows": fmt.Sprint(len(p.Windows))}
	if p.OlderUnsafe {
		plan["older_unsafe"] = "true"
	}
	return plan
}
