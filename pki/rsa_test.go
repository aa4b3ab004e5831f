package pki_test

import (
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"time"

	"holdfast/pki"
)

func rsaKey(t testing.TB) *rsa.PrivateKey { return must(pki.NewRSAKey())(t) }

func TestRSAServers(t *testing.T) {
	names := must(pki.ParseNames([]string{"hub.example", "192.0.2.7"}))(t)
	root, servers, err := pki.NewRSAServers("legacy", names, now)
	if err != nil {
		t.Fatal(err)
	}
	key := rsaKey(t)
	leaf := must(servers.Issue(pki.RSAServerLeaf(names, &key.PublicKey, true, time.Hour), now))(t)
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
		t.Errorf("key usage %b", leaf.KeyUsage)
	}
	if leaf.Subject.CommonName != "hub.example" || leaf.SignatureAlgorithm != x509.SHA256WithRSA {
		t.Errorf("leaf %s, signed with %s", leaf.Subject, leaf.SignatureAlgorithm)
	}
	if n := len(leaf.Raw) + len(servers.Cert.Raw); n > 3500 {
		t.Errorf("chain has %d bytes", n)
	}
	if root.Cert.Subject.CommonName == servers.Cert.Subject.CommonName {
		t.Error("root and intermediate share a name, and some devices compare nothing else")
	}
	for _, e := range servers.Cert.Extensions {
		if e.Critical && e.Id.String() != "2.5.29.15" && e.Id.String() != "2.5.29.19" {
			t.Errorf("extension %s of the intermediate is critical", e.Id)
		}
	}
	if err := verifyServer(leaf, root, servers, "hub.example"); err != nil {
		t.Error(err)
	}
	if err := pki.CheckServer([]*x509.Certificate{leaf, servers.Cert}); err != nil {
		t.Error(err)
	}
	other := must(pki.ParseNames([]string{"hub.other"}))(t)
	stray := must(servers.Issue(pki.RSAServerLeaf(other, &key.PublicKey, false, time.Hour), now))(t)
	if verifyServer(stray, root, servers, "hub.other") == nil {
		t.Error("name constraints are not kept")
	}
}

func verifyServer(leaf *x509.Certificate, root, ca *pki.Authority, name string) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.Cert)
	between.AddCert(ca.Cert)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name, CurrentTime: now})
	return err
}

// Neither hierarchy vouches for keys of the other's kind.
func TestKindsOfKeysDoNotMix(t *testing.T) {
	w := newWorld(t)
	names := must(pki.ParseNames([]string{"hub.example"}))(t)
	_, servers, err := pki.NewRSAServers("RSA", names, now)
	if err != nil {
		t.Fatal(err)
	}
	key := rsaKey(t)
	if _, err := w.ca[pki.Server].Issue(pki.RSAServerLeaf(names, &key.PublicKey, false, time.Hour), now); err == nil {
		t.Error("the ECDSA authority signed for an RSA key")
	}
	if _, err := servers.Issue(pki.ServerLeaf(names, newKey(t).Public(), time.Hour), now); err == nil {
		t.Error("the RSA authority signed for an ECDSA key")
	}
	if _, err := servers.Issue(pki.ServerLeaf(names, key.Public(), time.Hour), now); err == nil {
		t.Error("an RSA key passed as one of ours")
	}
	if _, err := servers.Issue(pki.OperationalLeaf("pump-01", newKey(t).Public(), time.Hour), now); err == nil {
		t.Error("the RSA authority signed for a device")
	}
}
