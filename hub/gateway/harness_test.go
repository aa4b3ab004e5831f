package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/access"
	"holdfast/hub/gateway"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/logs"
	"holdfast/mqtt"
)

// patience is how long a test waits for what must happen.
const patience = 40 * time.Second

var discard = slog.New(slog.DiscardHandler)

// authority issues test certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	a.cert, a.key = issue(t, template, nil, nil)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) leaf(t testing.TB, name string, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, key := issue(t, template, a.cert, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (a *authority) device(t testing.TB, name string) tls.Certificate {
	return a.leaf(t, name, x509.ExtKeyUsageClientAuth)
}

func issue(t testing.TB, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
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

func (a *authority) serverTLS(t testing.TB) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool,
		Certificates: []tls.Certificate{a.leaf(t, "localhost", x509.ExtKeyUsageServerAuth)}, SessionTicketsDisabled: true,
	}
}

func (a *authority) clientTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: a.pool, ServerName: "localhost", Certificates: []tls.Certificate{cert}}
}

// fakeHub is everything that a gateway asks of its hub.
type fakeHub struct {
	admit    func(context.Context, gateway.Peer) (gateway.Admission, error)
	exchange func(context.Context, *gateway.Session, string, []byte) (int, []byte)
	answer   func(context.Context, *gateway.Session, iothub.Request, []byte) (iothub.Topic, []byte, error)
	store    func(iothub.Message, func(error)) // nil stores at once
	watch    func(*gateway.Session, string)    // Subscribed

	forget bool // keeps no messages, for benchmarks

	mu       sync.Mutex
	changed  *sync.Cond
	messages []iothub.Message
	records  []logs.Record
	opened   []*gateway.Session
	closed   []closing
	refusals []gateway.Refusal
	results  []result
	kept     map[identity.Device]gateway.Kept
	saves    int
	saveErr  error
}

func (h *fakeHub) Load(_ context.Context, d identity.Device) (k gateway.Kept, ok bool, err error) {
	h.note(func() { k, ok = h.kept[d] })
	return k, ok, nil
}

func (h *fakeHub) Save(_ context.Context, d identity.Device, k gateway.Kept) (err error) {
	h.note(func() {
		if h.kept == nil {
			h.kept = map[identity.Device]gateway.Kept{}
		}
		h.kept[d] = k
		h.saves++
		err = h.saveErr
	})
	return err
}

func (h *fakeHub) Drop(_ context.Context, d identity.Device) error {
	h.note(func() { delete(h.kept, d) })
	return nil
}

type result struct {
	device  identity.Device
	topic   iothub.MethodResult
	payload []byte
}

type closing struct {
	session *gateway.Session
	cause   gateway.Cause
	err     error
}

func (h *fakeHub) Admit(ctx context.Context, p gateway.Peer) (gateway.Admission, error) {
	if h.admit != nil {
		return h.admit(ctx, p)
	}
	return gateway.Admission{Mode: access.Full}, nil
}

func (h *fakeHub) Append(m iothub.Message, done func(error)) {
	if !h.forget {
		h.note(func() { h.messages = append(h.messages, m) })
	}
	if h.store != nil {
		h.store(m, done)
		return
	}
	done(nil)
}

func (h *fakeHub) AppendLogs(m iothub.Message, records []logs.Record, done func(error)) {
	h.note(func() { h.records = append(h.records, records...) })
	h.Append(m, done)
}

func (h *fakeHub) Answer(ctx context.Context, s *gateway.Session, t iothub.Request, payload []byte) (iothub.Topic, []byte, error) {
	if h.answer != nil {
		return h.answer(ctx, s, t, payload)
	}
	status, body := h.exchange(ctx, s, string(t.(iothub.Attest).Op), payload)
	return t.Result(status), body, nil
}

func (h *fakeHub) Answered(s *gateway.Session, r iothub.MethodResult, payload []byte) {
	h.note(func() { h.results = append(h.results, result{s.Device(), r, payload}) })
}

func (h *fakeHub) SessionOpened(s *gateway.Session) {
	h.note(func() { h.opened = append(h.opened, s) })
}

func (h *fakeHub) SessionClosed(s *gateway.Session, cause gateway.Cause, err error) {
	h.note(func() { h.closed = append(h.closed, closing{s, cause, err}) })
}

func (h *fakeHub) Subscribed(s *gateway.Session, filter string) {
	if h.watch != nil {
		h.watch(s, filter)
	}
}

func (h *fakeHub) Refused(r gateway.Refusal) {
	h.note(func() { h.refusals = append(h.refusals, r) })
}

func (h *fakeHub) note(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	h.changed.Broadcast()
}

// await waits until a condition on the hub's state holds.
func (h *fakeHub) await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() { h.note(func() { late = true }) })
	defer timer.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	for !ok() {
		if late {
			t.Fatalf("waited in vain for %s", what)
		}
		h.changed.Wait()
	}
}

// awaitClosed waits for the first session to end and checks why.
func (h *fakeHub) awaitClosed(t testing.TB, cause gateway.Cause, text string) {
	t.Helper()
	var got closing
	h.await(t, "the end of the session", func() bool {
		if len(h.closed) > 0 {
			got = h.closed[0]
		}
		return len(h.closed) > 0
	})
	if got.cause != cause || text != "" && (got.err == nil || !strings.Contains(got.err.Error(), text)) {
		t.Errorf("session closed: %s, %v, want %s, %q", got.cause, got.err, cause, text)
	}
}

func (h *fakeHub) awaitRefused(t testing.TB, text string) gateway.Refusal {
	t.Helper()
	var got gateway.Refusal
	h.await(t, "a refusal", func() bool {
		if len(h.refusals) > 0 {
			got = h.refusals[0]
		}
		return len(h.refusals) > 0
	})
	if !strings.Contains(got.Err.Error(), text) {
		t.Errorf("refused: %v, want %q", got.Err, text)
	}
	return got
}

// sessions is how many sessions were opened so far.
func (h *fakeHub) sessions() (n int) {
	h.note(func() { n = len(h.opened) })
	return n
}

func (h *fakeHub) stored() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.messages)
}

// bench is a running gateway with its fake hub and its authority.
type bench struct {
	*authority
	*gateway.Gateway
	hub  *fakeHub
	addr string
	stop func() error // ends Run and returns its error
}

func start(t testing.TB, hub *fakeHub, adjust ...func(*gateway.Config)) *bench {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, l, newAuthority(t), hub, adjust...)
}

func startOn(t testing.TB, l net.Listener, a *authority, hub *fakeHub, adjust ...func(*gateway.Config)) *bench {
	t.Helper()
	hub.changed = sync.NewCond(&hub.mu)
	cfg := gateway.Config{
		Listener: l, TLS: a.serverTLS(t), Admitter: hub, Telemetry: hub, Logs: hub, Requests: hub, Methods: hub, Sessions: hub, Observer: hub,
		Log: discard,
	}
	for _, f := range adjust {
		f(&cfg)
	}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	b := &bench{authority: a, Gateway: g, hub: hub, addr: l.Addr().String()}
	b.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b
}

// client is the device's end of a connection.
type client struct {
	t    testing.TB
	conn *tls.Conn
	in   *mqtt.Decoder
	got  []mqtt.Packet
}

func (b *bench) dial(t testing.TB, id string) *client {
	t.Helper()
	raw, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, raw, b.clientTLS(b.device(t, id)))
}

func newClient(t testing.TB, raw net.Conn, cfg *tls.Config) *client {
	t.Helper()
	conn := tls.Client(raw, cfg)
	t.Cleanup(func() { raw.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, conn: conn, in: mqtt.NewDecoder(mqtt.FromServer, mqtt.DefaultLimit)}
}

func (c *client) send(ps ...mqtt.Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range ps {
		var err error
		if b, err = p.Append(b); err != nil {
			c.t.Fatal(err)
		}
	}
	c.write(b)
}

func (c *client) write(b []byte) {
	c.t.Helper()
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next packet or the error that ended the connection.
func (c *client) next() (mqtt.Packet, error) {
	buf := make([]byte, 4<<10)
	c.conn.SetReadDeadline(time.Now().Add(patience))
	for len(c.got) == 0 {
		n, err := c.conn.Read(buf)
		for p, err := range c.in.Feed(buf[:n]) {
			if err != nil {
				return nil, err
			}
			if pub, ok := p.(*mqtt.Publish); ok {
				pub.Payload = []byte(string(pub.Payload))
			}
			c.got = append(c.got, p)
		}
		if err != nil && len(c.got) == 0 {
			return nil, err
		}
	}
	p := c.got[0]
	c.got = c.got[1:]
	return p, nil
}

// expect returns the next packet, which has to be of type P.
func expect[P mqtt.Packet](c *client) P {
	c.t.Helper()
	p, err := c.next()
	got, ok := p.(P)
	if !ok {
		c.t.Fatalf("got %#v, %v, want %T", p, err, got)
	}
	return got
}

// expectEnd checks that the connection ends without another packet.
func (c *client) expectEnd() {
	c.t.Helper()
	p, err := c.next()
	if p != nil {
		c.t.Fatalf("got %#v, want the end of the connection", p)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		c.t.Fatal("the connection is still open")
	}
}

// open connects as the device id and expects to be let in.
func (b *bench) open(t testing.TB, id string) *client {
	t.Helper()
	c := b.dial(t, id)
	c.send(&mqtt.Connect{ClientID: id, Clean: true})
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.Accepted || ack.SessionPresent {
		t.Fatalf("CONNACK %+v", ack)
	}
	return c
}

func (c *client) subscribe(filters ...string) []byte {
	c.t.Helper()
	p := &mqtt.Subscribe{ID: 9}
	for _, f := range filters {
		p.Filters = append(p.Filters, mqtt.Filter{Filter: f, QoS: mqtt.AtLeastOnce})
	}
	c.send(p)
	ack := expect[*mqtt.Suback](c)
	if ack.ID != p.ID {
		c.t.Fatalf("SUBACK %+v", ack)
	}
	return append([]byte{}, ack.Codes...)
}

// alive checks that the session still answers.
func (c *client) alive() {
	c.t.Helper()
	c.send(&mqtt.Pingreq{})
	expect[*mqtt.Pingresp](c)
}

func deviceOf(i int) identity.Device { return identity.Device(fmt.Sprintf("pump-%04d", i)) }

// lasting counts the gateway's goroutines that do not end: one that has done
// its work may need a moment to be gone.
func lasting() int {
	for late := time.Now().Add(patience); goroutines() > 0 && time.Now().Before(late); {
		runtime.Gosched()
	}
	return goroutines()
}

// goroutines counts those that run code of the gateway.
func goroutines() int {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	n := 0
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "holdfast/hub/gateway.(") {
			n++
		}
	}
	return n
}
