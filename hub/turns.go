package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// TLS handshakes that an HTTP listener does at a time, and of those with one
// address; and how long one waits for its turn. What a handshake costs is the
// processor: more of them at once finish no sooner, and all of them late.
const (
	maxHandshakes      = 128
	handshakesFromEach = maxHandshakes / 4
	turnTimeout        = 5 * time.Second
)

// turns lets handshakes run one after the other beyond so many.
type turns struct {
	all  chan struct{}
	each int
	wait time.Duration

	mu   sync.Mutex
	from map[netip.Prefix]*origin
}

// origin is an address that handshakes come from.
type origin struct {
	turns chan struct{}
	users int
}

func newTurns(all, each int, wait time.Duration) *turns {
	return &turns{all: make(chan struct{}, all), each: each, wait: wait, from: map[netip.Prefix]*origin{}}
}

// limit returns a TLS configuration that is cfg and has each handshake wait for
// its turn, once the client has said hello and before anything is computed.
func (t *turns) limit(cfg *tls.Config) *tls.Config {
	limited := cfg.Clone()
	limited.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		done, err := t.take(hello.Context(), hello.Conn.RemoteAddr())
		if err != nil {
			return nil, err
		}
		context.AfterFunc(hello.Context(), done) // crypto/tls ends it with the handshake
		if cfg.GetConfigForClient == nil {
			return nil, nil
		}
		return cfg.GetConfigForClient(hello)
	}
	return limited
}

// take waits for a turn; done gives it back.
func (t *turns) take(ctx context.Context, a net.Addr) (done func(), err error) {
	prefix := originOf(a)
	o := t.enter(prefix)
	timer := time.NewTimer(t.wait)
	defer timer.Stop()
	var taken []chan struct{}
	done = func() {
		for _, c := range taken {
			<-c
		}
		t.leave(prefix, o)
	}
	for _, c := range []chan struct{}{o.turns, t.all} {
		select {
		case c <- struct{}{}:
			taken = append(taken, c)
			continue
		case <-timer.C:
			err = errors.New("no turn for the handshake in time")
		case <-ctx.Done():
			err = ctx.Err()
		}
		done()
		return nil, err
	}
	return done, nil
}

func (t *turns) enter(prefix netip.Prefix) *origin {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.from[prefix]
	if o == nil {
		o = &origin{turns: make(chan struct{}, t.each)}
		t.from[prefix] = o
	}
	o.users++
	return o
}

func (t *turns) leave(prefix netip.Prefix, o *origin) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o.users--; o.users == 0 {
		delete(t.from, prefix)
	}
}
