package gateway

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"holdfast/identity"
	"holdfast/mqtt"
)

// Sessions keeps what outlives the connections of a device: what a client asks
// for that connects without a clean session, or with a session expiry. Save
// and Drop return when that is on disk.
type Sessions interface {
	// Load returns what is kept of a device's session, if anything is.
	Load(ctx context.Context, d identity.Device) (Kept, bool, error)
	// Save keeps it, in place of what was kept.
	Save(ctx context.Context, d identity.Device, k Kept) error
	// Drop forgets it.
	Drop(ctx context.Context, d identity.Device) error
}

// Kept is what is kept of a session.
type Kept struct {
	Subscriptions []Subscription `json:"subscriptions"`
	Expiry        uint32         `json:"expiry"` // seconds after the end; mqtt.SessionNeverExpires
	Ended         time.Time      `json:"ended"`  // of the last connection; zero: it was open last time
}

// Subscription is a filter as it was granted.
type Subscription struct {
	Filter string   `json:"filter"`
	QoS    mqtt.QoS `json:"qos"`
}

// over reports whether the session has expired.
func (k Kept) over(now time.Time) bool {
	return k.Expiry == 0 || k.Expiry != mqtt.SessionNeverExpires && !k.Ended.IsZero() && now.Sub(k.Ended) >= time.Duration(k.Expiry)*time.Second
}

// keeping orders what two sessions of one device do with what is kept: a
// session that was replaced must not write after its successor has read. It is
// the one lock here that is held over I/O, for nobody but them waits for it
// (and the few devices that share it by chance).
type keeping struct {
	seed  maphash.Seed
	locks [256]sync.Mutex
}

func (k *keeping) of(d identity.Device) *sync.Mutex {
	return &k.locks[maphash.String(k.seed, string(d))%uint64(len(k.locks))]
}

// restore takes over what is kept of the device's session, or ends it when the
// client wants a clean one. It runs once the session is the device's only one.
func (s *Session) restore(ctx context.Context) error {
	if s.register != nil {
		return nil // DPS keeps no sessions, whatever the flag says
	}
	lock := s.g.keeping.of(s.device)
	lock.Lock()
	defer lock.Unlock()
	k, ok, err := s.g.cfg.Sessions.Load(ctx, s.device)
	if err != nil {
		return fmt.Errorf("load session: %w", err)
	}
	switch over := k.over(time.Now()); {
	case !ok:
		return nil
	case s.clean || over:
		if err := s.g.cfg.Sessions.Drop(ctx, s.device); err != nil {
			return fmt.Errorf("drop session: %w", err)
		}
		return nil
	}
	s.mu.Lock()
	s.resumed, s.stored = true, true
	s.subs = slices.Clone(k.Subscriptions)
	s.mu.Unlock()
	if k.Expiry == s.expiry && k.Ended.IsZero() {
		return nil
	}
	return s.save(ctx, time.Time{})
}

// keep saves the session's subscriptions, unless it is over or nobody wants it
// kept.
func (s *Session) keep(ctx context.Context) error {
	if s.expiry == 0 {
		return nil
	}
	lock := s.g.keeping.of(s.device)
	lock.Lock()
	defer lock.Unlock()
	if s.isClosed() {
		return errCut
	}
	return s.save(ctx, time.Time{})
}

func (s *Session) save(ctx context.Context, ended time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, AdmitTimeout)
	defer cancel()
	s.mu.Lock()
	k := Kept{Subscriptions: slices.Clone(s.subs), Expiry: s.expiry, Ended: ended}
	s.mu.Unlock()
	if err := s.g.cfg.Sessions.Save(ctx, s.device, k); err != nil {
		return fmt.Errorf("save session: %w", err)
	}
	s.stored = true
	return nil
}

// leave notes the end of a session that is to expire, as long as it is not a
// newer one's already.
func (s *Session) leave(ctx context.Context) error {
	if !s.stored || s.expiry == mqtt.SessionNeverExpires {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // a shutdown ends sessions too
	lock := s.g.keeping.of(s.device)
	lock.Lock()
	defer lock.Unlock()
	if _, replaced := s.g.reg.successor(s); replaced {
		return nil
	}
	if s.expiry == 0 {
		return s.g.cfg.Sessions.Drop(ctx, s.device)
	}
	return s.save(ctx, time.Now().UTC())
}
