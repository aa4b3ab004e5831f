package tlspolicy

import (
	"crypto/tls"
	"slices"
)

// choose returns the certificate that suits what the client offers: the ECDSA
// one wherever it can be used.
func (l Listener) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	first, err := l.Certificate()
	if err != nil || l.RSA == nil || suits(hello, first) {
		return first, err
	}
	second, err := l.RSA()
	if err != nil {
		return nil, err
	}
	if suits(hello, second) {
		return second, nil
	}
	return first, nil // crypto/tls says what is wrong
}

// suits reports whether a certificate can be used with what a client offers.
// The name that it asked for is the client's to check: there is one hub here.
func suits(hello *tls.ClientHelloInfo, cert *tls.Certificate) bool {
	anonymous := *hello
	anonymous.ServerName = ""
	return anonymous.SupportsCertificate(cert) == nil
}

// capped returns a GetConfigForClient that takes TLS 1.3 out for a client that
// offers it without a signature for either certificate: NetX Duo with RSA
// alone, which has no PSS and so only the handshake of TLS 1.2. It offers what
// it cannot do; nobody on the way can make another client seem so, because both
// ends sign for the offer. Verify still decides who may use TLS 1.2.
func capped(cfg *tls.Config) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	twelve := cfg.Clone()
	twelve.MaxVersion = tls.VersionTLS12
	return func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if !slices.Contains(hello.SupportedVersions, tls.VersionTLS12) || slices.ContainsFunc(hello.SignatureSchemes, signs13) {
			return nil, nil
		}
		return twelve, nil
	}
}

// signs13 reports whether a signature scheme is one that our certificates make
// under TLS 1.3.
func signs13(s tls.SignatureScheme) bool {
	return slices.Contains([]tls.SignatureScheme{
		tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512,
	}, s)
}
