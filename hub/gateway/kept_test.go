package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/hub/gateway"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// connectAs connects as pump-01 and returns the CONNACK.
func (b *bench) connectAs(t testing.TB, c mqtt.Connect) (*client, *mqtt.Connack) {
	t.Helper()
	d := b.dial(t, "pump-01")
	d.in.Version = c.Version
	c.ClientID = "pump-01"
	d.send(&c)
	return d, expect[*mqtt.Connack](d)
}

// A session that is to be kept has its subscriptions again after a new
// connection and after a restart of the gateway; a clean one ends it.
func TestKeptSession(t *testing.T) {
	hub := &fakeHub{}
	var told []string
	hub.watch = func(_ *gateway.Session, filter string) { hub.note(func() { told = append(told, filter) }) }
	b := start(t, hub)
	c, ack := b.connectAs(t, mqtt.Connect{})
	if ack.SessionPresent {
		t.Error("a session of nobody was present")
	}
	c.subscribe(iothub.PostureFilter, iothub.AnyDeviceboundFilter, iothub.TwinFilter)
	c.send(&mqtt.Unsubscribe{ID: 3, Filters: []string{iothub.PostureFilter}})
	expect[*mqtt.Unsuback](c)
	b.stop()

	l := newPipes()
	again := startOn(t, l, b.authority, hub)
	told = nil
	d := newClient(t, l.dial(t), b.clientTLS(b.device(t, "pump-01")))
	d.send(&mqtt.Connect{ClientID: "pump-01"})
	if ack := expect[*mqtt.Connack](d); !ack.SessionPresent {
		t.Error("the session was not kept")
	}
	done := make(chan error, 1)
	d.alive() // begin is over
	if _, err := again.Deliver("pump-01", message("1", done)); err != nil {
		t.Fatal(err)
	}
	if p := expect[*mqtt.Publish](d); p.QoS != 1 {
		t.Errorf("got %+v", p)
	}
	if again.Publish("pump-01", "$hub/posture/?$version=1", nil) || !again.Publish("pump-01", "$iothub/twin/res/200/?$rid=1", nil) {
		t.Error("subscriptions are not as they were")
	}
	expect[*mqtt.Publish](d)
	hub.note(func() {
		if diff := cmp.Diff([]string{"devices/pump-01/messages/devicebound/#", iothub.TwinFilter}, told); diff != "" {
			t.Error(diff)
		}
	})
	saves := hub.saves
	d.subscribe(iothub.TwinFilter) // nothing new
	if hub.saves != saves {
		t.Error("saved what was saved already")
	}

	clean := newClient(t, l.dial(t), b.clientTLS(b.device(t, "pump-01")))
	clean.send(&mqtt.Connect{ClientID: "pump-01", Clean: true})
	if ack := expect[*mqtt.Connack](clean); ack.SessionPresent || len(hub.kept) > 0 {
		t.Errorf("a clean session has %+v, kept %v", ack, hub.kept)
	}
	clean.subscribe(iothub.TwinFilter)
	if last := hub.opened[len(hub.opened)-1]; len(hub.kept) > 0 || last.Resumed() || !last.Clean() {
		t.Errorf("a clean session is kept: %v", hub.kept)
	}
}

// A subscription that cannot be kept is not granted.
func TestSessionNotSaved(t *testing.T) {
	b := start(t, &fakeHub{saveErr: errors.New("disk is full")})
	c, _ := b.connectAs(t, mqtt.Connect{})
	c.send(&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: iothub.TwinFilter}}})
	c.expectEnd()
	b.hub.awaitClosed(t, gateway.Unstored, "disk is full")
}

func TestSubscriptionLimit(t *testing.T) {
	// All filters that a device may have are fewer than the limit, so the limit
	// is met by asking for one again and again.
	b := start(t, &fakeHub{})
	c, _ := b.connectAs(t, mqtt.Connect{})
	for range 70 {
		if codes := c.subscribe(iothub.TwinFilter); !bytes.Equal(codes, []byte{1}) {
			t.Fatalf("SUBACK %v", codes)
		}
	}
	if n := len(b.hub.kept["pump-01"].Subscriptions); n != 1 {
		t.Errorf("%d subscriptions are kept", n)
	}
}

// The session of MQTT 5 lasts as long as its expiry says.
func TestSessionExpiry(t *testing.T) {
	for _, c := range []struct {
		name   string
		expiry uint32
		leave  mqtt.Packet
		away   time.Duration
		want   bool
	}{
		{"within", 60, &mqtt.Disconnect{}, 59 * time.Second, true},
		{"after", 60, &mqtt.Disconnect{}, 60 * time.Second, false},
		{"none", 0, &mqtt.Disconnect{}, 0, false},
		{"for ever", mqtt.SessionNeverExpires, &mqtt.Disconnect{}, 1e6 * time.Second, true},
		{"longer at the end", 60, &mqtt.Disconnect{Properties: mqtt.Properties{{ID: mqtt.SessionExpiry, Number: 600}}}, 500 * time.Second, true},
		{"given up at the end", 60, &mqtt.Disconnect{Properties: mqtt.Properties{{ID: mqtt.SessionExpiry}}}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, a := newPipes(), newAuthority(t)
				a.cert.NotAfter = time.Now().Add(1e7 * time.Second)
				b := startOn(t, l, a, &fakeHub{})
				connect := func() (*client, *mqtt.Connack) {
					cfg := a.clientTLS(a.device(t, "pump-01"))
					d := newClient(t, l.dial(t), cfg)
					d.in.Version = mqtt.V5
					d.send(&mqtt.Connect{Version: mqtt.V5, ClientID: "pump-01",
						Properties: mqtt.Properties{{ID: mqtt.SessionExpiry, Number: c.expiry}}})
					return d, expect[*mqtt.Connack](d)
				}
				d, _ := connect()
				d.send5(&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: iothub.TwinFilter}}})
				expect[*mqtt.Suback](d)
				d.send5(c.leave)
				d.conn.Read(make([]byte, 1))
				b.hub.awaitClosed(t, gateway.Left, "")
				synctest.Wait()
				if c.away < 10*time.Minute {
					time.Sleep(c.away)
				} else { // longer than the certificates live
					k := b.hub.kept["pump-01"]
					if k.Expiry != mqtt.SessionNeverExpires || !k.Ended.IsZero() {
						t.Errorf("kept %+v", k)
					}
				}
				d, ack := connect()
				if ack.SessionPresent != c.want {
					t.Errorf("CONNACK %+v, want a session %v", ack, c.want)
				}
				d.conn.Close()
				b.stop()
			})
		})
	}
}

// The will of MQTT 5 waits for its delay, and a session that goes on has none.
func TestWillDelay(t *testing.T) {
	for _, c := range []struct {
		name  string
		again *mqtt.Connect
		after time.Duration // of the will; -1: none
	}{
		{"nobody comes", nil, 30 * time.Second},
		{"the session goes on", &mqtt.Connect{Version: mqtt.V5, ClientID: "pump-01", Properties: mqtt.Properties{{ID: mqtt.SessionExpiry, Number: 60}}}, -1},
		{"a clean one begins", &mqtt.Connect{Version: mqtt.V5, ClientID: "pump-01", Clean: true}, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, a := newPipes(), newAuthority(t)
				b := startOn(t, l, a, &fakeHub{})
				connect := func(p *mqtt.Connect) *client {
					d := newClient(t, l.dial(t), a.clientTLS(a.device(t, "pump-01")))
					d.in.Version = mqtt.V5
					d.send(p)
					expect[*mqtt.Connack](d)
					return d
				}
				d := connect(&mqtt.Connect{Version: mqtt.V5, ClientID: "pump-01", Properties: mqtt.Properties{{ID: mqtt.SessionExpiry, Number: 60}},
					Will: &mqtt.Will{Topic: telemetry, Payload: []byte("gone"), Properties: mqtt.Properties{{ID: mqtt.WillDelay, Number: 30}}}})
				d.send5(&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: iothub.TwinFilter}}})
				expect[*mqtt.Suback](d)
				began := time.Now()
				d.conn.NetConn().Close()
				b.hub.awaitClosed(t, gateway.Lost, "")
				synctest.Wait()
				if b.hub.stored() > 0 {
					t.Fatal("the will did not wait")
				}
				time.Sleep(10 * time.Second)
				if c.again != nil {
					connect(c.again)
				}
				if c.after < 0 {
					time.Sleep(time.Minute)
					if n := b.hub.stored(); n != 0 {
						t.Errorf("%d messages stored", n)
					}
				} else {
					b.hub.await(t, "the will", func() bool { return len(b.hub.messages) == 1 })
					if got := time.Since(began); got != c.after {
						t.Errorf("the will came after %v, want %v", got, c.after)
					}
				}
				b.stop()
			})
		})
	}
}

// Nothing that a kept session selects comes ahead of its CONNACK.
func TestNothingBeforeConnack(t *testing.T) {
	hub := &fakeHub{kept: map[deviceID]gateway.Kept{"pump-01": {Subscriptions: []gateway.Subscription{{Filter: iothub.TwinFilter}}, Expiry: mqtt.SessionNeverExpires}}}
	var b *bench
	sent := make(chan bool, 1)
	b = start(t, hub, func(c *gateway.Config) {
		c.Observer = early{c.Observer, func(s *gateway.Session) { sent <- b.Publish(s.Device(), "$iothub/twin/res/200/?$rid=1", nil) }}
	})
	c, ack := b.connectAs(t, mqtt.Connect{})
	if !ack.SessionPresent || <-sent {
		t.Errorf("CONNACK %+v, or something was sent before it", ack)
	}
	c.alive()
	if !b.Publish("pump-01", "$iothub/twin/res/200/?$rid=1", nil) {
		t.Error("not sent after it")
	}
}

type early struct {
	gateway.Observer
	opened func(*gateway.Session)
}

func (e early) SessionOpened(s *gateway.Session) { e.opened(s) }

func TestLoadFails(t *testing.T) {
	b := start(t, &fakeHub{}, func(c *gateway.Config) { c.Sessions = broken{c.Sessions} })
	_, ack := b.connectAs(t, mqtt.Connect{})
	if ack.Code != mqtt.RefusedNotNow {
		t.Errorf("CONNACK %+v", ack)
	}
	b.hub.awaitRefused(t, "load session")
}

type broken struct{ gateway.Sessions }

func (broken) Load(context.Context, deviceID) (gateway.Kept, bool, error) {
	return gateway.Kept{}, false, errors.New("no database")
}
