package hub

import (
	"strings"
	"testing"
)

func TestConsoleIsWhereBrowsersFindTheHub(t *testing.T) {
	for _, tt := range []struct {
		hosts    string
		operator string
		want     string
	}{
		{"hub.example 192.0.2.7", "[::]:9443", "https://hub.example:9443"},
		{"192.0.2.7 hub.example", "0.0.0.0:9443", "https://hub.example:9443"},
		{"192.0.2.7 hub.example", "192.0.2.7:443", "https://hub.example"},
		{"127.0.0.1 localhost", "127.0.0.1:9443", "https://localhost:9443"},
		{"hub.example localhost", "127.0.0.1:9443", "https://localhost:9443"},
		{"127.77.1.1 localhost", "127.77.1.1:9443", "https://127.77.1.1:9443"},
		{"hub.example 127.0.0.1", "127.0.0.1:9443", "https://127.0.0.1:9443"},
		{"hub.example", "127.0.0.1:9443", "https://hub.example:9443"},
		{"localhost hub.example", "[::]:9443", "https://hub.example:9443"},
		{"192.0.2.7 192.0.2.8", "192.0.2.8:9443", "https://192.0.2.8:9443"},
		{"192.0.2.7", "[::]:9443", "https://192.0.2.7:9443"},
		{"2001:db8::7", "[::]:9443", "https://[2001:db8::7]:9443"},
	} {
		c := Config{Hosts: strings.Fields(tt.hosts)}
		if got := c.console(tt.operator).String(); got != tt.want {
			t.Errorf("%s at %s: %s, want %s", tt.hosts, tt.operator, got, tt.want)
		}
	}
	for _, set := range []string{"https://fleet.example", "https://fleet.example/", "https://fleet.example:443"} {
		c := Config{Hosts: []string{"hub.example"}, Console: set}
		if got := c.console("[::]:9443").String(); got != "https://fleet.example" {
			t.Errorf("configured as %s: %s", set, got)
		}
	}
}

func TestConfigRefusesLoginsThatNobodyCouldUse(t *testing.T) {
	for text, want := range map[string]string{
		`"console":"http://hub.example"`:                                                   "console",
		`"console":"hub.example"`:                                                          "console",
		`"console":"https://hub.example/path"`:                                             "console",
		`"console":"https://a@hub.example"`:                                                "console",
		`"session_idle":"-1h"`:                                                             "duration",
		`"oidc":{"issuer":"http://idp.example","client_id":"x"}`:                           "issuer",
		`"oidc":{"issuer":"https://idp.example"}`:                                          "client_id",
		`"oidc":{"issuer":"https://idp.example","client_id":"x","claim":"name"}`:           "claim",
		`"oidc":{"issuer":"https://idp.example","client_id":"x","client_secret":"secret"}`: "client_secret",
	} {
		_, err := LoadConfig(configured(t, `{"hosts":["hub.example"],`+text+`}`))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	_, err := LoadConfig(configured(t, `{"hosts":["hub.example"],"console":"https://hub.example:9443","session_lifetime":"8h","session_idle":"15m",
		"oidc":{"issuer":"https://idp.example","client_id":"x","client_secret_file":"secret","name":"Example","claim":"sub","root":"idp.pem"}}`))
	if err != nil {
		t.Error(err)
	}
}

func TestPathsBelongToTheAPIOrNot(t *testing.T) {
	for path, want := range map[string]bool{
		"/v1/hub": true, "/openapi.json": true, "/docs": true, "/docs/x": true,
		"/": false, "/v1": false, "/v10/x": false, "/docsx": false, "/auth/me": false, "/login": false, "/openapi.jsonx": false,
	} {
		if ofAPI(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}
