package enroll_test

import (
	"crypto/rand"
	"crypto/x509"
	"os"
	"testing"

	"holdfast/birth"
	"holdfast/device/keys"
	"holdfast/evidence"
	"holdfast/internal/swtpm/swtpmtest"
	"holdfast/operator"
	"holdfast/pki"
)

// TestBirthWithATPM: a TPM that is none of our making, under its maker's chain
// of two, and the keys of the device program.
func TestBirthWithATPM(t *testing.T) {
	m := swtpmtest.New(t)
	w := newWorld(t)
	pem, err := os.ReadFile(m.CA.RootFile())
	if err != nil {
		t.Fatal(err)
	}
	w.register("maker", must(pki.ParseCert(pem))(t), birth.Software)
	k := must(keys.Open(keys.Config{TPM: m.Connect(), Dir: t.TempDir()}))(t)
	must(w.fleet.AddDevice(t.Context(), "admin", operator.AddDevice{ID: "pump-01", Group: "pumps", EK: k.EKPublic()}))(t)

	var serial string
	for i := range 2 { // the second time as after an answer that was lost
		shown, key, err := k.Birth()
		if err != nil {
			t.Fatal(err)
		}
		csr := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))(t)
		c := must(w.begin(evidence.BeginRequest{CSR: csr, TPM: shown}))(t)
		secret := must(k.Activate(c.Credential, c.Secret))(t)
		issued, err := w.finish(c.Session, secret)
		p := w.is(issued, err, "pump-01", "pumps")
		if i > 0 && p.Serial != serial {
			t.Errorf("certificate %s, then %s", serial, p.Serial)
		}
		serial = p.Serial
	}
	if d := must(w.fleet.Device(t.Context(), "pump-01"))(t); d.Born.IsZero() {
		t.Error("not born")
	}
}
