package pki

import (
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"time"
)

// NewChallenge returns 260 random bits as text that fits a common name: what
// the holder of a CA's key certifies to show that it has it.
func NewChallenge() string { return rand.Text() + rand.Text() }

// CheckProof refuses a proof that somebody holds the key of ca: the proof is a
// certificate, valid now, that ca signed and whose common name is the
// challenge.
func CheckProof(proof, ca *x509.Certificate, challenge string, now time.Time) error {
	if err := checkStrength(proof); err != nil {
		return err
	}
	if challenge == "" || subtle.ConstantTimeCompare([]byte(proof.Subject.CommonName), []byte(challenge)) != 1 {
		return refuseCert(RuleName, "common name %q is not the challenge", proof.Subject.CommonName)
	}
	if string(proof.RawIssuer) != string(ca.RawSubject) {
		return refuseCert(RuleIssuer, "issuer is %q, want %q", proof.Issuer.CommonName, ca.Subject.CommonName)
	}
	if err := ca.CheckSignature(proof.SignatureAlgorithm, proof.RawTBSCertificate, proof.Signature); err != nil {
		return refuseCert(RuleSignature, "not signed by %q: %v", ca.Subject.CommonName, err)
	}
	return checkTime(proof, now)
}
