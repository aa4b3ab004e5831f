package fleet_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"testing"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// enrolments answers for devices by name.
type enrolments map[identity.Device]struct {
	group identity.Group
	err   error
}

func (e enrolments) Enrolled(_ context.Context, p pki.Peer) (identity.Group, string, error) {
	a, ok := e[p.Device]
	if !ok {
		return "", "", fault.New(fault.NotFound, "none")
	}
	return a.group, "enrolment", a.err
}

func (w *world) enrolling(e enrolments) *fleet.Fleet {
	w.t.Helper()
	f, err := fleet.New(fleet.Config{Store: w.store.Fleet(), Ledger: w.ledger, Sessions: w.gate, Log: slog.New(slog.DiscardHandler), Now: w.clock, Enrolments: e})
	w.must(err)
	return f
}

func selfSigned(id identity.Device) pki.Peer {
	p := peer(pki.SelfSigned, id, "s1")
	p.Anchor = digest(string(id))
	return p
}

func TestEnrolmentsDecideWhoEnters(t *testing.T) {
	w := newWorld(t)
	of := w.addMaker("acme", "meters", "meter-*")
	w.addMaker("other", "others", "other-*")
	w.must1(w.SetGroup(t.Context(), "admin", "spares", operator.SetGroup{PolicyName: posture.Lenient, MakerCAs: []string{"acme"}}))
	w.must1(w.SetGroup(t.Context(), "admin", "old", operator.SetGroup{PolicyName: posture.Lenient, SelfSigned: true}))
	f := w.enrolling(enrolments{
		"meter-off":  {"", fault.New(fault.Denied, "disabled")},
		"spare-1":    {"spares", nil},
		"wrong-ca":   {"others", nil},
		"self-1":     {"old", nil},
		"self-2":     {"meters", nil},
		"nowhere":    {"gone", nil},
		"self-maker": {"old", nil},
	})
	for name, p := range map[string]pki.Peer{
		"disabled, though its group's pattern fits": of("meter-off"),
		"CA that the enrolment's group lacks":       of("wrong-ca"),
		"self-signed into a group without the flag": selfSigned("self-2"),
		"self-signed without an enrolment":          selfSigned("meter-2"),
		"a maker's into a self-signed group":        of("self-maker"),
		"into a group that is gone":                 of("nowhere"),
	} {
		if _, err := f.Admit(t.Context(), p); fault.Of(err) != fault.Denied && fault.Of(err) != fault.NotFound {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := f.Device(t.Context(), p.Device); fault.Of(err) != fault.NotFound {
			t.Errorf("%s: entered: %v", name, err)
		}
	}
	for id, tc := range map[identity.Device]struct {
		p pki.Peer
		g identity.Group
	}{"spare-1": {of("spare-1"), "spares"}, "meter-1": {of("meter-1"), "meters"}, "self-1": {selfSigned("self-1"), "old"}} {
		a, err := f.Admit(t.Context(), tc.p)
		if err != nil || a.Group.ID != tc.g {
			t.Errorf("%s: %+v, %v", id, a, err)
		}
	}
	// Nobody takes another's place with a certificate of another kind.
	for _, p := range []pki.Peer{selfSigned("spare-1"), of("self-1")} {
		if _, err := f.Admit(t.Context(), p); fault.Of(err) != fault.Denied {
			t.Errorf("%s as %s: %v", p.Device, p.Class, err)
		}
	}
}

func TestSelfSignedDevicesFailTheIdentityRows(t *testing.T) {
	w := newWorld(t)
	w.must1(w.SetGroup(t.Context(), "admin", "old", operator.SetGroup{PolicyName: posture.Lenient, SelfSigned: true}))
	f := w.enrolling(enrolments{"self-1": {"old", nil}})
	a, err := f.Admit(t.Context(), selfSigned("self-1"))
	w.must(err)
	w.must1(f.SessionOpened(t.Context(), selfSigned("self-1"), "s", a.Mode, nil))
	d, err := f.Device(t.Context(), "self-1")
	w.must(err)
	for _, id := range []measure.ID{measure.IdentityHardwareRoot, measure.IdentityDeviceID, measure.IdentityCertificates} {
		for _, r := range d.Posture {
			if r.Measure == id && (r.Verdict != measure.Fail || r.Grade != measure.Observed || r.Time.IsZero()) {
				t.Errorf("%+v", r)
			}
		}
	}
	// The flag taken away, nothing opens any more.
	w.must1(f.SetGroup(t.Context(), "admin", "old", operator.SetGroup{PolicyName: posture.Lenient}))
	if _, err := f.Admit(t.Context(), selfSigned("self-1")); fault.Of(err) != fault.Denied {
		t.Errorf("without the flag: %v", err)
	}
	if a.Mode != access.Full {
		t.Errorf("mode is %s", a.Mode)
	}
}

func TestEnterMoves(t *testing.T) {
	w := newWorld(t)
	of := w.addMaker("acme", "meters", "meter-*")
	w.addMaker("other", "others", "other-*")
	w.must1(w.SetGroup(t.Context(), "admin", "spares", operator.SetGroup{PolicyName: posture.Lenient, MakerCAs: []string{"acme"}}))
	enter := func(g identity.Group) (bool, error) {
		return w.Enter(t.Context(), of("meter-1"), g, "enrolment x")
	}
	if isNew, err := enter(""); err != nil || !isNew {
		t.Fatalf("first: %v, %v", isNew, err)
	}
	if isNew, err := enter("spares"); err != nil || isNew {
		t.Fatalf("again: %v, %v", isNew, err)
	}
	if d, err := w.Device(t.Context(), "meter-1"); err != nil || d.Group != "spares" {
		t.Errorf("%+v, %v", d, err)
	}
	if n := w.ledger.count("device.move meter-1"); n != 1 {
		t.Errorf("the move was recorded %d times", n)
	}
	_, err := enter("others") // which does not list its CA
	w.refused(err, fault.Denied)
	_, err = enter("gone")
	w.refused(err, fault.NotFound)
	w.must1(w.Act(t.Context(), "admin", "meter-1", fleet.Revoke, "lost"))
	_, err = enter("spares")
	w.refused(err, fault.Denied)
}

func TestOneMakersCAOfAGroup(t *testing.T) {
	w := newWorld(t)
	of := w.addMaker("acme", "meters")
	cert := ca(t, "second", w.clock(), nil)
	w.must1(w.AddCA(t.Context(), "admin", operator.CA{Name: "second", Kind: "maker", PEM: string(pki.EncodeCerts(cert))}))
	w.must1(w.SetGroup(t.Context(), "admin", "meters", operator.SetGroup{MakerCAs: []string{"acme", "second"}}))
	add := func(d operator.AddDevice) error { _, err := w.AddDevice(t.Context(), "admin", d); return err }
	w.refused(add(operator.AddDevice{ID: "m", Group: "meters", MakerCA: "third"}), fault.Invalid)
	w.refused(add(operator.AddDevice{ID: "m", Group: "meters", MakerCA: "acme", Token: true}), fault.Invalid)
	w.must(add(operator.AddDevice{ID: "m", Group: "meters", MakerCA: "second"}))
	_, err := w.Admit(t.Context(), of("m"))
	w.refused(err, fault.Denied)
	p := of("m")
	p.Anchor = identity.Sum(cert.Raw)
	w.must1(w.Admit(t.Context(), p))
}

func TestVerifyCA(t *testing.T) {
	w := newWorld(t)
	key, err := pki.NewKey()
	w.must(err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "acme"}, NotBefore: w.clock().AddDate(-1, 0, 0),
		NotAfter: w.clock().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	sign := func(tmpl, parent *x509.Certificate) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), key)
		w.must(err)
		cert, err := x509.ParseCertificate(der)
		w.must(err)
		return cert
	}
	root := sign(tmpl, tmpl)
	added, err := w.AddCA(t.Context(), "admin", operator.CA{Name: "acme", Kind: "maker", PEM: string(pki.EncodeCerts(root)), Challenge: "mine", Verified: w.clock()})
	w.must(err)
	if added.Challenge == "" || added.Challenge == "mine" || !added.Verified.IsZero() {
		t.Fatalf("%+v", added)
	}
	proof := func(cn string) operator.Proof {
		leaf := sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn}, NotBefore: tmpl.NotBefore, NotAfter: tmpl.NotAfter}, root)
		return operator.Proof{PEM: string(pki.EncodeCerts(leaf))}
	}
	verify := func(name string, p operator.Proof) (operator.CA, error) {
		return w.VerifyCA(t.Context(), "admin", name, p)
	}
	_, err = verify("nobody", proof(added.Challenge))
	w.refused(err, fault.NotFound)
	_, err = verify("acme", proof("something"))
	w.refused(err, fault.Integrity)
	_, err = verify("acme", operator.Proof{PEM: "x"})
	w.refused(err, fault.Invalid)
	first := proof(added.Challenge)
	out, err := verify("acme", first)
	if err != nil || out.Verified.IsZero() || out.Challenge != "" || w.ledger.count("ca.verify ") != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	_, err = verify("acme", first) // a challenge is good for one proof
	w.refused(err, fault.Conflict)
	again, err := verify("acme", operator.Proof{})
	w.must(err)
	if again.Challenge == "" || again.Challenge == added.Challenge {
		t.Errorf("%+v", again)
	}
	_, err = verify("acme", first)
	w.refused(err, fault.Integrity)
	w.must1(verify("acme", proof(again.Challenge)))
}
