package pki_test

import (
	"math/big"
	"testing"
	"time"

	"holdfast/pki"
)

func TestVerifyCRL(t *testing.T) {
	w := newWorld(t)
	ca := w.ca[pki.Operational]
	bad, good := w.device(t, pki.Operational, "pump-01"), w.device(t, pki.Operational, "pump-02")
	list := func(number int64, from time.Time) []byte {
		entries := []pki.Revocation{{Serial: bad.SerialNumber, Time: now, Reason: pki.ReasonKeyCompromise}}
		return must(ca.RevocationList(number, entries, from, from.Add(time.Hour)))(t)
	}
	crl := must(pki.VerifyCRL(list(7, now), ca.Cert, big.NewInt(7), now))(t)
	if err := crl.Check(bad); pki.RuleOf(err) != pki.RuleRevoked {
		t.Errorf("revoked certificate: %v", err)
	}
	if err := crl.Check(good); err != nil {
		t.Errorf("good certificate: %v", err)
	}
	if err := crl.Check(w.device(t, pki.Birth, "pump-01")); pki.RuleOf(err) != pki.RuleIssuer {
		t.Errorf("certificate of another issuer: %v", err)
	}
	forged := list(7, now)
	forged[len(forged)-1] ^= 1
	for name, tc := range map[string]struct {
		der   []byte
		known *big.Int
		want  pki.Rule
	}{
		"older number":     {list(6, now), big.NewInt(7), pki.RuleNumber},
		"stale":            {list(8, now.Add(-2*time.Hour)), nil, pki.RuleStale},
		"from the future":  {list(8, now.Add(time.Minute)), nil, pki.RuleNotYet},
		"forged":           {forged, nil, pki.RuleSignature},
		"garbage":          {[]byte("x"), nil, pki.RuleEncoding},
		"too long":         {make([]byte, pki.MaxCRL+1), nil, pki.RuleSize},
		"of another class": {must(w.ca[pki.Birth].RevocationList(9, nil, now, now.Add(time.Hour)))(t), nil, pki.RuleSignature},
	} {
		if _, err := pki.VerifyCRL(tc.der, ca.Cert, tc.known, now); pki.RuleOf(err) != tc.want {
			t.Errorf("%s: %v, want rule %q", name, err, tc.want)
		}
	}
}

func FuzzCRL(f *testing.F) {
	w := newWorld(f)
	ca := w.ca[pki.Birth]
	f.Add(must(ca.RevocationList(1, nil, now, now.Add(time.Hour)))(f))
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := pki.VerifyCRL(der, ca.Cert, nil, now); err != nil && pki.RuleOf(err) == "" {
			t.Fatalf("refusal without a rule: %v", err)
		}
	})
}
