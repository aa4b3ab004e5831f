package checks

import (
	"bytes"
	"crypto/dsa" //lint:ignore SA1019 a weak key has to be known to be told of
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

func certificateRules() []Rule {
	const (
		x509s   = "Use X.509 certificates for TLS authentication"
		manage  = "Certificate management"
		strong  = "Use approved cryptographic routines with strong key sizes"
		avoided = "Security measures to avoid"
	)
	return []Rule{{
		ID: "CRT-SELF-01", Measure: measure.ProtocolX509, Bullets: []string{"avoid.self-signed"}, Severity: finding.High, Confidence: finding.Firm,
		Title: "a self-signed certificate that is no authority's", Why: "Nobody vouches for it, nobody can revoke it, and who trusts it trusts a copy of it.", Section: avoided, CWE: []string{"CWE-295", "CWE-296"},
		Fix: "Have the device's certificate issued by a PKI.", Bad: "subject = issuer = CN=device", Good: "subject CN=device, issuer CN=Devices CA", Judge: eachCertificate(judgeSelfSigned, "no certificate is self-signed but authorities'"),
	}, {
		ID: "CRT-WEAK-01", Measure: measure.CryptoAlgorithms, Bullets: []string{"take.cipher-suites.every-cipher"}, Severity: finding.High, Confidence: finding.Certain,
		Title: "a certificate has a weak key or signature", Why: "Its key can be computed, or another certificate made to its signature.", Section: strong, CWE: []string{"CWE-326", "CWE-327"},
		Fix: "Use RSA of 2048 bits or more, or P-256, and SHA-256.", Bad: "RSA 1024, sha1WithRSAEncryption", Good: "P-256, ecdsa-with-SHA256", Judge: eachCertificate(judgeWeakCertificate, "every certificate has a strong key and signature"),
	}, {
		ID: "CRT-DATE-01", Measure: measure.IdentityCertificates, Bullets: []string{"take.real-time-clock"}, Severity: finding.High, Confidence: finding.Certain,
		Title: "a certificate has expired", Why: "The device cannot connect, or does not check dates.", Section: manage, CWE: []string{"CWE-298", "CWE-324"},
		Fix: "Ship the current certificates, and a way to renew them without an update.", Bad: "not after: last year", Good: "not after: in ten years", Judge: judgeDates,
	}, {
		ID: "CRT-DEVICE-01", Measure: measure.CredentialsRenewable, Bullets: []string{"avoid.hard-coded-credentials"}, Severity: finding.Medium, Confidence: finding.Guess,
		Title: "the certificate of one end is in the image", Why: "A device's certificate in the image is the same on every device and dies with its date; so does a server's that is pinned.", Section: avoided, CWE: []string{"CWE-798"},
		Fix: "Keep the device's certificate outside of the image, and the root that the server's leads to inside.", Bad: "a certificate that is no authority's", Good: "a root", Judge: eachCertificate(judgeEndCertificate, "the certificates in the input are authorities'"),
	}}
}

// certificate is a certificate that was found.
type certificate struct {
	*x509.Certificate
	at finding.Location
	in area
}

// certificates calls f with each certificate of a subject, once for each file,
// and reports whether any block that claims to be one could not be read.
func certificates(s *subject.Subject, f func(certificate)) (unreadable int) {
	seen := map[[32]byte]bool{}
	add := func(a area, at int, der []byte) bool {
		sum := sha256.Sum256(fmt.Append(nil, a.File, "\x00", string(der)))
		if seen[sum] {
			return true
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return false
		}
		seen[sum] = true
		f(certificate{c, a.at(at), a})
		return true
	}
	areas(s, func(a area) {
		blocks(a.Data, func(b block) {
			if (b.kind == "CERTIFICATE" || b.kind == "TRUSTED CERTIFICATE") && len(b.der) > 0 && !add(a, b.at, b.der) {
				unreadable++
			}
		})
		const most = 5000 // things that begin as certificates do
		tries := 0
		each(a.Data, "\x30\x82", func(at int) {
			b := a.Data[at:]
			n := length(b)
			if n < 200 || n > 16<<10 || tries > most || !bytes.HasPrefix(b[4:], []byte{0x30, 0x82}) && !bytes.HasPrefix(b[4:], []byte{0x30, 0x81}) {
				return
			}
			tries++
			add(a, at, b[:n])
		})
	})
	return unreadable
}

// selfIssued reports whether a certificate is its own issuer's.
func selfIssued(c certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && (len(c.AuthorityKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId))
}

// authority reports whether a certificate may sign others. Of versions 1 and 2,
// which cannot say so, the self-issued ones are roots.
func authority(c certificate) bool {
	return c.IsCA || c.Version < 3 && selfIssued(c)
}

// called names a certificate by its subject.
func called(c certificate) string {
	name := c.Subject.CommonName
	if name == "" {
		name = c.Subject.String()
	}
	return fmt.Sprintf("%.64q", name)
}

func eachCertificate(judge func(certificate, *Ruling), good string) func(*subject.Subject, *Ruling) {
	return func(s *subject.Subject, r *Ruling) {
		n := 0
		bad := certificates(s, func(c certificate) {
			n++
			judge(c, r)
		})
		switch {
		case bad > 0:
			r.Unknown("%d certificates could not be read", bad)
		case n == 0:
			r.Idle("no certificate is in the input")
		default:
			r.Pass("%s (%d)", good, n)
		}
	}
}

func judgeSelfSigned(c certificate, r *Ruling) {
	if selfIssued(c) && !authority(c) {
		r.Found(c.at, "the certificate of %s is self-signed and no authority's", called(c))
	}
}

func judgeWeakCertificate(c certificate, r *Ruling) {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 {
			r.Found(c.at, "the certificate of %s has an RSA key of %d bits", called(c), bits)
		}
	case *ecdsa.PublicKey:
		if bits := k.Curve.Params().BitSize; bits < 256 {
			r.Found(c.at, "the certificate of %s has a key on a curve of %d bits", called(c), bits)
		}
	case *dsa.PublicKey:
		r.Found(c.at, "the certificate of %s has a DSA key", called(c))
	case nil:
		r.Unknown("the key of the certificate of %s is of a kind that is not known", called(c))
	}
	if selfIssued(c) {
		return // nobody goes by the signature of a root
	}
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		r.Found(c.at, "the certificate of %s is signed with %s", called(c), c.SignatureAlgorithm)
	}
}

func judgeDates(s *subject.Subject, r *Ruling) {
	now := s.Declared.Now
	eachCertificate(func(c certificate, r *Ruling) {
		switch {
		case now.IsZero():
			r.Unknown("what the time is was not said")
		case now.After(c.NotAfter):
			r.Found(c.at, "the certificate of %s has expired on %s", called(c), c.NotAfter.UTC().Format(time.DateOnly))
		case now.Before(c.NotBefore):
			r.FoundAs(finding.Low, finding.Certain, c.at, "the certificate of %s is not valid before %s", called(c), c.NotBefore.UTC().Format(time.DateOnly))
		case now.AddDate(0, 0, 90).After(c.NotAfter):
			r.FoundAs(finding.Medium, finding.Certain, c.at, "the certificate of %s expires on %s", called(c), c.NotAfter.UTC().Format(time.DateOnly))
		}
	}, "every certificate is within its dates")(s, r)
}

// judgeEndCertificate asks programs and images alone: a certificate in a file
// beside them is not in what all devices have.
func judgeEndCertificate(c certificate, r *Ruling) {
	if !authority(c) && (c.in.program != nil || c.in.Address >= 0) {
		r.Found(c.at, "the certificate of %s, which is no authority's, is in the image", called(c))
	}
}
