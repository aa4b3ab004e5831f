package store

import "sync"

// maxMemo bounds how much a memo remembers, some 100 bytes each.
const maxMemo = 8192

// memo remembers what was read lately, for questions that each connection of a
// device asks and whose answer hardly ever changes. It is exact, because one
// process at a time works on a store and who writes forgets.
type memo[K comparable, V any] struct {
	mu    sync.Mutex
	known map[K]V
	epoch uint64 // counts what was forgotten
}

// recall returns what is remembered; if nothing is, the epoch that remember
// wants to know after reading.
func (m *memo[K, V]) recall(k K) (v V, ok bool, epoch uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok = m.known[k]
	return v, ok, m.epoch
}

// remember keeps what was read since epoch, unless something has been written
// meanwhile.
func (m *memo[K, V]) remember(k K, v V, epoch uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch != m.epoch {
		return
	}
	if m.known == nil || len(m.known) >= maxMemo {
		m.known = map[K]V{}
	}
	m.known[k] = v
}

// forget is called after k was written, and before who writes returns.
func (m *memo[K, V]) forget(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, k)
	m.epoch++
}
