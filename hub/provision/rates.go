package provision

import (
	"sync"
	"time"

	"holdfast/identity"
)

// perMinute is how many registrations of one device are taken in a minute, and
// maxCounted how many devices are counted apart: a registration writes.
const (
	perMinute  = 20
	maxCounted = 65536
)

// rates counts the registrations of each device in the current minute.
type rates struct {
	mu    sync.Mutex
	since time.Time
	seen  map[identity.Device]int
}

// take reports whether one more registration of a device is taken now.
func (r *rates) take(id identity.Device, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := now.Sub(r.since); age >= time.Minute || age < 0 || len(r.seen) >= maxCounted {
		r.since = now
		clear(r.seen)
	}
	if r.seen[id] >= perMinute {
		return false
	}
	r.seen[id]++
	return true
}
