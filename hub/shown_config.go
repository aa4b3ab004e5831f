package hub

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"holdfast/hub/traces"
	"holdfast/identity"
	"holdfast/pki"
	"holdfast/posture"
)

// Alerts says what somebody is told, and where.
type Alerts struct {
	// Offline is after how long a device that was well is missed. Default 24h.
	Offline posture.Duration `json:"offline,omitempty"`
	// OfflineGroups has groups whose devices are missed sooner or later; "0s":
	// never.
	OfflineGroups map[identity.Group]posture.Duration `json:"offline_groups,omitempty"`
	// Keep is how long alerts are kept that are cleared or acknowledged. Default
	// 2160h.
	Keep posture.Duration `json:"keep,omitempty"`
	// Max is how many alerts are kept at all. Default 10000.
	Max int `json:"max,omitempty"`
	// Webhook is a URL, https, that each new alert is posted to as JSON. Default:
	// none.
	Webhook string `json:"webhook,omitempty"`
	// WebhookHeadersFile has HTTP headers for it, one "Name: value" a line;
	// relative to the state directory.
	WebhookHeadersFile string `json:"webhook_headers_file,omitempty"`
	// WebhookRoot is a file with the roots of its certificate, PEM. Default: the
	// system's roots.
	WebhookRoot string `json:"webhook_root,omitempty"`
}

// Traces says where OpenTelemetry spans go. Where it is left out, the standard
// variables of the environment say (OTEL_EXPORTER_OTLP_ENDPOINT and the like);
// without them there are none.
type Traces struct {
	// Endpoint is the collector's, https; without a path OTLP's is added.
	Endpoint string `json:"endpoint"`
	// HeadersFile has HTTP headers for it, one "Name: value" a line; relative to
	// the state directory.
	HeadersFile string `json:"headers_file,omitempty"`
	// Root is a file with the roots of its certificate, PEM. Default: the
	// system's roots.
	Root string `json:"root,omitempty"`
	// Sample is the share of traces that is kept, from 0 to 1. Default 0.01.
	Sample float64 `json:"sample,omitempty"`
}

// checkShown refuses what could not be shown or told.
func (c *Config) checkShown() error {
	if a := c.Alerts; a != nil {
		if a.Webhook != "" && !strings.HasPrefix(a.Webhook, "https://") {
			return errors.New("alerts: webhook: want an https URL")
		}
		if a.Max < 0 {
			return errors.New("alerts: max is negative")
		}
		for g := range a.OfflineGroups {
			if _, err := identity.ParseGroup(string(g)); err != nil {
				return fmt.Errorf("alerts: offline_groups: %w", err)
			}
		}
	}
	if t := c.Traces; t != nil {
		if _, err := traces.ParseEndpoint(t.Endpoint); err != nil {
			return fmt.Errorf("traces: %w", err)
		}
		if t.Sample < 0 || t.Sample > 1 {
			return errors.New("traces: sample is not from 0 to 1")
		}
	}
	return nil
}

// readHeaders reads HTTP headers, one "Name: value" a line, from a file below
// dir; none without a file.
func readHeaders(dir, file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(under(dir, file))
	if err != nil {
		return nil, fmt.Errorf("read headers: %w", err)
	}
	headers := map[string]string{}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("headers %s: a line is not \"Name: value\"", file) // which one may be secret
		}
		headers[name] = strings.TrimSpace(value)
	}
	return headers, nil
}

func readRoots(dir, file string) ([]*x509.Certificate, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(under(dir, file))
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	roots, err := pki.ParseCerts(b)
	if err != nil {
		return nil, fmt.Errorf("roots %s: %w", file, err)
	}
	return roots, nil
}

// under is a file's path, below dir unless it says where it is.
func under(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}
