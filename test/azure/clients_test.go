package azure_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"holdfast/identity"
	"holdfast/internal/testkit"
	"holdfast/operator"
)

// eventsOf is where a device's telemetry goes.
func eventsOf(id string) string { return "devices/" + id + "/messages/events/" }

// last waits for the n-th event of telemetry and checks it.
func (w *world) last(n int, body string, properties, system map[string]string) {
	w.t.Helper()
	e := checkEvents(w.t, w, "telemetry", n)[n-1]
	if e.Body != body {
		w.t.Errorf("body %.100q, want %q", e.Body, body)
	}
	if diff := cmp.Diff(properties, e.Properties); diff != "" {
		w.t.Error(diff)
	}
	for k, v := range system {
		if e.System[k] != v {
			w.t.Errorf("%s is %q, want %q", k, e.System[k], v)
		}
	}
}

// send queues a message to a device.
func (w *world) send(id identity.Device, body string) {
	w.t.Helper()
	m := operator.SendMessage{ID: "7", Body: body, Properties: map[string]string{"k": "v/&"}, Ack: "full"}
	if _, err := w.operator.SendMessage(w.t.Context(), id, m); err != nil {
		w.t.Fatal(err)
	}
}

func TestMQTTJS5(t *testing.T) {
	w := newWorld(t)
	p := w.node(t, "mqtt5.js", "meter-8")
	p.expect(`["open",false,8]`)
	p.do("subscribe", []string{twinResults, desiredOnes})
	p.expect(`["subscribed",1,1]`)
	p.do("subscribe", []string{"$iothub/unknown/#"})
	p.expect(`["error","Subscribe error: Not authorized"]`)
	publish := func(topic, body string, properties map[string]any) {
		t.Helper()
		p.do("publish", map[string]any{"topic": topic, "body": body, "properties": properties})
		p.expect(`["published"]`)
	}
	// The topic is sent once, and its number afterwards.
	publish(eventsOf("meter-8")+"a=b", "1", map[string]any{"topicAlias": 3, "contentType": "text/plain",
		"userProperties": map[string]string{"level": "a/b&c=ü", "$.mid": "m1"}})
	w.last(1, "1", map[string]string{"a": "b", "level": "a/b&c=ü"}, map[string]string{"content-type": "text/plain", "message-id": "m1"})
	publish("", "2", map[string]any{"topicAlias": 3, "userProperties": map[string]string{"n": "2"}})
	w.last(2, "2", map[string]string{"a": "b", "n": "2"}, nil)

	p.do("publish0", eventsOf("meter-9"))
	p.expect(`["told",135]`) // not authorized
	publish(eventsOf("meter-8"), "3", nil)
	w.last(3, "3", nil, nil)
	p.do("publish0", "telemetry")
	p.expect(`["told",144]`) // topic name invalid

	// The session was kept over that: nothing is subscribed again.
	publish(eventsOf("meter-8"), "4", nil) // it is back
	p.do("publish0", "$iothub/twin/GET/?$rid=1")
	p.expect(`["message","$iothub/twin/res/200/?$rid=1","{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}",{}]`)
}

// mosquitto runs a client of mosquitto's as a device.
func (w *world) mosquitto(program, id string, cert tls.Certificate, args ...string) string {
	w.t.Helper()
	path := testkit.Need(w.t, program)
	certFile, key := writePEM(w.t, w.t.TempDir(), cert)
	_, port, _ := net.SplitHostPort(w.at.MQTT)
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"-h", "localhost", "-p", port, "-i", id, "-q", "1",
		"--cafile", filepath.Join(w.state, "root.pem"), "--cert", certFile, "--key", key}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
	return string(out)
}

func TestMosquitto(t *testing.T) {
	w := newWorld(t)
	const id = "meter-7"
	cert := w.certificate(id)
	want := map[string]string{"a": "b"}
	for i, version := range []string{"mqttv311", "mqttv5"} {
		n := i + 1
		args := []string{"-V", version, "-t", eventsOf(id) + "a=b&%24.ct=text%2Fplain", "-m", "21.5"}
		show := "%p %q " // payload, quality of service
		if version == "mqttv5" {
			args = append(args, "-D", "publish", "user-property", "site", "north", "-D", "publish", "topic-alias", "1")
			want["site"] = "north"
			show += "%P"
		}
		w.mosquitto("mosquitto_pub", id, cert, args...)
		w.last(n, "21.5", want, map[string]string{"content-type": "text/plain"})

		w.send(id, "wake up")
		out := w.mosquitto("mosquitto_sub", id, cert, "-V", version, "-c", "-x", "60", "-C", "1", "-F", show, "-t", "devices/+/messages/devicebound/#")
		if !strings.HasPrefix(out, "wake up 1 ") || version == "mqttv5" && !strings.Contains(out, "k:v/&") {
			t.Errorf("%s: %q", version, out)
		}
		if e := checkEvents(t, w, "feedback", n)[n-1]; !strings.Contains(e.Body, `"Success"`) {
			t.Errorf("%s: feedback %+v", version, e)
		}
	}
}

// paho opens a session of MQTT 3.1.1 that is to be kept; lost is told of its end.
func (w *world) paho(id string, cert tls.Certificate, lost func(error)) paho.Client {
	w.t.Helper()
	o := paho.NewClientOptions().AddBroker("ssl://" + w.at.MQTT).SetClientID(id).SetProtocolVersion(4).SetCleanSession(false)
	o.SetUsername("localhost/" + id + "/?api-version=2021-04-12").SetAutoReconnect(false).SetOrderMatters(true)
	o.SetTLSConfig(&tls.Config{RootCAs: w.roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}})
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { lost(err) })
	c := paho.NewClient(o)
	done(w.t, c.Connect())
	w.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// done waits for what paho does.
func done(t testing.TB, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("%T: %v", token, token.Error())
	}
}

// granted subscribes and returns what was granted.
func granted(t testing.TB, c paho.Client, filter string, qos byte, got paho.MessageHandler) byte {
	t.Helper()
	token := c.Subscribe(filter, qos, got).(*paho.SubscribeToken)
	if !token.WaitTimeout(patience) {
		t.Fatal("no SUBACK")
	}
	return token.Result()[filter] // paho's error is for 0x80
}

func TestPaho311(t *testing.T) {
	w := newWorld(t)
	const id = "meter-7"
	cert := w.certificate(id)
	c := w.paho(id, cert, func(err error) { t.Logf("connection lost: %v", err) })
	got := make(chan paho.Message, 10)
	handle := func(_ paho.Client, m paho.Message) { got <- m }
	for filter, want := range map[string]byte{
		"devices/+/messages/devicebound/#": 1, twinResults: 1, desiredOnes: 1, methodCalls: 1, // what was asked for was 2
		"$iothub/credentials/res/#": 1, "$hub/posture/#": 1, // more than five
		"#": 0x80, "devices/#": 0x80, "devices/meter-8/messages/devicebound/#": 0x80, "devices/+/messages/events/#": 0x80,
	} {
		h := handle
		if want == 0x80 { // paho would hand it what other subscriptions bring
			h = func(paho.Client, paho.Message) {}
		}
		if q := granted(t, c, filter, 2, h); q != want {
			t.Errorf("%s: granted %#x, want %#x", filter, q, want)
		}
	}
	done(t, c.Publish(eventsOf(id)+"a=b%2Fc&%24.mid=m1", 1, false, "1"))
	w.last(1, "1", map[string]string{"a": "b/c"}, map[string]string{"message-id": "m1"})
	done(t, c.Publish(eventsOf(id), 1, true, "2"))
	w.last(2, "2", map[string]string{"mqtt-retain": "true"}, nil)

	receive := func(topic, body string) {
		t.Helper()
		late := time.After(patience)
		for {
			select {
			case m := <-got:
				if strings.HasPrefix(m.Topic(), "$hub/posture/") {
					continue
				}
				if !strings.HasPrefix(m.Topic(), topic) || string(m.Payload()) != body || m.Retained() {
					t.Errorf("got %s %s, want %s %s", m.Topic(), m.Payload(), topic, body)
				}
				return
			case <-late:
				t.Fatalf("waited in vain for %s", topic)
			}
		}
	}
	done(t, c.Publish("$iothub/twin/GET/?$rid=1", 0, false, ""))
	receive("$iothub/twin/res/200/?$rid=1", `{"desired":{"$version":1},"reported":{"$version":1}}`)
	w.send(id, "wake up")
	receive("devices/meter-7/messages/devicebound/%24.mid=7&", "wake up")
	w.send("meter-7", "again")
	receive("devices/meter-7/messages/devicebound/", "again")
	other := w.certificate("meter-8")
	w.connect(t, "meter-8", other).leave()
	w.send("meter-8", "not for 7")
	done(t, c.Publish("$iothub/twin/GET/?$rid=2", 0, false, ""))
	receive("$iothub/twin/res/200/?$rid=2", `{"desired":{"$version":1},"reported":{"$version":1}}`)
}

// Each of these ends the session without an acknowledgement, and nothing of it
// is stored.
func TestViolationsOfPaho311(t *testing.T) {
	w := newWorld(t)
	const id = "meter-7"
	cert := w.certificate(id)
	for i, c := range []struct {
		name, topic string
		qos         byte
		bytes       int
	}{
		{"quality of service 2", eventsOf(id), 2, 1},
		{"unknown topic", "telemetry", 1, 1},
		{"a topic of the hub's", "$iothub/twin/res/200/?$rid=1", 1, 1},
		{"another device", eventsOf("meter-8"), 1, 1},
		{"another device, escaped", eventsOf("meter%2D8"), 1, 1},
		{"a bag that says two things", eventsOf(id) + "a=1&a=2", 1, 1},
		{"a stamp", eventsOf(id) + "iothub-connection-device-id=meter-8", 1, 1},
		{"too large", eventsOf(id), 1, 256<<10 + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			lost := make(chan error, 1)
			p := w.paho(id, cert, func(err error) { lost <- err })
			token := p.Publish(c.topic, c.qos, false, bytes.Repeat([]byte("x"), c.bytes))
			select {
			case <-lost:
			case <-time.After(patience):
				t.Error("the session goes on")
			}
			select {
			case <-token.Done():
				if token.Error() == nil {
					t.Error("it was acknowledged")
				}
			default:
			}
			// The device is not kept out for it, and only this is stored.
			again := w.paho(id, cert, func(error) {})
			done(t, again.Publish(eventsOf(id), 1, false, fmt.Sprint(i)))
			w.last(i+1, fmt.Sprint(i), nil, nil)
		})
	}
}

// paho5 opens a session of MQTT 5 that is kept for a minute.
func (w *world) paho5(id string, cert tls.Certificate, got chan<- *paho5.Publish, told chan<- *paho5.Disconnect) (*paho5.Client, *paho5.Connack) {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.at.MQTT, &tls.Config{RootCAs: w.roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	c := paho5.NewClient(paho5.ClientConfig{ClientID: id, Conn: conn, PacketTimeout: patience,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(r paho5.PublishReceived) (bool, error) {
			got <- r.Packet
			return true, nil
		}},
		OnServerDisconnect: func(d *paho5.Disconnect) { told <- d },
		OnClientError:      func(error) {},
	})
	expiry := uint32(60)
	ack, err := c.Connect(w.t.Context(), &paho5.Connect{ClientID: id, KeepAlive: 60, Properties: &paho5.ConnectProperties{SessionExpiryInterval: &expiry}})
	if err != nil {
		w.t.Fatal(err)
	}
	return c, ack
}

func TestPaho5(t *testing.T) {
	w := newWorld(t)
	const id = "meter-7"
	cert := w.certificate(id)
	got, told := make(chan *paho5.Publish, 10), make(chan *paho5.Disconnect, 1)
	c, ack := w.paho5(id, cert, got, told)
	if ack.SessionPresent || ack.Properties.RetainAvailable || ack.Properties.SharedSubAvailable || *ack.Properties.MaximumQoS != 1 || *ack.Properties.TopicAliasMaximum != 8 {
		t.Errorf("CONNACK %+v", ack.Properties)
	}
	subscriptions := []paho5.SubscribeOptions{{Topic: "devices/+/messages/devicebound/#", QoS: 2}, {Topic: twinResults}, {Topic: "x"}}
	suback, err := c.Subscribe(t.Context(), &paho5.Subscribe{Subscriptions: subscriptions})
	if suback == nil || !slices.Equal(suback.Reasons, []byte{1, 0, 0x87}) {
		t.Fatalf("SUBACK %+v, %v", suback, err)
	}
	alias := uint16(1)
	publish := func(topic string, with paho5.PublishProperties) {
		t.Helper()
		with.TopicAlias = &alias
		if _, err := c.Publish(t.Context(), &paho5.Publish{Topic: topic, QoS: 1, Payload: []byte("x"), Properties: &with}); err != nil {
			t.Fatal(err)
		}
	}
	site := func(name string) paho5.UserProperties { return paho5.UserProperties{{Key: "site", Value: name}} }
	publish(eventsOf(id)+"a=b", paho5.PublishProperties{ContentType: "text/plain", CorrelationData: []byte("c1"), User: site("nörth/&")})
	w.last(1, "x", map[string]string{"a": "b", "site": "nörth/&"}, map[string]string{"content-type": "text/plain", "correlation-id": "c1"})
	publish("", paho5.PublishProperties{User: site("south")})
	w.last(2, "x", map[string]string{"a": "b", "site": "south"}, nil)

	// What is forbidden is said.
	for topic, code := range map[string]byte{eventsOf("meter-8"): 0x87, "telemetry": 0x90} {
		if _, err := c.Publish(t.Context(), &paho5.Publish{Topic: topic, Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		select {
		case d := <-told:
			if d.ReasonCode != code {
				t.Errorf("%s: DISCONNECT %#x %q, want %#x", topic, d.ReasonCode, d.Properties.ReasonString, code)
			}
		case <-time.After(patience):
			t.Fatal("not told of the end")
		}
		<-c.Done()
		if c, ack = w.paho5(id, cert, got, told); !ack.SessionPresent {
			t.Error("the session was not kept")
		}
	}
	w.send(id, "wake up")
	select {
	case p := <-got:
		if string(p.Payload) != "wake up" || p.QoS != 1 || p.Properties.User.Get("k") != "v/&" || p.Properties.User.Get("$.mid") != "7" {
			t.Errorf("message %+v %+v", p, p.Properties)
		}
	case <-time.After(patience):
		t.Fatal("no message in the kept session")
	}
}
