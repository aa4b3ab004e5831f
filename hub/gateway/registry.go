package gateway

import (
	"slices"
	"sync"

	"holdfast/identity"
)

// registry knows every session from before it is admitted until it has ended.
type registry struct {
	mu       sync.Mutex
	sessions map[identity.Device][]*Session // in the order of arrival
	count    int
	arrivals uint64
	closed   bool
}

// add registers a session and reports whether there was room for it.
func (r *registry) add(s *Session, limit int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.count >= limit || len(r.sessions[s.device]) >= maxPerDevice {
		return false
	}
	r.count++
	r.arrivals++
	s.arrival = r.arrivals
	r.sessions[s.device] = append(r.sessions[s.device], s)
	return true
}

func (r *registry) remove(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest := slices.DeleteFunc(r.sessions[s.device], func(o *Session) bool { return o == s })
	r.count--
	if len(rest) == 0 {
		delete(r.sessions, s.device)
		return
	}
	r.sessions[s.device] = rest
}

// promote makes s the open session of its device, with the hub or with DPS, and
// returns the one it replaces. The newest connection wins: s itself is refused when a later one
// was faster.
func (r *registry) promote(s *Session) (replaced []*Session, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.sessions[s.device] {
		switch {
		case o == s || !o.promoted || (o.register == nil) != (s.register == nil):
		case o.arrival > s.arrival:
			return nil, false
		default:
			replaced = append(replaced, o)
		}
	}
	s.promoted = true
	return replaced, true
}

// successor returns the session that replaced s, if one did.
func (r *registry) successor(s *Session) (*Session, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.sessions[s.device] {
		if o.promoted && o.arrival > s.arrival && (o.register == nil) == (s.register == nil) {
			return o, true
		}
	}
	return nil, false
}

func (r *registry) of(d identity.Device) []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sessions[d])
}

func (r *registry) open() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Session
	for _, ss := range r.sessions {
		for _, s := range ss {
			if s.promoted {
				all = append(all, s)
			}
		}
	}
	return all
}

// close lets nothing in any more and returns what is there.
func (r *registry) close() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	var all []*Session
	for _, ss := range r.sessions {
		all = append(all, ss...)
	}
	return all
}
