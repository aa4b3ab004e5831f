// Package provision keeps what is put into a device before its first contact
// with its hub: whom to trust, where it is, and perhaps a claim.
package provision

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"holdfast/internal/atomicfile"
	"holdfast/pki"
)

// The hub's ports where nothing else is said.
const (
	DefaultHTTPSPort = 8443
	DefaultMQTTPort  = 8883
)

// ErrNone is returned for a device that does not know its hub.
var ErrNone = errors.New("the device is not provisioned")

// Provision is what is put into a device before its first contact: there is no
// trust on first use.
type Provision struct {
	Hub       string `json:"hub"` // host name or address, as in the hub's certificate
	HTTPSPort int    `json:"https_port"`
	MQTTPort  int    `json:"mqtt_port"`
	Root      string `json:"root"`            // the hub's root certificates, PEM
	Token     string `json:"token,omitempty"` // the claim token, until the device is born
}

// Roots returns the hub's root certificates.
func (p Provision) Roots() ([]*x509.Certificate, error) { return pki.ParseCerts([]byte(p.Root)) }

func (p Provision) check() error {
	if p.Hub == "" || strings.ContainsAny(p.Hub, "/ \t\r\n@") {
		return fmt.Errorf("hub %q: want a host name or an address", p.Hub)
	}
	for _, port := range []int{p.HTTPSPort, p.MQTTPort} {
		if port < 1 || port > 65535 {
			return fmt.Errorf("port %d: want 1 to 65535", port)
		}
	}
	if roots, err := p.Roots(); err != nil || len(roots) == 0 {
		return fmt.Errorf("hub's root certificate: %w", err)
	}
	return nil
}

func path(dir string) string { return filepath.Join(dir, "provision.json") }

// Save puts a provision into a state directory, made where needed. A
// device does not change hubs: that refuses, and an empty directory is needed.
func Save(dir string, p Provision) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("provision: %w", err)
	}
	old, err := Load(dir)
	switch {
	case err == nil && (old.Hub != p.Hub || old.Root != p.Root):
		return fmt.Errorf("provision: %s belongs to hub %s already, with its own root", dir, old.Hub)
	case err != nil && !errors.Is(err, ErrNone):
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("provision: %w", err)
	}
	return p.save(dir)
}

func (p Provision) save(dir string) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path(dir), append(b, '\n'), 0o600)
}

// Load reads the provision of a state directory.
func Load(dir string) (Provision, error) {
	var p Provision
	b, err := os.ReadFile(path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return p, ErrNone
	}
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return Provision{}, fmt.Errorf("read provision: %w", err)
	}
	return p, nil
}

// Forget removes the claim token from a state directory, once it is spent.
func (p Provision) Forget(dir string) error {
	if p.Token == "" {
		return nil
	}
	p.Token = ""
	return p.save(dir)
}
