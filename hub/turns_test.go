package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func address(s string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(s), Port: 4711} }

// Beyond the limit a handshake waits, of one address sooner than of many.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(3, 2, 5*time.Second)
		var ends []func()
		for _, from := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2"} {
			done, err := turns.take(t.Context(), address(from))
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, done)
		}
		began := time.Now()
		for what, from := range map[string]string{"a third of one address": "192.0.2.1", "a fourth of all": "192.0.2.3"} {
			if _, err := turns.take(t.Context(), address(from)); err == nil {
				t.Errorf("%s did not wait", what)
			}
		}
		if got := time.Since(began); got != 10*time.Second {
			t.Errorf("they waited %v", got)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := turns.take(gone, address("192.0.2.3")); !errors.Is(err, context.Canceled) {
			t.Errorf("a client that has gone: %v", err)
		}
		got := make(chan error, 1)
		go func() {
			_, err := turns.take(t.Context(), address("192.0.2.3"))
			got <- err
		}()
		synctest.Wait()
		ends[0]()
		if err := <-got; err != nil {
			t.Errorf("with room again: %v", err)
		}
		if len(turns.from) != 3 {
			t.Errorf("%d addresses are remembered", len(turns.from))
		}
		ends[1]()
		if len(turns.from) != 2 {
			t.Errorf("%d addresses are remembered", len(turns.from))
		}
	})
}

// A turn is given back when the handshake is over, however it ends.
func TestTurnEndsWithTheHandshake(t *testing.T) {
	turns := newTurns(1, 1, 30*time.Second)
	asked := 0
	inner := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		asked++
		return nil, errors.New("refused")
	}}
	cfg := turns.limit(inner)
	for range 3 { // each would wait for the one before
		near, far := net.Pipe()
		go func() {
			_ = tls.Client(near, &tls.Config{ServerName: "hub"}).Handshake()
			near.Close()
		}()
		if err := tls.Server(far, cfg).HandshakeContext(t.Context()); err == nil || err.Error() != "refused" {
			t.Errorf("handshake: %v", err)
		}
		far.Close()
	}
	if asked != 3 {
		t.Errorf("%d handshakes got their turn", asked)
	}
}
