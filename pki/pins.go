package pki

import (
	"crypto/x509"
	"time"

	"holdfast/identity"
)

// Pins says what name a self-signed certificate has to have, by the SHA-256 of
// its DER. ok is false where it is nobody's.
type Pins func(certificate identity.Digest) (name identity.Device, ok bool)

// Pin makes t accept self-signed certificates that pins knows, and returns t.
// They are asked for anew each time, so that a pin that is taken back opens
// nothing more. It must be called before t is used.
func (t *Trust) Pin(pins Pins) *Trust {
	t.pins = pins
	return t
}

// selfIssued reports whether a certificate names itself as its issuer.
func selfIssued(cert *x509.Certificate) bool {
	return string(cert.RawIssuer) == string(cert.RawSubject)
}

// pinned judges a self-signed leaf. What it says of itself is nobody's word:
// whose it is was registered, and its name must say the same, because sessions
// go by that name. Whether it calls itself a CA does not matter: common tools
// make all of them CAs. That the peer has its key is the handshake's finding.
func (t *Trust) pinned(leaf *x509.Certificate, now time.Time) (Peer, error) {
	digest := identity.Sum(leaf.Raw)
	device, ok := t.pins(digest)
	if !ok {
		return Peer{}, refuseCert(RuleIssuer, "the self-signed certificate %s is not registered", digest)
	}
	if leaf.Subject.CommonName != string(device) {
		return Peer{}, refuseCert(RuleName, "common name %q, registered for %q", leaf.Subject.CommonName, device)
	}
	if err := checkTime(leaf, now); err != nil {
		return Peer{}, err
	}
	if err := checkMakerUsage(leaf); err != nil {
		return Peer{}, err
	}
	return Peer{
		Class: SelfSigned, Name: leaf.Subject.CommonName, Device: device, Serial: SerialText(leaf),
		NotAfter: leaf.NotAfter, Issued: leaf.NotBefore, Anchor: digest, Certificate: digest,
		Key: identity.Sum(leaf.RawSubjectPublicKeyInfo),
	}, nil
}
