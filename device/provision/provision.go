// Package provision keeps what is put into a device before its first contact
// with its hub: whom to trust, where it is, and perhaps a claim.
package provision

import (
	"bytes"
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
	"holdfast/release"
	"holdfast/tuf"
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

	Product  release.Product `json:"product,omitempty"`  // whose releases it takes; empty: it takes none
	Hardware string          `json:"hardware,omitempty"` // its revision, where the board does not say
	// ReleaseRoot is the root of the metadata of releases, which is in a file of
	// its own; empty: the device takes no updates.
	ReleaseRoot []byte `json:"-"`
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
	return p.checkRelease()
}

// maxHardware is the longest name of a revision in bytes.
const maxHardware = 64

func (p Provision) checkRelease() error {
	if p.Product != "" {
		if _, err := release.ParseProduct(string(p.Product)); err != nil {
			return err
		}
	}
	if len(p.Hardware) > maxHardware || strings.ContainsFunc(p.Hardware, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("hardware revision %.70q: want up to %d bytes without spaces", p.Hardware, maxHardware)
	}
	if len(p.ReleaseRoot) == 0 {
		return nil
	}
	if _, err := tuf.NewTrust(p.ReleaseRoot, tuf.DefaultLimits()); err != nil {
		return fmt.Errorf("release root: %w", err)
	}
	return nil
}

func path(dir string) string     { return filepath.Join(dir, "provision.json") }
func rootPath(dir string) string { return filepath.Join(dir, "release_root.json") }

// Save puts a provision into a state directory, made where needed. A
// device does not change hubs, nor whose releases it takes: that refuses, and an
// empty directory is needed.
func Save(dir string, p Provision) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("provision: %w", err)
	}
	old, err := Load(dir)
	p.inherit(old)
	switch {
	case err == nil && (old.ReleaseRoot != nil && !bytes.Equal(old.ReleaseRoot, p.ReleaseRoot) || old.Product != "" && old.Product != p.Product):
		return fmt.Errorf("provision: %s trusts another release root or is another product already", dir)
	case err == nil && (old.Hub != p.Hub || old.Root != p.Root):
		return fmt.Errorf("provision: %s belongs to hub %s already, with its own root", dir, old.Hub)
	case err != nil && !errors.Is(err, ErrNone):
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("provision: %w", err)
	}
	if len(p.ReleaseRoot) > 0 {
		if err := atomicfile.Write(rootPath(dir), p.ReleaseRoot, 0o600); err != nil {
			return fmt.Errorf("provision: %w", err)
		}
	}
	return p.save(dir)
}

// inherit keeps what was said of releases before and is not said now.
func (p *Provision) inherit(old Provision) {
	if len(p.ReleaseRoot) == 0 {
		p.ReleaseRoot = old.ReleaseRoot
	}
	if p.Product == "" {
		p.Product = old.Product
	}
	if p.Hardware == "" {
		p.Hardware = old.Hardware
	}
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
		p.ReleaseRoot, err = os.ReadFile(rootPath(dir))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
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
