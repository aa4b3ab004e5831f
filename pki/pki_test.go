package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/pki"
)

var now = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

// world is one of everything: a root, its intermediates and a maker.
type world struct {
	root  *pki.Authority
	ca    map[pki.Class]*pki.Authority
	maker *pki.Authority
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{ca: make(map[pki.Class]*pki.Authority)}
	w.root = must(pki.NewRoot(now))(t)
	names := must(pki.ParseNames([]string{"hub.example", "192.0.2.7"}))(t)
	for _, c := range pki.Classes() {
		w.ca[c] = must(w.root.NewIntermediate(c, names, now))(t)
	}
	w.maker = newMaker(t, "Pipeworks CA")
	return w
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return must(pki.NewKey())(t)
}

func newMaker(t testing.TB, cn string) *pki.Authority {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return &pki.Authority{Class: pki.Maker, Cert: create(t, tmpl, tmpl, key.Public(), key), Key: key}
}

// create signs a template as it is: what no Authority would.
func create(t testing.TB, tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der := must(x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key))(t)
	return must(x509.ParseCertificate(der))(t)
}

// leafOf returns a template that the class's rules accept, to be spoiled.
func leafOf(t testing.TB, class pki.Class, cn string) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(42), Subject: pkix.Name{CommonName: cn},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if class != pki.Maker {
		tmpl.Policies = []x509.OID{must(class.Policy())(t)}
	}
	return tmpl
}

func (w world) trust(t testing.TB, classes ...pki.Class) *pki.Trust {
	t.Helper()
	var anchors []pki.Anchor
	for _, c := range classes {
		ca := w.ca[c]
		if c == pki.Maker {
			ca = w.maker
		}
		anchors = append(anchors, pki.Anchor{Class: c, Cert: ca.Cert})
	}
	return must(pki.NewTrust(anchors...))(t)
}

func (w world) device(t testing.TB, class pki.Class, id identity.Device) *x509.Certificate {
	t.Helper()
	key := newKey(t).Public()
	switch class {
	case pki.Birth:
		return must(w.ca[class].Issue(pki.BirthLeaf(id, key), now))(t)
	case pki.Operational:
		return must(w.ca[class].Issue(pki.OperationalLeaf(id, key, time.Hour), now))(t)
	case pki.Operator:
		return must(w.ca[class].Issue(pki.OperatorLeaf(string(id), key, time.Hour), now))(t)
	case pki.Server:
		names := pki.Names{DNS: []string{"hub.example"}, IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
		return must(w.ca[class].Issue(pki.ServerLeaf(names, key, time.Hour), now))(t)
	}
	return create(t, leafOf(t, pki.Maker, string(id)), w.maker.Cert, key, w.maker.Key)
}

func TestEachListenerTrustsOnlyItsOwn(t *testing.T) {
	w := newWorld(t)
	all := append(pki.Classes(), pki.Maker)
	for _, trusted := range []pki.Class{pki.Birth, pki.Operational, pki.Operator, pki.Maker} {
		trust := w.trust(t, trusted)
		for _, shown := range all {
			leaf := w.device(t, shown, "pump-01")
			issuer := w.maker.Cert
			if shown != pki.Maker {
				issuer = w.ca[shown].Cert
			}
			for _, chain := range [][]*x509.Certificate{{leaf}, {leaf, issuer}, {leaf, issuer, w.root.Cert}} {
				peer, err := trust.Verify(chain, now)
				if shown != trusted {
					if rule := pki.RuleOf(err); rule != pki.RuleIssuer {
						t.Errorf("%s listener, %s certificate: rule %q (%v), want %q", trusted, shown, rule, err, pki.RuleIssuer)
					}
					continue
				}
				if err != nil || peer.Class != shown || peer.Name != "pump-01" {
					t.Errorf("%s listener, its own: %+v, %v", trusted, peer, err)
				}
			}
		}
	}
}

func TestVerifySaysWhoThePeerIs(t *testing.T) {
	w := newWorld(t)
	leaf := w.device(t, pki.Operational, "pump-01")
	peer := must(w.trust(t, pki.Birth, pki.Operational).Verify([]*x509.Certificate{leaf}, now))(t)
	key := must(identity.KeyDigest(leaf.PublicKey))(t)
	want := pki.Peer{
		Class: pki.Operational, Name: "pump-01", Device: "pump-01", Key: key, Serial: pki.SerialText(leaf),
		NotAfter: leaf.NotAfter, Issued: leaf.NotBefore, Anchor: identity.Sum(w.ca[pki.Operational].Cert.Raw), Certificate: identity.Sum(leaf.Raw),
	}
	if peer != want {
		t.Errorf("got %+v, want %+v", peer, want)
	}
	operator := must(w.trust(t, pki.Operator).Verify([]*x509.Certificate{w.device(t, pki.Operator, "ada")}, now))(t)
	if operator.Device != "" || operator.Name != "ada" {
		t.Errorf("operator: %+v", operator)
	}
}

// A remembered signature must not outlive the certificate.
func TestVerifyJudgesTheTimeAnew(t *testing.T) {
	w := newWorld(t)
	trust := w.trust(t, pki.Operational)
	chain := []*x509.Certificate{w.device(t, pki.Operational, "pump-01")}
	for _, step := range []struct {
		at   time.Time
		want pki.Rule
	}{{now, ""}, {now.Add(2 * time.Hour), pki.RuleExpired}, {now, ""}, {now.Add(-time.Hour), pki.RuleNotYet}} {
		if _, err := trust.Verify(chain, step.at); pki.RuleOf(err) != step.want {
			t.Errorf("at %s: %v, want rule %q", step.at, err, step.want)
		}
	}
}
