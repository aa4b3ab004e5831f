// Package azure_test puts a whole hub before the clients that firmware in the
// field is built with, and before a device of its own that says things which no
// such client says. The hub runs in this process, or in one that can be killed.
package azure_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/hub"
	"holdfast/mqtt"
	"holdfast/operator"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// world is a running hub with a group of devices that a maker certified.
type world struct {
	t        testing.TB
	state    string
	operator *client.Client
	at       hub.Addresses
	roots    *x509.CertPool
	maker    *x509.Certificate
	key      *ecdsa.PrivateKey
	stop     func()
}

// newWorld makes a hub, runs it and registers a maker's CA for meter-*.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := emptyWorld(t)
	w.run()
	w.register()
	return w
}

// emptyWorld makes a hub and does not run it.
func emptyWorld(t testing.TB) *world {
	t.Helper()
	return emptyWorldAt(t, "localhost")
}

// emptyWorldAt makes a hub of those names and addresses; devices are assigned to
// the first.
func emptyWorldAt(t testing.TB, hosts ...string) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, state: filepath.Join(dir, "hub")}
	err := hub.Init(t.Context(), hub.InitConfig{State: w.state, Hosts: hosts, RootOut: filepath.Join(dir, "root.key"), Admin: "tester"})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// register tells the running hub of a maker and its meters.
func (w *world) register() {
	t := w.t
	t.Helper()
	w.maker, w.key = makeCert(t, &x509.Certificate{Subject: pkix.Name{CommonName: "maker"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	ca := operator.CA{Name: "maker", Kind: "maker", PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.maker.Raw}))}
	if _, err := w.operator.AddCA(t.Context(), ca); err != nil {
		t.Fatal(err)
	}
	if _, err := w.operator.SetGroup(t.Context(), "meters", operator.SetGroup{PolicyName: "lenient", MakerCAs: []string{"maker"}, IDs: []string{"meter-*"}}); err != nil {
		t.Fatal(err)
	}
	h, err := w.operator.Hub(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.roots = x509.NewCertPool()
	w.roots.AppendCertsFromPEM([]byte(h.Root))
}

// run runs the hub until stop or the test's end.
func (w *world) run() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan hub.Addresses, 1), make(chan error, 1)
	at := w.at // where it was before a restart
	if at.MQTT == "" {
		const any = "127.0.0.1:0"
		at = hub.Addresses{MQTT: any, HTTPS: any, Operator: any}
	}
	go func() {
		ended <- hub.Run(ctx, w.state, hub.Options{Version: "test", MQTT: at.MQTT, HTTPS: at.HTTPS, Operator: at.Operator,
			Log: slog.New(slog.NewTextHandler(&logWriter{t: w.t}, nil)), Ready: func(a hub.Addresses) { ready <- a }})
	}()
	select {
	case w.at = <-ready:
	case err := <-ended:
		cancel()
		w.t.Fatalf("hub: %v", err)
	}
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("hub: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
	w.open()
}

// open makes the operator's client for the hub that runs.
func (w *world) open() {
	w.t.Helper()
	_, port, _ := net.SplitHostPort(w.at.Operator)
	var err error
	if w.operator, err = client.OpenAt(filepath.Join(w.state, "operator", "profile.json"), "https://localhost:"+port); err != nil {
		w.t.Fatal(err)
	}
}

// restart stops the hub and runs it again.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.run()
}

// logWriter keeps the hub's log for a test that fails.
type logWriter struct {
	t  testing.TB
	mu sync.Mutex
}

func (l *logWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

func makeCert(t testing.TB, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, _ = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// device is the device's end of a session.
type device struct {
	t    testing.TB
	id   string
	conn *tls.Conn
	in   *mqtt.Decoder
	got  []mqtt.Packet
	last uint16 // packet identifier
	auto bool   // acknowledge what is sent with quality of service 1
}

// certificate makes a certificate of the maker's for an id.
func (w *world) certificate(id string) tls.Certificate {
	cert, key := makeCert(w.t, &x509.Certificate{Subject: pkix.Name{CommonName: id}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, w.maker, w.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// connect opens a clean session as stock clients do, subscribed to filters.
func (w *world) connect(t testing.TB, id string, cert tls.Certificate, filters ...string) *device {
	t.Helper()
	return w.connectTo(t, true, id, cert, filters...)
}

// kept opens a session that is kept, or goes on with it.
func (w *world) kept(t testing.TB, id string, cert tls.Certificate, filters ...string) *device {
	t.Helper()
	return w.connectTo(t, false, id, cert, filters...)
}

func (w *world) connectTo(t testing.TB, clean bool, id string, cert tls.Certificate, filters ...string) *device {
	t.Helper()
	raw, err := net.Dial("tcp", w.at.MQTT)
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, &tls.Config{RootCAs: w.roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}})
	t.Cleanup(func() { raw.Close() })
	d := &device{t: t, id: id, conn: conn, in: mqtt.NewDecoder(mqtt.FromServer, mqtt.DefaultLimit), auto: true}
	name := "localhost/" + id + "/?api-version=2021-04-12&DeviceClientType=test"
	d.send(&mqtt.Connect{ClientID: id, Clean: clean, KeepAlive: 180, Username: &name})
	if ack := expect[*mqtt.Connack](d); ack.Code != mqtt.Accepted {
		t.Fatalf("CONNACK %+v", ack)
	}
	if len(filters) == 0 {
		return d
	}
	sub := &mqtt.Subscribe{ID: d.next16()}
	for _, f := range filters {
		sub.Filters = append(sub.Filters, mqtt.Filter{Filter: f, QoS: mqtt.AtLeastOnce})
	}
	d.send(sub)
	if ack := expect[*mqtt.Suback](d); len(ack.Codes) != len(filters) || bytes.IndexByte(ack.Codes, mqtt.SubackFailure) >= 0 {
		t.Fatalf("SUBACK %v", ack.Codes)
	}
	return d
}

func (d *device) next16() uint16 {
	d.last++
	return d.last
}

func (d *device) send(p mqtt.Packet) {
	d.t.Helper()
	b, err := p.Append(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.conn.Write(b); err != nil {
		d.t.Fatal(err)
	}
}

// publish sends a message of quality of service 0.
func (d *device) publish(topic, body string) {
	d.t.Helper()
	d.send(&mqtt.Publish{Topic: topic, Payload: []byte(body)})
}

func (d *device) next() (mqtt.Packet, error) {
	buf := make([]byte, 16<<10)
	d.conn.SetReadDeadline(time.Now().Add(patience))
	for len(d.got) == 0 {
		n, err := d.conn.Read(buf)
		for p, err := range d.in.Feed(buf[:n]) {
			if err != nil {
				return nil, err
			}
			if pub, ok := p.(*mqtt.Publish); ok {
				pub.Payload = bytes.Clone(pub.Payload)
			}
			d.got = append(d.got, p)
		}
		if err != nil && len(d.got) == 0 {
			return nil, err
		}
	}
	p := d.got[0]
	d.got = d.got[1:]
	return p, nil
}

func expect[P mqtt.Packet](d *device) P {
	d.t.Helper()
	p, err := d.next()
	got, ok := p.(P)
	if !ok {
		d.t.Fatalf("got %#v, %v, want %T", p, err, got)
	}
	return got
}

// receive returns the next message and acknowledges it.
func (d *device) receive() *mqtt.Publish {
	d.t.Helper()
	p := expect[*mqtt.Publish](d)
	if p.QoS == mqtt.AtLeastOnce && d.auto {
		d.send(&mqtt.Puback{ID: p.ID})
	}
	return p
}

// expectMessage checks the next message.
func (d *device) expectMessage(topic, body string) {
	d.t.Helper()
	if p := d.receive(); p.Topic != topic || string(p.Payload) != body {
		d.t.Fatalf("got %s %s\nwant %s %s", p.Topic, p.Payload, topic, body)
	}
}

// sync checks that nothing is on its way to the device.
func (d *device) sync() {
	d.t.Helper()
	d.send(&mqtt.Pingreq{})
	expect[*mqtt.Pingresp](d)
}

// leave ends the session without DISCONNECT, and waits for the hub to see it.
func (d *device) leave() {
	d.t.Helper()
	d.conn.CloseWrite()
	if _, err := io.Copy(io.Discard, d.conn); err != nil {
		d.t.Logf("end of session: %v", err)
	}
	d.conn.Close()
}
