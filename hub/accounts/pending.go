package accounts

import (
	"sync"
	"time"
)

// pendingFor is how long somebody has to answer a challenge or to come back
// from a provider; maxPending is how many may be on their way.
const (
	pendingFor = 5 * time.Minute
	maxPending = 16384
)

// pending keeps what was begun until it is finished, once. Anybody may begin
// something: where there is no room the oldest goes.
type pending[T any] struct {
	mu    sync.Mutex
	begun map[string]begun[T]
	order []string // the oldest first; some are finished
}

type begun[T any] struct {
	what  T
	until time.Time
}

func newPending[T any]() *pending[T] { return &pending[T]{begun: map[string]begun[T]{}} }

// put keeps something under a key that nobody can guess.
func (p *pending[T]) put(key string, what T, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.order) > 0 {
		oldest, ok := p.begun[p.order[0]]
		if ok && now.Before(oldest.until) && len(p.order) < maxPending {
			break
		}
		delete(p.begun, p.order[0])
		p.order = p.order[1:]
	}
	p.begun[key] = begun[T]{what: what, until: now.Add(pendingFor)}
	p.order = append(p.order, key)
}

// take takes out what is under a key; there is nothing once it is too late.
func (p *pending[T]) take(key string, now time.Time) (T, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.begun[key]
	delete(p.begun, key)
	if !ok || !now.Before(b.until) {
		var none T
		return none, false
	}
	return b.what, true
}
