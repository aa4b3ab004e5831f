package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/identity"
)

const (
	maxChain    = 5    // certificates that a peer may present
	maxVerified = 8192 // chains whose signatures a Trust remembers, some 200 bytes each
)

// Anchor is a CA certificate that is trusted to speak for a class: the
// intermediate of one of the hub's own, or a maker's registered CA.
type Anchor struct {
	Class Class
	Cert  *x509.Certificate
}

// Trust decides who a peer is from the certificate it presents. It holds
// exactly the anchors of one listener and never changes; it is safe for
// concurrent use. Signatures that verified once are remembered, so asking
// again about the same chain, in a handler or on reconnection, costs a hash;
// validity is judged anew each time.
type Trust struct {
	anchors []anchor
	pins    Pins
	naming  Naming

	mu       sync.Mutex
	verified map[[sha256.Size]byte]verdict
}

type anchor struct {
	Anchor
	pool *x509.CertPool
}

// verdict is what a chain proved, and the time in which all of it is valid.
type verdict struct {
	peer                Peer
	notBefore, notAfter time.Time
}

// Peer is who a verified certificate speaks for.
type Peer struct {
	Class    Class
	Name     string          // the CN: the device's id, or the operator's name
	Device   identity.Device // the CN, or as the Naming of the Trust says; empty for operators
	Key      identity.Digest // of the public key, as identity.KeyDigest
	Serial   string          // as SerialText
	NotAfter time.Time       // when the certificate ends
	Issued   time.Time       // its notBefore
	Anchor   identity.Digest // SHA-256 of the DER of the anchor it chains to: which maker's CA; itself where self-signed

	Certificate identity.Digest // SHA-256 of the DER of the certificate itself
}

// NewTrust makes a Trust of anchors; server certificates are not a peer's.
func NewTrust(anchors ...Anchor) (*Trust, error) {
	t := &Trust{verified: make(map[[sha256.Size]byte]verdict)}
	for _, a := range anchors {
		if !slices.Contains([]Class{Birth, Operational, Operator, Maker}, a.Class) || a.Cert == nil {
			return nil, fmt.Errorf("anchor of class %q", a.Class)
		}
		pool := x509.NewCertPool()
		pool.AddCert(a.Cert)
		t.anchors = append(t.anchors, anchor{a, pool})
	}
	return t, nil
}

// verify is Verify but for the Naming.
func (t *Trust) verify(chain []*x509.Certificate, now time.Time) (Peer, error) {
	if len(chain) == 0 {
		return Peer{}, refuseCert(RuleNone, "the peer presented none")
	}
	if len(chain) > maxChain {
		return Peer{}, refuseCert(RuleChain, "%d certificates, at most %d are read", len(chain), maxChain)
	}
	key := chainKey(chain)
	if v, ok := t.recall(key); ok && !now.Before(v.notBefore) && !now.After(v.notAfter) {
		return v.peer, nil
	}
	for _, cert := range chain {
		if err := checkStrength(cert); err != nil {
			return Peer{}, err
		}
	}
	if selfIssued(chain[0]) && t.pins != nil {
		return t.pinned(chain[0], now)
	}
	err := refuseCert(RuleIssuer, "issuer %q is not trusted here", chain[0].Issuer.CommonName)
	for _, a := range t.anchors {
		if !mentions(chain, a.Cert) {
			continue
		}
		var v verdict
		if v, err = a.verify(chain, now); err == nil {
			t.remember(key, v)
			return v.peer, nil
		}
	}
	return Peer{}, err
}

// mentions reports whether some certificate of chain names ca as its issuer.
func mentions(chain []*x509.Certificate, ca *x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
		return string(c.RawIssuer) == string(ca.RawSubject)
	})
}

func chainKey(chain []*x509.Certificate) [sha256.Size]byte {
	h := sha256.New()
	for _, cert := range chain {
		h.Write(cert.Raw) // DER says its own length
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (t *Trust) recall(key [sha256.Size]byte) (verdict, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.verified[key]
	return v, ok
}

func (t *Trust) remember(key [sha256.Size]byte, v verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.verified) >= maxVerified {
		clear(t.verified)
	}
	t.verified[key] = v
}

// verify checks the leaf's own properties first, by name, and then lets the
// X.509 verifier judge the whole path: nothing passes that it refuses.
func (a anchor) verify(chain []*x509.Certificate, now time.Time) (verdict, error) {
	leaf := chain[0]
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	for _, cert := range append(slices.Clone(chain), a.Cert) {
		if err := checkTime(cert, now); err != nil {
			return verdict{}, err
		}
	}
	if err := checkUsage(leaf, a.Class); err != nil {
		return verdict{}, err
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.pool, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return verdict{}, verifierRefusal(err)
	}
	return a.verdict(paths[0])
}

func checkTime(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(cert.NotBefore):
		return refuseCert(RuleNotYet, "%q begins %s, now is %s", cert.Subject.CommonName,
			cert.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return refuseCert(RuleExpired, "%q ended %s, now is %s", cert.Subject.CommonName,
			cert.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkUsage checks what a leaf of the class may be used for. Makers' leaves
// may lack the extensions (RFC 5280: unrestricted), ours have them all.
func checkUsage(leaf *x509.Certificate, class Class) error {
	if leaf.IsCA {
		return refuseCert(RuleCA, "%q is a CA", leaf.Subject.CommonName)
	}
	if class == Maker {
		return checkMakerUsage(leaf)
	}
	usages := leaf.ExtKeyUsage
	if !slices.Equal(usages, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || len(leaf.UnknownExtKeyUsage) > 0 {
		return refuseCert(RuleUsage, "%q is not for clientAuth alone", leaf.Subject.CommonName)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		return refuseCert(RuleKeyUsage, "%q is not for signatures alone", leaf.Subject.CommonName)
	}
	if !hasPolicy(leaf, class) {
		return refuseCert(RulePolicy, "%q does not carry the %s policy", leaf.Subject.CommonName, class)
	}
	return nil
}

// checkMakerUsage checks what a leaf that is not ours may be used for.
func checkMakerUsage(leaf *x509.Certificate) error {
	usages, absent := leaf.ExtKeyUsage, len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0
	if !absent && !slices.Contains(usages, x509.ExtKeyUsageClientAuth) && !slices.Contains(usages, x509.ExtKeyUsageAny) {
		return refuseCert(RuleUsage, "%q is not for clientAuth", leaf.Subject.CommonName)
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return refuseCert(RuleKeyUsage, "%q is not for signatures", leaf.Subject.CommonName)
	}
	return nil
}

// verifierRefusal gives the X.509 verifier's errors the names of our rules.
func verifierRefusal(err error) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	rule := RuleChain
	switch {
	case errors.As(err, &unknown):
		rule = RuleIssuer // the names fit, the signature does not
	case !errors.As(err, &invalid):
	case invalid.Reason == x509.IncompatibleUsage || invalid.Reason == x509.CANotAuthorizedForExtKeyUsage:
		rule = RuleUsage
	case invalid.Reason == x509.CANotAuthorizedForThisName:
		rule = RuleName
	case invalid.Reason == x509.NotAuthorizedToSign:
		rule = RuleCA
	}
	return refuseCert(rule, "%v", err)
}

// verdict reads who the leaf of a verified path, anchor last, speaks for.
func (a anchor) verdict(path []*x509.Certificate) (verdict, error) {
	leaf := path[0]
	peer := Peer{
		Class: a.Class, Name: leaf.Subject.CommonName, Serial: SerialText(leaf),
		NotAfter: leaf.NotAfter, Issued: leaf.NotBefore, Anchor: identity.Sum(a.Cert.Raw),
		Key: identity.Sum(leaf.RawSubjectPublicKeyInfo), Certificate: identity.Sum(leaf.Raw),
	}
	if _, err := identity.ParseDevice(peer.Name); err != nil {
		return verdict{}, refuseCert(RuleName, "common name: %v", err)
	}
	if a.Class != Operator {
		peer.Device = identity.Device(peer.Name)
	}
	if err := checkURN(leaf, a.Class); err != nil {
		return verdict{}, err
	}
	v := verdict{peer: peer, notBefore: leaf.NotBefore, notAfter: leaf.NotAfter}
	for _, cert := range path {
		v.notBefore = latest(v.notBefore, cert.NotBefore)
		v.notAfter = earliest(v.notAfter, cert.NotAfter)
	}
	return v, nil
}

// checkURN demands of our own leaves the one name that says the same as the
// CN. This is also their name constraint: see NewIntermediate.
func checkURN(leaf *x509.Certificate, class Class) error {
	if class == Maker {
		return nil
	}
	others := len(leaf.DNSNames) + len(leaf.IPAddresses) + len(leaf.EmailAddresses)
	if want := class.URN(leaf.Subject.CommonName); len(leaf.URIs) != 1 || others > 0 || leaf.URIs[0].String() != want {
		return refuseCert(RuleName, "alternative names are not %q alone", want)
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// CheckMakerCA refuses what cannot be registered as a maker's CA: a
// certificate that is no CA, is weak, or is not valid now.
func CheckMakerCA(cert *x509.Certificate, now time.Time) error {
	if err := checkStrength(cert); err != nil {
		return err
	}
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return refuseCert(RuleCA, "%q is not a CA", cert.Subject.CommonName)
	}
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return refuseCert(RuleKeyUsage, "%q is not for signing certificates", cert.Subject.CommonName)
	}
	return checkTime(cert, now)
}

// CheckServer refuses a verified server chain, the leaf first, whose leaf is
// not of the class Server: what a device asks of its hub beyond the X.509 path
// and the host name.
func CheckServer(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return refuseCert(RuleNone, "the hub presented none")
	}
	if err := checkStrength(chain[0]); err != nil {
		return err
	}
	if !hasPolicy(chain[0], Server) {
		return refuseCert(RulePolicy, "%q does not carry the server policy", chain[0].Subject.CommonName)
	}
	return nil
}
