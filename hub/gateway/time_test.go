package gateway_test

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/hub/gateway"
	"holdfast/mqtt"
)

// pipes is a listener without a network, for tests in a bubble of fake time.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(t testing.TB) net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	t.Cleanup(func() { near.Close() })
	return near
}

func TestKeepAlive(t *testing.T) {
	for _, c := range []struct {
		name  string
		alive uint16
		talk  func(*client)
		after time.Duration
	}{
		{"silence", 20, func(*client) {}, 30 * time.Second},
		{"a ping prolongs", 20, func(c *client) {
			time.Sleep(20 * time.Second)
			c.alive()
		}, 50 * time.Second},
		{"half a packet does not", 20, func(c *client) {
			for _, b := range []byte{0x30, 9, 0} {
				c.write([]byte{b})
				time.Sleep(9 * time.Second)
			}
		}, 30 * time.Second},
		{"turned off", 0, func(*client) {}, gateway.MaxSilence},
		{"longer than the cap", 65535, func(*client) {}, gateway.MaxSilence},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, a := newPipes(), newAuthority(t)
				b := startOn(t, l, a, &fakeHub{})
				d := newClient(t, l.dial(t), a.clientTLS(a.device(t, "pump-01")))
				d.send(&mqtt.Connect{ClientID: "pump-01", Clean: true, KeepAlive: c.alive})
				expect[*mqtt.Connack](d)
				began := time.Now()
				c.talk(d)
				d.conn.SetReadDeadline(time.Time{})
				d.conn.Read(make([]byte, 1)) // until the hub closes
				if got := time.Since(began); got != c.after {
					t.Errorf("closed after %v, want %v", got, c.after)
				}
				b.hub.awaitClosed(t, gateway.Silent, "")
				b.stop()
			})
		})
	}
}

// TestSessionEndsWithItsCertificate keeps a session busy beyond the end of the
// certificate that opened it.
func TestSessionEndsWithItsCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a := newPipes(), newAuthority(t)
		b := startOn(t, l, a, &fakeHub{})
		d := newClient(t, l.dial(t), a.clientTLS(a.device(t, "pump-01")))
		ends := time.Now().Add(time.Hour) // as the authority makes them
		d.send(&mqtt.Connect{ClientID: "pump-01", Clean: true, KeepAlive: 60,
			Will: &mqtt.Will{Topic: "devices/pump-01/messages/events/", Payload: []byte("gone")}})
		expect[*mqtt.Connack](d)
		for time.Until(ends) > time.Minute {
			time.Sleep(time.Minute)
			d.alive()
		}
		d.conn.SetReadDeadline(time.Time{})
		d.conn.Read(make([]byte, 1)) // until the hub closes
		if late := time.Since(ends); late != 0 {
			t.Errorf("closed %v after its certificate ended", late)
		}
		b.hub.awaitClosed(t, gateway.Expired, "")
		if len(b.hub.messages) > 0 {
			t.Error("the will was stored for a certificate that had ended")
		}
		b.stop()
	})
}

// A peer that stops on its way to a session is closed in time.
func TestConnectDeadlines(t *testing.T) {
	for _, c := range []struct {
		name  string
		stop  func(*testing.T, *pipes, *authority)
		after time.Duration
		want  string
	}{
		{"no first byte", func(t *testing.T, l *pipes, _ *authority) { l.dial(t) }, 10 * time.Second, "first byte"},
		{"half a handshake", func(t *testing.T, l *pipes, _ *authority) {
			raw := l.dial(t)
			time.Sleep(9 * time.Second)
			raw.Write([]byte{0x16, 3, 1})
		}, 19 * time.Second, "TLS handshake"},
		{"no CONNECT", func(t *testing.T, l *pipes, a *authority) {
			newClient(t, l.dial(t), a.clientTLS(a.device(t, "pump-01")))
		}, 10 * time.Second, "CONNECT"},
		{"half a CONNECT", func(t *testing.T, l *pipes, a *authority) {
			c := newClient(t, l.dial(t), a.clientTLS(a.device(t, "pump-01")))
			time.Sleep(9 * time.Second)
			c.write([]byte{0x10, 20})
		}, 10 * time.Second, "CONNECT"},
		{"no slot", func(t *testing.T, l *pipes, _ *authority) {
			l.dial(t).Write([]byte{0x16}) // has the only slot
			synctest.Wait()
			l.dial(t).Write([]byte{0x16})
		}, 3 * time.Second, "no handshake slot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, a := newPipes(), newAuthority(t)
				b := startOn(t, l, a, &fakeHub{}, func(c *gateway.Config) { c.Slots, c.QueueTimeout = 1, 3*time.Second })
				began := time.Now()
				c.stop(t, l, a)
				b.hub.await(t, "a refusal", func() bool { return len(b.hub.refusals) > 0 })
				if got := time.Since(began); got != c.after {
					t.Errorf("refused after %v, want %v", got, c.after)
				}
				b.hub.awaitRefused(t, c.want)
				b.stop()
			})
		})
	}
}
