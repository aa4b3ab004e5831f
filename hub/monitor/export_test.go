package monitor

import "context"

// The jobs that Run does at its own pace.

func (m *Monitor) Follow(ctx context.Context) error   { return m.follow(ctx) }
func (m *Monitor) Missed(ctx context.Context) error   { return m.missed(ctx) }
func (m *Monitor) Expiring(ctx context.Context) error { return m.expiring(ctx) }
func (m *Monitor) LoadAway(ctx context.Context) error { return m.loadAway(ctx) }
func (m *Monitor) Sample(ctx context.Context) error   { return m.sample(ctx) }
func (m *Monitor) Begin()                             { m.rates.begin(m.cfg.Source.Counters(), m.cfg.Now()) }
