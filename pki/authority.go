package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"time"

	"holdfast/identity"
)

const (
	// RootLifetime keeps the root's end before 2050, in the UTCTime form and
	// within 32-bit clocks: small devices check it. A new root is rolled out
	// before then, by a bundle signed with the old one.
	RootLifetime = 20 * 365 * 24 * time.Hour
	// IntermediateLifetime is that of all intermediates but birth's.
	IntermediateLifetime = 10 * 365 * 24 * time.Hour
	// Backdate is how far notBefore lies in the past, so that a device whose
	// clock is a little slow can use its certificate at once.
	Backdate = 5 * time.Minute
)

// Forever is the notAfter of a certificate without a well-defined end: RFC
// 5280 section 4.1.2.5, as IEEE 802.1AR section 8.7 wants it for IDevIDs.
var Forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Names are what a hub is called: DNS names and IP addresses.
type Names struct {
	DNS []string
	IPs []netip.Addr
}

// ParseNames sorts hosts into DNS names and IP addresses.
func ParseNames(hosts []string) (Names, error) {
	var n Names
	for _, h := range hosts {
		if ip, err := netip.ParseAddr(h); err == nil {
			n.IPs = append(n.IPs, ip.Unmap())
			continue
		}
		if err := checkHost(h); err != nil {
			return Names{}, err
		}
		n.DNS = append(n.DNS, h)
	}
	if len(hosts) == 0 {
		return Names{}, fmt.Errorf("a hub needs at least one host name or address")
	}
	return n, nil
}

// checkHost accepts a plain host name (RFC 1123 section 2.1): no wildcard.
func checkHost(h string) error {
	if h == "" || len(h) > 253 {
		return fmt.Errorf("host name %q: want 1 to 253 bytes", h)
	}
	last := byte('.')
	for i := range len(h) {
		c := h[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '-' && c != '.' || (c == '.' || c == '-') && last == '.' {
			return fmt.Errorf("host name %q: byte %d is not allowed", h, i)
		}
		last = c
	}
	if last == '.' || last == '-' {
		return fmt.Errorf("host name %q: ends with %q", h, last)
	}
	return nil
}

// Authority is a CA certificate with its key. The root's Class is empty.
type Authority struct {
	Class Class
	Cert  *x509.Certificate
	Key   crypto.Signer

	// CRL is the URL of the authority's revocation list, put into what it
	// issues. Empty: no distribution point.
	CRL string
}

// NewKey makes an ECDSA P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// NewRoot makes a self-signed root with a new key. Its name ends in eight
// digits of the key's digest: devices that trust several hubs compare names.
func NewRoot(now time.Time) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	digest, err := identity.KeyDigest(key.Public())
	if err != nil {
		return nil, err
	}
	t := rootTemplate("Holdfast root "+digest.String()[:8], now)
	cert, err := sign(t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	return &Authority{Cert: cert, Key: key}, nil
}

func rootTemplate(cn string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:   name(cn),
		NotBefore: now.Add(-Backdate),
		NotAfter:  now.Add(RootLifetime),
		KeyUsage:  x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:      true, BasicConstraintsValid: true,
		MaxPathLen: 1,
	}
}

// NewIntermediate makes the intermediate of a class with a new key, signed by
// the root a. A server intermediate may only issue for names and for what lies
// below its DNS names; for the other classes names is ignored. (A constraint
// on the URIs of device certificates is not possible: verifiers match URI
// constraints by host, and a URN has none.)
func (a *Authority) NewIntermediate(class Class, names Names, now time.Time) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	digest, err := identity.KeyDigest(a.Cert.PublicKey)
	if err != nil {
		return nil, err
	}
	t, err := intermediateTemplate(class, fmt.Sprintf("Holdfast %s CA %s", class, digest.String()[:8]), a.Cert, now)
	if err != nil {
		return nil, err
	}
	if class == Birth {
		t.NotAfter = Forever // the anchor of certificates that do not end
	}
	if class == Server {
		constrain(t, names)
	}
	cert, err := sign(t, a.Cert, key.Public(), a.Key)
	if err != nil {
		return nil, fmt.Errorf("make %s intermediate: %w", class, err)
	}
	return &Authority{Class: class, Cert: cert, Key: key}, nil
}

func intermediateTemplate(class Class, cn string, root *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	policy, err := class.Policy()
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		Subject:   name(cn),
		NotBefore: notBefore(now, root),
		NotAfter:  now.Add(IntermediateLifetime),
		KeyUsage:  x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:      true, BasicConstraintsValid: true,
		MaxPathLenZero: true,
		ExtKeyUsage:    []x509.ExtKeyUsage{class.usage()},
		Policies:       []x509.OID{policy},
	}, nil
}

// constrain binds a CA to names. A kind of name that does not occur in names
// is excluded altogether: without that, it would be unconstrained.
//
// The constraints are not critical, against RFC 5280 section 4.2.1.10: Mbed TLS
// and other libraries of small devices refuse every certificate with a critical
// extension that they do not know, and this is one. Those that know it obey it
// either way (section 4.2), ours among them.
func constrain(t *x509.Certificate, names Names) {
	t.PermittedDNSDomains = names.DNS
	if len(names.DNS) == 0 {
		t.ExcludedDNSDomains = []string{""}
	}
	for _, ip := range names.IPs {
		r := elementOf(t.PermittedIPRanges)
		r.IP, r.Mask = ip.AsSlice(), bytes.Repeat([]byte{0xff}, ip.BitLen()/8)
		t.PermittedIPRanges = append(t.PermittedIPRanges, r)
	}
	if len(names.IPs) == 0 {
		for _, size := range []int{4, 16} {
			r := elementOf(t.ExcludedIPRanges)
			r.IP, r.Mask = make([]byte, size), make([]byte, size)
			t.ExcludedIPRanges = append(t.ExcludedIPRanges, r)
		}
	}
}

// elementOf makes an element for a list of pointers: a net.IPNet here, whose
// package a rule does not import.
func elementOf[T any](_ []*T) *T { return new(T) }

// Issue signs a leaf. notBefore lies Backdate in the past, notAfter never
// after the authority's own.
func (a *Authority) Issue(leaf Leaf, now time.Time) (*x509.Certificate, error) {
	if leaf.class != a.Class || a.Class == "" {
		return nil, fmt.Errorf("%s authority asked for a %s certificate", a.Class, leaf.class)
	}
	if !a.signsFor(leaf) {
		return nil, fmt.Errorf("%s authority with a key of another kind than %s", a.Class, KeyText(leaf.key))
	}
	t, err := leaf.template(now)
	if err != nil {
		return nil, err
	}
	t.NotBefore = notBefore(now, a.Cert)
	if t.NotAfter.After(a.Cert.NotAfter) {
		t.NotAfter = a.Cert.NotAfter
	}
	if a.CRL != "" {
		t.CRLDistributionPoints = []string{a.CRL}
	}
	cert, err := sign(t, a.Cert, leaf.key, a.Key)
	if err != nil {
		return nil, fmt.Errorf("issue %s certificate: %w", a.Class, err)
	}
	return cert, nil
}

func sign(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	t.SubjectKeyId = keyID(pub)
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newSerial returns 128 random bits as a positive number (RFC 5280 section
// 4.1.2.2 allows 20 octets).
func newSerial() (*big.Int, error) {
	for {
		b := make([]byte, 16)
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("make serial number: %w", err)
		}
		if n := new(big.Int).SetBytes(b); n.Sign() > 0 {
			return n, nil
		}
	}
}

// keyID is RFC 7093's method 1: the leftmost 160 bits of the SHA-256 of the
// key. (The usual method is SHA-1, which nothing here computes.)
func keyID(pub crypto.PublicKey) []byte {
	digest, err := identity.KeyDigest(pub)
	if err != nil {
		return nil // x509 refuses the key itself, with the reason
	}
	return digest[:20]
}

func notBefore(now time.Time, ca *x509.Certificate) time.Time {
	if t := now.Add(-Backdate); t.After(ca.NotBefore) {
		return t
	}
	return ca.NotBefore
}

func name(cn string) pkix.Name { return pkix.Name{CommonName: cn} }

// SerialText is how a certificate's serial number is written: lower-case
// hexadecimal.
func SerialText(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

func urn(kind, id string) *url.URL {
	return &url.URL{Scheme: "urn", Opaque: "holdfast:" + kind + ":" + id}
}
