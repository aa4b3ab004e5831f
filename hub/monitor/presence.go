package monitor

import (
	"context"
	"fmt"
	"time"

	"holdfast/identity"
	"holdfast/posture"
)

// settling is how long after its start the hub misses nobody: devices need a
// while to come back.
const settling = 15 * time.Minute

// checkBatch bounds how many devices are looked at in one go.
const checkBatch = 500

// Opened takes in that a session of a device is open.
func (m *Monitor) Opened(id identity.Device, session string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open[id] = session
	delete(m.away, id)
	if m.told[id] {
		delete(m.told, id)
		m.back = append(m.back, id)
	}
}

// Closed takes in that a session has ended. The end of one that another has
// replaced says nothing.
func (m *Monitor) Closed(id identity.Device, session string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[id] != session {
		return
	}
	delete(m.open, id)
	m.away[id] = absence{since: m.cfg.Now()}
}

// absence is since when a device is away, and when to look at it again; zero:
// when the shortest time that any group allows is over.
type absence struct {
	since, look time.Time
}

func (m *Monitor) here(id identity.Device) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open[id] != ""
}

// loadAway reads who was away before this process began, and who was missed.
func (m *Monitor) loadAway(ctx context.Context) error {
	told, err := m.cfg.Store.Uncleared(ctx, Offline)
	if err != nil {
		return err
	}
	m.mu.Lock()
	for _, id := range told {
		if m.open[id] != "" {
			m.back = append(m.back, id)
		} else {
			m.told[id] = true
		}
	}
	m.mu.Unlock()
	return m.cfg.Registry.Away(ctx, func(id identity.Device, seen time.Time) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, known := m.away[id]; !known && m.open[id] == "" && !seen.IsZero() {
			m.away[id] = absence{since: seen}
		}
	})
}

// missed alerts on devices that were well and have been away for too long, and
// clears those that came back.
func (m *Monitor) missed(ctx context.Context) error {
	now := m.cfg.Now()
	var cs []Change
	for _, id := range m.takeBack() {
		cs = append(cs, Clear{string(id), []string{Offline}, now})
	}
	for _, id := range m.late(now) {
		c, err := m.miss(ctx, id, now)
		if err != nil {
			return err
		}
		cs = append(cs, c...)
	}
	return m.apply(ctx, cs)
}

func (m *Monitor) takeBack() []identity.Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	back := m.back
	m.back = nil
	return back
}

// late returns some of those who have been away for longer than the shortest
// that any group allows, and are to be looked at.
func (m *Monitor) late(now time.Time) []identity.Device {
	if now.Sub(m.started) < settling {
		return nil
	}
	least := m.cfg.Offline
	for _, d := range m.cfg.OfflineOf {
		if d > 0 {
			least = min(least, d)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var late []identity.Device
	for id, a := range m.away {
		if now.Sub(a.since) < least || now.Before(a.look) || m.told[id] {
			continue
		}
		if late = append(late, id); len(late) == checkBatch {
			break
		}
	}
	return late
}

// miss alerts on one device, if its group misses it by now and it was well.
func (m *Monitor) miss(ctx context.Context, id identity.Device, now time.Time) ([]Change, error) {
	was, err := m.cfg.Store.Recorded(ctx, id)
	if err != nil {
		return nil, err
	}
	d, err := m.cfg.Registry.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	allowed, own := m.cfg.OfflineOf[d.Group]
	if !own {
		allowed = m.cfg.Offline
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a, away := m.away[id]
	late := allowed > 0 && now.Sub(a.since) >= allowed
	switch {
	case !away:
		return nil, nil
	case !late && allowed > 0:
		a.look = a.since.Add(allowed)
	case !late || !well(was): // what is wrong with it has been said
		a.look = now.Add(time.Hour)
	default:
		m.told[id] = true
	}
	m.away[id] = a
	if !m.told[id] {
		return nil, nil
	}
	r := deviceAlert(id, Offline, fmt.Sprintf("it was last here at %s", a.since.UTC().Format(time.RFC3339)), now)
	r.Group, r.From, r.To = d.Group, was, posture.Offline
	return []Change{r}, nil
}

func well(s posture.Status) bool {
	return s == posture.Trusted || s == posture.Degraded || s == posture.Connected
}

// expiring alerts on devices that are here and whose certificate is about to
// end. One that is away cannot renew; it is missed for that.
func (m *Monitor) expiring(ctx context.Context) error {
	now := m.cfg.Now()
	due, err := m.cfg.Store.Expiring(ctx, now, checkBatch)
	if err != nil {
		return err
	}
	var cs []Change
	for _, e := range due {
		cs = append(cs, Expiry{Device: e.Device, NotAfter: e.NotAfter})
		if !m.here(e.Device) || !now.Before(e.NotAfter) {
			continue
		}
		d, err := m.cfg.Registry.Device(ctx, e.Device)
		if err != nil {
			return err
		}
		a := deviceAlert(e.Device, Expiring, fmt.Sprintf("its certificate ends at %s and was not renewed", e.NotAfter.UTC().Format(time.RFC3339)), now)
		a.Group, a.From, a.To = d.Group, d.Status, d.Status
		cs = append(cs, a)
	}
	return m.apply(ctx, cs)
}

// apply makes changes that no record of the ledger stands for.
func (m *Monitor) apply(ctx context.Context, cs []Change) error {
	if len(cs) == 0 {
		return nil
	}
	if err := m.cfg.Store.Apply(ctx, nil, cs); err != nil {
		return err
	}
	m.wakeHook()
	return nil
}
