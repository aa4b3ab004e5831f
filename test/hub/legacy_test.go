package hub_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/hub"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/mqtt"
	"holdfast/operator"
	"holdfast/pki"
)

// house is a running hub with a legacy listener, and a maker's CA on it.
type house struct {
	dir    string
	stream string // URL of an external cluster; empty: embedded
	at     hub.Addresses
	client *client.Client
	ca     *x509.Certificate
	key    *ecdsa.PrivateKey
}

// newHouse runs a hub; enable, if any, is done between init and start.
func newHouse(t *testing.T, enable ...func(dir, out string) error) *house {
	t.Helper()
	return (&house{}).build(t, enable...)
}

func (h *house) build(t *testing.T, enable ...func(dir, out string) error) *house {
	t.Helper()
	tmp := t.TempDir()
	h.dir = filepath.Join(tmp, "hub")
	err := hub.Init(t.Context(), hub.InitConfig{State: h.dir, Hosts: []string{"localhost", "127.0.0.1"}, RootOut: filepath.Join(tmp, "root.key"), Admin: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range enable {
		if err := f(h.dir, filepath.Join(tmp, fmt.Sprintf("%d.key", i))); err != nil {
			t.Fatal(err)
		}
	}
	h.run(t)
	h.client = must(client.OpenAt(filepath.Join(h.dir, "operator", "profile.json"), "https://"+h.at.Operator))(t)
	h.maker(t)
	return h
}

func (h *house) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan hub.Addresses, 1), make(chan error, 1)
	go func() {
		ended <- hub.Run(ctx, h.dir, hub.Options{Version: "test", MQTT: "127.0.0.1:0", HTTPS: "127.0.0.1:0", Operator: "127.0.0.1:0", Stream: h.stream,
			Log: slog.New(slog.DiscardHandler), Ready: func(a hub.Addresses) { ready <- a }})
	}()
	select {
	case h.at = <-ready:
	case err := <-ended:
		t.Fatalf("hub ended: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("hub: %v", err)
		}
	})
}

// maker registers a maker's CA, and three groups that it speaks for.
func (h *house) maker(t *testing.T) {
	t.Helper()
	h.key = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Pipeworks CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	h.ca = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, h.key.Public(), h.key))(t)))(t)
	must(h.client.AddCA(t.Context(), operator.CA{Name: "pipeworks", Kind: "maker", PEM: string(pki.EncodeCerts(h.ca))}))(t)
	for id, g := range map[identity.Group]operator.SetGroup{
		"old":    {ThreadX: true, IDs: []string{"old-*"}},
		"meters": {TLS12: true, IDs: []string{"meter-*"}},
	} {
		g.PolicyName, g.MakerCAs = "lenient", []string{"pipeworks"}
		must(h.client.SetGroup(t.Context(), id, g))(t)
	}
}

func (h *house) certificate(t *testing.T, id string) tls.Certificate {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)
	tmpl := &x509.Certificate{SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62)))(t), Subject: pkix.Name{CommonName: id},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der := must(x509.CreateCertificate(rand.Reader, tmpl, h.ca, crypto.PublicKey(key.Public()), h.key))(t)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// dial connects as a device with a root file and TLS 1.2 suites, says CONNECT
// and returns the code of CONNACK.
func (h *house) dial(t *testing.T, addr, root, id string, curve tls.CurveID, suites ...uint16) (*tls.Conn, mqtt.Code, error) {
	t.Helper()
	user := fmt.Sprintf("localhost/%s/?api-version=2020-09-30&DeviceClientType=azsdk-c%%2F1.3.2", id)
	return h.dialAs(t, addr, root, id, user, curve, suites...)
}

// dialAs is dial with a user name, which says whom the session is with.
func (h *house) dialAs(t *testing.T, addr, root, id, user string, curve tls.CurveID, suites ...uint16) (*tls.Conn, mqtt.Code, error) {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(must(os.ReadFile(filepath.Join(h.dir, root)))(t)) {
		t.Fatalf("%s has no certificate", root)
	}
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, 0, err
	}
	host, _, _ := net.SplitHostPort(addr)
	conn := tls.Client(&records{Conn: raw}, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: suites,
		CurvePreferences: []tls.CurveID{curve}, RootCAs: pool, Certificates: []tls.Certificate{h.certificate(t, id)}})
	t.Cleanup(func() { conn.Close() })
	if err := conn.Handshake(); err != nil {
		return nil, 0, err
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	b := must((&mqtt.Connect{ClientID: id, Username: &user, KeepAlive: 240, Clean: true}).Append(nil))(t)
	if _, err := conn.Write(b); err != nil {
		return conn, 0, err
	}
	dec := mqtt.NewDecoder(mqtt.FromServer, 1<<10)
	buf := make([]byte, 64)
	for {
		n, err := conn.Read(buf)
		for p, bad := range dec.Feed(buf[:n]) {
			if ack, ok := p.(*mqtt.Connack); ok && bad == nil {
				return conn, ack.Code, nil
			}
			t.Fatalf("%T, %v", p, bad)
		}
		if err != nil {
			return conn, 0, err
		}
	}
}

func TestLegacyListener(t *testing.T) {
	h := newHouse(t, enableRSA(t), enableLegacy(t))
	for _, suite := range []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA256} {
		if _, code, err := h.dial(t, h.at.Legacy, "legacy-root.pem", "old-1", tls.CurveP384, suite); err != nil || code != mqtt.Accepted {
			t.Fatalf("%s: code %d, %v", tls.CipherSuiteName(suite), code, err)
		}
		h.failed(t, "old-1", suite)
		if _, _, err := h.dial(t, h.at.Legacy, "legacy-root.pem", "meter-1", tls.CurveP384, suite); err == nil {
			t.Errorf("%s: a device of a group that is not marked got in", tls.CipherSuiteName(suite))
		}
		for _, root := range []string{"root.pem", "rsa-root.pem"} {
			if _, _, err := h.dial(t, h.at.MQTT, root, "old-1", tls.CurveP384, suite); err == nil || !strings.Contains(err.Error(), "handshake failure") {
				t.Errorf("%s on the main listener: %v", tls.CipherSuiteName(suite), err)
			}
		}
	}
}

// failed waits for a device's rows of the suite, which say what to change.
func (h *house) failed(t *testing.T, id identity.Device, suite uint16) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		d := must(h.client.Device(t.Context(), id))(t)
		i := slices.IndexFunc(d.Posture, func(r measure.Row) bool { return r.Measure == measure.ProtocolCipherSuites })
		j := slices.IndexFunc(d.Posture, func(r measure.Row) bool { return r.Measure == measure.ProtocolTLS })
		if i >= 0 && j >= 0 && d.Posture[i].Verdict == measure.Fail && d.Posture[j].Verdict == measure.Fail &&
			strings.Contains(d.Posture[i].Reason, "in place of "+tls.CipherSuiteName(suite)) && strings.Contains(d.Posture[j].Reason, "NX_SECURE_TLS_ENABLE_TLS_1_3") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("rows of %s: %+v", id, d.Posture)
		}
	}
}

// The main listener answers with the certificate that the device can verify.
func TestBothCertificates(t *testing.T) {
	h := newHouse(t, enableRSA(t), enableLegacy(t))
	for root, suite := range map[string]uint16{
		"root.pem":     tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		"rsa-root.pem": tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	} {
		if conn, code, err := h.dial(t, h.at.MQTT, root, "meter-1", tls.CurveP256, suite); err != nil || code != mqtt.Accepted || conn.ConnectionState().CipherSuite != suite {
			t.Errorf("%s: code %d, %v", root, code, err)
		}
		if _, _, err := h.dial(t, h.at.MQTT, root, "old-1", tls.CurveP256, suite); err == nil {
			t.Errorf("%s: TLS 1.2 for a group that does not allow it here", root)
		}
	}
	if _, _, err := h.dial(t, h.at.MQTT, "legacy-root.pem", "meter-1", tls.CurveP256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256); err == nil {
		t.Error("the legacy root vouches for the main listener")
	}
}

// operatorTLS is what the operator's profile says.
func (h *house) operatorTLS(t *testing.T) *tls.Config {
	t.Helper()
	dir := filepath.Join(h.dir, "operator")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(must(os.ReadFile(filepath.Join(dir, "root.pem")))(t))
	cert := must(tls.LoadX509KeyPair(filepath.Join(dir, "operator.pem"), filepath.Join(dir, "operator.key")))(t)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}
}

func enableRSA(t *testing.T) func(dir, out string) error {
	return func(dir, out string) error { return hub.EnableRSA(t.Context(), dir, out) }
}

func enableLegacy(t *testing.T) func(dir, out string) error {
	return func(dir, out string) error {
		return hub.EnableLegacy(t.Context(), dir, hub.LegacyConfig{RootOut: out, Listen: "127.0.0.2:0", Hosts: []string{"127.0.0.2"}})
	}
}

// records notes the size of the largest TLS record that was read.
type records struct {
	net.Conn
	head    []byte
	body    int // bytes of the record that are still to come
	largest int
}

func (r *records) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	for b := p[:n]; len(b) > 0; {
		if r.body > 0 {
			k := min(r.body, len(b))
			b, r.body = b[k:], r.body-k
			continue
		}
		r.head, b = append(r.head, b[0]), b[1:]
		if len(r.head) == 5 {
			r.body = int(r.head[3])<<8 | int(r.head[4])
			r.largest, r.head = max(r.largest, r.body), r.head[:0]
		}
	}
	return n, err
}

// packet reads the next packet.
func packet(t *testing.T, conn *tls.Conn) mqtt.Packet {
	t.Helper()
	dec := mqtt.NewDecoder(mqtt.FromServer, 1<<20)
	buf := make([]byte, 1)
	for {
		if _, err := conn.Read(buf); err != nil {
			t.Fatal(err)
		}
		for p, bad := range dec.Feed(buf) {
			if bad != nil {
				t.Fatal(bad)
			}
			return p
		}
	}
}

// request subscribes to answers and publishes a request, as NetX does without
// waiting for SUBACK, and returns the answer.
func request(t *testing.T, conn *tls.Conn, filter, topic, body string) *mqtt.Publish {
	t.Helper()
	b := must((&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: filter}}}).Append(nil))(t)
	b = must((&mqtt.Publish{Topic: topic, Payload: []byte(body)}).Append(b))(t)
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	for {
		if p, ok := packet(t, conn).(*mqtt.Publish); ok {
			return p
		}
	}
}

const legacySuite = tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256

// A large answer comes in records that NetX can take: 7 KiB, of a board 4 KiB
// and what encryption adds.
func TestLegacyRecordsAreSmall(t *testing.T) {
	h := newHouse(t, enableLegacy(t))
	conn, code, err := h.dial(t, h.at.Legacy, "legacy-root.pem", "old-1", tls.CurveP384, legacySuite)
	if err != nil || code != mqtt.Accepted {
		t.Fatalf("code %d, %v", code, err)
	}
	patch := fmt.Sprintf(`{"a":%q,"b":%[1]q,"c":%[1]q,"d":%[1]q}`, strings.Repeat("x", 4000))
	must(h.client.MergeTwin(t.Context(), "old-1", operator.SetTwin{Desired: []byte(patch)}, ""))(t)
	answer := request(t, conn, "$iothub/twin/res/#", "$iothub/twin/GET/?$rid=1", "")
	if answer.Topic != "$iothub/twin/res/200/?$rid=1" || len(answer.Payload) < 16000 {
		t.Errorf("%s, %d bytes", answer.Topic, len(answer.Payload))
	}
	if n := conn.NetConn().(*records).largest; n > 4096+80 {
		t.Errorf("a TLS record has %d bytes", n)
	}
}

// The legacy listener serves DPS too, for the same groups.
func TestLegacyProvisioning(t *testing.T) {
	h := newHouse(t, enableLegacy(t))
	scope := must(h.client.Hub(t.Context()))(t).Scope
	for id, group := range map[string]identity.Group{"new-1": "old", "new-2": "meters"} {
		must(h.client.AddEnrollment(t.Context(), operator.Enrollment{Kind: "individual", ID: id, Group: group, MakerCA: "pipeworks"}))(t)
	}
	connect := func(id string) (*tls.Conn, mqtt.Code, error) {
		return h.dialAs(t, h.at.Legacy, "legacy-root.pem", id, scope+"/registrations/"+id+"/api-version=2019-03-31", tls.CurveP384, legacySuite)
	}
	conn, code, err := connect("new-1")
	if err != nil || code != mqtt.Accepted {
		t.Fatalf("code %d, %v", code, err)
	}
	answer := request(t, conn, "$dps/registrations/res/#", "$dps/registrations/PUT/iotdps-register/?$rid=1", `{"registrationId" : "new-1"}`)
	if !strings.HasPrefix(answer.Topic, "$dps/registrations/res/20") {
		t.Errorf("%s %s", answer.Topic, answer.Payload)
	}
	if _, code, err := connect("new-2"); err == nil && code == mqtt.Accepted {
		t.Error("a device of a group that is not marked registered here")
	}
}
