package fleet

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/posture"
	"holdfast/posture/policy"
)

// The limits of a dry-run's answer.
const (
	maxChanges = 100
	maxReasons = 5
)

// CheckPolicy says what a policy would do to the devices of a group, or of all,
// if it were set now: Gain, Shorter, Lose and Unchanged are all of them, and
// those Quarantined are among those that lose. It changes nothing.
func (f *Fleet) CheckPolicy(ctx context.Context, in operator.PolicyCheck) (operator.PolicyEffect, error) {
	p, err := checkedPolicy(in)
	if err != nil {
		return operator.PolicyEffect{}, err
	}
	if in.Group != "" {
		if _, err := f.group(ctx, in.Group); err != nil {
			return operator.PolicyEffect{}, err
		}
	}
	fx, err := f.foresee(ctx, in.Group, p)
	if err != nil {
		return operator.PolicyEffect{}, err
	}
	out := operator.PolicyEffect{Policy: p, Devices: fx.devices, Gain: fx.of[gains], Shorter: fx.of[shortens], Lose: fx.of[loses] + fx.of[isCut],
		Quarantined: fx.of[isCut], Unchanged: fx.of[stays], Changes: []operator.PolicyChange{}}
	out.Left = max(0, len(fx.changes)-maxChanges)
	for _, c := range fx.changes[:min(len(fx.changes), maxChanges)] {
		change, err := f.explain(ctx, c.id, p)
		if err != nil {
			return operator.PolicyEffect{}, err
		}
		out.Changes = append(out.Changes, change)
	}
	return out, nil
}

// checkedPolicy reads the policy of a check.
func checkedPolicy(in operator.PolicyCheck) (posture.Policy, error) {
	b := []byte(in.Text)
	switch {
	case len(in.Policy) > 0 && in.Text != "":
		return posture.Policy{}, fault.New(fault.Invalid, "give a policy or its text, not both")
	case len(in.Policy) > 0:
		b = in.Policy
	case in.Text == "":
		return posture.Policy{}, fault.New(fault.Invalid, "there is no policy to check")
	}
	p, err := policy.Parse(b)
	if err != nil {
		return p, fault.New(fault.Invalid, "%w", err)
	}
	return p, nil
}

// effect is what a policy would do to a device.
type effect int

// The effects, the worst first.
const (
	isCut    effect = iota // quarantined at once
	loses                  // renewal
	shortens               // renews for the short lifetime alone
	gains
	stays
)

// effectOf says what becomes of an item when its gauge's reading changes.
func (i *item) effectOf(from, to posture.Reading, was, is posture.Policy) effect {
	switch {
	case i.Revoked || i.Held || i.Refused || from.Standing == to.Standing:
		return stays // no posture opens anything to it, or none that matters changed
	case to.Standing == posture.Unmet && i.live && i.status(from, was) != posture.Quarantined:
		return isCut
	case to.Standing == posture.Unmet:
		return loses
	case from.Standing == posture.Met:
		return shortens
	}
	return gains
}

// change is a device that a policy would do something to.
type change struct {
	id     identity.Device
	effect effect
}

// effects is what a policy would do to many.
type effects struct {
	devices int
	of      [stays + 1]int
	changes []change // the worst first, then by id
}

// portion is how many items are looked at before looking up whether to stop.
const portion = 4096

// foresee reads every device of a group by its policy and by p, on all
// processors.
func (f *Fleet) foresee(ctx context.Context, group identity.Group, p posture.Policy) (effects, error) {
	var items []*item
	var now map[identity.Group]*posture.Gauge
	err := f.survey(ctx, func(p *panel) {
		now = p.groupsOf()
		for _, d := range p.dials {
			if group == "" || d.item.Group == group {
				items = append(items, d.item)
			}
		}
	})
	if err != nil {
		return effects{}, err
	}
	at := f.now()
	to := posture.NewGauge(p)
	parts := make([]effects, (len(items)+portion-1)/portion)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(runtime.GOMAXPROCS(0))
	for n, items := range slices.Collect(slices.Chunk(items, portion)) {
		work.Go(func() error {
			parts[n] = foreseePart(items, now, to, at)
			return ctx.Err()
		})
	}
	if err := work.Wait(); err != nil {
		return effects{}, err
	}
	var all effects
	for _, part := range parts {
		all.devices += part.devices
		for e, n := range part.of {
			all.of[e] += n
		}
		all.changes = append(all.changes, part.changes...)
	}
	slices.SortFunc(all.changes, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.effect, b.effect), cmp.Compare(a.id, b.id))
	})
	return all, nil
}

func foreseePart(items []*item, now map[identity.Group]*posture.Gauge, to *posture.Gauge, at time.Time) effects {
	fx := effects{devices: len(items)}
	for _, i := range items {
		view, first, from := i.view(at), i.first(at), now[i.Group]
		e := i.effectOf(from.Read(view, first), to.Read(view, first), from.Policy(), to.Policy())
		fx.of[e]++
		if e != stays {
			fx.changes = append(fx.changes, change{i.ID, e})
		}
	}
	return fx
}

// explain says what p would do to a device, and why.
func (f *Fleet) explain(ctx context.Context, id identity.Device, p posture.Policy) (operator.PolicyChange, error) {
	r, err := f.peek(ctx, id)
	if err != nil {
		return operator.PolicyChange{}, err
	}
	g, err := f.group(ctx, r.Group)
	if err != nil {
		return operator.PolicyChange{}, err
	}
	now, rows := f.now(), posture.Combine(r.Rows)
	s, isLive := f.session(id)
	was, is := decide(g.Policy, r, rows, now), decide(p, r, rows, now)
	c := operator.PolicyChange{Device: id, Group: r.Group, From: was.Standing, To: is.Standing,
		Status: posture.StatusOf(facts(r, g.Policy, rows, was, s, isLive)), Becomes: posture.StatusOf(facts(r, p, rows, is, s, isLive)),
		Reasons: is.Reasons()}
	if is.Standing == posture.Met {
		c.Reasons = []string{"every demand is met; before: " + strings.Join(was.Reasons(), "; ")}
	}
	c.Reasons = c.Reasons[:min(len(c.Reasons), maxReasons)]
	return c, nil
}
