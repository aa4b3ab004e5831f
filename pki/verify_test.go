package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net/url"
	"testing"
	"time"

	"holdfast/pki"
)

// Each refusal of a device's certificate, beside one that passes.
func TestVerifyRefusesByRule(t *testing.T) {
	w := newWorld(t)
	weak := must(rsa.GenerateKey(rand.Reader, 1024))(t)
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))(t)
	usage := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	for _, tc := range []struct {
		name  string
		class pki.Class
		key   crypto.PublicKey
		spoil func(*x509.Certificate)
		want  pki.Rule
	}{
		{name: "operational as it should be", class: pki.Operational},
		{name: "birth as it should be", class: pki.Birth},
		{name: "maker as it should be", class: pki.Maker},
		{name: "maker without usages", class: pki.Maker, spoil: func(c *x509.Certificate) { c.ExtKeyUsage, c.KeyUsage = nil, 0 }},
		{name: "expired", class: pki.Operational, want: pki.RuleExpired,
			spoil: func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }},
		{name: "not yet valid", class: pki.Operational, want: pki.RuleNotYet,
			spoil: func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }},
		{name: "server usage", class: pki.Operational, want: pki.RuleUsage, spoil: usage(x509.ExtKeyUsageServerAuth)},
		{name: "two usages", class: pki.Operational, want: pki.RuleUsage,
			spoil: usage(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)},
		{name: "no usage", class: pki.Birth, want: pki.RuleUsage, spoil: usage()},
		{name: "maker, server usage", class: pki.Maker, want: pki.RuleUsage, spoil: usage(x509.ExtKeyUsageServerAuth)},
		{name: "maker, encipherment", class: pki.Maker, want: pki.RuleKeyUsage,
			spoil: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }},
		{name: "key usage too wide", class: pki.Operational, want: pki.RuleKeyUsage,
			spoil: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyAgreement }},
		{name: "no policy", class: pki.Operational, want: pki.RulePolicy, spoil: func(c *x509.Certificate) { c.Policies = nil }},
		{name: "policy of another class", class: pki.Operational, want: pki.RulePolicy,
			spoil: func(c *x509.Certificate) { c.Policies = []x509.OID{must(pki.Birth.Policy())(t)} }},
		{name: "a CA", class: pki.Maker, want: pki.RuleCA, spoil: func(c *x509.Certificate) { c.IsCA = true }},
		{name: "CN is no id", class: pki.Maker, want: pki.RuleName, spoil: func(c *x509.Certificate) { c.Subject.CommonName = "../etc" }},
		{name: "URN of another device", class: pki.Operational, want: pki.RuleName,
			spoil: func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: "holdfast:device:pump-02"}} }},
		{name: "a DNS name too", class: pki.Operational, want: pki.RuleName,
			spoil: func(c *x509.Certificate) { c.DNSNames = []string{"hub.example"} }},
		{name: "RSA-1024", class: pki.Maker, key: weak.Public(), want: pki.RuleWeakKey},
		{name: "P-224", class: pki.Maker, key: p224.Public(), want: pki.RuleWeakKey},
		{name: "unknown critical extension", class: pki.Maker, want: pki.RuleChain,
			spoil: func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, extension("1.2.3.4", true))
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ca := w.maker
			tmpl := leafOf(t, tc.class, "pump-01")
			if tc.class != pki.Maker {
				ca = w.ca[tc.class]
				tmpl.URIs = []*url.URL{{Scheme: "urn", Opaque: "holdfast:device:pump-01"}}
			}
			if tc.spoil != nil {
				tc.spoil(tmpl)
			}
			key := tc.key
			if key == nil {
				key = newKey(t).Public()
			}
			leaf := create(t, tmpl, ca.Cert, key, ca.Key)
			_, err := w.trust(t, pki.Birth, pki.Operational, pki.Maker).Verify([]*x509.Certificate{leaf}, now)
			if pki.RuleOf(err) != tc.want || (err != nil) != (tc.want != "") {
				t.Errorf("got %v, want rule %q", err, tc.want)
			}
		})
	}
}

func TestVerifyRefusesSHA1(t *testing.T) {
	key := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	root := leafOf(t, pki.Maker, "Old CA")
	root.IsCA, root.KeyUsage, root.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
	ca := create(t, root, root, key.Public(), key)
	trust := must(pki.NewTrust(pki.Anchor{Class: pki.Maker, Cert: ca}))(t)
	for _, alg := range []x509.SignatureAlgorithm{x509.SHA1WithRSA, x509.SHA256WithRSA, x509.SHA256WithRSAPSS} {
		tmpl := leafOf(t, pki.Maker, "sensor-01")
		tmpl.SignatureAlgorithm = alg
		_, err := trust.Verify([]*x509.Certificate{create(t, tmpl, ca, newKey(t).Public(), key)}, now)
		want := pki.Rule("")
		if alg == x509.SHA1WithRSA {
			want = pki.RuleWeakSignature
		}
		if pki.RuleOf(err) != want || (err != nil) != (want != "") {
			t.Errorf("%s: %v, want rule %q", alg, err, want)
		}
	}
}

func TestVerifyRefusesForgedIssuer(t *testing.T) {
	w := newWorld(t)
	forger := newMaker(t, w.maker.Cert.Subject.CommonName) // the same name, another key
	leaf := create(t, leafOf(t, pki.Maker, "sensor-01"), forger.Cert, newKey(t).Public(), forger.Key)
	for _, chain := range [][]*x509.Certificate{{leaf}, {leaf, forger.Cert}} {
		if _, err := w.trust(t, pki.Maker).Verify(chain, now); pki.RuleOf(err) != pki.RuleIssuer {
			t.Errorf("forged issuer: %v, want rule %q", err, pki.RuleIssuer)
		}
	}
}

func TestVerifyRefusesOddChains(t *testing.T) {
	w := newWorld(t)
	leaf := w.device(t, pki.Maker, "sensor-01")
	trust := w.trust(t, pki.Maker)
	if _, err := trust.Verify(nil, now); pki.RuleOf(err) != pki.RuleNone {
		t.Errorf("no certificate: %v", err)
	}
	long := []*x509.Certificate{leaf, leaf, leaf, leaf, leaf, leaf}
	if _, err := trust.Verify(long, now); pki.RuleOf(err) != pki.RuleChain {
		t.Errorf("six certificates: %v", err)
	}
	// A leaf that issues: its holder would name itself.
	key := newKey(t)
	issuer := create(t, leafOf(t, pki.Maker, "sensor-01"), w.maker.Cert, key.Public(), w.maker.Key)
	under := create(t, leafOf(t, pki.Maker, "sensor-02"), issuer, newKey(t).Public(), key)
	if _, err := trust.Verify([]*x509.Certificate{under, issuer}, now); pki.RuleOf(err) != pki.RuleIssuer {
		t.Errorf("a leaf issued by a leaf: %v, want rule %q", err, pki.RuleIssuer)
	}
}

func TestVerifyAcceptsMakersIntermediates(t *testing.T) {
	w := newWorld(t)
	key := newKey(t)
	tmpl := leafOf(t, pki.Maker, "Line 3")
	tmpl.IsCA, tmpl.KeyUsage = true, x509.KeyUsageCertSign
	line := create(t, tmpl, w.maker.Cert, key.Public(), w.maker.Key)
	leaf := create(t, leafOf(t, pki.Maker, "sensor-01"), line, newKey(t).Public(), key)
	trust := w.trust(t, pki.Maker)
	if peer, err := trust.Verify([]*x509.Certificate{leaf, line}, now); err != nil || peer.Device != "sensor-01" {
		t.Errorf("%+v, %v", peer, err)
	}
	if _, err := trust.Verify([]*x509.Certificate{leaf}, now); pki.RuleOf(err) != pki.RuleIssuer {
		t.Errorf("without the intermediate: %v", err)
	}
}

// A maker that puts our policy into its certificates is still a maker.
func TestMakerCannotClaimAnotherClass(t *testing.T) {
	w := newWorld(t)
	leaf := create(t, leafOf(t, pki.Operational, "pump-01"), w.maker.Cert, newKey(t).Public(), w.maker.Key)
	peer := must(w.trust(t, pki.Operational, pki.Maker).Verify([]*x509.Certificate{leaf}, now))(t)
	if peer.Class != pki.Maker {
		t.Errorf("class %s, want maker", peer.Class)
	}
}

func TestCheckMakerCA(t *testing.T) {
	w := newWorld(t)
	weak := must(rsa.GenerateKey(rand.Reader, 1024))(t)
	ca := func(spoil func(*x509.Certificate)) *x509.Certificate {
		tmpl := leafOf(t, pki.Maker, "CA")
		tmpl.IsCA, tmpl.KeyUsage = true, x509.KeyUsageCertSign
		spoil(tmpl)
		key := newKey(t)
		return create(t, tmpl, tmpl, key.Public(), key)
	}
	weakCA := leafOf(t, pki.Maker, "weak")
	for name, tc := range map[string]struct {
		cert *x509.Certificate
		want pki.Rule
	}{
		"good":     {w.maker.Cert, ""},
		"leaf":     {w.device(t, pki.Maker, "sensor-01"), pki.RuleCA},
		"RSA-1024": {create(t, weakCA, weakCA, weak.Public(), weak), pki.RuleWeakKey},
		"expired":  {ca(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), pki.RuleExpired},
		"usage":    {ca(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), pki.RuleKeyUsage},
	} {
		if err := pki.CheckMakerCA(tc.cert, now); pki.RuleOf(err) != tc.want {
			t.Errorf("%s: %v, want rule %q", name, err, tc.want)
		}
	}
}
