package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/appraise"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/release"
)

// Seen is what the hub has seen of a published release.
type Seen struct {
	Version   mcuboot.Version
	Digest    identity.Digest // as its image measures
	Since     time.Time       // when it was first published
	Withdrawn time.Time       // when it was first withdrawn; zero: it is not
	Gone      bool            // it is not published any more
	// Settled: the devices that it concerns were decided on since it changed.
	Settled bool
}

// published returns a product's releases with what was seen of them: from memory
// where they have been asked for since ReleasesChanged last changed them.
func (f *Fleet) published(ctx context.Context, p release.Product) ([]appraise.Published, error) {
	f.mu.Lock()
	all, ok := f.shelves[p]
	f.mu.Unlock()
	if ok {
		return all, nil
	}
	return f.lookAgain(ctx, p)
}

// lookAgain returns a product's releases as they are published now.
func (f *Fleet) lookAgain(ctx context.Context, p release.Product) ([]appraise.Published, error) {
	all, _, err := f.notice(ctx, p)
	return all, err
}

// notice compares what is published of a product with what was seen of it, and
// remembers both. It reports whether devices have to be decided on again.
func (f *Fleet) notice(ctx context.Context, p release.Product) (all []appraise.Published, changed bool, err error) {
	f.noticing.Lock()
	defer f.noticing.Unlock()
	published, err := f.cfg.Releases.Published(ctx, p)
	if err != nil {
		return nil, false, fmt.Errorf("published releases of %s: %w", p, err)
	}
	had, err := f.cfg.Store.Seen(ctx, p)
	if err != nil {
		return nil, false, err
	}
	all, seen := look(published, had, f.now().Round(0))
	if !slices.Equal(seen, had) {
		if err := f.cfg.Store.SaveSeen(ctx, p, seen); err != nil {
			return nil, false, err
		}
	}
	f.mu.Lock()
	f.shelves[p] = all
	f.mu.Unlock()
	return all, slices.ContainsFunc(seen, func(s Seen) bool { return !s.Settled }), nil
}

// look brings what was seen up to what is published now, in the order of
// versions; what is gone comes last, until it has been acted on.
func look(published []release.Release, had []Seen, now time.Time) ([]appraise.Published, []Seen) {
	published = slices.SortedFunc(slices.Values(published), func(a, b release.Release) int { return a.Version.Compare(b.Version) })
	all, seen := make([]appraise.Published, 0, len(published)), make([]Seen, 0, len(published))
	for _, r := range published {
		s := Seen{Version: r.Version, Digest: r.Measured, Since: now}
		if i := slices.IndexFunc(had, func(h Seen) bool { return h.Version == r.Version && h.Digest == r.Measured }); i >= 0 {
			s = had[i]
		}
		if s.Gone {
			s.Gone, s.Settled = false, false
		}
		switch withdrawn := r.Target.Withdrawn != ""; {
		case withdrawn && s.Withdrawn.IsZero():
			s.Withdrawn, s.Settled = now, false
		case !withdrawn && !s.Withdrawn.IsZero():
			s.Withdrawn, s.Settled = time.Time{}, false
		}
		all, seen = append(all, appraise.Published{Release: r, Since: s.Since, Withdrawn: s.Withdrawn}), append(seen, s)
	}
	for _, h := range had {
		if slices.ContainsFunc(all, func(p appraise.Published) bool { return p.Version == h.Version && p.Measured == h.Digest }) {
			continue
		}
		h.Settled, h.Gone = h.Settled && h.Gone, true
		seen = append(seen, h)
	}
	return all, seen
}

// ReleasesChanged holds the firmware of all devices against what is published
// now, where that is not what it was: a release that is withdrawn fails
// firmware.signing of the devices that run it without waiting for them. Those
// with a session come first. What an interruption leaves is done by the next
// call; Run makes one every Recheck.
func (f *Fleet) ReleasesChanged(ctx context.Context) error {
	if f.cfg.Releases == nil {
		return nil
	}
	f.rejudging.Lock()
	defer f.rejudging.Unlock()
	return f.rejudgeAll(ctx)
}

// missedReleases is ReleasesChanged for Run, which does not wait where that is
// being done.
func (f *Fleet) missedReleases(ctx context.Context) error {
	if f.cfg.Releases == nil || !f.rejudging.TryLock() {
		return nil
	}
	defer f.rejudging.Unlock()
	return f.rejudgeAll(ctx)
}

// rejudgeAll looks at each product. The caller holds rejudging.
func (f *Fleet) rejudgeAll(ctx context.Context) error {
	products, err := f.products(ctx)
	if err != nil {
		return err
	}
	for _, p := range products {
		if err := f.actOn(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// actOn decides again on the devices of a product where its releases changed.
func (f *Fleet) actOn(ctx context.Context, p release.Product) error {
	_, changed, err := f.notice(ctx, p)
	if err != nil || !changed {
		return err
	}
	seen, err := f.cfg.Store.Seen(ctx, p)
	if err != nil {
		return err
	}
	if err := f.rejudge(ctx, func(g operator.Group) bool { return g.Product == p || g.Product == "" }); err != nil {
		return err
	}
	return f.settleSeen(ctx, p, seen)
}

// products returns those of groups, and those of which something was seen.
func (f *Fleet) products(ctx context.Context) ([]release.Product, error) {
	all, err := f.cfg.Store.Products(ctx)
	if err != nil {
		return nil, err
	}
	gs, err := f.cfg.Store.Groups(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range gs {
		if g.Product != "" {
			all = append(all, g.Product)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// settleSeen notes that what was seen has been acted on, and forgets what is
// gone. What was seen since then is to be acted on again.
func (f *Fleet) settleSeen(ctx context.Context, p release.Product, acted []Seen) error {
	f.noticing.Lock()
	defer f.noticing.Unlock()
	seen, err := f.cfg.Store.Seen(ctx, p)
	if err != nil {
		return err
	}
	for i, s := range seen {
		seen[i].Settled = s.Settled || slices.Contains(acted, s)
	}
	return f.cfg.Store.SaveSeen(ctx, p, slices.DeleteFunc(seen, func(s Seen) bool { return s.Gone && s.Settled }))
}

// rejudges is how many devices are decided on at a time: their writes share
// the store's syncs.
const rejudges = 32

// rejudge decides again on the devices that attest their firmware and whose
// group is one of those that it concerns.
func (f *Fleet) rejudge(ctx context.Context, concerns func(operator.Group) bool) error {
	var live, others []identity.Device
	of := make(map[identity.Group]bool)
	gs, err := f.cfg.Store.Groups(ctx)
	if err != nil {
		return err
	}
	for _, g := range gs {
		of[g.ID] = concerns(g)
	}
	err = f.survey(ctx, func(panel *panel) {
		for _, d := range panel.dials {
			v, _, _, _ := d.item.Marks.Of(measure.IdentityAttestation)
			switch {
			case !of[d.item.Group] || v == measure.Unknown:
			case d.item.live:
				live = append(live, d.item.ID)
			default:
				others = append(others, d.item.ID)
			}
		}
	})
	if err != nil {
		return err
	}
	for _, ids := range [][]identity.Device{live, others} {
		var work errgroup.Group // an error with one does not keep the others waiting
		work.SetLimit(rejudges)
		for _, id := range ids {
			work.Go(func() error {
				if err := f.recheck(ctx, id); err != nil {
					return fmt.Errorf("decide again on %s: %w", id, err)
				}
				return nil
			})
		}
		err = cmp.Or(err, work.Wait())
	}
	return err
}
