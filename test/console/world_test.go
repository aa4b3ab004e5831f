package console_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"holdfast/client"
	"holdfast/hub"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// patience bounds every wait of these tests.
const patience = 30 * time.Second

// world is a hub, and a maker whose devices it takes.
type world struct {
	t     testing.TB // until which devices stay
	at    hub.Addresses
	api   *client.Client
	url   string // of the console
	pin   string // SHA-256 of the operator listener's public key, base64
	root  *x509.Certificate
	maker *x509.Certificate
	key   *ecdsa.PrivateKey

	rollout string // id of the one that the tests started
}

// newWorld makes a hub and runs it until the test ends.
func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	state := filepath.Join(dir, "hub")
	err := hub.Init(t.Context(), hub.InitConfig{State: state, Hosts: []string{"localhost", "127.0.0.1"}, RootOut: filepath.Join(dir, "root.key"), Admin: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	w.run(t, state)
	_, port, _ := net.SplitHostPort(w.at.Operator)
	w.url = "https://localhost:" + port
	w.api = must(client.OpenAt(filepath.Join(state, "operator", "profile.json"), w.url))(t)
	w.root = must(pki.ParseCert(must(os.ReadFile(filepath.Join(state, "root.pem")))(t)))(t)
	w.pin = w.pinOf(t)
	w.addMaker(t)
	return w
}

func (w *world) run(t testing.TB, state string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan hub.Addresses, 1), make(chan error, 1)
	const local = "127.0.0.1:0"
	go func() {
		ended <- hub.Run(ctx, state, hub.Options{Version: "test", MQTT: local, HTTPS: local, Operator: local,
			Log: slog.New(slog.NewTextHandler(&logBook{t: t}, nil)), Ready: func(a hub.Addresses) { ready <- a }})
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

// pinOf asks the operator listener for its key, so that the browser may be told
// to take that one and no other.
func (w *world) pinOf(t testing.TB) string {
	t.Helper()
	cfg := must(tlspolicy.Client(tlspolicy.Dialer{Roots: []*x509.Certificate{w.root}, ServerName: "localhost", Now: time.Now,
		Certificate: func() (*tls.Certificate, error) { return nil, nil }}))(t)
	conn := must(tls.Dial("tcp", w.at.Operator, cfg))(t)
	defer conn.Close()
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// groups of the tests: what their devices cannot prove decides how they stand.
const (
	meters identity.Group = "meters" // demands nothing
	pumps  identity.Group = "pumps"  // demands what a session proves
	valves identity.Group = "valves" // demands what no device here can prove
)

func (w *world) addMaker(t testing.TB) {
	t.Helper()
	w.maker, w.key = certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: "maker " + evil}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	must(w.api.AddCA(t.Context(), operator.CA{Name: "maker", Kind: "maker", PEM: string(pki.EncodeCerts(w.maker))}))(t)
	for id, g := range map[identity.Group]operator.SetGroup{
		meters: {PolicyName: "lenient", IDs: []string{"meter-*"}},
		pumps:  {Text: "policy pumps\nrequire protocol.tls observed\nrequire protocol.mutual-tls observed\n", IDs: []string{"pump-*"}},
		valves: {Text: "policy valves\nrequire app.watchdog claimed\n", IDs: []string{"valve-*"}},
	} {
		g.MakerCAs = []string{"maker"}
		must(w.api.SetGroup(t.Context(), id, g))(t)
	}
}

// certify makes a certificate that parent signs, or itself where there is none.
func certify(t testing.TB, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template.SerialNumber = must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)))(t)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent, parentKey = template, key
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey))(t)))(t), key
}

// device is a connected device: a stock client with a maker's certificate.
type device struct {
	paho.Client
	id string
}

// connect brings a device in, until the hub ends. It answers every method with
// its argument.
func (w *world) connect(id string) *device {
	t := w.t
	t.Helper()
	cert, key := certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: id}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, w.maker, w.key)
	cfg := must(tlspolicy.Client(tlspolicy.Dialer{Roots: []*x509.Certificate{w.root}, ServerName: "localhost", Now: time.Now,
		Certificate: func() (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, nil
		}}))(t)
	d := &device{id: id, Client: paho.NewClient(paho.NewClientOptions().AddBroker("ssl://" + w.at.MQTT).SetClientID(id).SetTLSConfig(cfg).
		SetProtocolVersion(4).SetUsername("localhost/" + id + "/?api-version=2021-04-12").SetAutoReconnect(false).SetConnectTimeout(patience))}
	d.wait(t, d.Connect())
	t.Cleanup(func() { d.Disconnect(0) })
	d.wait(t, d.Subscribe("$iothub/methods/POST/#", 0, func(c paho.Client, m paho.Message) {
		_, rid, _ := bytes.Cut([]byte(m.Topic()), []byte("?$rid="))
		c.Publish("$iothub/methods/res/200/?$rid="+string(rid), 0, false, m.Payload())
	}))
	return d
}

// say publishes, with an acknowledgement.
func (d *device) say(t testing.TB, topic, body string) {
	t.Helper()
	d.wait(t, d.Publish(topic, 1, false, body))
}

func (d *device) telemetry(t testing.TB, body string) {
	t.Helper()
	d.say(t, "devices/"+d.id+"/messages/events/", body)
}

// report changes the twin's reported properties.
func (d *device) report(t testing.TB, body string) {
	t.Helper()
	d.wait(t, d.Publish("$iothub/twin/PATCH/properties/reported/?$rid=1", 0, false, body))
}

func (d *device) wait(t testing.TB, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("%s: %v", d.id, token.Error())
	}
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: did not come", what)
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

// logBook keeps the hub's log for a test that fails.
type logBook struct {
	t  testing.TB
	mu sync.Mutex
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Logf("hub: %s", bytes.TrimSpace(b))
	return len(b), nil
}
