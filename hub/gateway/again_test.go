package gateway_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"holdfast/fault"
	"holdfast/hub/gateway"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// numbered is a message that has a number, and was sent before under packet.
func numbered(body string, number int64, packet uint16, done chan<- error) gateway.Delivery {
	m := message(body, done)
	m.Number, m.Packet = number, packet
	return m
}

// kept opens a session that goes on, of the version, with subscriptions.
func (b *bench) kept(t *testing.T, version mqtt.Version, filters ...string) *client {
	t.Helper()
	c := b.dial(t, "pump-01")
	c.in.Version = version
	connect := &mqtt.Connect{Version: version, ClientID: "pump-01"}
	if version == mqtt.V5 {
		connect.Properties = mqtt.Properties{{ID: mqtt.SessionExpiry, Number: mqtt.SessionNeverExpires}}
	}
	c.send(connect)
	if ack := expect[*mqtt.Connack](c); ack.SessionPresent == (len(filters) > 0) {
		t.Fatalf("CONNACK %+v", ack)
	}
	if len(filters) == 0 {
		return c
	}
	p := &mqtt.Subscribe{ID: 9}
	for _, f := range filters {
		p.Filters = append(p.Filters, mqtt.Filter{Filter: f, QoS: mqtt.AtLeastOnce})
	}
	if version == mqtt.V5 {
		c.send5(p)
	} else {
		c.send(p)
	}
	expect[*mqtt.Suback](c)
	return c
}

// A session that goes on gets what it did not acknowledge under the packet
// identifiers that it knows, with DUP, and new messages under others
// (MQTT-4.4.0-1).
func TestDeliverAgain(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		b := start(t, &fakeHub{})
		done := make(chan error, 9)
		deliver := func(m gateway.Delivery) uint16 {
			t.Helper()
			id, err := b.Deliver("pump-01", m)
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		c := b.kept(t, version, iothub.AnyDeviceboundFilter)
		first, second := deliver(numbered("1", 1, 0, done)), deliver(numbered("2", 2, 0, done))
		if p, q := expect[*mqtt.Publish](c), expect[*mqtt.Publish](c); p.ID != first || q.ID != second || first == second || p.Dup || q.Dup {
			t.Fatalf("version %d: got %+v, %+v", version, p, q)
		}
		c.conn.Close()
		for range 2 {
			if err := <-done; !errors.Is(err, gateway.ErrUnacknowledged) {
				t.Error(err)
			}
		}
		c = b.kept(t, version)
		b.hub.await(t, "the second session", func() bool { return len(b.hub.opened) == 2 })
		if version == mqtt.V5 {
			c.send5(&mqtt.Pingreq{})
		} else {
			c.send(&mqtt.Pingreq{})
		}
		expect[*mqtt.Pingresp](c)
		deliver(numbered("1", 1, first, done))
		deliver(numbered("2", 2, second, done))
		fresh := deliver(numbered("3", 3, 0, done))
		p, q, r := expect[*mqtt.Publish](c), expect[*mqtt.Publish](c), expect[*mqtt.Publish](c)
		if p.ID != first || q.ID != second || !p.Dup || !q.Dup || string(p.Payload) != "1" {
			t.Errorf("version %d: sent again as %+v, %+v", version, p, q)
		}
		if r.ID != fresh || r.ID == first || r.ID == second || r.Dup {
			t.Errorf("version %d: a new message is %+v", version, r)
		}
		// On the same connection it is sent again under 3.1.1 alone.
		later := make(chan error, 1)
		if id := deliver(numbered("3", 3, fresh, later)); id != fresh || <-done == nil {
			t.Errorf("version %d: packet %d", version, id)
		}
		if version == mqtt.V311 {
			if p := expect[*mqtt.Publish](c); p.ID != fresh || !p.Dup {
				t.Errorf("sent again as %+v", p)
			}
			c.send(&mqtt.Puback{ID: fresh})
		} else {
			c.send5(&mqtt.Pingreq{})
			expect[*mqtt.Pingresp](c) // nothing else
			c.send5(&mqtt.Puback{ID: fresh})
		}
		if err := <-later; err != nil {
			t.Error(err)
		}
	}
}

// What belongs to one session's request goes to no other of its device.
func TestSessionPublishIsItsOwn(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.kept(t, mqtt.V311, iothub.CredentialFilter)
	var first *gateway.Session
	b.hub.note(func() { first = b.hub.opened[0] })
	const topic = "$iothub/credentials/res/202/?$rid=1"
	if !first.Publish(topic, nil) || expect[*mqtt.Publish](c).Topic != topic {
		t.Error("not sent to its own session")
	}
	if first.Publish("$iothub/twin/res/200/?$rid=1", nil) {
		t.Error("sent what was not subscribed to")
	}
	d := b.kept(t, mqtt.V311) // replaces it, with its subscriptions
	d.alive()
	b.hub.await(t, "the end of the first session", func() bool { return len(b.hub.closed) > 0 })
	if first.Publish(topic, nil) {
		t.Error("sent for a session that has ended")
	}
	d.alive() // and nothing came
}

// Calls that do not fit are refused to who makes them; the session goes on.
func TestCallsThatDoNotFit(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open(t, "pump-01")
	const topic = "$iothub/methods/POST/m/?$rid=1"
	if err := b.Call("pump-01", topic, nil); fault.Of(err) != fault.NotFound {
		t.Errorf("without a subscription: %v", err)
	}
	c.subscribe(iothub.MethodFilter)
	body := []byte(strings.Repeat("x", 128<<10))
	sent := 0
	var refused error
	var writing sync.WaitGroup
	writing.Go(func() { // the device does not read: what the sockets hold is limited
		for range 1000 {
			if refused = b.Call("pump-01", topic, body); refused != nil {
				return
			}
			sent++
		}
	})
	writing.Wait()
	if fault.Of(refused) != fault.Unavailable || sent == 0 {
		t.Fatalf("%d sent, then %v", sent, refused)
	}
	for range sent {
		if p := expect[*mqtt.Publish](c); len(p.Payload) != len(body) {
			t.Fatalf("got %d bytes", len(p.Payload))
		}
	}
	c.alive()
	if err := b.Call("pump-01", topic, body); err != nil {
		t.Errorf("with room again: %v", err)
	}
	expect[*mqtt.Publish](c)
}
