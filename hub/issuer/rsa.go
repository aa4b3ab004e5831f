package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/atomicfile"
	"holdfast/pki"
)

// RSA names a hierarchy of RSA server certificates: each has a root of its
// own, so that what one of its keys gives away is worth nothing to the other.
type RSA string

// The RSA hierarchies.
const (
	Modern RSA = "rsa"    // of the device listeners, for clients that verify RSA only
	Legacy RSA = "legacy" // of the legacy listener alone, whose key also decrypts
)

// rsaDir is the hierarchy's directory in the one that Init made.
func rsaDir(dir string, kind RSA) string { return filepath.Join(dir, string(kind)) }

func rsaPurpose(kind RSA) string { return "ca key " + string(kind) + " server" }

// InitRSA makes an RSA hierarchy in dir, which Init made, for servers reached
// by hosts. As with Init the root's key goes to the new file rootOut and
// nowhere else, and the hierarchy is there completely or not at all.
func InitRSA(dir string, kind RSA, rootOut string, hosts []string, secret pki.Secret, now time.Time) (*x509.Certificate, error) {
	names, err := pki.ParseNames(hosts)
	if err != nil {
		return nil, err
	}
	if err := checkPaths(rsaDir(dir, kind), dir, rootOut); err != nil {
		return nil, err
	}
	root, servers, err := pki.NewRSAServers(string(kind), names, now)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(dir, "."+string(kind)+".")
	if err != nil {
		return nil, fmt.Errorf("make %s authority: %w", kind, err)
	}
	defer os.RemoveAll(tmp)
	if err := atomicfile.Write(filepath.Join(tmp, rootFile), pki.EncodeCerts(root.Cert), 0o644); err != nil {
		return nil, fmt.Errorf("make %s authority: %w", kind, err)
	}
	if err := writeAuthority(tmp, servers, secret, rsaPurpose(kind)); err != nil {
		return nil, fmt.Errorf("make %s authority: %w", kind, err)
	}
	if err := writeRootKey(rootOut, root); err != nil {
		return nil, fmt.Errorf("write root key: %w", err)
	}
	if err := publish(tmp, rsaDir(dir, kind)); err != nil {
		return nil, errors.Join(fmt.Errorf("make %s authority: %w", kind, err), os.Remove(rootOut))
	}
	return root.Cert, nil
}

// rsaServers is an open RSA hierarchy.
type rsaServers struct {
	root *x509.Certificate
	ca   *pki.Authority
}

// loadRSA opens the RSA hierarchies that exist.
func (i *Issuer) loadRSA() error {
	for _, kind := range []RSA{Modern, Legacy} {
		dir := rsaDir(i.cfg.Dir, kind)
		root, err := loadCert(filepath.Join(dir, rootFile))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open %s authority: %w", kind, err)
		}
		ca, err := i.loadFrom(dir, pki.Server, rsaPurpose(kind), root)
		if err != nil {
			return fmt.Errorf("open %s authority: %w", kind, err)
		}
		i.rsa[kind] = rsaServers{root, ca}
	}
	return nil
}

// RSARoot returns the root of an RSA hierarchy, nil where there is none.
func (i *Issuer) RSARoot(kind RSA) *x509.Certificate { return i.rsa[kind].root }

// IssueRSAServer is IssueServer of an RSA hierarchy, which has to exist.
func (i *Issuer) IssueRSAServer(ctx context.Context, kind RSA, names pki.Names, lifetime time.Duration) (*tls.Certificate, error) {
	servers, ok := i.rsa[kind]
	if !ok {
		return nil, fmt.Errorf("this hub has no %s authority", kind)
	}
	key, err := pki.NewRSAKey()
	if err != nil {
		return nil, err
	}
	leaf := pki.RSAServerLeaf(names, &key.PublicKey, kind == Legacy, lifetime)
	chain, err := i.issueBy(ctx, servers.ca, leaf, Issued{Lifetime: lifetime, Via: string(kind)})
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: pki.RawChain(chain), PrivateKey: key, Leaf: chain[0]}, nil
}
