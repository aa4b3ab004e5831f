package hub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/operator"
	"holdfast/posture"
)

// configured returns a state directory with that configuration.
func configured(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, configName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestConfigDefaults(t *testing.T) {
	dir := configured(t, `{"hosts":["hub.example"]}`)
	got, err := LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Hosts: []string{"hub.example"}, MQTT: ":8883", LegacyHosts: []string{"hub.example"}, HTTPS: ":8443", Operator: "127.0.0.1:9443", SealFile: filepath.Join(dir, "seal.key")}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestConfigTakesEveryKey(t *testing.T) {
	dir := configured(t, `{"hosts":["hub.example","192.0.2.7"],"mqtt":"192.0.2.7:1883","https":":443","operator":"[::1]:9000",
		"legacy":"192.0.2.8:8883","legacy_hosts":["old.example"],"stream":"nats://nats.example","stream_replicas":3,
		"seal_file":"/run/credentials/seal","retention_age":"24h","retention_bytes":1000,"limits":{"messages_per_second":5,"group_bytes_per_second":7}}`+"\n")
	got, err := LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Hosts: []string{"hub.example", "192.0.2.7"}, MQTT: "192.0.2.7:1883", HTTPS: ":443", Operator: "[::1]:9000",
		Legacy: "192.0.2.8:8883", LegacyHosts: []string{"old.example"}, Stream: "nats://nats.example", StreamReplicas: 3,
		SealFile: "/run/credentials/seal", RetentionAge: posture.Duration(24 * time.Hour), RetentionBytes: 1000,
		Limits: operator.Limits{MessagesPerSecond: 5, GroupBytesPerSecond: 7}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestConfigRefusals(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"empty":              {``, "EOF"},
		"not an object":      {`[]`, "cannot unmarshal"},
		"an unknown key":     {`{"hosts":["h"],"plaintext":":1883"}`, `unknown field "plaintext"`},
		"more than one":      {`{"hosts":["h"]}{}`, "something follows"},
		"rubbish after":      {`{"hosts":["h"]} x`, "something follows"},
		"no hosts":           {`{}`, "hosts is empty"},
		"no port":            {`{"hosts":["h"],"mqtt":"127.0.0.1"}`, "mqtt: "},
		"an URL":             {`{"hosts":["h"],"operator":"https://h:9443"}`, "operator: "},
		"a wrong type":       {`{"hosts":"h"}`, "hosts"},
		"a bare number":      {`{"hosts":["h"],"retention_age":24}`, "retention_age"},
		"a wrong age":        {`{"hosts":["h"],"retention_age":"a week"}`, "a week"},
		"a negative age":     {`{"hosts":["h"],"retention_age":"-1h"}`, "-1h"},
		"a negative size":    {`{"hosts":["h"],"retention_bytes":-1}`, "retention_bytes is negative"},
		"a negative limit":   {`{"hosts":["h"],"limits":{"group_messages_per_second":-1}}`, "limits: -1 messages per second of the group"},
		"an unknown limit":   {`{"hosts":["h"],"limits":{"rate":1}}`, `unknown field "rate"`},
		"a fraction of size": {`{"hosts":["h"],"retention_bytes":1.5}`, "retention_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := configured(t, tt.text)
			if _, err := LoadConfig(dir); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v, want the file and %q", err, tt.want)
			}
		})
	}
	if _, err := LoadConfig(t.TempDir()); err == nil || !strings.Contains(err.Error(), "'holdfast hub init'") {
		t.Errorf("a directory without configuration: %v, want how to make one", err)
	}
}
