package issuer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"holdfast/fault"
	"holdfast/hub/issuer"
	"holdfast/identity"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// gate grants what a test says.
type gate struct {
	lifetime time.Duration
	err      error
	asked    []issuer.GrantRequest
}

func (g *gate) Grant(_ context.Context, r issuer.GrantRequest) (time.Duration, error) {
	g.asked = append(g.asked, r)
	return g.lifetime, g.err
}

// estBench is a device HTTPS listener that serves EST over real TLS.
type estBench struct {
	*bench
	gate *gate
	url  string
}

const estPath = "/.well-known/est/"

func newEST(t *testing.T) *estBench {
	t.Helper()
	b := &estBench{bench: newBench(t), gate: &gate{lifetime: time.Hour}}
	trust := must(pki.NewTrust(b.Anchors(pki.Birth, pki.Operational)...))(t)
	est := must(issuer.NewEST(issuer.ESTConfig{
		Issuer: b.Issuer, Gate: b.gate, Log: slog.New(slog.DiscardHandler),
		Refused: func(*http.Request, pki.Peer, error) {},
		Authenticate: func(r *http.Request) (pki.Peer, error) {
			peer, err := tlspolicy.Peer(r.TLS, trust, b.clock())
			if err != nil {
				return peer, fault.Hide(fault.Denied, "a client certificate is needed", err)
			}
			return peer, nil
		},
	}))(t)
	mux := http.NewServeMux()
	mux.Handle(estPath, est)
	mux.HandleFunc("GET /crl/{ca}", b.ServeCRL)
	serving := must(issuer.NewServing(t.Context(), b.Issuer, must(pki.ParseNames([]string{"127.0.0.1"}))(t), time.Hour))(t)
	cfg := must(tlspolicy.DeviceHTTPS(tlspolicy.Listener{
		Certificate: serving.Certificate, Now: b.clock, Trust: func() *pki.Trust { return trust },
	}))(t)
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	srv := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(tls.NewListener(l, cfg)) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	b.url = "https://" + l.Addr().String()
	return b
}

// client is a device that holds chain and key; without a chain it is nobody.
func (b *estBench) client(t *testing.T, chain []*x509.Certificate, key *ecdsa.PrivateKey) *http.Client {
	t.Helper()
	d := tlspolicy.Dialer{Roots: []*x509.Certificate{b.Root()}, ServerName: "127.0.0.1", Now: b.clock}
	if chain != nil {
		cert := &tls.Certificate{Certificate: pki.RawChain(chain), PrivateKey: key}
		d.Certificate = func() (*tls.Certificate, error) { return cert, nil }
	}
	tr := &http.Transport{TLSClientConfig: must(tlspolicy.Client(d))(t)}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func (b *estBench) born(t *testing.T, id identity.Device) *http.Client {
	t.Helper()
	key := must(pki.NewKey())(t)
	return b.client(t, must(b.IssueBirth(t.Context(), id, "pumps", csrOf(t, string(id), key)))(t), key)
}

func (b *estBench) post(t *testing.T, c *http.Client, op, contentType, body string) (*http.Response, string) {
	t.Helper()
	resp := must(c.Post(b.url+estPath+op, contentType, strings.NewReader(body)))(t)
	defer resp.Body.Close()
	return resp, string(must(io.ReadAll(resp.Body))(t))
}

func b64(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

// certs reads a certs-only answer.
func certs(t *testing.T, body string) []*x509.Certificate {
	t.Helper()
	der := must(base64.StdEncoding.DecodeString(body))(t)
	return must(pkcs7.Parse(der))(t).Certificates
}

func TestESTEnrolsAndRenews(t *testing.T) {
	b := newEST(t)
	device := b.born(t, "pump-01")
	key := must(pki.NewKey())(t)
	resp, body := b.post(t, device, "simpleenroll", "application/pkcs10", b64(csrOf(t, "pump-01", key)))
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/pkcs7-mime; smime-type=certs-only" {
		t.Fatalf("%s, %s: %s", resp.Status, resp.Header.Get("Content-Type"), body)
	}
	chain := certs(t, body)
	if len(chain) != 2 || chain[0].Subject.CommonName != "pump-01" || !chain[1].Equal(b.Authority(pki.Operational)) {
		t.Fatalf("chain of %d, leaf %q", len(chain), chain[0].Subject)
	}
	if got := chain[0].NotAfter.Sub(b.clock()); got != time.Hour {
		t.Errorf("lives %s, want what the gate granted", got)
	}

	operating := b.client(t, chain, key)
	next := must(pki.NewKey())(t)
	b.gate.lifetime = 24 * time.Hour
	resp, body = b.post(t, operating, "simplereenroll", "application/pkcs10; charset=x", b64(csrOf(t, "pump-01", next))+"\r\n")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("renewal: %s: %s", resp.Status, body)
	}
	for i, want := range []struct {
		class pki.Class
		key   *ecdsa.PrivateKey
	}{{pki.Birth, key}, {pki.Operational, next}} {
		asked := b.gate.asked[i]
		if asked.Peer.Device != "pump-01" || asked.Peer.Class != want.class || asked.Reenroll != (i == 1) ||
			asked.Key != must(identity.KeyDigest(want.key.Public()))(t) {
			t.Errorf("gate was asked %+v", asked)
		}
	}
	if last := b.issued[len(b.issued)-1]; last.Via != "est" || last.Lifetime != 24*time.Hour {
		t.Errorf("told %+v", last)
	}

	resp, body = b.post(t, operating, "simplereenroll", "application/pkcs10", b64(csrOf(t, "pump-01", next)))
	if resp.StatusCode != http.StatusConflict || !strings.Contains(body, string(pki.RuleKeyReuse)) {
		t.Errorf("renewal with the old key: %s: %s", resp.Status, body)
	}
}

func TestESTRefuses(t *testing.T) {
	b := newEST(t)
	device, nobody := b.born(t, "pump-01"), b.client(t, nil, nil)
	operatingKey := must(pki.NewKey())(t)
	operating := b.client(t, must(b.IssueOperational(t.Context(), "pump-01", csrOf(t, "pump-01", operatingKey), time.Hour))(t), operatingKey)
	good := func() string { return b64(newCSR(t, "pump-01")) }
	const pkcs10 = "application/pkcs10"
	for _, tc := range []struct {
		name         string
		client       *http.Client
		op, kind     string
		body         string
		gate         error
		want         int
		text, header string // in the body; a header that must be there
	}{
		{"nobody", nobody, "simpleenroll", pkcs10, good(), nil, 403, "denied", ""},
		{"nobody renews", nobody, "simplereenroll", pkcs10, good(), nil, 403, "denied", ""},
		{"IDevID renews", device, "simplereenroll", pkcs10, good(), nil, 403, "birth certificate", ""},
		{"LDevID enrols", operating, "simpleenroll", pkcs10, good(), nil, 403, "operational certificate", ""},
		{"another device's request", device, "simpleenroll", pkcs10, b64(newCSR(t, "pump-02")), nil, 400, "rule subject", ""},
		{"not base64", device, "simpleenroll", pkcs10, "%%%", nil, 400, "base64", ""},
		{"nothing", device, "simpleenroll", pkcs10, "", nil, 400, "rule encoding", ""},
		{"DER", device, "simpleenroll", pkcs10, string(newCSR(t, "pump-01")), nil, 400, "base64", ""},
		{"JSON", device, "simpleenroll", "application/json", "{}", nil, 415, "application/pkcs10", ""},
		{"no type", device, "simpleenroll", "", good(), nil, 415, "application/pkcs10", ""},
		{"too long", device, "simpleenroll", pkcs10, strings.Repeat("A", 9000), nil, 413, "longer", ""},
		{"to cacerts", device, "cacerts", pkcs10, good(), nil, 405, "", "Allow"},
		{"no such operation", device, "serverkeygen", pkcs10, good(), nil, 404, "", ""},
		{"quarantined", device, "simpleenroll", pkcs10, good(), fault.New(fault.Denied, "firmware.secure-boot is unmet"), 403, "firmware.secure-boot", ""},
		{"an operator decides", device, "simpleenroll", pkcs10, good(), fault.New(fault.Pending, "wait"), 202, "wait", "Retry-After"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b.gate.err = tc.gate
			resp, body := b.post(t, tc.client, tc.op, tc.kind, tc.body)
			if resp.StatusCode != tc.want || !strings.Contains(body, tc.text) {
				t.Errorf("%s: %s, want %d with %q", resp.Status, body, tc.want, tc.text)
			}
			if tc.header != "" && resp.Header.Get(tc.header) == "" {
				t.Errorf("no header %s", tc.header)
			}
		})
	}
	if got := must(b.Certificates(t.Context(), pki.Operational, "pump-01"))(t); len(got) != 1 {
		t.Errorf("%d operational certificates, want 1", len(got))
	}
}

func TestESTPublicPages(t *testing.T) {
	b := newEST(t)
	nobody := b.client(t, nil, nil)
	get := func(path string) (*http.Response, string) {
		resp := must(nobody.Get(b.url + path))(t)
		defer resp.Body.Close()
		return resp, string(must(io.ReadAll(resp.Body))(t))
	}
	resp, body := get(estPath + "cacerts")
	ca := certs(t, body)
	if resp.StatusCode != 200 || len(ca) != 2 || !ca[0].Equal(b.Authority(pki.Operational)) || !ca[1].Equal(b.Root()) {
		t.Errorf("cacerts: %s, %d certificates", resp.Status, len(ca))
	}
	resp, body = get(estPath + "csrattrs")
	var attrs []asn1.RawValue
	if rest, err := asn1.Unmarshal(must(base64.StdEncoding.DecodeString(body))(t), &attrs); err != nil || len(rest) > 0 ||
		len(attrs) != 2 || resp.Header.Get("Content-Type") != "application/csrattrs" {
		t.Errorf("csrattrs: %s, %d, %v", resp.Status, len(attrs), err)
	}
	resp, body = get("/crl/operational.crl")
	if _, err := pki.VerifyCRL([]byte(body), b.Authority(pki.Operational), nil, b.clock()); err != nil || resp.Header.Get("Content-Type") != "application/pkix-crl" {
		t.Errorf("list: %s, %v", resp.Status, err)
	}
	for _, path := range []string{"/crl/maker.crl", "/crl/operational", "/crl/"} {
		if resp, _ := get(path); resp.StatusCode != 404 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
