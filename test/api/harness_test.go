package api_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/hub"
	"holdfast/identity"
	"holdfast/internal/apidoc"
	"holdfast/operator"
	"holdfast/tlspolicy"

	"crypto/tls"
	"crypto/x509"

	"holdfast/pki"
)

// world is a hub with a few devices, and the operator that steers it.
type world struct {
	dir, root string
	at        hub.Addresses
	api       *client.Client
	http      *http.Client // with the operator's certificate
	log       logBook
}

// logBook is the hub's log.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// since returns what was logged from n bytes on, and how much there is now.
func (l *logBook) since(n int) (string, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b.Bytes()[n:]), l.b.Len()
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{dir: filepath.Join(dir, "hub")}
	err := hub.Init(t.Context(), hub.InitConfig{State: w.dir, Hosts: []string{"127.0.0.1", "localhost"}, RootOut: filepath.Join(dir, "root.key"), Admin: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	w.root = filepath.Join(w.dir, "root.pem")
	w.start(t)
	profile := filepath.Join(w.dir, "operator", "profile.json")
	if w.api, err = client.OpenAt(profile, "https://"+w.at.Operator); err != nil {
		t.Fatal(err)
	}
	w.http = w.operator(t)
	for _, g := range []identity.Group{"lab", "pumps"} {
		if _, err := w.api.SetGroup(t.Context(), g, operator.SetGroup{PolicyName: "lenient", FileKeys: true, SelfSigned: true}); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range devices {
		if _, err := w.api.AddDevice(t.Context(), operator.AddDevice{ID: d, Group: "lab", Token: true}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// devices are those that the world begins with.
var devices = []identity.Device{"lamp-01", "lamp-02", "lamp-03"}

// start runs the hub until the test ends.
func (w *world) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan hub.Addresses, 1), make(chan error, 1)
	const local = "127.0.0.1:0"
	go func() {
		ended <- hub.Run(ctx, w.dir, hub.Options{Version: "test", MQTT: local, HTTPS: local, Operator: local,
			Log: slog.New(slog.NewJSONHandler(&w.log, nil)), Ready: func(a hub.Addresses) { ready <- a }})
	}()
	select {
	case w.at = <-ready:
	case err := <-ended:
		cancel()
		t.Fatalf("run the hub: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the hub ended: %v", err)
		}
	})
}

// operator is the first operator's way to the hub.
func (w *world) operator(t testing.TB) *http.Client {
	t.Helper()
	file := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	chain, err := pki.ParseCerts(file("operator/operator.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.ParseKey(file("operator/operator.key"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := pki.ParseCert(file("root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: pki.RawChain(chain), PrivateKey: key, Leaf: chain[0]}
	cfg, err := tlspolicy.Client(tlspolicy.Dialer{Roots: []*x509.Certificate{root}, ServerName: "127.0.0.1", Now: time.Now,
		Certificate: func() (*tls.Certificate, error) { return cert, nil }})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: cfg}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// answer is what the hub said to a request.
type answer struct {
	status int
	kind   string // media type
	body   []byte
	cut    bool // it went on and on, and was left
}

// patience bounds a request: a call waits for its device, a stream for events.
const patience = 2 * time.Second

// ask sends a request.
func (w *world) ask(t testing.TB, r apidoc.Request) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	if strings.HasPrefix(r.URL, "/v1/events") || strings.Contains(r.URL, "/methods/") {
		time.AfterFunc(patience/4, cancel)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, "https://"+w.at.Operator+r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return answer{cut: true} // the URL is none: nothing was sent
	}
	for k, vs := range r.Header {
		req.Header[k] = vs
	}
	resp, err := w.http.Do(req)
	if err != nil {
		if ctx.Err() == nil && !strings.Contains(err.Error(), "invalid header") {
			t.Errorf("%s %s (%s): %v", r.Method, r.URL, r.What, err)
		}
		return answer{cut: true}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return answer{status: resp.StatusCode, kind: kind, body: b, cut: err != nil}
}
