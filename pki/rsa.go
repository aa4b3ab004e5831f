package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"

	"holdfast/identity"
)

// The sizes of our own RSA keys in bits. An authority lives for decades, a
// leaf for a month; together they stay far below the 4 KiB that the smallest
// ThreadX boards have for a Certificate message.
const (
	rsaAuthority = 3072
	rsaLeaf      = 2048
)

// NewRSAKey makes the key of an RSA server certificate.
func NewRSAKey() (*rsa.PrivateKey, error) { return newRSAKey(rsaLeaf) }

func newRSAKey(bits int) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("make RSA key: %w", err)
	}
	return key, nil
}

// NewRSAServers makes an RSA root and the one intermediate below it, which may
// issue server certificates for names and nothing else: what clients trust
// that cannot verify ECDSA. It has nothing to do with the hub's own root, which
// never signs for it. kind, as "RSA", tells the names of several apart.
func NewRSAServers(kind string, names Names, now time.Time) (root, servers *Authority, err error) {
	rootKey, err := newRSAKey(rsaAuthority)
	if err != nil {
		return nil, nil, err
	}
	key, err := newRSAKey(rsaAuthority)
	if err != nil {
		return nil, nil, err
	}
	digest, err := identity.KeyDigest(rootKey.Public())
	if err != nil {
		return nil, nil, err
	}
	tmpl := rootTemplate(fmt.Sprintf("Holdfast %s root %s", kind, digest.String()[:8]), now)
	rootCert, err := sign(tmpl, tmpl, rootKey.Public(), rootKey)
	if err != nil {
		return nil, nil, fmt.Errorf("make %s root: %w", kind, err)
	}
	t, err := intermediateTemplate(Server, fmt.Sprintf("Holdfast %s server CA %s", kind, digest.String()[:8]), rootCert, now)
	if err != nil {
		return nil, nil, err
	}
	constrain(t, names)
	cert, err := sign(t, rootCert, key.Public(), rootKey)
	if err != nil {
		return nil, nil, fmt.Errorf("make %s server intermediate: %w", kind, err)
	}
	return &Authority{Cert: rootCert, Key: rootKey}, &Authority{Class: Server, Cert: cert, Key: key}, nil
}

// RSAServerLeaf is ServerLeaf with an RSA key. exchange lets the key decrypt
// as well (KU keyEncipherment): for a listener whose clients know no other key
// exchange than RSA, and whose key is used nowhere else.
func RSAServerLeaf(names Names, key *rsa.PublicKey, exchange bool, lifetime time.Duration) Leaf {
	l := ServerLeaf(names, key, lifetime)
	l.rsa, l.exchange = true, exchange
	return l
}

// checkOwnKey accepts what a certificate of ours may have for a key.
func (l Leaf) checkOwnKey() error {
	if !l.rsa {
		return checkKey(l.key)
	}
	key, ok := l.key.(*rsa.PublicKey)
	if !ok || key == nil || key.N.BitLen() < MinRSA || key.N.BitLen() > maxRSA {
		return fmt.Errorf("key is %s, want RSA of %d to %d bits", KeyText(l.key), MinRSA, maxRSA)
	}
	return nil
}

// signsFor reports whether an authority's key is of the kind that a leaf is
// verified with: an ECDSA authority vouches for no RSA key, nor the reverse.
func (a *Authority) signsFor(l Leaf) bool {
	switch a.Key.(type) {
	case *rsa.PrivateKey:
		return l.rsa
	case *ecdsa.PrivateKey:
		return !l.rsa
	}
	return true // a key in some device: its kind is not known here
}

// SamePublicKey reports whether a certificate is of that key.
func SamePublicKey(cert *x509.Certificate, pub crypto.PublicKey) bool {
	key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(pub)
}
