package gateway_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/access"
	"holdfast/hub/gateway"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/mqtt"
)

type deviceID = identity.Device

func (c *client) send5(ps ...mqtt.Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range ps {
		var err error
		if b, err = mqtt.AppendTo(b, mqtt.V5, p); err != nil {
			c.t.Fatal(err)
		}
	}
	c.write(b)
}

func (b *bench) open5(t testing.TB, ps ...mqtt.Property) *client {
	t.Helper()
	c, ack := b.connectAs(t, mqtt.Connect{Version: mqtt.V5, Clean: true, KeepAlive: 60, Properties: ps})
	if ack.Code != mqtt.Success {
		t.Fatalf("CONNACK %+v", ack)
	}
	return c
}

func user(key, value string) mqtt.Property {
	return mqtt.Property{ID: mqtt.UserProperty, Key: key, Text: value}
}

func TestConnack5(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.dial(t, "pump-01")
	c.in.Version = mqtt.V5
	c.send(&mqtt.Connect{Version: mqtt.V5})
	ack := expect[*mqtt.Connack](c)
	number := func(id mqtt.PropertyID) uint32 {
		n, ok := ack.Properties.Number(id)
		if !ok {
			t.Errorf("no property %x", id)
		}
		return n
	}
	id, _ := ack.Properties.Text(mqtt.AssignedClientID)
	if id != "pump-01" || number(mqtt.ServerKeepAlive) != 1177 || number(mqtt.MaximumQoS) != 1 || number(mqtt.RetainAvailable) != 0 ||
		number(mqtt.TopicAliasMaximum) != 8 || number(mqtt.ReceiveMaximum) != 256 || number(mqtt.SharedAvailable) != 0 ||
		number(mqtt.MaximumPacketSize) != mqtt.DefaultLimit || number(mqtt.SubscriptionIDAvailable) != 0 {
		t.Errorf("CONNACK %+v", ack)
	}
}

func TestTelemetry5(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open5(t)
	c.send5(
		&mqtt.Publish{Topic: telemetry + "a=b", Payload: []byte("1"), QoS: 1, ID: 1, Properties: mqtt.Properties{
			user("site", "north"), user("$.mid", "7"), {ID: mqtt.ContentType, Text: "text/plain"}, {ID: mqtt.CorrelationData, Data: []byte("c")},
			{ID: mqtt.MessageExpiry, Number: 60}, {ID: mqtt.TopicAlias, Number: 8}}},
		&mqtt.Publish{Payload: []byte("2"), QoS: 1, ID: 2, Properties: mqtt.Properties{{ID: mqtt.TopicAlias, Number: 8}, user("n", "2")}},
		&mqtt.Publish{Topic: telemetry, Payload: []byte("3"), QoS: 1, ID: 3, Properties: mqtt.Properties{{ID: mqtt.TopicAlias, Number: 8}}},
		&mqtt.Publish{Payload: []byte("4"), QoS: 1, ID: 4, Properties: mqtt.Properties{{ID: mqtt.TopicAlias, Number: 8}}},
	)
	for id := range uint16(4) {
		if ack := expect[*mqtt.Puback](c); ack.ID != id+1 || ack.Code != mqtt.Success {
			t.Fatalf("PUBACK %+v", ack)
		}
	}
	m := b.hub.messages
	if diff := cmp.Diff([]map[string]string{{"a": "b", "site": "north"}, {"a": "b", "n": "2"}, nil, nil},
		[]map[string]string{m[0].Properties, m[1].Properties, m[2].Properties, m[3].Properties}); diff != "" {
		t.Error(diff)
	}
	if s := m[0].System; s["message-id"] != "7" || s["content-type"] != "text/plain" || s["correlation-id"] != "c" || s["absolute-expiry-time"] == "" {
		t.Errorf("system properties %v", s)
	}
}

func TestDeliver5(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open5(t, mqtt.Property{ID: mqtt.ReceiveMaximum, Number: 2}, mqtt.Property{ID: mqtt.MaximumPacketSize, Number: 300})
	c.send5(&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: iothub.AnyDeviceboundFilter, QoS: 1}, {Filter: "$share/g/a"}, {Filter: "b"}}})
	if ack := expect[*mqtt.Suback](c); !bytes.Equal(ack.Codes, []byte{1, byte(mqtt.SharedNotSupported), byte(mqtt.NotAuthorized)}) {
		t.Errorf("SUBACK %x", ack.Codes)
	}
	done := make(chan error, 9)
	if _, err := b.Deliver("pump-01", message(strings.Repeat("x", 300), done)); err == nil {
		t.Error("sent more than the client takes")
	}
	for range 2 {
		if _, err := b.Deliver("pump-01", message("x", done)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Deliver("pump-01", message("x", done)); err == nil {
		t.Error("sent more messages than the client takes")
	}
	p := expect[*mqtt.Publish](c)
	if diff := cmp.Diff(mqtt.Properties{user("$.to", "/devices/pump-01")}, p.Properties); diff != "" || !strings.HasSuffix(p.Topic, "%24.to=%2Fdevices%2Fpump-01") {
		t.Errorf("%s\n%s", p.Topic, diff)
	}
	c.send5(&mqtt.Puback{ID: p.ID, Code: mqtt.NotAuthorized})
	if err := <-done; !errors.Is(err, gateway.ErrRejected) {
		t.Errorf("refused by the device: %v", err)
	}
	c.send5(&mqtt.Unsubscribe{ID: 2, Filters: []string{iothub.AnyDeviceboundFilter, iothub.TwinFilter}})
	expect[*mqtt.Publish](c)
	if ack := expect[*mqtt.Unsuback](c); !bytes.Equal(ack.Codes, []byte{0, 0x11}) {
		t.Errorf("UNSUBACK %x", ack.Codes)
	}
}

// What ends a session of MQTT 5 is said in a DISCONNECT.
func TestGoodbye5(t *testing.T) {
	alias := func(n uint32) mqtt.Properties { return mqtt.Properties{{ID: mqtt.TopicAlias, Number: n}} }
	for _, c := range []struct {
		name string
		do   func(*bench, *client)
		want mqtt.Code
	}{
		{"another device", func(_ *bench, c *client) { c.send5(&mqtt.Publish{Topic: "devices/pump-02/messages/events/"}) }, mqtt.NotAuthorized},
		{"unknown topic", func(_ *bench, c *client) { c.send5(&mqtt.Publish{Topic: "telemetry"}) }, mqtt.TopicNameInvalid},
		{"QoS 2", func(_ *bench, c *client) { c.send5(&mqtt.Publish{Topic: telemetry, QoS: 2, ID: 1}) }, mqtt.QoSNotSupported},
		{"retain", func(_ *bench, c *client) { c.send5(&mqtt.Publish{Topic: telemetry, Retain: true}) }, mqtt.RetainNotSupported},
		{"alias out of range", func(_ *bench, c *client) { c.send5(&mqtt.Publish{Topic: telemetry, Properties: alias(9)}) }, mqtt.TopicAliasInvalid},
		{"alias of a long topic", func(_ *bench, c *client) {
			c.send5(&mqtt.Publish{Topic: telemetry + strings.Repeat("x", 3000), Properties: alias(1)})
		}, mqtt.TopicAliasInvalid},
		{"alias without a topic", func(_ *bench, c *client) { c.send5(&mqtt.Publish{Properties: alias(1)}) }, mqtt.ProtocolError},
		{"subscription identifier", func(_ *bench, c *client) {
			c.send5(&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: "a"}}, Properties: mqtt.Properties{{ID: mqtt.SubscriptionID, Number: 1}}})
		}, mqtt.SubscriptionIDsNotKnown},
		{"a property twice", func(_ *bench, c *client) {
			c.send5(&mqtt.Publish{Topic: telemetry + "a=1", Properties: mqtt.Properties{user("a", "2")}})
		}, mqtt.TopicNameInvalid},
		{"a stamp", func(_ *bench, c *client) {
			c.send5(&mqtt.Publish{Topic: telemetry, Properties: mqtt.Properties{user("iothub-connection-device-id", "x")}})
		}, mqtt.TopicNameInvalid},
		{"second CONNECT", func(_ *bench, c *client) { c.send5(&mqtt.Connect{Version: mqtt.V5, ClientID: "pump-01"}) }, mqtt.ProtocolError},
		{"expiry out of nothing", func(_ *bench, c *client) {
			c.send5(&mqtt.Disconnect{Properties: mqtt.Properties{{ID: mqtt.SessionExpiry, Number: 1}}})
		}, mqtt.ProtocolError},
		{"packet too large", func(_ *bench, c *client) { c.write([]byte{0x30, 0xff, 0xff, 0x7f}) }, mqtt.PacketTooLarge},
		{"AUTH", func(_ *bench, c *client) { c.write([]byte{0xf0, 0}) }, mqtt.MalformedPacket},
		{"half a property", func(_ *bench, c *client) { c.write([]byte{0x30, 5, 0, 1, 'a', 1, 1}) }, mqtt.MalformedPacket},
		{"revoked", func(b *bench, _ *client) { b.Revoke("pump-01") }, mqtt.NotAuthorized},
		{"replaced", func(b *bench, c *client) { b.open(c.t, "pump-01") }, mqtt.SessionTakenOver},
		{"shutdown", func(b *bench, _ *client) { go b.stop() }, mqtt.ServerShuttingDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, &fakeHub{})
			d := b.open5(t)
			d.send5(&mqtt.Pingreq{})
			expect[*mqtt.Pingresp](d)
			c.do(b, d)
			if p := expect[*mqtt.Disconnect](d); p.Code != c.want {
				t.Errorf("DISCONNECT %+v, want %x", p, c.want)
			}
			d.expectEnd()
			if b.hub.stored() > 0 {
				t.Error("it was stored")
			}
		})
	}
}

func TestLeave5(t *testing.T) {
	b := start(t, &fakeHub{})
	for i, c := range []struct {
		code  mqtt.Code
		cause gateway.Cause
	}{{mqtt.Success, gateway.Left}, {mqtt.DisconnectWithWill, gateway.Lost}} {
		b.hub.note(func() { b.hub.closed = nil })
		d, _ := b.connectAs(t, mqtt.Connect{Version: mqtt.V5, Will: &mqtt.Will{Topic: telemetry, Properties: mqtt.Properties{user("a", "b")}}})
		d.send5(&mqtt.Disconnect{Code: c.code})
		d.expectEnd()
		b.hub.awaitClosed(t, c.cause, "")
		if n := b.hub.stored(); n != i {
			t.Errorf("%d wills after code %x", n, c.code)
		}
	}
	if m := b.hub.messages[0]; m.Properties["a"] != "b" {
		t.Errorf("will %+v", m)
	}
}

func TestConnectRefused5(t *testing.T) {
	b := start(t, &fakeHub{})
	name := "admin"
	for _, c := range []struct {
		connect mqtt.Connect
		want    mqtt.Code
	}{
		{mqtt.Connect{ClientID: "pump-02"}, mqtt.NotAuthorized},
		{mqtt.Connect{ClientID: "pump/01"}, mqtt.ClientIDNotValid},
		{mqtt.Connect{ClientID: "pump-01", Username: &name}, mqtt.BadUsername},
		{mqtt.Connect{ClientID: "pump-01", Password: []byte("x")}, mqtt.NotAuthorized},
		{mqtt.Connect{ClientID: "pump-01", Properties: mqtt.Properties{{ID: mqtt.AuthMethod, Text: "SCRAM"}}}, mqtt.BadAuthMethod},
	} {
		d := b.dial(t, "pump-01")
		d.in.Version = mqtt.V5
		c.connect.Version = mqtt.V5
		d.send(&c.connect)
		if ack := expect[*mqtt.Connack](d); ack.Code != c.want {
			t.Errorf("CONNACK %+v, want %x", ack, c.want)
		}
		d.expectEnd()
	}
}

// Quarantine is said as it is.
func TestQuarantine5(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open5(t)
	b.SetMode("pump-01", access.Quarantine)
	c.send5(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 1})
	p := expect[*mqtt.Disconnect](c)
	if text, _ := p.Properties.Text(mqtt.ReasonString); p.Code != mqtt.NotAuthorized || !strings.Contains(text, "quarantine") {
		t.Errorf("DISCONNECT %+v", p)
	}
	c.expectEnd()
}
