package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
)

// MinRSA is the smallest RSA modulus in bits that a maker's certificate may
// have. Certificates of our own have ECDSA keys.
const MinRSA = 2048

// maxRSA bounds what one signature check may cost us.
const maxRSA = 4096

// checkKey accepts ECDSA on P-256 and P-384: what we certify.
func checkKey(pub crypto.PublicKey) error {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return refuseCSR(RuleKeyType, "key is %T, want ECDSA", pub)
	}
	if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
		return refuseCSR(RuleKeySize, "key is on %s, want P-256 or P-384", key.Curve.Params().Name)
	}
	return nil
}

// checkStrength refuses keys and signatures that are too weak to mean
// anything, each by its name. The signature of a self-issued certificate says
// nothing to anybody and is not judged.
func checkStrength(cert *x509.Certificate) error {
	if weakSignature(cert.SignatureAlgorithm) && string(cert.RawIssuer) != string(cert.RawSubject) {
		return refuseCert(RuleWeakSignature, "%q is signed with %s", cert.Subject.CommonName, cert.SignatureAlgorithm)
	}
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve.Params().BitSize >= 256 {
			return nil
		}
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n >= MinRSA && n <= maxRSA {
			return nil
		}
	default:
		if cert.PublicKeyAlgorithm == x509.Ed25519 {
			return nil
		}
	}
	return refuseCert(RuleWeakKey, "%q has the key %s", cert.Subject.CommonName, KeyText(cert.PublicKey))
}

func weakSignature(a x509.SignatureAlgorithm) bool {
	return !slices.Contains([]x509.SignatureAlgorithm{
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
		x509.PureEd25519,
	}, a)
}

// KeyText describes a public key: "ECDSA P-256", "RSA 2048".
func KeyText(pub crypto.PublicKey) string {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case nil:
		return "of an unknown kind"
	}
	return fmt.Sprintf("%T", pub)
}

// StrongCertificate reports, by rule, whether key and signature of a
// certificate satisfy the algorithm policy: RSA of 2048 to 4096 bits, ECDSA
// on P-256 or larger, Ed25519; SHA-256 or better.
func StrongCertificate(cert *x509.Certificate) error { return checkStrength(cert) }
