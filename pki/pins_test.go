package pki_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/pki"
)

func TestPinnedSelfSignedCertificates(t *testing.T) {
	w := newWorld(t)
	key := newKey(t)
	self := func(change func(*x509.Certificate)) *x509.Certificate {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "meter-7"},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
		if change != nil {
			change(tmpl)
		}
		return create(t, tmpl, tmpl, key.Public(), key)
	}
	good := self(nil)
	late := self(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })
	early := self(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) })
	server := self(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	other := self(func(c *x509.Certificate) { c.Subject.CommonName = "meter-8" })
	weakKey := must(rsa.GenerateKey(rand.Reader, 1024))(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(8), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	weak := create(t, tmpl, tmpl, weakKey.Public(), weakKey)

	pinned := map[identity.Digest]identity.Device{}
	for _, c := range []*x509.Certificate{good, late, early, server, other, weak} {
		pinned[identity.Sum(c.Raw)] = "meter-7"
	}
	trust := w.trust(t, pki.Operational, pki.Maker).Pin(func(d identity.Digest) (identity.Device, bool) {
		id, ok := pinned[d]
		return id, ok
	})
	verify := func(trust *pki.Trust, c *x509.Certificate) (pki.Peer, error) {
		return trust.Verify([]*x509.Certificate{c}, now)
	}
	p, err := verify(trust, good)
	if err != nil || p.Class != pki.SelfSigned || p.Device != "meter-7" || p.Certificate != identity.Sum(good.Raw) || p.Anchor != p.Certificate {
		t.Fatalf("%+v, %v", p, err)
	}
	for name, tc := range map[string]struct {
		cert *x509.Certificate
		want pki.Rule
	}{
		"not pinned":     {self(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(9) }), pki.RuleIssuer},
		"expired":        {late, pki.RuleExpired},
		"not yet valid":  {early, pki.RuleNotYet},
		"for servers":    {server, pki.RuleUsage},
		"another's name": {other, pki.RuleName},
		"weak key":       {weak, pki.RuleWeakKey},
		"a root":         {w.root.Cert, pki.RuleIssuer},
		"the maker's":    {w.maker.Cert, pki.RuleIssuer},
	} {
		if p, err := verify(trust, tc.cert); pki.RuleOf(err) != tc.want {
			t.Errorf("%s: %+v, %v, want rule %s", name, p, err, tc.want)
		}
	}
	// A pin that is taken back opens nothing more, and without pins none does.
	delete(pinned, identity.Sum(good.Raw))
	if p, err := verify(trust, good); pki.RuleOf(err) != pki.RuleIssuer {
		t.Errorf("a pin that was taken back: %+v, %v", p, err)
	}
	if p, err := verify(w.trust(t, pki.Operational), good); pki.RuleOf(err) != pki.RuleIssuer {
		t.Errorf("without pins: %+v, %v", p, err)
	}
}

func TestCheckProof(t *testing.T) {
	ca, other := newMaker(t, "Pipeworks CA"), newMaker(t, "Pipeworks CA")
	challenge := pki.NewChallenge()
	if len(challenge) > 64 || challenge == pki.NewChallenge() {
		t.Fatalf("challenge %q", challenge)
	}
	proof := func(by *pki.Authority, cn string, end time.Time) *x509.Certificate {
		return create(t, &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: cn},
			NotBefore: now.Add(-time.Hour), NotAfter: end}, by.Cert, newKey(t).Public(), by.Key)
	}
	later := now.Add(time.Hour)
	if err := pki.CheckProof(proof(ca, challenge, later), ca.Cert, challenge, now); err != nil {
		t.Error(err)
	}
	for name, tc := range map[string]struct {
		proof     *x509.Certificate
		challenge string
		want      pki.Rule
	}{
		"another challenge": {proof(ca, pki.NewChallenge(), later), challenge, pki.RuleName},
		"no challenge":      {proof(ca, "", later), "", pki.RuleName},
		"same name, not it": {proof(other, challenge, later), challenge, pki.RuleSignature},
		"of somebody else":  {proof(newMaker(t, "Else"), challenge, later), challenge, pki.RuleIssuer},
		"expired":           {proof(ca, challenge, now.Add(-time.Second)), challenge, pki.RuleExpired},
		"the CA itself":     {ca.Cert, challenge, pki.RuleName},
	} {
		if err := pki.CheckProof(tc.proof, ca.Cert, tc.challenge, now); pki.RuleOf(err) != tc.want {
			t.Errorf("%s: %v, want rule %s", name, err, tc.want)
		}
	}
}
