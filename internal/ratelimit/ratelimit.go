// Package ratelimit bounds how often somebody may try: a token bucket for each
// key, in a table that strangers cannot fill.
package ratelimit

import (
	"net/netip"
	"sync"
	"time"
)

// Config says how much is allowed.
type Config struct {
	Every time.Duration // a bucket gets one token each time this passes; required
	Burst int           // tokens of a full bucket; required
	Keys  int           // buckets at a time; required. Keys beyond share one.
}

// Limit is a table of buckets. It is safe for concurrent use.
type Limit struct {
	cfg Config

	mu      sync.Mutex
	buckets map[string]bucket
	shared  bucket // of the keys that the table has no room for
	swept   time.Time
}

// bucket holds its tokens as time: it is full at a time, and each token taken
// puts that off.
type bucket struct{ full time.Time }

// New returns a table without any buckets: each key begins with a full one.
func New(cfg Config) *Limit { return &Limit{cfg: cfg, buckets: map[string]bucket{}} }

// Take takes a token of a key. Without one it takes none and says how long it
// is until there is one.
func (l *Limit) Take(key string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[key]
	if !known && len(l.buckets) >= l.cfg.Keys && !l.sweep(now) {
		wait, l.shared = l.take(l.shared, now)
		return wait
	}
	if wait, b = l.take(b, now); wait == 0 {
		l.buckets[key] = b
	}
	return wait
}

func (l *Limit) take(b bucket, now time.Time) (time.Duration, bucket) {
	if b.full.Before(now) {
		b.full = now
	}
	owed := b.full.Sub(now) + l.cfg.Every - time.Duration(l.cfg.Burst)*l.cfg.Every
	if owed > 0 {
		return owed, b
	}
	b.full = b.full.Add(l.cfg.Every)
	return 0, b
}

// Return gives back a token that was taken for nothing.
func (l *Limit) Return(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, known := l.buckets[key]; known {
		b.full = b.full.Add(-l.cfg.Every)
		l.buckets[key] = b
	}
}

// sweep drops full buckets and reports whether there is room. It looks once in
// Every at most: a flood of keys does not make each attempt cost the table.
func (l *Limit) sweep(now time.Time) bool {
	if now.Sub(l.swept) < l.cfg.Every {
		return false
	}
	l.swept = now
	for key, b := range l.buckets {
		if !b.full.After(now) {
			delete(l.buckets, key)
		}
	}
	return len(l.buckets) < l.cfg.Keys
}

// Origin returns the network that counts as one peer, of an address with a
// port: of IPv6 one /64 network, which is what one subscriber has.
func Origin(addr string) netip.Prefix {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Prefix{}
	}
	a := ap.Addr().Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(a, bits).Masked()
}
