package hub_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/testkit"
	"holdfast/mqtt"
	"holdfast/pki"
	"holdfast/posture"
)

// TestIDevIDOpensAQuarantineSession: telemetry over it is never acknowledged
// and closes it; the posture says why.
func TestIDevIDOpensAQuarantineSession(t *testing.T) {
	w := newWorld(t)
	s := must(w.mqtt(w.healthy.birth))(t)
	defer s.close()
	if err := s.open("healthy-01"); err != nil {
		t.Fatal(err)
	}
	if code, err := s.subscribe("devices/healthy-01/messages/devicebound/#"); err != nil || code != mqtt.SubackFailure {
		t.Errorf("messages in quarantine: code %#x, %v", code, err)
	}
	if code, err := s.subscribe("$hub/posture/#"); err != nil || code == mqtt.SubackFailure {
		t.Fatalf("posture: code %#x, %v", code, err)
	}
	r := s.report(t)
	if r.Status != posture.Quarantined {
		t.Errorf("status %s, want quarantined", r.Status)
	}
	if d := w.device("healthy-01"); d.Status != posture.Quarantined || !strings.Contains(d.Reason, "birth certificate") {
		t.Errorf("it is %s: %s", d.Status, d.Reason)
	}
	if err := s.publish("$hub/logs/?$first=1", `[{"seq":1,"time":"2026-01-01T00:00:00Z","level":"info","message":"hello"}]`); err != nil {
		t.Errorf("logs in quarantine: %v", err)
	}
	if err := s.publish("devices/healthy-01/messages/events/", "{}"); err == nil {
		t.Error("telemetry is acknowledged")
	}
	if err := s.closed(); err != nil {
		t.Error(err)
	}
	w.logged(t, "session closed", "healthy-01", "not open in quarantine")
	w.recorded(t, "session.violation", "healthy-01", "not open in quarantine")
	w.goesOn(t)
}

// report is the next posture that the hub tells.
func (s *session) report(t *testing.T) posture.Report {
	t.Helper()
	_, body, err := s.await("$hub/posture/")
	if err != nil {
		t.Fatal(err)
	}
	var r posture.Report
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestOperatorActsOnTheOpenSession: quarantine cuts it down, restore opens it
// again, revoke ends it; all of it at once and in the ledger.
func TestOperatorActsOnTheOpenSession(t *testing.T) {
	w := newWorld(t)
	d := w.fileDevice("lamp-01", "lab")
	open := func() *session {
		s := must(w.mqtt(d.ldevid))(t)
		t.Cleanup(s.close)
		if err := errors.Join(s.open("lamp-01"), s.publish("devices/lamp-01/messages/events/", "before")); err != nil {
			t.Fatal(err)
		}
		return s
	}
	act := func(verb, reason string) { must(w.api.Act(t.Context(), "lamp-01", verb, reason))(t) }
	const telemetry = "devices/lamp-01/messages/events/"

	s := open()
	if _, err := s.subscribe("$hub/posture/#"); err != nil {
		t.Fatal(err)
	}
	if r := s.report(t); r.Status != posture.Connected {
		t.Errorf("at first it is %s", r.Status)
	}
	act("quarantine", "acts oddly")
	if r := s.report(t); r.Status != posture.Quarantined {
		t.Errorf("told %s", r.Status)
	}
	if err := s.publish(telemetry, "during"); err == nil {
		t.Error("telemetry is acknowledged in quarantine")
	}
	w.recorded(t, "device.quarantine", "lamp-01", "acts oddly", "admin")
	w.recorded(t, "session.violation", "lamp-01", "quarantine")
	s = must(w.mqtt(d.ldevid))(t) // coming back does not help
	defer s.close()
	if err := s.open("lamp-01"); err != nil {
		t.Fatal(err)
	}
	act("restore", "looked at")
	if err := s.publish(telemetry, "after"); err != nil {
		t.Errorf("restored, yet %v", err)
	}
	w.recorded(t, "device.restore", "lamp-01", "looked at")

	s = open()
	act("revoke", "stolen")
	if err := s.closed(); err != nil {
		t.Error(err)
	}
	w.logged(t, "session closed", "lamp-01", "revoked")
	w.recorded(t, "device.revoke", "lamp-01", "stolen", "admin")
	for name, cert := range map[string]string{"operational": "ldevid", "birth": "birth"} {
		c := d.ldevid
		if cert == "birth" {
			c = d.birth
		}
		s := must(w.mqtt(c))(t)
		defer s.close()
		if err := s.open("lamp-01"); !errors.Is(err, codeError(mqtt.RefusedForbidden)) {
			t.Errorf("revoked, %s certificate: %v, want CONNACK 5", name, err)
		}
	}
	w.logged(t, "connection refused", "lamp-01", "revoked")
	w.recorded(t, "session.refused", "lamp-01", "revoked")
	_, err := d.est(d.ldevid, "simplereenroll", csr(t, must(pki.NewKey())(t), "lamp-01"))
	refusedWith(t, err, 403, "revoked")

	act("restore", "found") // its certificates stay worthless
	again := must(w.mqtt(d.ldevid))(t)
	defer again.close()
	if err := again.open("lamp-01"); !errors.Is(err, codeError(mqtt.RefusedForbidden)) {
		t.Errorf("an old certificate after restore: %v", err)
	}
	d = w.fileDevice("lamp-01", "lab") // by a new token
	open()
	for _, e := range w.events("lamp-01") {
		if e.Body == "during" {
			t.Error("a message from quarantine is stored")
		}
	}
	w.goesOn(t)
}

// TestMosquitto has a client that we did not write go through the same door.
func TestMosquitto(t *testing.T) {
	program := testkit.Need(t, "mosquitto_pub")
	w := newWorld(t)
	m := newMaker(t, w)
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := m.leaf("sensor-01", nil, asItShouldBe)
	key := c.PrivateKey.(crypto.Signer)
	_, port, _ := strings.Cut(w.at.MQTT, ":")
	publish := func(args ...string) error {
		args = append([]string{"-h", "127.0.0.1", "-p", port, "-q", "1", "-m", "21.5", "--cafile", file("root.pem", pki.EncodeCerts(w.root)),
			"--cert", file("cert.pem", pki.EncodeCerts(c.Leaf)), "--key", file("key.pem", must(pki.EncodeKey(key))(t))}, args...)
		out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	const topic = "devices/sensor-01/messages/events/"
	if err := publish("-i", "sensor-01", "-t", topic); err != nil {
		t.Errorf("as it should be: %v", err)
	}
	if err := publish("-i", "sensor-01", "-t", topic, "-V", "mqttv5"); err != nil {
		t.Errorf("MQTT 5: %v", err)
	}
	for name, args := range map[string][]string{
		"another id": {"-i", "sensor-02", "-t", topic},
		"a password": {"-i", "sensor-01", "-t", topic, "-u", "hub/sensor-01/?api-version=2021-04-12", "-P", "secret"},
		"MQTT 3.1":   {"-i", "sensor-01", "-t", topic, "-V", "mqttv31"},
	} {
		if err := publish(args...); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if n := len(w.events("sensor-01")); n != 2 {
		t.Errorf("%d messages are stored, want 2", n)
	}
	w.goesOn(t)
}
