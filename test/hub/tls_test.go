package hub_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/measure"
	"holdfast/mqtt"
	"holdfast/operator"
)

// version is a client's policy weakened to a version of TLS and suites.
func (w *world) version(cert *tls.Certificate, v uint16, suites ...uint16) *tls.Config {
	cfg := w.tls(cert)
	cfg.MinVersion, cfg.MaxVersion, cfg.CipherSuites = v, v, suites
	return cfg
}

// TestOldTLSIsRefused: 1.1 by everybody, 1.2 without forward secrecy or AEAD
// even in a group that allows 1.2, and for an IDevID always.
func TestOldTLSIsRefused(t *testing.T) {
	w := newWorld(t)
	w.group("lab", operator.SetGroup{PolicyName: "lenient", FileKeys: true, TLS12: true})
	d := w.healthy
	for _, tc := range []struct {
		name string
		cfg  *tls.Config
		log  string
	}{
		{"TLS 1.1", w.version(d.ldevid, tls.VersionTLS11), "unsupported versions"},
		{"TLS 1.0", w.version(d.ldevid, tls.VersionTLS10), "unsupported versions"},
		{"TLS 1.2 with CBC", w.version(d.ldevid, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256), "no cipher suite"},
		{"TLS 1.2 with static RSA", w.version(d.ldevid, tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256), "no cipher suite"},
		{"TLS 1.2 with an IDevID", w.version(d.birth, tls.VersionTLS12), "tls-version"},
		{"TLS 1.2 without a certificate", w.version(nil, tls.VersionTLS12), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if s, err := w.mqttWith(tc.cfg); err == nil {
				defer s.close()
				if err := s.open("healthy-01"); err == nil {
					t.Error("MQTT lets it in")
				}
			}
			w.logged(t, "connection refused", tc.log)
			if x, err := w.httpsWith(tc.cfg); err == nil {
				defer x.close()
				if status, _, err := x.do("GET", "/healthz", "", nil); err == nil {
					t.Errorf("HTTPS answers %d", status)
				}
			}
			w.logged(t, "TLS handshake error", tc.log)
			cfg := tc.cfg.Clone()
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return w.operatorCertificate(), nil }
			if conn, err := w.dial(w.at.Operator, cfg); err == nil {
				defer conn.Close()
				if _, err := conn.Read(make([]byte, 1)); errors.Is(err, io.EOF) || err == nil {
					t.Error("the operators' listener lets it in")
				}
			}
			w.goesOn(t)
		})
	}
}

// TestTLS12IsTheGroupsToAllow: refused by default; where it is allowed, the row
// protocol.tls says what it is, and a policy that demands 1.3 sees it.
func TestTLS12IsTheGroupsToAllow(t *testing.T) {
	w := newWorld(t)
	d := w.healthy
	cfg := w.version(d.ldevid, tls.VersionTLS12)
	if s, err := w.mqttWith(cfg); err == nil {
		defer s.close()
		if err := s.open("healthy-01"); err == nil {
			t.Error("MQTT over TLS 1.2 is let in")
		}
	}
	w.logged(t, "connection refused", "demands TLS 1.3")
	w.recorded(t, "session.refused", "", "demands TLS 1.3")
	if x, err := w.httpsWith(cfg); err == nil {
		defer x.close()
		if status, _, err := x.do("GET", "/healthz", "", nil); err == nil {
			t.Errorf("HTTPS over TLS 1.2: %d", status)
		}
	}
	w.logged(t, "TLS handshake error", "demands TLS 1.3")
	w.recorded(t, "connection.refused", "", "demands TLS 1.3")
	w.goesOn(t)

	w.group("lab", operator.SetGroup{PolicyName: "lenient", FileKeys: true, TLS12: true})
	s := must(w.mqttWith(cfg))(t)
	defer s.close()
	if err := errors.Join(s.open("healthy-01"), s.publish("devices/healthy-01/messages/events/", "{}")); err != nil {
		t.Fatalf("allowed, yet %v", err)
	}
	if r := row(w.device("healthy-01"), measure.ProtocolTLS); r.Verdict != measure.Fail || !strings.Contains(r.Reason, "TLS 1.2") {
		t.Errorf("protocol.tls is %+v", r)
	}
	if r := row(w.device("healthy-01"), measure.ProtocolCipherSuites); r.Verdict != measure.Pass {
		t.Errorf("protocol.cipher-suites is %+v", r)
	}
}

// TestPlaintextIsRefused on each port.
func TestPlaintextIsRefused(t *testing.T) {
	w := newWorld(t)
	hello := must((&mqtt.Connect{ClientID: "healthy-01", Clean: true}).Append(nil))(t)
	for name, addr := range map[string]string{"MQTT": w.at.MQTT, "HTTPS": w.at.HTTPS, "operator": w.at.Operator} {
		for what, text := range map[string]string{"MQTT": string(hello), "HTTP": "GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n", "noise": "\x80\x00\xff"} {
			t.Run(what+" at "+name, func(t *testing.T) {
				conn := must(net.Dial("tcp", addr))(t)
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				if _, err := conn.Write([]byte(text + strings.Repeat("\x00", 16))); err != nil {
					t.Fatal(err)
				}
				answer, _ := io.ReadAll(conn) // a reset is a refusal too
				if strings.Contains(string(answer), "200") || strings.HasPrefix(string(answer), "\x20\x02") {
					t.Errorf("answer %q", answer)
				}
				want := "TLS handshake error"
				if name == "MQTT" {
					want = "first byte is not of a TLS handshake"
				}
				w.logged(t, want, conn.LocalAddr().String())
				w.goesOn(t)
			})
		}
	}
}

// TestClientsThatBreakMQTT: nothing they send is acknowledged, and each is cut
// off with the rule that it broke in the log.
func TestClientsThatBreakMQTT(t *testing.T) {
	w := newWorld(t)
	hello := must((&mqtt.Connect{ClientID: "healthy-01", Clean: true}).Append(nil))(t)
	user := func(s string) *string { return &s }
	encode := func(p mqtt.Packet) string { return string(must(p.Append(nil))(t)) }
	for _, tc := range []struct {
		name  string
		first string // sent in place of CONNECT
		then  string // sent after CONNACK
		log   string
	}{
		{"another client id", encode(&mqtt.Connect{ClientID: "lamp-01", Clean: true}), "", "client id lamp-01, but the certificate is of healthy-01"},
		{"no client id", encode(&mqtt.Connect{Clean: true}), "", "client id"},
		{"a password", encode(&mqtt.Connect{ClientID: "healthy-01", Clean: true, Username: user("hub/healthy-01/?api-version=2021-04-12"), Password: []byte("SharedAccessSignature sr=")}), "", "password sent"},
		{"another user", encode(&mqtt.Connect{ClientID: "healthy-01", Clean: true, Username: user("hub/lamp-01/?api-version=2021-04-12")}), "", "user name of lamp-01"},
		{"a user of no form", encode(&mqtt.Connect{ClientID: "healthy-01", Clean: true, Username: user("root")}), "", "user name"},
		{"MQTT 3.1", "\x10\x18\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x0ahealthy-01", "", "CONNECT"},
		{"a publish first", encode(&mqtt.Publish{Topic: "devices/healthy-01/messages/events/", Payload: []byte("x")}), "", "first packet"},
		{"a CONNECT without end", "\x10\xff\xff\xff\xff\x01", "", "CONNECT"},
		{"a CONNECT longer than allowed", "\x10\x80\x80\x04" + strings.Repeat("x", 9000), "", "CONNECT"},
		{"HTTP inside of TLS", "GET / HTTP/1.1\r\n\r\n", "", "CONNECT"},
		{"a will for another device", encode(&mqtt.Connect{ClientID: "healthy-01", Clean: true, Will: &mqtt.Will{Topic: "devices/lamp-01/messages/events/"}}), "", "topic of device lamp-01"},
		{"a second CONNECT", "", string(hello), "second CONNECT"},
		{"quality of service 2", "", "\x34\x09\x00\x03a/b\x00\x01hi", "quality of service 2"},
		{"a reserved type", "", "\xf0\x00", "mqtt"},
		{"bad flags", "", "\x83\x00", "mqtt"},
		{"a length of five bytes", "", "\x30\xff\xff\xff\xff\x7f", "mqtt"},
		{"a packet longer than any", "", "\x30\xff\xff\xff\x7f", "mqtt"},
		{"a topic with a wildcard", "", "\x30\x05\x00\x03a/#", "mqtt"},
		{"a topic that is not UTF-8", "", "\x30\x05\x00\x03\xff\xfe\xfd", "mqtt"},
		{"a subscription to nothing", "", "\x82\x02\x00\x01", "mqtt"},
		{"a packet of the hub's", "", "\x20\x02\x00\x00", "mqtt"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := must(w.mqtt(w.healthy.ldevid))(t)
			defer s.close()
			first := tc.first
			if first == "" {
				first = string(hello)
			}
			_, _ = io.WriteString(s.conn, first) // the hub may close before it has all of it
			p, err := s.receive()
			ack, ok := p.(*mqtt.Connack)
			accepted := err == nil && ok && ack.Code == mqtt.Accepted
			if accepted != (tc.then != "") {
				t.Fatalf("%#v, %v answers CONNECT", p, err)
			}
			if accepted {
				if _, err := io.WriteString(s.conn, tc.then); err != nil {
					t.Fatal(err)
				}
				if p, err := s.receive(); err == nil {
					t.Errorf("it is answered: %#v", p)
				}
				w.logged(t, "session closed", "healthy-01", tc.log)
				w.recorded(t, "session.violation", "healthy-01", tc.log)
			} else {
				w.logged(t, "connection refused", tc.log)
				w.recorded(t, "session.refused", "healthy-01", tc.log)
			}
			if err := s.closed(); err != nil {
				t.Error(err)
			}
			w.goesOn(t)
		})
	}
	t.Run("cut off in the middle", func(t *testing.T) {
		s := must(w.mqtt(w.healthy.ldevid))(t)
		if _, err := s.conn.Write(hello[:7]); err != nil {
			t.Fatal(err)
		}
		s.close()
		w.logged(t, "connection refused", "read CONNECT")
		w.goesOn(t)
	})
}

// TestAnotherDevicesTopics: however they are spelled, and what is only the
// hub's to publish.
func TestAnotherDevicesTopics(t *testing.T) {
	w := newWorld(t)
	w.fileDevice("lamp-01", "lab")
	open := func() *session {
		s := must(w.mqtt(w.healthy.ldevid))(t)
		t.Cleanup(s.close)
		if err := s.open("healthy-01"); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, topic := range []string{
		"devices/lamp-01/messages/events/",
		"devices/lamp-01/messages/events/a=b",
		"devices/healthy-01/../lamp-01/messages/events/",
		"devices/lamp%2D01/messages/events/",
		"devices/healthy%2D01/messages/events/",
		"devices//messages/events/",
		"Devices/healthy-01/messages/events/",
		"devices/HEALTHY-01/messages/events/",
		"/devices/healthy-01/messages/events/",
		"devices/healthy-01/messages/devicebound/",
		"devices/healthy-01/messages/events/%24.cdid=lamp-01&iothub-connection-device-id=lamp-01",
		"$hub/posture/?$version=1",
		"$hub/attest/res/200/?$rid=1",
		"$hub/other/?$rid=1",
		"$SYS/broker",
		"anything",
	} {
		t.Run("publish "+topic, func(t *testing.T) {
			s := open()
			if err := s.publish(topic, "forged"); err == nil {
				t.Error("it is acknowledged")
			}
			w.logged(t, "session closed", "healthy-01", "violation", topic)
			w.recorded(t, "session.violation", "healthy-01", topic)
			w.goesOn(t)
		})
	}
	for _, filter := range []string{
		"devices/lamp-01/messages/devicebound/#", "devices/lamp%2D01/messages/devicebound/#", "#", "+/#", "devices/#",
		"devices/+/messages/events/#", "$hub/#", "$hub/attest/#", "$SYS/#", "devices/healthy-01/#",
	} {
		t.Run("subscribe "+filter, func(t *testing.T) {
			s := open()
			if code, err := s.subscribe(filter); err != nil || code != mqtt.SubackFailure {
				t.Errorf("code %#x, %v", code, err)
			}
		})
	}
	for _, e := range w.events("lamp-01") {
		t.Errorf("lamp-01 has %+v", e)
	}
	for _, e := range w.events("healthy-01") {
		if e.Body != "still here" {
			t.Errorf("stored: %+v", e)
		}
	}
	w.goesOn(t)
}

// events is the stored telemetry of a device.
func (w *world) events(id identity.Device) (all []operator.Event) {
	w.t.Helper()
	err := w.api.Events(w.t.Context(), operator.EventQuery{Device: id, Kind: "telemetry"}, func(e operator.Event) error {
		all = append(all, e)
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
	return all
}
