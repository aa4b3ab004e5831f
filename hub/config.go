package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"holdfast/operator"
	"holdfast/posture"
)

// configName is the hub's configuration inside its state directory.
const configName = "hub.json"

// defaultOperator is where operators are listened to: by those on this machine
// alone.
const defaultOperator = "127.0.0.1:9443"

// Config is the file hub.json in the hub's state directory. An unknown key is
// an error. Every key may be left out.
type Config struct {
	// Hosts are the names and addresses devices and operators reach the hub by;
	// the hub's own certificates carry them and its server authority may sign for
	// no others. Set at init.
	Hosts []string `json:"hosts"`
	// MQTT is the address of the MQTT listener. Default ":8883".
	MQTT string `json:"mqtt"`
	// Legacy is the address of the legacy listener, which has the cipher suites
	// of stock ThreadX firmware and takes groups marked legacy-threadx alone. Such
	// firmware knows no port but 8883: give the listener an address of its own.
	// Empty: there is none. Set by 'hub legacy enable'.
	Legacy string `json:"legacy,omitempty"`
	// LegacyHosts are the names and addresses in the legacy listener's
	// certificate. Default: Hosts. Set by 'hub legacy enable'.
	LegacyHosts []string `json:"legacy_hosts,omitempty"`
	// HTTPS is the address of the device HTTPS listener. Default ":8443".
	HTTPS string `json:"https"`
	// Operator is the address of the operator API. Default "127.0.0.1:9443".
	Operator string `json:"operator"`
	// SealFile holds the secret that seals the keys at rest. Default "seal.key"
	// in the state directory; better a service credential or another disk.
	SealFile string `json:"seal_file"`
	// Stream is the URL of an external NATS cluster with JetStream that keeps
	// messages and events, as "tls://nats.example:4222"; several with commas
	// between. The hub needs an account of its own there, and the servers have to
	// run with sync_interval always. Default: embedded in the hub.
	Stream string `json:"stream,omitempty"`
	// StreamCredentials is the file that logs in there (NATS .creds).
	StreamCredentials string `json:"stream_credentials,omitempty"`
	// StreamRoot is the file with the roots of its certificates, PEM. Default:
	// the system's roots.
	StreamRoot string `json:"stream_root,omitempty"`
	// StreamReplicas is on how many of its servers the stream is kept. Default:
	// one where the hub makes it, otherwise as it is.
	StreamReplicas int `json:"stream_replicas,omitempty"`
	// RetentionAge bounds how long messages are kept. Default 168h.
	RetentionAge posture.Duration `json:"retention_age"`
	// RetentionBytes bounds how much of them is kept. Default 1 GiB.
	RetentionBytes int64 `json:"retention_bytes"`
	// DeltaBytes bounds how much is kept of deltas between releases, which devices
	// fetch in place of images. Default 2 GiB.
	DeltaBytes int64 `json:"delta_bytes,omitempty"`
	// Limits are what a device may send, and the devices of a group together,
	// where the group does not say. Default: those of the gateway, and none for
	// the devices of a group together.
	Limits operator.Limits `json:"limits,omitzero"`
	// Console is where operators' browsers reach the hub, as
	// "https://hub.example:9443": login links, passkeys and the OIDC provider are
	// bound to it. Default: the first DNS name of Hosts that suits the operator
	// address, otherwise an address, with that listener's port.
	Console string `json:"console,omitempty"`
	// SessionLifetime is how long somebody stays logged in. Default 12h.
	SessionLifetime posture.Duration `json:"session_lifetime,omitempty"`
	// SessionIdle ends a login of which nothing is asked for so long. Default 1h.
	SessionIdle posture.Duration `json:"session_idle,omitempty"`
	// OIDC is a provider that vouches for operators. Default: none.
	OIDC *OIDC `json:"oidc,omitempty"`
	// Alerts says what somebody is told, and where. Default: see there.
	Alerts *Alerts `json:"alerts,omitempty"`
	// Traces says where OpenTelemetry spans go. Default: what the environment
	// says; nowhere.
	Traces *Traces `json:"traces,omitempty"`
}

// LoadConfig reads the configuration of the hub whose state is in dir.
func LoadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, configName)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Config{}, fmt.Errorf("%s is not a hub's state directory (make one with 'holdfast hub init'): %w", dir, err)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var c Config
	if err := dec.Decode(&c); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return c, fmt.Errorf("configuration %s: something follows the object", path)
	}
	c.fill(dir)
	return c, c.check(path)
}

// fill puts defaults where nothing is set.
func (c *Config) fill(dir string) {
	for _, d := range []struct {
		at  *string
		def string
	}{{&c.MQTT, ":8883"}, {&c.HTTPS, ":8443"}, {&c.Operator, defaultOperator}, {&c.SealFile, "seal.key"}} {
		if *d.at == "" {
			*d.at = d.def
		}
	}
	if len(c.LegacyHosts) == 0 {
		c.LegacyHosts = c.Hosts
	}
	if !filepath.IsAbs(c.SealFile) {
		c.SealFile = filepath.Join(dir, c.SealFile)
	}
}

// check refuses what could not be served.
func (c *Config) check(path string) error {
	if len(c.Hosts) == 0 {
		return fmt.Errorf("configuration %s: hosts is empty", path)
	}
	listeners := map[string]string{"mqtt": c.MQTT, "https": c.HTTPS, "operator": c.Operator}
	if c.Legacy != "" {
		listeners["legacy"] = c.Legacy
	}
	for key, addr := range listeners {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("configuration %s: %s: %w", path, key, err)
		}
	}
	if c.RetentionBytes < 0 {
		return fmt.Errorf("configuration %s: retention_bytes is negative", path)
	}
	if c.DeltaBytes < 0 {
		return fmt.Errorf("configuration %s: delta_bytes is negative", path)
	}
	if err := c.Limits.Check(); err != nil {
		return fmt.Errorf("configuration %s: limits: %w", path, err)
	}
	for _, check := range []func() error{c.checkLogins, c.checkShown} {
		if err := check(); err != nil {
			return fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	return nil
}
