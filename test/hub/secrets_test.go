package hub_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/evidence"
	"holdfast/mqtt"
	"holdfast/pki"
)

// TestSecretsAreNotWrittenDown: claim tokens, nonces and keys are in no line of
// the log, at its most talkative, and in no record of the ledger, whether they
// were taken or refused.
func TestSecretsAreNotWrittenDown(t *testing.T) {
	p := newPumpHouse(t)
	d := p.pump("pump-01", firmware)
	secrets := map[string]string{}
	for name, file := range map[string]string{"operator's key": "operator/operator.key", "sealing secret": "seal.key"} {
		for _, line := range strings.Split(string(must(os.ReadFile(filepath.Join(p.dir, file)))(t)), "\n") {
			if len(line) > 16 && !strings.HasPrefix(line, "-----") {
				secrets[name+": "+line[:4]] = line
			}
		}
	}
	secrets["token, taken"] = p.token("lamp-01", "lab")
	secrets["token, refused"] = "NOT-A-TOKEN-OF-THIS-HUB-BUT-A-SECRET"
	secrets["token, never used"] = p.token("lamp-02", "lab")
	for name, key := range map[string]string{"taken": secrets["token, taken"], "refused": secrets["token, refused"]} {
		_, err := p.begin(evidence.BeginRequest{Token: key, CSR: csr(t, must(pki.NewKey())(t), "")})
		if (err == nil) != (name == "taken") {
			t.Errorf("token %s: %v", name, err)
		}
	}
	nonce := must(on(p.world, d.birth, func(x *wire) ([]byte, error) { return x.nonce() }))(t)
	secrets["nonce"], secrets["nonce in hexadecimal"] = base64.StdEncoding.EncodeToString(nonce), hex.EncodeToString(nonce)
	_, err := on(p.world, d.birth, func(x *wire) (evidence.Result, error) { // of another connection
		var r evidence.Result
		return r, x.json("/attest/evidence", must(d.evidence("pump-01", nonce, make([]byte, evidence.ExporterSize), nil))(t), &r)
	})
	refusedWith(t, err, 409, "")

	ledger := string(must(json.Marshal(p.records()))(t))
	if !strings.Contains(ledger, "lamp-01") || !p.log.has("lamp-01") {
		t.Error("log or ledger do not tell what happened")
	}
	for name, s := range secrets {
		if strings.Contains(ledger, s) {
			t.Errorf("the ledger has the %s", name)
		}
		if p.log.has(s) {
			t.Errorf("the log has the %s", name)
		}
	}
}

// TestMakersKeyIsOneDevices: a maker that puts one key into all its devices
// gets the first of them in.
func TestMakersKeyIsOneDevices(t *testing.T) {
	w := newWorld(t)
	m := newMaker(t, w)
	key := must(pki.NewKey())(t)
	for range 2 {
		s := must(w.mqtt(m.leaf("sensor-01", key, asItShouldBe)))(t)
		defer s.close()
		if err := s.open("sensor-01"); err != nil {
			t.Fatal(err)
		}
	}
	clone := m.leaf("sensor-02", key, asItShouldBe)
	s := must(w.mqtt(clone))(t)
	defer s.close()
	if err := s.open("sensor-02"); !errors.Is(err, codeError(mqtt.RefusedForbidden)) {
		t.Errorf("MQTT: %v, want CONNACK 5", err)
	}
	w.recorded(t, "session.refused", "sensor-02", "key-reuse")
	_, err := on(w, clone, func(x *wire) ([]byte, error) { return x.nonce() })
	refusedWith(t, err, 403, "another device's")
	w.goesOn(t)
}
