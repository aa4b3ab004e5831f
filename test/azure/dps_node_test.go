package azure_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/internal/testkit"
	"holdfast/operator"
)

// answer is what the SDK's client says of a registration.
type answer struct {
	Hub       string         `json:"hub"`
	Device    string         `json:"device"`
	Status    string         `json:"status"`
	Substatus string         `json:"substatus"`
	Payload   map[string]any `json:"payload"`
	Error     string         `json:"error"`
	Code      int            `json:"code"`
	Message   string         `json:"message"`
}

const dpsClient = "../clients/dps"

// nodeRegisters has Azure's provisioning SDK for Node register a device.
func (w *world) nodeRegisters(transport, scope, id string) answer {
	w.t.Helper()
	testkit.Need(w.t, "node")
	if _, err := os.Stat(filepath.Join(dpsClient, "node_modules")); err != nil {
		if os.Getenv("HOLDFAST_REQUIRE") != "" {
			w.t.Fatal("run 'npm ci --ignore-scripts' in test/clients/dps")
		}
		w.t.Skip("the packages of test/clients/dps are not installed")
	}
	address := w.at.MQTT
	if transport == "http" {
		address = w.at.HTTPS
	}
	_, port, _ := net.SplitHostPort(address)
	cert, key := writePEM(w.t, w.t.TempDir(), w.certificate(id))
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "register.js", transport, "localhost", port, scope, id, cert, key)
	cmd.Dir, cmd.Stderr = dpsClient, &logWriter{t: w.t}
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+filepath.Join(w.state, "root.pem"))
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s client: %v: %s", transport, err, out)
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		w.t.Fatalf("%s client said %q: %v", transport, out, err)
	}
	return a
}

func TestNodeProvisioningSDK(t *testing.T) {
	w := newWorld(t)
	scope := w.scope()
	_, port, _ := net.SplitHostPort(w.at.MQTT)
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "meter-off", Group: "meters", Disabled: true})
	for transport, id := range map[string]string{"mqtt": "meter-1", "http": "meter-2"} {
		w.enroll(operator.Enrollment{Kind: operator.Individual, ID: id, Group: "meters", Payload: raw(`{"welcome":true}`)})
		for _, substatus := range []string{"initialAssignment", "deviceDataMigrated"} {
			a := w.nodeRegisters(transport, scope, id)
			if a.Error != "" || a.Hub != "localhost:"+port || a.Device != id || a.Substatus != substatus || a.Payload["welcome"] != true {
				t.Errorf("%s: %+v", transport, a)
			}
		}
		for what, c := range map[string]struct{ scope, id string }{
			"disabled": {scope, "meter-off"}, "not enrolled": {scope, "valve-1"}, "another scope": {"0neFFFFFFFF", id},
		} {
			if a := w.nodeRegisters(transport, c.scope, c.id); a.Error == "" || a.Device != "" || a.Hub != "" {
				t.Errorf("%s, %s: %+v", transport, what, a)
			} else {
				t.Logf("%s, %s: %+v", transport, what, a)
			}
		}
	}
}
