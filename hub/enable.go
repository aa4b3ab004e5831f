package hub

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"holdfast/hub/issuer"
	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/internal/filelock"
	"holdfast/ledger"
	"holdfast/pki"
)

// The files of a state directory that have the RSA roots.
const (
	rsaRootName    = "rsa-root.pem"
	legacyRootName = "legacy-root.pem"
)

// The ledger's kinds of the acts below.
const (
	enableRSA    ledger.Kind = "hub.rsa"
	enableLegacy ledger.Kind = "hub.legacy"
)

// LegacyConfig says what legacy listener to enable.
type LegacyConfig struct {
	RootOut string   // file that receives the key of its root; must not exist
	Listen  string   // its address, as "192.0.2.8:8883"
	Hosts   []string // what devices reach it by; empty: the hub's
}

// EnableRSA gives the hub in dir, which must not run, an RSA certificate beside
// its own, for devices that verify nothing else. Its root's key goes to rootOut
// alone.
func EnableRSA(ctx context.Context, dir, rootOut string) error {
	return alter(dir, func(_, cfg Config, secret pki.Secret) error {
		root, err := issuer.InitRSA(filepath.Join(dir, caDir), issuer.Modern, rootOut, cfg.Hosts, secret, time.Now())
		if err != nil {
			return err
		}
		return enabled(ctx, dir, secret, enableRSA, rsaRootName, root)
	})
}

// EnableLegacy gives the hub in dir, which must not run, its legacy listener.
func EnableLegacy(ctx context.Context, dir string, l LegacyConfig) error {
	return alter(dir, func(written, _ Config, secret pki.Secret) error {
		written.Legacy, written.LegacyHosts = l.Listen, l.Hosts
		cfg := written
		cfg.fill(dir)
		if err := cfg.check("with the legacy listener"); err != nil {
			return err
		}
		root, err := issuer.InitRSA(filepath.Join(dir, caDir), issuer.Legacy, l.RootOut, cfg.LegacyHosts, secret, time.Now())
		if err != nil {
			return err
		}
		if err := enabled(ctx, dir, secret, enableLegacy, legacyRootName, root); err != nil {
			return err
		}
		return written.write(dir)
	})
}

// alter calls do with the configuration as it is written and with its defaults,
// while no hub runs on dir.
func alter(dir string, do func(written, cfg Config, secret pki.Secret) error) error {
	cfg, err := LoadConfig(dir)
	if err != nil {
		return err
	}
	unlock, err := filelock.Try(filepath.Join(dir, "lock"))
	if err != nil {
		return fmt.Errorf("lock state directory %s: %w", dir, err)
	}
	defer unlock()
	b, err := os.ReadFile(filepath.Join(dir, configName))
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	var written Config
	if err := json.Unmarshal(b, &written); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	secret, err := sealSecret(cfg.SealFile, false)
	if err != nil {
		return err
	}
	return do(written, cfg, secret)
}

// write writes the configuration.
func (c Config) write(dir string) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, configName), append(b, '\n'), 0o600)
}

// enabled records a new root in the ledger and writes its certificate.
func enabled(ctx context.Context, dir string, secret pki.Secret, kind ledger.Kind, name string, root *x509.Certificate) error {
	b, err := openBooks(ctx, dir, secret)
	if err != nil {
		return err
	}
	defer b.Close()
	details := map[string]any{"by": "hub", "root_sha256": identity.Sum(root.Raw)}
	if err := b.journal.Record(ctx, string(kind), "", details); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, name), pki.EncodeCerts(root), 0o644)
}
