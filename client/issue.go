package client

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"holdfast/internal/atomicfile"
	"holdfast/pki"
)

// Credential is a new certificate with its issuer, and its key, PEM.
type Credential struct {
	Certificate, Key []byte
}

// NewCredential makes a key and has the hub certify it for an account. The key
// is made here and goes nowhere else.
func (c *Client) NewCredential(ctx context.Context, account string) (Credential, error) {
	var out Credential
	key, err := pki.NewKey()
	if err != nil {
		return out, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: account}}, key)
	if err != nil {
		return out, fmt.Errorf("make a certificate request: %w", err)
	}
	cert, err := c.CertifyAccount(ctx, account, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	if err != nil {
		return out, err
	}
	out.Certificate = []byte(cert.PEM)
	out.Key, err = pki.EncodeKey(key)
	return out, err
}

// The files of a profile that this package writes.
const (
	profileFile = "profile.json"
	certFile    = "operator.pem"
	keyFile     = "operator.key"
	tokenFile   = "token"
	rootFile    = "root.pem"
	ledgerFile  = "ledger.pub"
)

// CheckNew refuses a directory that holds a profile already.
func CheckNew(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, profileFile)); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s holds a profile already", dir)
	}
	return nil
}

// Write makes a profile of the same hub in dir for whoever has c.
func (p *Profile) Write(dir string, c Credential) error {
	return p.write(dir, Profile{Certificate: certFile, Key: keyFile}, map[string][]byte{certFile: c.Certificate, keyFile: c.Key})
}

// WriteToken makes a profile of the same hub in dir for whoever has an API
// token.
func (p *Profile) WriteToken(dir, token string) error {
	return p.write(dir, Profile{Token: tokenFile}, map[string][]byte{tokenFile: []byte(token + "\n")})
}

func (p *Profile) write(dir string, of Profile, files map[string][]byte) error {
	if err := CheckNew(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	of.URL, of.Root, of.LedgerKey = p.URL, rootFile, ledgerFile
	for name, from := range map[string]string{rootFile: p.Root, ledgerFile: p.LedgerKey} {
		b, err := os.ReadFile(p.file(from))
		if err != nil {
			return err
		}
		files[name] = b
	}
	for name, b := range files {
		if err := atomicfile.Write(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return of.save(filepath.Join(dir, profileFile))
}

// save writes the profile itself, which is what makes a directory one.
func (p *Profile) save(path string) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(b, '\n'), 0o600)
}

// Renew puts a new credential into the profile at path. The new files have names
// of their own until the profile names them: a power cut leaves the old or the
// new pair, never one of each.
func (p *Profile) Renew(path string, c Credential) error {
	cert, err := pki.ParseCerts(c.Certificate)
	if err != nil {
		return err
	}
	old := *p
	base := "operator-" + pki.SerialText(cert[0])
	p.Certificate, p.Key, p.Token = base+".pem", base+".key", ""
	for name, b := range map[string][]byte{p.Certificate: c.Certificate, p.Key: c.Key} {
		if err := atomicfile.Write(p.file(name), b, 0o600); err != nil {
			return err
		}
	}
	if err := p.save(path); err != nil {
		return err
	}
	for _, name := range []string{old.Certificate, old.Key} {
		if name != "" {
			_ = os.Remove(p.file(name)) // nothing names it any more
		}
	}
	return nil
}
