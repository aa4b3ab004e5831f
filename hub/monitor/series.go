package monitor

import (
	"context"
	"slices"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/iothub"
	"holdfast/operator"
	"holdfast/posture"
)

// How long quantities are kept, of each minute and as means of a quarter of an
// hour.
const (
	minute      = time.Minute
	quarter     = 15 * time.Minute
	keepMinute  = 2 * 24 * time.Hour
	keepQuarter = 60 * 24 * time.Hour
)

// maxPoints bounds an answer: a finer step gives way.
const maxPoints = 3000

// MessageKinds are the kinds of messages that are counted apart.
func MessageKinds() []string {
	return []string{string(iothub.Telemetry), string(iothub.Log), string(iothub.TwinChange), string(iothub.Feedback), string(iothub.Lifecycle), string(iothub.Security)}
}

// Statuses are the statuses that devices are counted by.
func Statuses() []posture.Status {
	return []posture.Status{posture.Pending, posture.Refused, posture.Trusted, posture.Degraded, posture.Connected, posture.Quarantined, posture.Offline, posture.Revoked}
}

// quantity is something that is looked at once a minute.
type quantity struct{ name, unit string }

// quantities has all there are: the five of the console first.
func quantities() []quantity {
	all := []quantity{{"connections", "devices"}, {"messages", "1/s"}, {"pass", "verdicts"}, {"fail", "verdicts"}, {"unknown", "verdicts"}}
	for _, k := range MessageKinds() {
		all = append(all, quantity{"messages." + k, "1/s"})
	}
	for _, s := range Statuses() {
		all = append(all, quantity{"devices." + string(s), "devices"})
	}
	return all
}

// rates makes rates out of counters.
type rates struct {
	mu   sync.Mutex
	last map[string]uint64
	at   time.Time
}

func (r *rates) begin(counters map[string]uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.at = counters, now
}

// next returns how often each counter has gone up in a second, since the last
// time. A counter that is new, or went back, has no rate.
func (r *rates) next(counters map[string]uint64, now time.Time) map[string]float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	values := map[string]float64{}
	if passed := now.Sub(r.at).Seconds(); passed > 0 {
		for name, n := range counters {
			if was, ok := r.last[name]; ok && n >= was {
				values[name] = float64(n-was) / passed
			}
		}
	}
	r.last, r.at = counters, now
	return values
}

// sample stores the quantities of the minute that has just ended.
func (m *Monitor) sample(ctx context.Context) error {
	now := m.cfg.Now()
	at := now.Truncate(minute).Add(-minute)
	values := m.rates.next(m.cfg.Source.Counters(), now)
	gauges, err := m.cfg.Source.Gauges(ctx)
	if err != nil {
		return err // a gap
	}
	for name, v := range gauges {
		values[name] = v
	}
	known := map[string]float64{}
	for _, q := range quantities() {
		if v, ok := values[q.name]; ok {
			known[q.name] = v
		}
	}
	if err := m.cfg.Store.SaveSamples(ctx, at, known); err != nil {
		return err
	}
	if err := m.cfg.Store.Condense(ctx, quarter, now.Truncate(quarter)); err != nil {
		return err
	}
	if err := m.cfg.Store.DropSamples(ctx, minute, now.Add(-keepMinute)); err != nil {
		return err
	}
	return m.cfg.Store.DropSamples(ctx, quarter, now.Add(-keepQuarter))
}

// Series returns quantities since a time (default a day ago) in steps (default
// a minute), which become longer where the answer would be too long or nothing
// finer is kept. No names: the five of the console.
func (m *Monitor) Series(ctx context.Context, names []string, since time.Time, step time.Duration) ([]operator.Series, error) {
	now := m.cfg.Now()
	if since.IsZero() {
		since = now.Add(-24 * time.Hour)
	}
	if since.After(now) || step < 0 {
		return nil, fault.New(fault.Invalid, "a series begins in the past, and its step is not negative")
	}
	if now.Sub(since) > keepQuarter {
		since = now.Add(-keepQuarter)
	}
	qs, err := chosen(names)
	if err != nil {
		return nil, err
	}
	step = fit(step, now.Sub(since))
	out := make([]operator.Series, 0, len(qs))
	for _, q := range qs {
		s, err := m.series(ctx, q, since.Truncate(step), now, step)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func chosen(names []string) ([]quantity, error) {
	all := quantities()
	if len(names) == 0 {
		return all[:5], nil
	}
	if len(names) > len(all) {
		return nil, fault.New(fault.Invalid, "%d series, there are %d", len(names), len(all))
	}
	var qs []quantity
	for _, name := range names {
		i := slices.IndexFunc(all, func(q quantity) bool { return q.name == name })
		if i < 0 {
			return nil, fault.New(fault.Invalid, "there is no series %.64q", name)
		}
		qs = append(qs, all[i])
	}
	return qs, nil
}

// fit returns a step that what is kept has, and that gives at most maxPoints.
func fit(step, span time.Duration) time.Duration {
	base := minute
	if span > keepMinute-quarter {
		base = quarter
	}
	step = max(step, base, span/maxPoints)
	return (step + base - 1) / base * base
}

// series puts samples into steps. Older ones are means of a quarter of an hour.
func (m *Monitor) series(ctx context.Context, q quantity, start, now time.Time, step time.Duration) (operator.Series, error) {
	s := operator.Series{Name: q.name, Unit: q.unit, Start: start.UTC(), Step: int64(step / time.Second)}
	fine := now.Add(-keepMinute).Truncate(quarter).Add(quarter)
	old, err := m.cfg.Store.Samples(ctx, q.name, quarter, start, fine.Add(-1))
	if err != nil {
		return s, err
	}
	if fine.Before(start) {
		fine = start
	}
	recent, err := m.cfg.Store.Samples(ctx, q.name, minute, fine, now)
	if err != nil {
		return s, err
	}
	n := int(now.Sub(start)/step) + 1
	sums, counts := make([]float64, n), make([]int, n)
	for _, x := range append(old, recent...) {
		if i := int(x.At.Sub(start) / step); i >= 0 && i < n {
			sums[i] += x.Value
			counts[i]++
		}
	}
	s.Values = make([]*float64, n)
	for i, c := range counts {
		if c > 0 {
			mean := sums[i] / float64(c)
			s.Values[i] = &mean
		}
	}
	if counts[n-1] == 0 { // it has not ended, and nobody has looked yet
		s.Values = s.Values[:n-1]
	}
	return s, nil
}
