package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"holdfast/identity"
)

// Leaf says what a leaf certificate is to be; one of the functions below makes
// it. Every leaf has KU digitalSignature, the extended key usage and the
// policy of its class, and names of its own kind only.
type Leaf struct {
	class    Class
	key      crypto.PublicKey
	cn, uri  string
	names    Names
	lifetime time.Duration // 0: without end
	rsa      bool          // key is RSA
	exchange bool          // and may decrypt
}

// BirthLeaf is an IDevID: it does not end (IEEE 802.1AR section 8.7).
func BirthLeaf(id identity.Device, key crypto.PublicKey) Leaf {
	return Leaf{class: Birth, key: key, cn: string(id), uri: string(id)}
}

// OperationalLeaf is an LDevID that ends after lifetime.
func OperationalLeaf(id identity.Device, key crypto.PublicKey, lifetime time.Duration) Leaf {
	return Leaf{class: Operational, key: key, cn: string(id), uri: string(id), lifetime: lifetime}
}

// ServerLeaf is a certificate of the hub. The first name is the CN too, for
// the devices that look nowhere else. An address is not: OpenSSL takes one for
// a DNS name, which the authority's constraints then exclude.
func ServerLeaf(names Names, key crypto.PublicKey, lifetime time.Duration) Leaf {
	l := Leaf{class: Server, key: key, names: names, lifetime: lifetime}
	switch {
	case len(names.DNS) > 0:
		l.cn = names.DNS[0]
	case len(names.IPs) > 0:
		l.cn = "Holdfast hub" // the space keeps it from looking like a name
	}
	return l
}

// OperatorLeaf is a certificate of an operator, whose name has the alphabet of
// device ids.
func OperatorLeaf(operator string, key crypto.PublicKey, lifetime time.Duration) Leaf {
	return Leaf{class: Operator, key: key, cn: operator, uri: operator, lifetime: lifetime}
}

// kind is the word for the class's subjects in their URNs.
func (c Class) kind() string {
	if c == Operator {
		return "operator"
	}
	return "device"
}

// URN returns the name in a device's or operator's certificate:
// urn:holdfast:device:ID or urn:holdfast:operator:NAME.
func (c Class) URN(id string) string { return urn(c.kind(), id).String() }

func (l Leaf) template(now time.Time) (*x509.Certificate, error) {
	policy, err := l.class.Policy()
	if err != nil {
		return nil, err
	}
	if l.lifetime <= 0 && l.class != Birth {
		return nil, fmt.Errorf("%s certificate for %q: lifetime %s", l.class, l.cn, l.lifetime)
	}
	if err := l.checkOwnKey(); err != nil {
		return nil, fmt.Errorf("%s certificate for %q: %w", l.class, l.cn, err)
	}
	t := &x509.Certificate{
		Subject:               name(l.cn),
		NotAfter:              Forever,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{l.class.usage()},
		Policies:              []x509.OID{policy},
		BasicConstraintsValid: true,
	}
	if l.exchange {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	if l.lifetime > 0 {
		t.NotAfter = now.Add(l.lifetime)
	}
	return t, l.nameInto(t)
}

func (l Leaf) nameInto(t *x509.Certificate) error {
	if l.class != Server {
		if _, err := identity.ParseDevice(l.uri); err != nil {
			return fmt.Errorf("%s certificate: %w", l.class, err)
		}
		t.URIs = append(t.URIs, urn(l.class.kind(), l.uri))
		return nil
	}
	t.DNSNames = l.names.DNS
	for _, ip := range l.names.IPs {
		t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
	}
	if l.cn == "" {
		return fmt.Errorf("server certificate without a name")
	}
	return nil
}
