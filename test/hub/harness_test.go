// Package hub_test shows what the whole hub refuses. A hub runs in the test's
// process with everything real behind its sockets; operators come through the
// client, devices through TLS connections on which a test may send anything.
//
// Each refusal is looked for where it has to show: at the peer, in the log,
// and in the ledger; and after it a healthy device is served.
package hub_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/hub"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// patience bounds every wait of these tests.
const patience = time.Minute

// world is a hub, the operator that steers it, and a healthy device.
type world struct {
	t    testing.TB
	dir  string // the hub's state
	at   hub.Addresses
	api  *client.Client
	log  *logBook
	root *x509.Certificate

	healthy *device
	stop    func() // ends the hub and waits for it
}

// newWorld makes a hub, runs it until the test ends, and brings in a healthy
// device of group "lab", whose key is in a file.
func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, dir: filepath.Join(dir, "hub"), log: &logBook{}}
	err := hub.Init(t.Context(), hub.InitConfig{State: w.dir, Hosts: []string{"127.0.0.1", "localhost"},
		RootOut: filepath.Join(dir, "root.key"), Admin: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	w.root = must(pki.ParseCert(must(os.ReadFile(filepath.Join(w.dir, "root.pem")))(t)))(t)
	w.start()
	t.Cleanup(func() { w.stop() })
	w.group("lab", operator.SetGroup{PolicyName: "lenient", FileKeys: true})
	w.healthy = w.fileDevice("healthy-01", "lab")
	return w
}

// start runs the hub.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan hub.Addresses, 1), make(chan error, 1)
	const local = "127.0.0.1:0"
	go func() {
		ended <- hub.Run(ctx, w.dir, hub.Options{Version: "test", MQTT: local, HTTPS: local, Operator: local,
			Log:   slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Ready: func(a hub.Addresses) { ready <- a }})
	}()
	select {
	case w.at = <-ready:
	case err := <-ended:
		cancel()
		w.t.Fatalf("run the hub: %v", err)
	}
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the hub ended: %v", err)
		}
	})
	w.api = must(client.OpenAt(w.profile(), "https://"+w.at.Operator))(w.t)
}

// restart ends the hub and runs it again on the same state.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

func (w *world) profile() string { return filepath.Join(w.dir, "operator", "profile.json") }

// group makes or changes a group.
func (w *world) group(id identity.Group, g operator.SetGroup) {
	w.t.Helper()
	must(w.api.SetGroup(w.t.Context(), id, g))(w.t)
}

// authority returns one of the hub's own authorities, as whoever stole its
// unsealed key would have it.
func (w *world) authority(class pki.Class) *pki.Authority {
	w.t.Helper()
	secret := must(pki.ParseSecret(must(os.ReadFile(filepath.Join(w.dir, "seal.key")))(w.t)))(w.t)
	file := func(suffix string) []byte {
		return must(os.ReadFile(filepath.Join(w.dir, "ca", string(class)+suffix)))(w.t)
	}
	key := must(pki.ParseKey(must(secret.Open("ca key "+string(class), file(".key")))(w.t)))(w.t)
	return &pki.Authority{Class: class, Cert: must(pki.ParseCert(file(".pem")))(w.t), Key: key}
}

// operatorCertificate reads the first operator's certificate.
func (w *world) operatorCertificate() *tls.Certificate {
	w.t.Helper()
	file := func(name string) []byte { return must(os.ReadFile(filepath.Join(w.dir, "operator", name)))(w.t) }
	chain := must(pki.ParseCerts(file("operator.pem")))(w.t)
	return &tls.Certificate{Certificate: pki.RawChain(chain), PrivateKey: must(pki.ParseKey(file("operator.key")))(w.t), Leaf: chain[0]}
}

// tls is a client's policy that shows cert, which may be nil; a test may
// weaken it.
func (w *world) tls(cert *tls.Certificate, protocols ...string) *tls.Config {
	w.t.Helper()
	return must(tlspolicy.Client(tlspolicy.Dialer{Roots: []*x509.Certificate{w.root}, ServerName: "127.0.0.1", Now: time.Now,
		Certificate: func() (*tls.Certificate, error) { return cert, nil }, Protocols: protocols}))(w.t)
}

// device shows a device as its operator sees it.
func (w *world) device(id identity.Device) operator.Device {
	w.t.Helper()
	return must(w.api.Device(w.t.Context(), id))(w.t)
}

// logged waits until one line of the log since the last goesOn has all of
// these texts.
func (w *world) logged(t testing.TB, texts ...string) {
	t.Helper()
	if !w.until(func() bool { return w.log.has(texts...) }) {
		t.Errorf("no line of the log has %q; the last are:\n%s", texts, w.log.tail(12))
	}
}

// recorded waits until the ledger has a record of the kind, of the device
// (none if it is empty), that has all of these texts.
func (w *world) recorded(t testing.TB, kind string, id identity.Device, texts ...string) {
	t.Helper()
	if !w.until(func() bool { return w.inLedger(kind, id, texts...) }) {
		t.Errorf("no %s of %q in the ledger has %q; it has of that kind:\n%s", kind, id, texts, w.ledgerOf(kind))
	}
}

func (w *world) inLedger(kind string, id identity.Device, texts ...string) bool {
	for _, r := range w.records() {
		if string(r.Kind) == kind && r.Device == id && containsAll(recordText(r), texts) {
			return true
		}
	}
	return false
}

func (w *world) records() []ledger.Record {
	return must(w.api.Ledger(w.t.Context(), 1, 10000))(w.t)
}

func (w *world) ledgerOf(kind string) string {
	var b strings.Builder
	for _, r := range w.records() {
		if string(r.Kind) == kind {
			fmt.Fprintf(&b, "%s %s\n", r.Device, recordText(r))
		}
	}
	return b.String()
}

// recordText is what a record says, without JSON's escapes.
func recordText(r ledger.Record) string {
	return r.Actor + " " + r.Reason + " " + strings.ReplaceAll(string(r.Details), `\"`, `"`)
}

// until waits for a condition.
func (w *world) until(ok func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return true
		}
	}
	return false
}

// goesOn has the healthy device store a message. What is logged from then on
// belongs to the next refusal.
func (w *world) goesOn(t testing.TB) {
	t.Helper()
	m, err := w.mqtt(w.healthy.ldevid)
	if err != nil {
		t.Fatalf("the hub does not go on: %v", err)
	}
	defer m.close()
	if err := m.open("healthy-01"); err != nil {
		t.Fatalf("the hub does not go on: %v", err)
	}
	if err := m.publish("devices/healthy-01/messages/events/", "still here"); err != nil {
		t.Fatalf("the hub does not go on: %v", err)
	}
	w.log.turn()
}

// logBook is the hub's log.
type logBook struct {
	mu    sync.Mutex
	lines []string
	page  int // the first line that has looks at
}

func (l *logBook) turn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.page = len(l.lines)
}

// Write implements io.Writer; slog writes a line at a time.
func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.ReplaceAll(string(bytes.TrimSpace(b)), `\"`, `"`))
	return len(b), nil
}

func (l *logBook) has(texts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines[l.page:] {
		if containsAll(line, texts) {
			return true
		}
	}
	return false
}

func (l *logBook) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-n):], "\n")
}

func containsAll(s string, texts []string) bool {
	for _, text := range texts {
		if !strings.Contains(s, text) {
			return false
		}
	}
	return true
}

// must returns what a call returned, or ends the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
