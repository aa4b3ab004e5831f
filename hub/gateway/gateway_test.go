package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/access"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/hub/gateway"
	"holdfast/iothub"
	"holdfast/mqtt"
)

const telemetry = "devices/pump-01/messages/events/"

func TestTelemetry(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open(t, "pump-01")
	c.send(
		&mqtt.Publish{Topic: telemetry + "site=north&%24.mid=7", Payload: []byte("21.5"), QoS: 1, ID: 1},
		&mqtt.Publish{Topic: telemetry, Payload: bytes.Repeat([]byte("x"), 100<<10), QoS: 1, ID: 2},
		&mqtt.Publish{Topic: telemetry, Payload: []byte("kept?"), Retain: true},
		&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 3},
	)
	for id := range uint16(3) {
		if ack := expect[*mqtt.Puback](c); ack.ID != id+1 {
			t.Fatalf("PUBACK %d, want %d", ack.ID, id+1)
		}
	}
	c.send(&mqtt.Disconnect{})
	c.expectEnd()
	b.hub.awaitClosed(t, gateway.Left, "")
	m := b.hub.messages
	if len(m) != 4 || string(m[0].Body) != "21.5" || len(m[1].Body) != 100<<10 {
		t.Fatalf("stored %d messages", len(m))
	}
	if diff := cmp.Diff(map[string]string{"site": "north"}, m[0].Properties); diff != "" || m[0].System["message-id"] != "7" || m[0].Device != "pump-01" {
		t.Errorf("stored %+v", m[0])
	}
	if m[2].Properties["mqtt-retain"] != "true" || m[1].Properties != nil {
		t.Errorf("retained message has %v, another %v", m[2].Properties, m[1].Properties)
	}
}

func TestModel(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.dial(t, "pump-01")
	user := "hub.example.com/pump-01/?api-version=2020-09-30&model-id=dtmi%3Acom%3Aexample%3AThermostat%3B4"
	c.send(&mqtt.Connect{ClientID: "pump-01", Username: &user, Clean: true})
	expect[*mqtt.Connack](c)
	c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 1})
	expect[*mqtt.Puback](c)
	if got := b.hub.messages[0].System["dt-dataschema"]; got != "dtmi:com:example:Thermostat;4" {
		t.Errorf("model %q", got)
	}
}

func TestPeer(t *testing.T) {
	peers := make(chan gateway.Peer, 1)
	b := start(t, &fakeHub{admit: func(_ context.Context, p gateway.Peer) (gateway.Admission, error) {
		peers <- p
		return gateway.Admission{Mode: access.Full}, nil
	}})
	c := b.dial(t, "pump-01")
	user := "hub.example.com:8883/pump-01/?api-version=2021-04-12"
	c.send(&mqtt.Connect{ClientID: "pump-01", Username: &user, KeepAlive: 60})
	expect[*mqtt.Connack](c)
	p := <-peers
	if p.Device != "pump-01" || p.Version != tls.VersionTLS13 || p.Group != tls.X25519MLKEM768 || p.Suite == 0 ||
		p.Certificate.Subject.CommonName != "pump-01" || len(p.Chain) != 2 || p.Username != user ||
		p.KeepAlive != 90*time.Second || p.Session == "" || p.Remote != c.conn.LocalAddr().String() || p.Connected.IsZero() {
		t.Errorf("peer %+v", p)
	}
	if ss := b.Sessions(); len(ss) != 1 || ss[0].ID() != p.Session || ss[0].Mode() != access.Full {
		t.Errorf("sessions %v", ss)
	}
}

// What is sent to the sink is acknowledged only when the sink says so, and in
// the order in which it came.
func TestAcknowledgesAfterStoring(t *testing.T) {
	dones := make(chan func(error), 8)
	b := start(t, &fakeHub{store: func(_ iothub.Message, done func(error)) { dones <- done }})
	c := b.open(t, "pump-01")
	for id := range uint16(3) {
		c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: id + 1})
	}
	first, second, third := <-dones, <-dones, <-dones
	third(nil)
	second(nil)
	c.alive() // a PUBACK would come before the PINGRESP
	first(nil)
	first(nil) // a second call means nothing
	for id := range uint16(3) {
		if ack := expect[*mqtt.Puback](c); ack.ID != id+1 {
			t.Fatalf("PUBACK %d, want %d", ack.ID, id+1)
		}
	}
	c.alive()
}

func TestFullDisk(t *testing.T) {
	b := start(t, &fakeHub{store: func(_ iothub.Message, done func(error)) { done(errors.New("disk is full")) }})
	c := b.open(t, "pump-01")
	c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 1})
	c.expectEnd()
	b.hub.awaitClosed(t, gateway.Unstored, "disk is full")
}

func TestRevokeInFlight(t *testing.T) {
	dones := make(chan func(error), 1)
	b := start(t, &fakeHub{store: func(_ iothub.Message, done func(error)) { dones <- done }})
	c := b.open(t, "pump-01")
	other := b.open(t, "pump-02")
	c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 1})
	done := <-dones
	if !b.Revoke("pump-01") {
		t.Fatal("Revoke found no session")
	}
	done(nil)
	c.expectEnd()
	b.hub.awaitClosed(t, gateway.Revoked, "")
	other.alive()
	b.hub.await(t, "the registry to forget the session", func() bool { return !b.Revoke("pump-01") })
}

// A session whose sink holds it up can be revoked all the same.
func TestRevokeUnderBackPressure(t *testing.T) {
	b := start(t, &fakeHub{store: func(iothub.Message, func(error)) {}})
	c := b.open(t, "pump-01")
	for range 300 {
		c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 1})
	}
	b.hub.await(t, "a full window", func() bool { return len(b.hub.messages) == 256 })
	if !b.Revoke("pump-01") {
		t.Fatal("Revoke found no session")
	}
	c.expectEnd()
	b.hub.awaitClosed(t, gateway.Revoked, "")
	if n := b.hub.stored(); n != 256 {
		t.Errorf("%d messages reached the sink", n)
	}
}

// A revocation that comes while the hub decides on a connection wins, and so
// does a quarantine.
func TestCutWhileAdmitting(t *testing.T) {
	asked, answer := make(chan bool), make(chan bool)
	b := start(t, &fakeHub{admit: func(context.Context, gateway.Peer) (gateway.Admission, error) {
		asked <- true
		<-answer
		return gateway.Admission{Mode: access.Full}, nil
	}})
	c := b.dial(t, "pump-01")
	c.send(&mqtt.Connect{ClientID: "pump-01", Clean: true})
	<-asked
	if !b.Revoke("pump-01") {
		t.Error("Revoke did not find the connection")
	}
	answer <- true
	c.expectEnd()
	b.hub.awaitRefused(t, "cut off")

	c = b.dial(t, "pump-02")
	c.send(&mqtt.Connect{ClientID: "pump-02", Clean: true})
	<-asked
	if !b.SetMode("pump-02", access.Quarantine) {
		t.Error("SetMode did not find the connection")
	}
	answer <- true
	expect[*mqtt.Connack](c)
	if got := b.Sessions()[0].Mode(); got != access.Quarantine {
		t.Errorf("mode %s", got)
	}
	if n := b.hub.sessions(); n != 1 {
		t.Errorf("%d sessions were opened", n)
	}
}

func TestQuarantine(t *testing.T) {
	b := start(t, &fakeHub{exchange: func(context.Context, *gateway.Session, string, []byte) (int, []byte) { return 200, []byte("n") }})
	c := b.open(t, "pump-01")
	if codes := c.subscribe("$hub/posture/#", "$hub/attest/res/#", "devices/+/messages/devicebound/#"); !bytes.Equal(codes, []byte{1, 1, 1}) {
		t.Fatalf("SUBACK %v", codes)
	}
	const message = "devices/pump-01/messages/devicebound/a=b"
	if !b.SetMode("pump-01", access.Quarantine) {
		t.Fatal("SetMode found no session")
	}
	if b.Publish("pump-01", message, nil) || !b.Publish("pump-01", "$hub/posture/?$version=1", []byte("bad")) {
		t.Error("quarantine closes $hub or leaves messages open")
	}
	if p := expect[*mqtt.Publish](c); p.Topic != "$hub/posture/?$version=1" || string(p.Payload) != "bad" {
		t.Errorf("got %+v", p)
	}
	if codes := c.subscribe("devices/pump-01/messages/devicebound/#", "$hub/posture/#"); !bytes.Equal(codes, []byte{0x80, 1}) {
		t.Errorf("SUBACK in quarantine %v", codes)
	}
	c.send(&mqtt.Publish{Topic: "$hub/attest/nonce/?$rid=1", QoS: 1, ID: 1})
	if p := expect[*mqtt.Publish](c); p.Topic != "$hub/attest/res/200/?$rid=1" {
		t.Errorf("got %+v", p)
	}
	expect[*mqtt.Puback](c)
	if !b.SetMode("pump-01", access.Full) || !b.Publish("pump-01", message, nil) {
		t.Error("restore does not open the subscription again")
	}
	expect[*mqtt.Publish](c)
	c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 2})
	expect[*mqtt.Puback](c)
	b.SetMode("pump-01", access.Quarantine)
	c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 3})
	c.expectEnd()
	b.hub.awaitClosed(t, gateway.Violation, "quarantine")
	if b.hub.stored() != 1 {
		t.Error("a message from quarantine was stored")
	}
}

func TestFixedQuarantine(t *testing.T) {
	b := start(t, &fakeHub{admit: func(context.Context, gateway.Peer) (gateway.Admission, error) {
		return gateway.Admission{Mode: access.Quarantine, Fixed: true}, nil
	}})
	c := b.open(t, "pump-01")
	if b.SetMode("pump-01", access.Full) {
		t.Error("a fixed session was opened")
	}
	c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 3})
	c.expectEnd()
}

func TestTakeOver(t *testing.T) {
	b := start(t, &fakeHub{})
	old := b.open(t, "pump-01")
	c := b.open(t, "pump-01")
	old.expectEnd()
	b.hub.awaitClosed(t, gateway.Replaced, "")
	c.alive()
	late := time.Now().Add(patience)
	for len(b.Sessions()) > 1 && time.Now().Before(late) { // the old one is taken out after its end was told
		runtime.Gosched()
	}
	if n := len(b.Sessions()); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// The newest connection wins even when an older one is admitted after it.
func TestTakeOverByTheNewest(t *testing.T) {
	asked, first := make(chan bool, 2), make(chan bool)
	b := start(t, &fakeHub{admit: func(_ context.Context, p gateway.Peer) (gateway.Admission, error) {
		asked <- true
		if p.Username != "" {
			<-first
		}
		return gateway.Admission{Mode: access.Full}, nil
	}})
	old := b.dial(t, "pump-01")
	user := "h/pump-01/?api-version=1"
	old.send(&mqtt.Connect{ClientID: "pump-01", Username: &user})
	<-asked
	c := b.open(t, "pump-01")
	first <- true
	if ack := expect[*mqtt.Connack](old); ack.Code != mqtt.RefusedNotNow {
		t.Errorf("CONNACK %+v", ack)
	}
	old.expectEnd()
	c.alive()
}

func TestAttest(t *testing.T) {
	type request struct {
		session *gateway.Session
		op      string
		payload []byte
	}
	requests, answer := make(chan request), make(chan bool)
	b := start(t, &fakeHub{exchange: func(ctx context.Context, s *gateway.Session, op string, payload []byte) (int, []byte) {
		select {
		case requests <- request{s, op, payload}:
		case <-ctx.Done():
			return 500, nil
		}
		select {
		case <-answer:
		case <-ctx.Done():
		}
		return 422, []byte(`{"verified":false}`)
	}})
	c := b.open(t, "pump-01")
	c.subscribe(iothub.AttestFilter)
	c.send(&mqtt.Publish{Topic: "$hub/attest/evidence/?$rid=a1", Payload: []byte("{}"), QoS: 1, ID: 5})
	r := <-requests
	ekm, err := r.session.Exporter()
	state := c.conn.ConnectionState()
	want, _ := state.ExportKeyingMaterial(evidence.ExporterLabel, nil, 32)
	if r.op != "evidence" || string(r.payload) != "{}" || r.session.Device() != "pump-01" || err != nil || !bytes.Equal(ekm, want) {
		t.Errorf("request %+v, exporter %x, %v, want %x", r, ekm, err, want)
	}
	c.alive() // a request does not hold up the session

	c.send(&mqtt.Publish{Topic: "$hub/attest/nonce/?$rid=a2"})
	busy := expect[*mqtt.Publish](c)
	var body struct{ Error struct{ Kind fault.Kind } }
	if err := json.Unmarshal(busy.Payload, &body); err != nil || body.Error.Kind != fault.Unavailable || busy.Topic != "$hub/attest/res/503/?$rid=a2" {
		t.Errorf("second request: %s %s, %v", busy.Topic, busy.Payload, err)
	}

	answer <- true
	if p := expect[*mqtt.Publish](c); p.Topic != "$hub/attest/res/422/?$rid=a1" || string(p.Payload) != `{"verified":false}` {
		t.Errorf("result %+v", p)
	}
	if ack := expect[*mqtt.Puback](c); ack.ID != 5 {
		t.Errorf("PUBACK %d", ack.ID)
	}

	c.send(&mqtt.Publish{Topic: "$hub/attest/nonce/?$rid=a3"})
	<-requests
	b.Revoke("pump-01") // ends the request as well, or stop would not return
	c.expectEnd()
}

func TestLogs(t *testing.T) {
	dones := make(chan func(error), 1)
	b := start(t, &fakeHub{store: func(_ iothub.Message, done func(error)) { dones <- done }})
	c := b.open(t, "pump-01")
	c.send(&mqtt.Publish{Topic: "$hub/logs/?$first=7", QoS: 1, ID: 1,
		Payload: []byte(`[{"seq":7,"boot":1,"level":"info","message":"a"},{"seq":9,"boot":1,"level":"crash","message":"b"}]`)})
	done := <-dones
	c.alive()
	done(nil)
	expect[*mqtt.Puback](c)
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	if len(b.hub.records) != 2 || b.hub.records[1].Seq != 9 || b.hub.messages[0].Kind != iothub.Log || b.hub.messages[0].Device != "pump-01" {
		t.Errorf("stored %+v, %+v", b.hub.records, b.hub.messages)
	}
}

// The hub publishes from the hook of a subscription, and the device gets it
// behind its SUBACK.
func TestSubscribedHook(t *testing.T) {
	var b *bench
	ready := make(chan bool)
	b = start(t, &fakeHub{watch: func(s *gateway.Session, filter string) {
		<-ready
		if filter == iothub.PostureFilter {
			b.Publish(s.Device(), iothub.Posture{Version: 3}.String(), []byte("report"))
		}
	}})
	close(ready)
	c := b.open(t, "pump-01")
	c.subscribe("$hub/posture/#", "nonsense/#", "devices/pump-02/messages/devicebound/#")
	if p := expect[*mqtt.Publish](c); p.Topic != "$hub/posture/?$version=3" || string(p.Payload) != "report" {
		t.Errorf("got %+v", p)
	}
	c.send(&mqtt.Unsubscribe{ID: 2, Filters: []string{"$hub/posture/#"}})
	expect[*mqtt.Unsuback](c)
	if b.Publish("pump-01", "$hub/posture/?$version=4", nil) || b.Publish("pump-02", "$hub/posture/?$version=4", nil) {
		t.Error("published without a subscription")
	}
}

func TestSubscriptionsRefused(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open(t, "pump-01")
	filters := []string{"#", "+/#", "devices/#", "devices/pump-02/messages/devicebound/#", "devices/+/messages/events/#", "$hub/#", "$SYS/#"}
	if codes := c.subscribe(filters...); !bytes.Equal(codes, bytes.Repeat([]byte{0x80}, len(filters))) {
		t.Errorf("SUBACK %x", codes)
	}
	c.send(&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: "devices/+/messages/devicebound/#", QoS: mqtt.ExactlyOnce}}})
	if ack := expect[*mqtt.Suback](c); !bytes.Equal(ack.Codes, []byte{1}) {
		t.Errorf("SUBACK of quality of service 2: %x", ack.Codes)
	}
	if b.Publish("pump-01", "devices/pump-02/messages/devicebound/", nil) {
		t.Error("another device's message was delivered through +")
	}
}

// Each of these closes the connection without an acknowledgement.
func TestViolations(t *testing.T) {
	publish := func(topic, body string) []byte {
		b, err := (&mqtt.Publish{Topic: topic, Payload: []byte(body), QoS: 1, ID: 1}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	connect, _ := (&mqtt.Connect{ClientID: "pump-01", Clean: true}).Append(nil)
	exactly, _ := (&mqtt.Publish{Topic: telemetry, QoS: 2, ID: 1}).Append(nil)
	b := start(t, &fakeHub{})
	for _, c := range []struct {
		name string
		send []byte
		want string
	}{
		{"second CONNECT", connect, "MQTT-3.1.0-2"},
		{"QoS 2", exactly, "quality of service 2"},
		{"unknown topic", publish("telemetry", ""), "unknown"},
		{"another device", publish("devices/pump-02/messages/events/", ""), "pump-02"},
		{"another device, escaped", publish("devices/pump%2D02/messages/events/", ""), "device id"},
		{"another case", publish("devices/PUMP-01/messages/events/", ""), "PUMP-01"},
		{"the hub's topic", publish("$hub/posture/?$version=1", ""), "not a device's"},
		{"an answer", publish("$hub/attest/res/200/?$rid=1", ""), "not a device's"},
		{"a stamp", publish(telemetry+"iothub-connection-device-id=x", ""), "the hub's to give"},
		{"logs that are none", publish("$hub/logs/?$first=1", "{}"), "log batch"},
		{"logs with another number", publish("$hub/logs/?$first=1", `[{"seq":2}]`), "first record is 2"},
		{"message too large", publish(telemetry, strings.Repeat("x", 256<<10+1)), "at most"},
		{"packet too large", []byte{0x30, 0xff, 0xff, 0x7f}, "larger than allowed"},
		{"reserved type", []byte{0xf0, 0}, "2.2.1"},
		{"reserved flags", []byte{0xc1, 0}, "MQTT-2.2.2-2"},
		{"wildcard", []byte{0x30, 3, 0, 1, '#'}, "MQTT-3.3.2-2"},
		{"NUL", []byte{0x30, 3, 0, 1, 0}, "MQTT-1.5.3-2"},
		{"truncated field", []byte{0x30, 3, 0, 9, 'a'}, "ends before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.hub.note(func() { b.hub.closed, b.hub.messages = nil, nil })
			d := b.open(t, "pump-01")
			d.write(c.send)
			d.expectEnd()
			b.hub.awaitClosed(t, gateway.Violation, c.want)
			if b.hub.stored() > 0 {
				t.Error("it was stored")
			}
		})
	}
}

func TestTruncatedPacket(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open(t, "pump-01")
	c.write([]byte{0x30, 0x7f, 0, 9, 'a'})
	c.conn.Close()
	b.hub.awaitClosed(t, gateway.Lost, "")
	if b.hub.stored() > 0 {
		t.Error("half a packet was stored")
	}
}

// Each of these is answered by CONNACK with the code, or by nothing but the
// end where the code is zero.
func TestConnectRefused(t *testing.T) {
	user := func(s string) *string { return &s }
	connect := func(c mqtt.Connect) []byte {
		b, err := c.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := start(t, &fakeHub{})
	for _, c := range []struct {
		name string
		send []byte
		code mqtt.Code
		want string
	}{
		{"another client id", connect(mqtt.Connect{ClientID: "pump-02"}), mqtt.RefusedForbidden, "certificate is of pump-01"},
		{"another case", connect(mqtt.Connect{ClientID: "Pump-01"}), mqtt.RefusedForbidden, "certificate is of pump-01"},
		{"a module", connect(mqtt.Connect{ClientID: "pump-01/m"}), mqtt.RefusedClientID, "not allowed"},
		{"no client id", connect(mqtt.Connect{Clean: true}), mqtt.RefusedClientID, "client id"},
		{"no client id and a kept session", []byte("\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00"), mqtt.RefusedClientID, "MQTT-3.1.3-8"},
		{"a user name of another", connect(mqtt.Connect{ClientID: "pump-01", Username: user("h/pump-02/?api-version=1")}), mqtt.RefusedForbidden, "user name of pump-02"},
		{"a user name that is none", connect(mqtt.Connect{ClientID: "pump-01", Username: user("admin")}), mqtt.RefusedUsername, "user name"},
		{"a password", connect(mqtt.Connect{ClientID: "pump-01", Username: user("h/pump-01/?api-version=1"), Password: []byte("SharedAccessSignature x")}), mqtt.RefusedForbidden, "password"},
		{"an empty password", connect(mqtt.Connect{ClientID: "pump-01", Username: user("h/pump-01/?api-version=1"), Password: []byte{}}), mqtt.RefusedForbidden, "password"},
		{"a will for another", connect(mqtt.Connect{ClientID: "pump-01", Will: &mqtt.Will{Topic: "devices/pump-02/messages/events/"}}), mqtt.RefusedForbidden, "will"},
		{"a will elsewhere", connect(mqtt.Connect{ClientID: "pump-01", Will: &mqtt.Will{Topic: "$hub/logs/?$first=1"}}), mqtt.RefusedForbidden, "will"},
		{"a will of QoS 2", connect(mqtt.Connect{ClientID: "pump-01", Will: &mqtt.Will{Topic: telemetry, QoS: 2}}), mqtt.RefusedForbidden, "will"},
		{"MQTT 6", []byte("\x10\x14\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x07pump-01"), mqtt.RefusedVersion, "MQTT-3.1.2-2"},
		{"MQTT 3.1", []byte("\x10\x15\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x07pump-01"), mqtt.RefusedVersion, "MQTT-3.1.2-2"},
		{"PUBLISH before CONNECT", []byte("\x30\x03\x00\x01a"), 0, "MQTT-3.1.0-1"},
		{"PINGREQ before CONNECT", []byte{0xc0, 0}, 0, "MQTT-3.1.0-1"},
		{"a large CONNECT", []byte{0x10, 0xff, 0x7f}, 0, "larger than allowed"},
		{"HTTP inside TLS", []byte("GET / HTTP/1.1\r\n\r\n"), 0, "mqtt: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.hub.note(func() { b.hub.refusals = nil })
			d := b.dial(t, "pump-01")
			d.write(c.send)
			if c.code != 0 {
				if ack := expect[*mqtt.Connack](d); ack.Code != c.code {
					t.Errorf("CONNACK %d, want %d", ack.Code, c.code)
				}
			}
			d.expectEnd()
			r := b.hub.awaitRefused(t, c.want)
			if r.Device != "pump-01" || !r.Verified || r.Remote != d.conn.LocalAddr().String() {
				t.Errorf("refusal %+v", r)
			}
		})
	}
	if b.hub.sessions() > 0 || len(b.Sessions()) > 0 {
		t.Error("a session was opened")
	}
}

func TestAdmitterRefuses(t *testing.T) {
	for _, c := range []struct {
		err  error
		code mqtt.Code
	}{
		{fault.New(fault.Denied, "revoked"), mqtt.RefusedForbidden},
		{fault.New(fault.NotFound, "unknown"), mqtt.RefusedForbidden},
		{fault.New(fault.Pending, "pending"), mqtt.RefusedForbidden},
		{fault.New(fault.Integrity, "superseded"), mqtt.RefusedForbidden},
		{fault.New(fault.Invalid, "id"), mqtt.RefusedClientID},
		{fault.New(fault.Unavailable, "busy"), mqtt.RefusedNotNow},
		{errors.New("database"), mqtt.RefusedNotNow},
	} {
		b := start(t, &fakeHub{admit: func(context.Context, gateway.Peer) (gateway.Admission, error) {
			return gateway.Admission{Mode: access.Full}, c.err
		}})
		d := b.dial(t, "pump-01")
		d.send(&mqtt.Connect{ClientID: "pump-01"})
		if ack := expect[*mqtt.Connack](d); ack.Code != c.code {
			t.Errorf("%v: CONNACK %d, want %d", c.err, ack.Code, c.code)
		}
		d.expectEnd()
		b.hub.awaitRefused(t, c.err.Error())
	}
}

func TestCertificateThatNamesNoDevice(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.dial(t, "pump/01")
	c.send(&mqtt.Connect{ClientID: "pump/01"})
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.RefusedForbidden {
		t.Errorf("CONNACK %+v", ack)
	}
	c.expectEnd()
	if r := b.hub.awaitRefused(t, "names no device"); r.Device != "" {
		t.Errorf("refusal %+v", r)
	}
}

// What does not pass the TLS handshake never becomes a session.
func TestHandshakeRefused(t *testing.T) {
	b := start(t, &fakeHub{}, func(c *gateway.Config) { c.HandshakeTimeout = 500 * time.Millisecond })
	stranger := newAuthority(t)
	with := func(cfg *tls.Config) func(net.Conn) error {
		return func(raw net.Conn) error {
			conn := tls.Client(raw, cfg)
			if err := conn.Handshake(); err != nil {
				return err
			}
			_, err := conn.Read(make([]byte, 1)) // with TLS 1.3 the server's refusal comes here
			return err
		}
	}
	send := func(s string) func(net.Conn) error {
		return func(raw net.Conn) error {
			raw.Write([]byte(s))
			_, err := raw.Read(make([]byte, 1))
			return err
		}
	}
	old := b.clientTLS(b.device(t, "pump-01"))
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	foreign := b.clientTLS(stranger.device(t, "pump-01"))
	server := b.clientTLS(b.leaf(t, "pump-01", 1))
	for _, c := range []struct {
		name   string
		client func(net.Conn) error
		want   string
		shown  bool
	}{
		{"plaintext MQTT", send("\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07pump-01"), "not of a TLS handshake", false},
		{"plaintext HTTP", send("GET / HTTP/1.1\r\n\r\n"), "not of a TLS handshake", false},
		{"nothing", send(""), "first byte", false},
		{"half a handshake", send("\x16\x03\x01\x02\x00\x01"), "TLS handshake", false},
		{"TLS 1.1", with(old), "unsupported versions", false},
		{"no certificate", with(b.clientTLS(tls.Certificate{})), "certificate", false},
		{"a stranger's certificate", with(foreign), "unknown authority", true},
		{"a server's certificate", with(server), "key usage", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.hub.note(func() { b.hub.refusals = nil })
			raw, err := net.Dial("tcp", b.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			raw.SetDeadline(time.Now().Add(patience))
			if err := c.client(raw); err == nil {
				t.Fatal("let in")
			}
			r := b.hub.awaitRefused(t, c.want)
			if (r.Certificate != nil) != c.shown || r.Verified || r.Device != "" {
				t.Errorf("refusal %+v", r)
			}
		})
	}
	b.open(t, "pump-01").alive()
}

func TestWill(t *testing.T) {
	will := &mqtt.Will{Topic: telemetry + "a=b", Payload: []byte("gone"), QoS: 1, Retain: true}
	for _, c := range []struct {
		name string
		end  func(*bench, *client)
		want bool
	}{
		{"lost", func(_ *bench, c *client) { c.conn.NetConn().Close() }, true},
		{"violation", func(_ *bench, c *client) { c.write([]byte{0, 0}) }, true},
		{"replaced", func(b *bench, c *client) { b.open(c.t, "pump-01") }, true},
		{"left", func(_ *bench, c *client) { c.send(&mqtt.Disconnect{}) }, false},
		{"revoked", func(b *bench, c *client) { b.Revoke("pump-01") }, false},
		{"lost in quarantine", func(b *bench, c *client) {
			b.SetMode("pump-01", access.Quarantine)
			c.conn.NetConn().Close()
		}, false},
		{"shutdown", func(b *bench, c *client) { b.stop() }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, &fakeHub{})
			d := b.dial(t, "pump-01")
			d.send(&mqtt.Connect{ClientID: "pump-01", Clean: true, Will: will})
			expect[*mqtt.Connack](d)
			c.end(b, d)
			b.hub.await(t, "the end", func() bool { return len(b.hub.closed) > 0 })
			if !c.want {
				if n := b.hub.stored(); n != 0 {
					t.Errorf("%d messages stored", n)
				}
				return
			}
			m := b.hub.messages[0]
			want := map[string]string{"a": "b", "iothub-MessageType": "Will", "mqtt-retain": "true"}
			if diff := cmp.Diff(want, m.Properties); diff != "" || string(m.Body) != "gone" || m.Device != "pump-01" {
				t.Errorf("will %+v\n%s", m, diff)
			}
		})
	}
}

// A panic in what a session calls ends that session and no other.
func TestPanic(t *testing.T) {
	hub := &fakeHub{
		store:    func(m iothub.Message, _ func(error)) { panic("in the sink") },
		exchange: func(context.Context, *gateway.Session, string, []byte) (int, []byte) { panic("in the exchange") },
		watch:    func(*gateway.Session, string) { panic("in the observer") },
	}
	b := start(t, hub)
	bystander := b.open(t, "pump-02")
	for _, p := range []mqtt.Packet{
		&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 1},
		&mqtt.Publish{Topic: "$hub/attest/nonce/?$rid=1", QoS: 1, ID: 1},
		&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: iothub.PostureFilter}}},
	} {
		hub.note(func() { hub.closed = nil })
		c := b.open(t, "pump-01")
		c.send(p)
		for err := error(nil); err == nil; {
			_, err = c.next()
		}
		hub.awaitClosed(t, gateway.Crashed, "panic: in the")
	}
	bystander.alive()
	hub.admit = func(context.Context, gateway.Peer) (gateway.Admission, error) { panic("in the admitter") }
	c := b.dial(t, "pump-03")
	c.send(&mqtt.Connect{ClientID: "pump-03"})
	c.expectEnd()
	bystander.alive()
	if b.Revoke("pump-03") {
		t.Error("the registry still has a connection that panicked")
	}
}

// A device that does not read is closed once too much waits for it.
func TestSlowReader(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open(t, "pump-01")
	c.subscribe(iothub.PostureFilter)
	body := make([]byte, 64<<10)
	for b.Publish("pump-01", "$hub/posture/?$version=1", body) {
	}
	b.hub.awaitClosed(t, gateway.Slow, "wait to be sent")
}

func TestPipelinedConnect(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.dial(t, "pump-01")
	c.send(&mqtt.Connect{ClientID: "pump-01", Clean: true},
		&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 1}, &mqtt.Pingreq{})
	expect[*mqtt.Connack](c)
	expect[*mqtt.Puback](c)
	expect[*mqtt.Pingresp](c)
}

func TestLimitsOfConnections(t *testing.T) {
	b := start(t, &fakeHub{}, func(c *gateway.Config) { c.MaxPending, c.PerAddress, c.MaxSessions = 2, 2, 1 })
	b.open(t, "pump-01")
	c := b.dial(t, "pump-02")
	c.send(&mqtt.Connect{ClientID: "pump-02"})
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.RefusedNotNow {
		t.Errorf("CONNACK beyond MaxSessions: %+v", ack)
	}
	c.expectEnd()
	b.hub.awaitRefused(t, "too many sessions")
	// Two connections that say nothing are as many as there may be.
	var idle []net.Conn
	for range 3 {
		raw, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		idle = append(idle, raw)
	}
	last := idle[2]
	last.SetReadDeadline(time.Now().Add(patience))
	if _, err := last.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the connection beyond MaxPending: %v", err)
	}
}

// One address may not have all the connections.
func TestLimitPerAddress(t *testing.T) {
	b := start(t, &fakeHub{}, func(c *gateway.Config) { c.MaxPending = 8 })
	dial := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		raw, err := d.Dial("tcp", b.addr)
		if err != nil {
			t.Skipf("no connection from %s: %v", from, err)
		}
		t.Cleanup(func() { raw.Close() })
		raw.SetDeadline(time.Now().Add(patience))
		return raw
	}
	dial("127.0.0.2")
	dial("127.0.0.2")
	if _, err := dial("127.0.0.2").Read(make([]byte, 1)); err == nil {
		t.Error("a third of 8 connections was not closed")
	}
	newClient(t, dial("127.0.0.3"), b.clientTLS(b.device(t, "pump-01")))
}

// Run ends with everything that it started, whatever state connections are in.
func TestRunEnds(t *testing.T) {
	dones := make(chan func(error), 1)
	b := start(t, &fakeHub{
		store: func(_ iothub.Message, done func(error)) { dones <- done },
		exchange: func(ctx context.Context, _ *gateway.Session, _ string, _ []byte) (int, []byte) {
			<-ctx.Done()
			return 500, nil
		},
		admit: func(ctx context.Context, p gateway.Peer) (gateway.Admission, error) {
			if p.Device == "waits" {
				<-ctx.Done()
			}
			return gateway.Admission{Mode: access.Full}, ctx.Err()
		},
	})
	raw, err := net.Dial("tcp", b.addr) // says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	b.dial(t, "silent") // no CONNECT
	b.dial(t, "waits").send(&mqtt.Connect{ClientID: "waits"})
	c := b.open(t, "pump-01")
	c.send(&mqtt.Publish{Topic: "$hub/attest/nonce/?$rid=1"}, &mqtt.Publish{Topic: telemetry, QoS: 1, ID: 1})
	done := <-dones
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	done(nil)
	c.expectEnd()
	b.hub.awaitClosed(t, gateway.Shutdown, "")
	if n := lasting(); n > 0 {
		t.Errorf("%d goroutines are left", n)
	}
	if b.Revoke("pump-01") || len(b.Sessions()) > 0 {
		t.Error("the registry is not empty")
	}
}

func TestNewRefuses(t *testing.T) {
	a := newAuthority(t)
	hub := &fakeHub{}
	good := func() gateway.Config {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return gateway.Config{Listener: l, TLS: a.serverTLS(t), Admitter: hub, Telemetry: hub, Logs: hub, Requests: hub, Methods: hub, Sessions: hub, Observer: hub, Log: discard}
	}
	if _, err := gateway.New(good()); err != nil {
		t.Fatal(err)
	}
	for i, f := range []func(*gateway.Config){
		func(c *gateway.Config) { c.Listener = nil },
		func(c *gateway.Config) { c.TLS = nil },
		func(c *gateway.Config) { c.Log = nil },
		func(c *gateway.Config) { c.Admitter = nil },
		func(c *gateway.Config) { c.Telemetry = nil },
		func(c *gateway.Config) { c.Logs = nil },
		func(c *gateway.Config) { c.Requests = nil },
		func(c *gateway.Config) { c.Methods = nil },
		func(c *gateway.Config) { c.Sessions = nil },
		func(c *gateway.Config) { c.Observer = nil },
		func(c *gateway.Config) { c.TLS.ClientAuth = tls.NoClientCert },
		func(c *gateway.Config) { c.TLS.ClientAuth = tls.VerifyClientCertIfGiven },
		func(c *gateway.Config) { c.TLS.ClientAuth = tls.RequireAnyClientCert },
	} {
		cfg := good()
		f(&cfg)
		if _, err := gateway.New(cfg); err == nil {
			t.Errorf("case %d was taken", i)
		}
	}
}

func TestManyDevices(t *testing.T) {
	b := start(t, &fakeHub{}, func(c *gateway.Config) { c.Slots = 2 })
	var clients []*client
	for i := range 20 {
		clients = append(clients, b.open(t, fmt.Sprintf("pump-%02d", i)))
	}
	for _, c := range clients {
		c.alive()
	}
	var ids []string
	for _, s := range b.Sessions() {
		ids = append(ids, string(s.Device()))
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 20 {
		t.Errorf("sessions %v", ids)
	}
}
