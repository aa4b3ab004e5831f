package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/hub/issuer"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

func TestHistory(t *testing.T) {
	s := issuerStore(t)
	at := time.Unix(1_700_000_000, 0).UTC()
	add := func(class pki.Class, name, serial string, issued time.Time) {
		t.Helper()
		added, err := s.AddCertificates(t.Context(), []issuer.Certificate{{Serial: serial, Class: class, Name: name, Key: identity.Sum([]byte(serial)),
			NotBefore: issued, NotAfter: issued.Add(time.Hour), DER: []byte("x"), IssuedAt: issued}})
		if err != nil || added[0].Err != nil {
			t.Fatal(err, added)
		}
	}
	add(pki.Birth, "pump-01", "b1", at)
	add(pki.Operational, "pump-01", "o1", at.Add(time.Minute))
	add(pki.Birth, "pump-01", "b2", at.Add(2*time.Minute)) // supersedes b1
	add(pki.Operator, "pump-01", "an operator of that name", at.Add(3*time.Minute))
	add(pki.Operational, "pump-02", "another device's", at.Add(3*time.Minute))
	if _, err := s.Revoke(t.Context(), issuer.Selection{Serial: "o1"}, at.Add(4*time.Minute), pki.ReasonUnspecified); err != nil {
		t.Fatal(err)
	}
	got, err := s.History(t.Context(), "pump-01")
	if err != nil {
		t.Fatal(err)
	}
	row := func(serial string, class pki.Class, issued time.Time) operator.Issued {
		return operator.Issued{Serial: serial, Class: string(class), NotBefore: issued, NotAfter: issued.Add(time.Hour)}
	}
	b1, o1 := row("b1", pki.Birth, at), row("o1", pki.Operational, at.Add(time.Minute))
	b1.Revoked, b1.Reason = at.Add(2*time.Minute), "superseded by a new one"
	o1.Revoked, o1.Reason = at.Add(4*time.Minute), "revoked by an operator"
	if diff := cmp.Diff([]operator.Issued{row("b2", pki.Birth, at.Add(2*time.Minute)), o1, b1}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for i := range 60 {
		add(pki.Operational, "pump-01", fmt.Sprintf("n%02d", i), at.Add(time.Duration(10+i)*time.Minute))
	}
	if got, err = s.History(t.Context(), "pump-01"); err != nil || len(got) != 50 || got[0].Serial != "n59" {
		t.Errorf("%d certificates from %v on: %v, want the last 50", len(got), got[:1], err)
	}
	if got, err = s.History(t.Context(), "nobody"); err != nil || len(got) != 0 {
		t.Errorf("of nobody: %v, %v", got, err)
	}
}
