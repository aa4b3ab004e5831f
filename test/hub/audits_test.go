package hub_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"strings"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/finding"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/release"
	"holdfast/statement"
	"holdfast/tuf/author"
)

// audited signs a statement that a device which measures so has canaries.
func audited(t *testing.T, key crypto.Signer, measured identity.Digest) []byte {
	t.Helper()
	s := &statement.Statement{Type: statement.Type, PredicateType: statement.PredicateType, Predicate: statement.Predicate{
		Auditor: "holdfast test", Rules: "r", Time: time.Now().UTC(), Images: []finding.Image{{File: "app.img", Measured: measured, Matches: "app.elf"}},
		Rows: []finding.Row{{Measure: measure.MemoryStack, Verdict: measure.Pass, Applies: true, Reason: "STK-CANARY-01: canaries are called"}}}}
	for name, d := range map[string]identity.Digest{"app.img": measured, "app.elf": identity.Sum([]byte("app"))} {
		x := statement.Subject{Name: name}
		x.Digest.SHA256 = d
		s.Subject = append(s.Subject, x)
	}
	return must(statement.Sign(t.Context(), s, key))(t)
}

func publicPEM(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(key))(t)}))
}

// TestAuditsAreFelt: what a registered auditor says of the image that a device
// attests is in its posture, until the auditor is removed.
func TestAuditsAreFelt(t *testing.T) {
	p, m := newPumpHouse(t), newSigner(t)
	p.publish(m)
	img := must(mcuboot.Parse(m.image))(t)
	p.group("pumps", operator.SetGroup{PolicyName: "standard", Simulation: true, Product: "pump"})
	pump := p.pump("pump-01", img.Digest)
	pump.claimed = img.Digest
	if err := pump.renew(); err != nil {
		t.Fatal(err)
	}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	envelope := audited(t, key, img.Digest)
	if _, err := p.api.AddAudit(t.Context(), envelope); fault.Of(err) != fault.Integrity {
		t.Errorf("a stranger's statement: %v", err)
	}
	lab := must(p.api.AddAuditor(t.Context(), operator.Auditor{Name: "lab", Key: publicPEM(t, key.Public())}))(t)
	p.recorded(t, "auditor.add", "", "admin", "lab", lab.ID.String())
	one := must(p.api.AddAudit(t.Context(), envelope))(t)
	p.recorded(t, "audit.add", "", "admin", "lab", img.Digest.String())
	if got := must(p.api.Audits(t.Context(), img.Digest))(t); len(got) != 1 || got[0].ID != one.ID || got[0].Auditor != "lab" {
		t.Errorf("statements %+v", got)
	}
	stack := func(v measure.Verdict, g measure.Grade, says string) {
		t.Helper()
		var r measure.Row
		if !p.until(func() bool {
			r = p.row(pump, measure.MemoryStack)
			return r.Verdict == v && r.Grade == g && strings.Contains(r.Reason, says)
		}) {
			t.Errorf("%+v, want %s %s %q", r, v, g, says)
		}
	}
	stack(measure.Pass, measure.Audited, "auditor lab (holdfast test")
	p.restart()
	stack(measure.Pass, measure.Audited, "canaries are called")
	if err := p.api.RemoveAuditor(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	stack(measure.Unknown, measure.None, "has not been audited")
	p.recorded(t, "auditor.remove", "", "admin", "lab")
}

// TestAuditorsKeyIsARoleOfItsOwn: no key that this hub has seen for something
// else is an auditor's.
func TestAuditorsKeyIsARoleOfItsOwn(t *testing.T) {
	w, m := newWorld(t), newSigner(t)
	w.publish(m)
	maker := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: "Pump maker"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca := sign(t, tmpl, tmpl, maker.Public(), maker)
	must(w.api.AddCA(t.Context(), operator.CA{Name: "maker", Kind: "maker", PEM: string(pki.EncodeCerts(ca))}))(t)
	for name, key := range map[string]crypto.PublicKey{
		"this hub's root":   w.root.PublicKey,
		"an operator's":     w.operatorCertificate().Leaf.PublicKey,
		"a device's":        w.healthy.ldevid.Leaf.PublicKey,
		"a release key":     m.keys.Classical[0],
		"a registered CA's": maker.Public(),
	} {
		if _, err := w.api.AddAuditor(t.Context(), operator.Auditor{Name: "lab", Key: publicPEM(t, key)}); fault.Of(err) != fault.Conflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	must(w.api.AddAuditor(t.Context(), operator.Auditor{Name: "lab", Key: publicPEM(t, key.Public())}))(t)
	if all := must(w.api.Auditors(t.Context()))(t); len(all) != 1 || all[0].Trouble != "" {
		t.Errorf("%+v", all)
	}
	if err := w.api.RemoveAuditor(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.api.AddAuditor(t.Context(), operator.Auditor{Name: "other", Key: publicPEM(t, key.Public())}); fault.Of(err) != fault.Conflict {
		t.Errorf("a key that was somebody else's: %v", err)
	}
	must(w.api.AddAuditor(t.Context(), operator.Auditor{Name: "lab", Key: publicPEM(t, key.Public())}))(t)
}

// TestAuditOfARelease is published with it, when it counts and is about its image.
func TestAuditOfARelease(t *testing.T) {
	w, m := newWorld(t), newSigner(t)
	img := must(mcuboot.Parse(m.image))(t)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	files := m.files(must(w.api.Repository(t.Context()))(t))
	publish := func(envelope []byte) error {
		blob := blobOf(envelope)
		d, err := author.Product{Name: "pump", Version: 1, Expires: time.Now().AddDate(1, 0, 0), Releases: []release.Release{{Image: blobOf(m.image), Target: release.Target{
			Product: "pump", Version: img.Version, SecurityVersion: 7, Measured: img.Digest, Health: release.Health{Seconds: 60}, Audit: &blob}}}}.Document()
		files["1.pump.json"] = m.sign(d, err)
		for _, b := range [][]byte{m.image, envelope} {
			if err := w.api.PutBlob(t.Context(), blobOf(b), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }); err != nil {
				t.Fatal(err)
			}
		}
		_, err = w.api.PublishMetadata(t.Context(), operator.Metadata{Files: files})
		return err
	}
	good := audited(t, key, img.Digest)
	refused := func(says string, err error) {
		t.Helper()
		if err == nil || fault.Of(err) != fault.Integrity || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	refused("no registered auditor", publish(good))
	must(w.api.AddAuditor(t.Context(), operator.Auditor{Name: "lab", Key: publicPEM(t, key.Public())}))(t)
	refused("not about its image", publish(audited(t, key, identity.Sum([]byte("another")))))
	if err := publish(good); err != nil {
		t.Fatal(err)
	}
	if !w.until(func() bool {
		all, err := w.api.Audits(t.Context(), img.Digest)
		return err == nil && len(all) == 1 && all[0].Release == "pump 1.4.0"
	}) {
		t.Error("the statement of the release does not count")
	}
	if err := w.api.RemoveAudit(t.Context(), identity.Sum(good)); fault.Of(err) != fault.Conflict {
		t.Errorf("what signers published was removed: %v", err)
	}
}
