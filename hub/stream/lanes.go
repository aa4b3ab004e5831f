package stream

import "sync"

// lanes runs functions concurrently, those of one key in their order.
type lanes struct {
	slots chan struct{}
	wg    sync.WaitGroup

	mu   sync.Mutex
	last map[string]chan struct{} // closed when the last function of a key is done
}

func newLanes(n int) *lanes {
	return &lanes{slots: make(chan struct{}, n), last: map[string]chan struct{}{}}
}

// run starts f after the functions of the same key that came before it. It
// waits while too many run.
func (l *lanes) run(key string, f func()) {
	l.slots <- struct{}{}
	done := make(chan struct{})
	l.mu.Lock()
	before := l.last[key]
	l.last[key] = done
	l.mu.Unlock()
	l.wg.Go(func() {
		defer func() { <-l.slots }()
		if before != nil {
			<-before
		}
		f()
		l.mu.Lock()
		if l.last[key] == done {
			delete(l.last, key)
		}
		l.mu.Unlock()
		close(done)
	})
}

func (l *lanes) wait() { l.wg.Wait() }
