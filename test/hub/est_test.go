package hub_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"holdfast/evidence"
	"holdfast/pki"
)

// TestCertificatesAreRefused: what EST does not certify, and for whom.
func TestCertificatesAreRefused(t *testing.T) {
	w := newWorld(t)
	d, other := w.healthy, w.fileDevice("lamp-01", "lab")
	fresh := func() crypto.Signer { return must(pki.NewKey())(t) }
	request := func(key crypto.Signer, spoil func(*x509.CertificateRequest)) []byte {
		tmpl := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "healthy-01"}}
		spoil(tmpl)
		return must(x509.CreateCertificateRequest(rand.Reader, tmpl, key))(t)
	}
	own := func(*x509.CertificateRequest) {}
	weak := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	for _, tc := range []struct {
		name    string
		renewal bool
		idevid  bool // shows its IDevID
		csr     []byte
		status  int
		says    string
		log     string
	}{
		{"for another device", true, false, request(fresh(), func(r *x509.CertificateRequest) { r.Subject.CommonName = "lamp-01" }), 400, "subject", "lamp-01"},
		{"with another device's name beside its own", true, false, request(fresh(), func(r *x509.CertificateRequest) { r.DNSNames = []string{"lamp-01"} }), 400, "name", "lamp-01"},
		{"for a CA", true, false, request(fresh(), func(r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		}), 400, "rule ca", "CA certificate"},
		{"for an RSA key", true, false, request(weak, own), 400, "key-type", "key-type"},
		{"for the same key again", true, false, request(d.ldevid.PrivateKey.(crypto.Signer), own), 409, "key-reuse", "key-reuse"},
		{"for its birth key", true, false, request(d.birth.PrivateKey.(crypto.Signer), own), 409, "key-reuse", "key-reuse"},
		{"for another device's key", true, false, request(other.ldevid.PrivateKey.(crypto.Signer), own), 403, "key-reuse", "lamp-01"},
		{"for the operator's key", true, false, request(w.operatorCertificate().PrivateKey.(crypto.Signer), own), 403, "key-reuse", "key-reuse"},
		{"re-enrolment with the IDevID", true, true, request(fresh(), own), 403, "takes no birth certificate", "takes no birth certificate"},
		{"enrolment with the LDevID", false, false, request(fresh(), own), 403, "takes no operational certificate", "takes no operational certificate"},
		{"no request", true, false, []byte("no request"), 400, "encoding", "encoding"},
		{"too long", true, false, make([]byte, 5000), 400, "size", "size"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cert, op := d.ldevid, "simpleenroll"
			if tc.idevid {
				cert = d.birth
			}
			if tc.renewal {
				op = "simplereenroll"
			}
			_, err := d.est(cert, op, tc.csr)
			refusedWith(t, err, tc.status, tc.says)
			w.logged(t, "request refused", "healthy-01", tc.log)
			w.recorded(t, "certificate.refuse", "healthy-01", tc.log)
			w.goesOn(t)
		})
	}
	key := fresh()
	if _, err := d.est(d.ldevid, "simplereenroll", request(key, own)); err != nil {
		t.Errorf("a good request is refused then: %v", err)
	}
}

// TestESTRefusesBadHTTP: bodies that are no requests, and nobody's.
func TestESTRefusesBadHTTP(t *testing.T) {
	w := newWorld(t)
	good := base64.StdEncoding.EncodeToString(csr(t, must(pki.NewKey())(t), "healthy-01"))
	for name, tc := range map[string]struct {
		method, path, kind, body string
		anonymous                bool
		status                   int
	}{
		"no certificate":      {"POST", "simpleenroll", "application/pkcs10", good, true, 403},
		"another content":     {"POST", "simplereenroll", "application/json", good, false, 415},
		"not base64":          {"POST", "simplereenroll", "application/pkcs10", "!!!", false, 400},
		"longer than allowed": {"POST", "simplereenroll", "application/pkcs10", strings.Repeat("A", 20000), false, 413},
		"another operation":   {"POST", "serverkeygen", "application/pkcs10", good, false, 404},
		"another method":      {"GET", "simpleenroll", "", "", false, 405},
	} {
		t.Run(name, func(t *testing.T) {
			cert := w.healthy.ldevid
			if tc.anonymous {
				cert = nil
			}
			x := must(w.https(cert))(t)
			defer x.close()
			status, answer, err := x.do(tc.method, "/.well-known/est/"+tc.path, tc.kind, []byte(tc.body))
			if err != nil || status != tc.status {
				t.Errorf("%d %s, %v; want %d", status, answer, err, tc.status)
			}
		})
	}
	w.goesOn(t)
}

// TestKeyHasToLiveInTheTPM: a device with a TPM gets no certificate for a key
// that its attestation key did not certify.
func TestKeyHasToLiveInTheTPM(t *testing.T) {
	p := newPumpHouse(t)
	d := p.pump("pump-01", firmware)
	certified := must(d.keys.NewOperational())(t)
	if _, err := on(p.world, d.birth, func(x *wire) (evidence.Result, error) { return d.attest(x, certified) }); err != nil {
		t.Fatal(err)
	}
	outside, inside := must(pki.NewKey())(t), must(d.keys.NewOperational())(t)
	for name, key := range map[string]crypto.Signer{"outside of the TPM": outside, "in the TPM, not certified": inside} {
		_, err := d.est(d.birth, "simpleenroll", csr(t, key, "pump-01"))
		refusedWith(t, err, http.StatusForbidden, "not certified")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	p.logged(t, "request refused", "pump-01", "not certified")
	p.recorded(t, "certificate.refuse", "pump-01", "not certified")
	if _, err := d.est(d.birth, "simpleenroll", csr(t, certified, "pump-01")); err != nil {
		t.Errorf("the certified key is refused too: %v", err)
	}
	p.goesOn(t)
}
