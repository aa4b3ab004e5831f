package tlspolicy_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"holdfast/pki"
	"holdfast/tlspolicy"
)

// What is wrong with a certificate has to reach the hub's log by its name, and
// not end as some error of crypto/tls before our code sees it.
func TestHandshakesAreRefusedByRule(t *testing.T) {
	h := newHub(t)
	caKey := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Pipeworks CA"},
		NotBefore: h.now.Add(-time.Hour), NotAfter: h.now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca = signed(t, ca, ca, caKey.Public(), caKey)
	h.trust = must(pki.NewTrust(pki.Anchor{Class: pki.Maker, Cert: ca}))(t)
	server := must(tlspolicy.DeviceMQTT(h.listener()))(t)
	weak := must(rsa.GenerateKey(rand.Reader, 1024))(t)
	for _, tc := range []struct {
		name  string
		key   crypto.Signer
		spoil func(*x509.Certificate)
		want  pki.Rule
	}{
		{"as it should be", nil, func(*x509.Certificate) {}, ""},
		{"SHA-1", nil, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }, pki.RuleWeakSignature},
		{"RSA-1024", weak, func(*x509.Certificate) {}, pki.RuleWeakKey},
		{"expired", nil, func(c *x509.Certificate) { c.NotAfter = h.now.Add(-time.Second) }, pki.RuleExpired},
		{"not yet valid", nil, func(c *x509.Certificate) { c.NotBefore = h.now.Add(time.Minute) }, pki.RuleNotYet},
		{"wrong usage", nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, pki.RuleUsage},
		{"a CA", nil, func(c *x509.Certificate) { c.IsCA = true }, pki.RuleCA},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key := tc.key
			if key == nil {
				key = must(pki.NewKey())(t)
			}
			tmpl := &x509.Certificate{
				SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "sensor-01"},
				NotBefore: h.now.Add(-time.Minute), NotAfter: h.now.Add(time.Minute), BasicConstraintsValid: true,
			}
			tc.spoil(tmpl)
			cert := &tls.Certificate{Certificate: [][]byte{signed(t, tmpl, ca, key.Public(), caKey).Raw}, PrivateKey: key}
			_, err, clientErr := handshake(t, server, h.client(t, cert))
			if pki.RuleOf(err) != tc.want || (err != nil) != (tc.want != "") || (clientErr != nil) != (tc.want != "") {
				t.Errorf("server: %v, client: %v, want rule %q", err, clientErr, tc.want)
			}
		})
	}
	wrong := newHub(t).operational(t)
	if _, err, _ := handshake(t, server, h.client(t, wrong)); pki.RuleOf(err) != pki.RuleIssuer {
		t.Errorf("wrong intermediate: %v", err)
	}
}

func signed(t testing.TB, tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der := must(x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key))(t)
	return must(x509.ParseCertificate(der))(t)
}

// The limit is crypto/tls with the same certificates, verifying by a pool.
func BenchmarkHandshake(b *testing.B) {
	h := newHub(b)
	policy := must(tlspolicy.DeviceMQTT(h.listener()))(b)
	pool := x509.NewCertPool()
	pool.AddCert(h.ca[pki.Operational].Cert)
	bare := &tls.Config{
		Certificates: []tls.Certificate{*h.server}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}
	client := h.client(b, h.operational(b))
	for name, server := range map[string]*tls.Config{"bare": bare, "policy": policy} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err, _ := handshake(b, server, client); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
