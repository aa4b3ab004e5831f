package gateway_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/access"
	"holdfast/hub/gateway"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/mqtt"
	"holdfast/operator"
)

// limited admits everybody within limits.
func limited(l operator.Limits) func(context.Context, gateway.Peer) (gateway.Admission, error) {
	return func(context.Context, gateway.Peer) (gateway.Admission, error) {
		return gateway.Admission{Mode: access.Full, Limits: l}, nil
	}
}

// onPipes starts a gateway in a bubble of fake time, and returns a way to connect
// to it.
func onPipes(t *testing.T, hub *fakeHub) (*bench, func(id string) *client) {
	l, a := newPipes(), newAuthority(t)
	return startOn(t, l, a, hub), func(id string) *client {
		c := newClient(t, l.dial(t), a.clientTLS(a.device(t, id)))
		c.send(&mqtt.Connect{ClientID: id, Clean: true, KeepAlive: 1000})
		expect[*mqtt.Connack](c)
		return c
	}
}

func events(id string) string { return "devices/" + id + "/messages/events/" }

// flood sends n messages in one write.
func (c *client) flood(id string, n int) {
	c.t.Helper()
	var ps []mqtt.Packet
	for i := range n {
		ps = append(ps, &mqtt.Publish{Topic: events(id), QoS: 1, ID: uint16(i + 1)})
	}
	c.send(ps...)
}

// took is how long n acknowledgements take to come.
func (c *client) took(n int) time.Duration {
	c.t.Helper()
	began := time.Now()
	for range n {
		expect[*mqtt.Puback](c)
	}
	return time.Since(began)
}

func checkTook(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want-20*time.Millisecond || got > want+20*time.Millisecond {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

// A device that is over its rate is read later, and nothing of it is lost. A new
// connection does not make up for it, silence does.
func TestShaped(t *testing.T) {
	hub := &fakeHub{admit: limited(operator.Limits{MessagesPerSecond: 10, BurstSeconds: 1})}
	synctest.Test(t, func(t *testing.T) {
		b, open := onPipes(t, hub)
		c := open("pump-01")
		c.flood("pump-01", 40)
		checkTook(t, "40 messages at 10 a second with 10 saved up", c.took(40), 3*time.Second)
		c = open("pump-01") // takes over
		c.flood("pump-01", 10)
		checkTook(t, "10 messages over a new connection", c.took(10), time.Second)
		c.conn.NetConn().Close()
		b.hub.await(t, "the end", func() bool { return len(b.hub.closed) == 2 })
		time.Sleep(500 * time.Millisecond)
		c = open("pump-01")
		c.flood("pump-01", 10)
		checkTook(t, "10 messages after half a second", c.took(10), 500*time.Millisecond)
		c.conn.NetConn().Close()
		time.Sleep(time.Minute)
		c = open("pump-01")
		c.flood("pump-01", 10)
		checkTook(t, "10 messages after a minute", c.took(10), 0)
		c.send(slices.Repeat([]mqtt.Packet{&mqtt.Pingreq{}}, 20)...)
		began := time.Now()
		for range 20 {
			expect[*mqtt.Pingresp](c)
		}
		checkTook(t, "20 pings", time.Since(began), 2*time.Second)
		if n := b.hub.stored(); n != 70 {
			t.Errorf("%d messages stored, want 70", n)
		}
	})
}

// Bytes are shaped too. Requests wait for no more than MaxDelay.
func TestShapedByBytes(t *testing.T) {
	hub := &fakeHub{admit: limited(operator.Limits{BytesPerSecond: 1000, BurstSeconds: 1})}
	hub.exchange = func(context.Context, *gateway.Session, string, []byte) (int, []byte) { return 200, nil }
	synctest.Test(t, func(t *testing.T) {
		_, open := onPipes(t, hub)
		c := open("pump-01")
		body := make([]byte, 1000-len(telemetry))
		began := time.Now()
		for i := range uint16(4) {
			c.send(&mqtt.Publish{Topic: telemetry, Payload: body, QoS: 1, ID: i + 1})
		}
		c.took(4)
		checkTook(t, "4000 bytes", time.Since(began), 3*time.Second)
		c.subscribe(iothub.AttestFilter)
		began = time.Now()
		c.send(&mqtt.Publish{Topic: iothub.Attest{Op: iothub.AttestEvidence, RequestID: "1"}.String(), Payload: make([]byte, 100_000)})
		expect[*mqtt.Publish](c)
		checkTook(t, "evidence", time.Since(began), gateway.MaxDelay)
	})
}

// grouped admits devices whose ids begin with the group's name within its limits.
func grouped(limits map[string]operator.Limits) func(context.Context, gateway.Peer) (gateway.Admission, error) {
	return func(_ context.Context, p gateway.Peer) (gateway.Admission, error) {
		group, _, _ := strings.Cut(string(p.Device), "-")
		return gateway.Admission{Mode: access.Full, Group: identity.Group(group), Limits: limits[group]}, nil
	}
}

// The devices of a group share what it may send, and go round; another group
// does not notice.
func TestShapedTogether(t *testing.T) {
	hub := &fakeHub{admit: grouped(map[string]operator.Limits{"noisy": {GroupMessagesPerSecond: 10, BurstSeconds: 1}})}
	synctest.Test(t, func(t *testing.T) {
		_, open := onPipes(t, hub)
		a, b, other := open("noisy-1"), open("noisy-2"), open("quiet-1")
		began := time.Now()
		a.flood("noisy-1", 40)
		a.took(10) // saved up
		b.flood("noisy-2", 10)
		b.took(10)
		// 10 of its own and about as many of the other device, at 10 a second.
		if got := time.Since(began); got < 1500*time.Millisecond || got > 2500*time.Millisecond {
			t.Errorf("10 messages beside a device that floods took %v", got)
		}
		other.flood("quiet-1", 40)
		checkTook(t, "40 messages of another group", other.took(40), 0)
		a.conn.NetConn().Close()
	})
}

// A group of which too many send at once is refused, not served ever later.
func TestRefusedTogether(t *testing.T) {
	hub := &fakeHub{admit: grouped(map[string]operator.Limits{"noisy": {GroupBytesPerSecond: 1000, BurstSeconds: 1}})}
	synctest.Test(t, func(t *testing.T) {
		b, open := onPipes(t, hub)
		c := open("noisy-1")
		c.send(&mqtt.Publish{Topic: events("noisy-1"), QoS: 1, ID: 1, Payload: make([]byte, 7000)})
		c.expectEnd()
		b.hub.awaitClosed(t, gateway.Violation, "over the rate limit")
	})
}

// Changed limits hold for new sessions, and do not give the group a fresh start.
func TestGroupLimitsChange(t *testing.T) {
	limits := map[string]operator.Limits{"noisy": {GroupMessagesPerSecond: 10, BurstSeconds: 1}}
	hub := &fakeHub{admit: grouped(limits)}
	synctest.Test(t, func(t *testing.T) {
		_, open := onPipes(t, hub)
		c := open("noisy-1")
		c.flood("noisy-1", 20)
		checkTook(t, "20 messages at 10 a second with 10 saved up", c.took(20), time.Second)
		limits["noisy"] = operator.Limits{GroupMessagesPerSecond: 20, BurstSeconds: 1}
		d := open("noisy-2")
		d.flood("noisy-2", 20)
		checkTook(t, "20 messages at 20 a second with nothing saved up", d.took(20), time.Second)
	})
}

// A device that waits for its turn is cut off as fast as any other.
func TestShapedIsRevoked(t *testing.T) {
	hub := &fakeHub{admit: limited(operator.Limits{MessagesPerSecond: 1, BurstSeconds: 1})}
	synctest.Test(t, func(t *testing.T) {
		b, open := onPipes(t, hub)
		c := open("pump-01")
		began := time.Now()
		c.flood("pump-01", 20)
		expect[*mqtt.Puback](c)
		synctest.Wait()
		if !b.Revoke("pump-01") {
			t.Error("no session")
		}
		c.expectEnd()
		b.hub.awaitClosed(t, gateway.Revoked, "")
		if got := time.Since(began); got != 0 {
			t.Errorf("took %v", got)
		}
		if n := b.hub.stored(); n != 1 {
			t.Errorf("%d messages stored", n)
		}
	})
}

func TestOverLimits(t *testing.T) {
	large := &mqtt.Publish{Topic: telemetry, Payload: make([]byte, 7000), QoS: 1, ID: 1}
	small := func(id uint16) mqtt.Packet { return &mqtt.Publish{Topic: telemetry, QoS: 1, ID: id} }
	for _, c := range []struct {
		name   string
		limits operator.Limits
		send   []mqtt.Packet
		code   mqtt.Code
		want   string
	}{
		{"rate", operator.Limits{BytesPerSecond: 1000, BurstSeconds: 1}, []mqtt.Packet{large}, mqtt.QuotaExceeded, "rate limit"},
		{"size", operator.Limits{MaxMessageBytes: 6999}, []mqtt.Packet{large}, mqtt.PacketTooLarge, "larger"},
		{"in flight", operator.Limits{InFlight: 2}, []mqtt.Packet{small(1), small(2), small(3)}, mqtt.ReceiveMaximumExceeded, "in flight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			held := func(iothub.Message, func(error)) {} // nothing is ever stored
			b := start(t, &fakeHub{admit: limited(c.limits), store: held})
			d, ack := b.connectAs(t, mqtt.Connect{Version: mqtt.V5, Clean: true})
			if n, _ := ack.Properties.Number(mqtt.ReceiveMaximum); c.limits.InFlight > 0 && int(n) != c.limits.InFlight {
				t.Errorf("told a receive maximum of %d", n)
			}
			d.send5(c.send...)
			if got := expect[*mqtt.Disconnect](d); got.Code != c.code {
				t.Errorf("DISCONNECT %+v, want %x", got, c.code)
			}
			d.expectEnd()
			b.hub.awaitClosed(t, gateway.Violation, c.want)
			if c.limits.InFlight > 0 {
				return // 3.1.1 has no receive maximum: messages wait
			}
			old := b.open(t, "pump-02")
			old.send(&mqtt.Publish{Topic: events("pump-02"), Payload: large.Payload, QoS: 1, ID: 1})
			old.expectEnd()
			if b.hub.stored() != 0 {
				t.Error("stored")
			}
		})
	}
}

// Without a receive maximum, messages over the limit wait for those before.
func TestInFlightWaits(t *testing.T) {
	stored := make(chan func(error), 9)
	hub := &fakeHub{admit: limited(operator.Limits{InFlight: 2}), store: func(_ iothub.Message, done func(error)) { stored <- done }}
	synctest.Test(t, func(t *testing.T) {
		_, open := onPipes(t, hub)
		c := open("pump-01")
		c.flood("pump-01", 3)
		synctest.Wait()
		if len(stored) != 2 {
			t.Fatalf("%d messages on their way, want 2", len(stored))
		}
		for range 3 {
			(<-stored)(nil)
		}
		c.took(3)
	})
}

// neighbours returns the ack latencies of a quiet device, in their order of
// size, while another floods a store that takes a millisecond for each message.
func neighbours(t *testing.T, noisy operator.Limits) (took []time.Duration) {
	var queue chan func(error) // of the bubble
	hub := &fakeHub{forget: true, store: func(_ iothub.Message, done func(error)) { queue <- done }}
	hub.admit = func(ctx context.Context, p gateway.Peer) (gateway.Admission, error) {
		if strings.HasPrefix(string(p.Device), "noisy") {
			return limited(noisy)(ctx, p)
		}
		return limited(operator.Limits{})(ctx, p)
	}
	synctest.Test(t, func(t *testing.T) {
		b, open := onPipes(t, hub)
		queue = make(chan func(error), 1000)
		defer close(queue)
		go func() {
			for done := range queue {
				time.Sleep(time.Millisecond)
				done(nil)
			}
		}()
		loud, quiet := open("noisy-01"), open("quiet-01")
		packet, err := (&mqtt.Publish{Topic: events("noisy-01"), QoS: 1, ID: 1}).Append(nil)
		if err != nil {
			t.Error(err)
		}
		go func() { // as fast as it is read
			for b := slices.Repeat(packet, 100); ; {
				if _, err := loud.conn.Write(b); err != nil {
					return
				}
			}
		}()
		go func() {
			for buf := make([]byte, 4<<10); ; {
				if _, err := loud.conn.Read(buf); err != nil {
					return
				}
			}
		}()
		for range 200 {
			time.Sleep(25 * time.Millisecond)
			quiet.send(&mqtt.Publish{Topic: events("quiet-01"), QoS: 1, ID: 1})
			took = append(took, quiet.took(1))
		}
		b.stop()
	})
	slices.Sort(took)
	return took
}

// One noisy device does not slow the others: neither its rate nor what it has in
// flight is theirs to wait for. Without limits it fills the store's queue.
func TestNoisyNeighbour(t *testing.T) {
	limits := neighbours(t, operator.Limits{MessagesPerSecond: 100, BurstSeconds: 1, InFlight: 4})
	without := neighbours(t, operator.Limits{MessagesPerSecond: 1_000_000})
	t.Logf("p50, p99, max: %v %v %v with limits, %v %v %v without", limits[100], limits[198], limits[199], without[100], without[198], without[199])
	if limits[100] > time.Millisecond || limits[199] > 5*time.Millisecond {
		t.Errorf("a noisy device slows its neighbour down to %v, %v at worst", limits[100], limits[199])
	}
	if without[100] < 100*time.Millisecond {
		t.Errorf("without limits the neighbour waits %v: the test shows nothing", without[100])
	}
}
