package issuer

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// maxBatch bounds a transaction; commitTimeout bounds how long one may take.
const (
	maxBatch      = 256
	commitTimeout = 30 * time.Second
)

// batcher records certificates in groups: all that wait while one transaction
// is synced go into the next, so that many issues share one fsync.
type batcher struct {
	store Store
	turn  chan struct{} // holds one token: who has it writes

	mu      sync.Mutex
	waiting []*entry
}

type entry struct {
	cert   Certificate
	done   bool // guarded by batcher.mu
	result Added
}

func newBatcher(s Store) *batcher {
	b := &batcher{store: s, turn: make(chan struct{}, 1)}
	b.turn <- struct{}{}
	return b
}

// add records a certificate and returns when it is on stable storage. When ctx
// ends first the certificate may be recorded all the same, but nobody gets it.
func (b *batcher) add(ctx context.Context, c Certificate) (Added, error) {
	e := &entry{cert: c}
	b.mu.Lock()
	b.waiting = append(b.waiting, e)
	b.mu.Unlock()
	for {
		select {
		case <-b.turn:
		case <-ctx.Done():
			return Added{}, ctx.Err()
		}
		if !b.finished(e) {
			b.write(context.WithoutCancel(ctx)) // others wait for this batch too
		}
		done := b.finished(e)
		b.turn <- struct{}{}
		if done {
			return e.result, e.result.Err
		}
	}
}

func (b *batcher) finished(e *entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return e.done
}

// write records what waits. The caller has the turn.
func (b *batcher) write(ctx context.Context) {
	b.mu.Lock()
	n := min(len(b.waiting), maxBatch)
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	b.mu.Unlock()

	certs := make([]Certificate, 0, n)
	for _, e := range batch {
		certs = append(certs, e.cert)
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	results, err := b.store.AddCertificates(ctx, certs)
	if err == nil && len(results) != n {
		err = fmt.Errorf("store answered for %d certificates of %d", len(results), n)
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range batch {
		e.done = true
		if err != nil {
			e.result.Err = fmt.Errorf("record certificate: %w", err)
			continue
		}
		e.result = results[i]
	}
}
