package call_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/device/call"
	"holdfast/device/dial"
	"holdfast/device/hubtest"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/pki"
)

func caller(t *testing.T, h *hubtest.Hub) *call.Caller {
	t.Helper()
	p := h.Provision()
	roots, err := p.Roots()
	if err != nil {
		t.Fatal(err)
	}
	d, err := dial.New(dial.Config{Host: p.Hub, Roots: roots, Judge: func(f func(time.Time) error) error { return f(time.Now()) }})
	if err != nil {
		t.Fatal(err)
	}
	return call.New("hub.example:8443", func(ctx context.Context, cert *tls.Certificate) (*tls.Conn, error) {
		return d.Dial(ctx, p.HTTPSPort, "http/1.1", cert)
	})
}

func request(t *testing.T) []byte {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(hubtest.Device)}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func TestBirthWithAFileKey(t *testing.T) {
	c := caller(t, hubtest.New(t))
	resp, err := c.Begin(t.Context(), evidence.BeginRequest{CSR: request(t), Token: "claim"})
	if err != nil || resp.Issued == nil || resp.Issued.Device != hubtest.Device {
		t.Errorf("%+v, %v", resp, err)
	}
	if _, err := c.Finish(t.Context(), evidence.FinishRequest{Session: "unknown"}); fault.Of(err) != fault.Integrity {
		t.Errorf("finish: %v", err)
	}
}

func TestAnswersThatAreErrors(t *testing.T) {
	answer := func(status int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	hijack := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, text)
				_ = conn.Close()
			}
			return true
		}
	}
	for name, tc := range map[string]struct {
		hub  func(http.ResponseWriter, *http.Request) bool
		kind fault.Kind
		says string
	}{
		"denied":              {answer(403, `{"error":{"kind":"denied","message":"group demands a TPM","id":"X"}}`), fault.Denied, "group demands a TPM"},
		"pending":             {answer(202, `{"error":{"kind":"pending","message":"an operator decides","id":"X"}}`), fault.Pending, "an operator decides"},
		"conflict":            {answer(409, `{"error":{"kind":"conflict","message":"nonce","id":"X"}}`), fault.Conflict, ""},
		"a proxy's 503":       {answer(503, "<html>busy</html>"), fault.Unavailable, "503"},
		"a proxy's 404":       {answer(404, "not here"), fault.NotFound, "404"},
		"a bare 202":          {answer(202, ""), fault.Pending, ""},
		"a bare 500":          {answer(500, ""), fault.Internal, "500"},
		"a redirect":          {answer(302, ""), fault.Internal, "302"},
		"not JSON":            {answer(200, "<html>"), fault.Internal, "answer"},
		"nothing":             {hijack(""), fault.Unavailable, ""},
		"not HTTP":            {hijack("220 smtp ready\r\n"), fault.Unavailable, ""},
		"half an answer":      {hijack("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"), fault.Unavailable, ""},
		"more than is read":   {answer(200, `"`+strings.Repeat("x", 300<<10)+`"`), fault.Internal, "more than"},
		"headers without end": {hijack("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1000)), fault.Unavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := hubtest.New(t)
			h.Intercept = tc.hub
			_, err := caller(t, h).Begin(t.Context(), evidence.BeginRequest{})
			if err == nil || fault.Of(err) != tc.kind || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("begin: %v (%s), want %s", err, fault.Of(err), tc.kind)
			}
		})
	}
}

func TestHubThatIsGone(t *testing.T) {
	d, err := dial.New(dial.Config{Host: "127.0.0.1", Roots: []*x509.Certificate{{}}, Judge: func(f func(time.Time) error) error { return f(time.Now()) }})
	if err != nil {
		t.Fatal(err)
	}
	c := call.New("hub", func(ctx context.Context, cert *tls.Certificate) (*tls.Conn, error) {
		return d.Dial(ctx, 1, "http/1.1", cert)
	})
	if _, err := c.Begin(t.Context(), evidence.BeginRequest{}); fault.Of(err) != fault.Unavailable {
		t.Errorf("begin: %v", err)
	}
}

func TestRefusedCertificateIsDenied(t *testing.T) {
	h := hubtest.New(t)
	h.Fail = func(step string) error {
		if step == "TLS by operational" {
			return errors.New("revoked")
		}
		return nil
	}
	_, err := caller(t, h).Reenroll(t.Context(), h.Certificate(pki.Operational, time.Hour), request(t))
	if fault.Of(err) != fault.Denied {
		t.Errorf("reenroll: %v", err)
	}
}

func TestEST(t *testing.T) {
	h := hubtest.New(t)
	c, birth, operational := caller(t, h), h.Certificate(pki.Birth, 0), h.Certificate(pki.Operational, time.Hour)
	chain, err := c.Enroll(t.Context(), birth, request(t))
	if err != nil || len(chain) != 2 {
		t.Fatalf("%d certificates, %v", len(chain), err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil || leaf.IsCA {
		t.Errorf("the leaf is not first: %v", err)
	}
	if _, err := c.Reenroll(t.Context(), operational, request(t)); err != nil {
		t.Error(err)
	}
	if _, err := c.Reenroll(t.Context(), birth, request(t)); fault.Of(err) != fault.Denied {
		t.Errorf("reenroll with the birth certificate: %v", err)
	}
	if _, err := c.Enroll(t.Context(), birth, []byte("no request")); fault.Of(err) != fault.Invalid {
		t.Errorf("enroll without a request: %v", err)
	}
}

func TestESTAnswersThatAreNone(t *testing.T) {
	h := hubtest.New(t)
	for _, text := range []string{"", "!", "AAAA", "MAA="} {
		h.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, text)
			return true
		}
		if chain, err := caller(t, h).Enroll(t.Context(), h.Certificate(pki.Birth, 0), request(t)); err == nil {
			t.Errorf("%q became %d certificates", text, len(chain))
		}
	}
}

func TestEvidenceTravelsOnTheConnectionOfItsNonce(t *testing.T) {
	h := hubtest.New(t)
	var remotes []string
	h.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		remotes = append(remotes, r.RemoteAddr)
		return false
	}
	failed := errors.New("TPM failed")
	_, err := caller(t, h).Attest(t.Context(), h.Certificate(pki.Birth, 0), func(nonce, exporter []byte) (evidence.Attestation, error) {
		if len(nonce) != evidence.NonceSize || len(exporter) != evidence.ExporterSize {
			t.Errorf("nonce of %d and exporter of %d bytes", len(nonce), len(exporter))
		}
		return evidence.Attestation{}, failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("attest: %v", err)
	}
	_, err = caller(t, h).Attest(t.Context(), h.Certificate(pki.Birth, 0), func(nonce, _ []byte) (evidence.Attestation, error) {
		return evidence.Attestation{Nonce: make([]byte, 32), Claims: []byte("{}")}, nil
	})
	if fault.Of(err) != fault.Conflict {
		t.Errorf("attest with another nonce: %v", err)
	}
	if len(remotes) != 3 || remotes[1] != remotes[2] || remotes[0] == remotes[1] {
		t.Errorf("connections %v", remotes)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	h := hubtest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	h.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	}
	if _, err := caller(t, h).Begin(ctx, evidence.BeginRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("begin: %v", err)
	}
}

// FuzzCerts feeds EST answers to the parser.
func FuzzCerts(f *testing.F) {
	f.Add([]byte("MAA="))
	f.Add([]byte("MIIBIjANBgkq\nhkiG9w0BAQEF"))
	f.Fuzz(func(t *testing.T, text []byte) {
		chain, err := call.ParseCerts(text)
		if err == nil && len(chain) == 0 {
			t.Error("an empty chain without an error")
		}
	})
}
