package azure_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/hub"
	"holdfast/internal/testkit"
	"holdfast/operator"
)

// pythonHost is where the SDK for Python finds a hub: it knows no port but 8883.
const pythonHost = "127.0.0.3"

// TestPythonSDK has Azure's SDK for Python provision itself by X.509 under a
// registration id that is not its device's, and use all features of the hub. It
// speaks exactly TLS 1.2.
func TestPythonSDK(t *testing.T) {
	python := testkit.Need(t, "python3")
	const clients = "../clients/python"
	if _, err := os.Stat(filepath.Join(clients, "site")); err != nil {
		if os.Getenv("HOLDFAST_REQUIRE") != "" {
			t.Fatal("run 'pip install --no-deps --require-hashes --target site -r requirements.txt' in test/clients/python")
		}
		t.Skip("the packages of test/clients/python are not installed")
	}
	w := emptyWorldAt(t, pythonHost, "localhost")
	w.at = hub.Addresses{MQTT: pythonHost + ":8883", HTTPS: "127.0.0.1:0", Operator: "127.0.0.1:0"}
	w.run()
	w.register()
	g := operator.SetGroup{PolicyName: "lenient", MakerCAs: []string{"maker"}, IDs: []string{"meter-*"}, TLS12: true}
	if _, err := w.operator.SetGroup(t.Context(), "meters", g); err != nil {
		t.Fatal(err)
	}
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "serial-3", Device: "meter-3", Group: "meters", MakerCA: "maker",
		Twin: &operator.SetTwin{Desired: raw(`{"interval":5}`)}})

	cert, key := writePEM(t, t.TempDir(), w.certificate("serial-3"))
	cmd := exec.Command(python, "device.py", pythonHost, w.scope(), "serial-3", cert, key, filepath.Join(w.state, "root.pem"))
	cmd.Env = append(os.Environ(), "PYTHONPATH=site", "PYTHONDONTWRITEBYTECODE=1")
	cmd.Dir = clients
	p := w.start(t, cmd)
	p.expect(`["registered","assigned","` + pythonHost + `","meter-3"]`)
	p.expect(`["open"]`)

	p.do("send", "21.5")
	p.expect(`["sent"]`)
	w.last(1, "21.5", map[string]string{"level": "a/b&c=ü"}, map[string]string{"message-id": "from-python", "content-type": "text/plain",
		"content-encoding": "utf-8", "iothub-connection-device-id": "meter-3"})

	p.do("report", map[string]any{"temperature": 20, "gone": nil})
	p.expect(`["reported"]`)
	p.do("twin", nil)
	p.expect(`["twin",{"interval":5,"$version":2},{"temperature":20,"$version":2}]`)
	if _, err := w.operator.MergeTwin(t.Context(), "meter-3", operator.SetTwin{Desired: raw(`{"interval":7}`)}, ""); err != nil {
		t.Fatal(err)
	}
	p.expect(`["desired",{"interval":7,"$version":3}]`)

	answered := make(chan operator.MethodResult, 1)
	go func() {
		r, err := w.operator.CallMethod(t.Context(), "meter-3", "reboot", operator.CallMethod{Payload: json.RawMessage(`{"delay":3}`), Timeout: 20})
		if err != nil {
			t.Errorf("call: %v", err)
		}
		answered <- r
	}()
	p.expect(`["method","reboot",{"delay":3}]`)
	if r := <-answered; r.Status != 202 || string(r.Payload) != `{"done":{"delay":3}}` && string(r.Payload) != `{"done": {"delay": 3}}` {
		t.Errorf("answer %d %s", r.Status, r.Payload)
	}

	w.send("meter-3", "hello")
	p.expect(`["message","7","hello",{"k":"v/&"}]`)
	checkEvents(t, w, "feedback", 1)

	w.restart() // it connects again by itself; its session was kept
	p.do("send", "22")
	p.expect(`["sent"]`)
	w.last(2, "22", map[string]string{"level": "a/b&c=ü"}, nil)
	w.send("meter-3", "again")
	p.expect(`["message","7","again",{"k":"v/&"}]`)
	p.do("close", nil)
	p.expect(`["closed"]`)
}
