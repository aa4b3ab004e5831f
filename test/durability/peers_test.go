package durability_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/ledger"
	"holdfast/mqtt"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// operatorClient is the first operator's client, by the profile.
func (s *station) operatorClient(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.OpenAt(filepath.Join(s.dir, "operator", "profile.json"), "https://"+s.at.Operator)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// operatorTransport carries the first operator's requests.
func (s *station) operatorTransport(t testing.TB) *http.Transport {
	cert := s.operatorCertificate(t)
	return &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		return s.dial(t, s.at.Operator, "http/1.1", cert)
	}}
}

func (s *station) operatorCertificate(t testing.TB) *tls.Certificate {
	t.Helper()
	dir := filepath.Join(s.dir, "operator")
	text, err := os.ReadFile(filepath.Join(dir, "operator.pem"))
	keyText, keyErr := os.ReadFile(filepath.Join(dir, "operator.key"))
	if err := errors.Join(err, keyErr); err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseCerts(text)
	key, keyErr := pki.ParseKey(keyText)
	if err := errors.Join(err, keyErr); err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: pki.RawChain(chain), PrivateKey: key, Leaf: chain[0]}
}

// roots are what devices trust.
func (s *station) roots(t testing.TB) []*x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ParseCerts(b)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// dial opens a TLS connection to one of the hub's listeners.
func (s *station) dial(t testing.TB, address, protocol string, cert *tls.Certificate) (*tls.Conn, error) {
	t.Helper()
	cfg, err := tlspolicy.Client(tlspolicy.Dialer{Roots: s.roots(t), ServerName: "127.0.0.1", Now: time.Now,
		Certificate: func() (*tls.Certificate, error) { return cert, nil }, Protocols: []string{protocol}})
	if err != nil {
		t.Fatal(err)
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: cfg}
	conn, err := d.DialContext(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// connection is an HTTP client of one connection, so that a trace can be asked
// what happened on it.
type connection struct {
	http.Client
	address netip.AddrPort // its own end
}

func (s *station) connect(t testing.TB, address string, cert *tls.Certificate) *connection {
	t.Helper()
	conn, err := s.dial(t, address, "http/1.1", cert)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return on(conn)
}

// on speaks HTTP on a connection and on no other.
func on(conn net.Conn) *connection {
	once := make(chan net.Conn, 1)
	once <- conn
	return &connection{address: local(conn), Client: http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		MaxConnsPerHost: 1, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, errors.New("the connection was lost")
			}
		}}}}
}

func local(c net.Conn) netip.AddrPort { return c.LocalAddr().(*net.TCPAddr).AddrPort() }

// maker is a maker of devices, which the hub knows as the owner of sensor-*.
type maker struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// newMaker makes a maker and registers it and its group "sensors".
func newMaker(t testing.TB, c *client.Client) *maker {
	t.Helper()
	m := &maker{}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "Sensor maker"}, IsCA: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign}
	m.cert, m.key = m.sign(t, template)
	ca := operator.CA{Name: "sensor-maker", Kind: "maker", PEM: string(pki.EncodeCerts(m.cert))}
	if _, err := c.AddCA(t.Context(), ca); err != nil {
		t.Fatal(err)
	}
	g := operator.SetGroup{PolicyName: "lenient", MakerCAs: []string{ca.Name}, IDs: []string{"sensor-*"}}
	if _, err := c.SetGroup(t.Context(), "sensors", g); err != nil {
		t.Fatal(err)
	}
	return m
}

// sign signs a certificate for a new key; the maker's own while it has none.
func (m *maker) sign(t testing.TB, template *x509.Certificate) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = new(big.Int).SetBytes([]byte(rand.Text()[:15]))
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	template.BasicConstraintsValid = true
	parent, signer := m.cert, m.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// device makes a device's certificate.
func (m *maker) device(t testing.TB, id identity.Device) *tls.Certificate {
	t.Helper()
	cert, key := m.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: string(id)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// session is an MQTT session of a device.
type session struct {
	*tls.Conn
	id  identity.Device
	in  *mqtt.Decoder
	buf [4 << 10]byte
	bit []byte // of buf, not yet decoded
}

// errRefused says that the hub did not admit a device.
var errRefused = errors.New("CONNACK refuses")

func (s *station) open(t testing.TB, id identity.Device, cert *tls.Certificate) (*session, error) {
	t.Helper()
	conn, err := s.dial(t, s.at.MQTT, "mqtt", cert)
	if err != nil {
		return nil, err
	}
	d := &session{Conn: conn, id: id, in: mqtt.NewDecoder(mqtt.FromServer, mqtt.DefaultLimit)}
	d.in.Version = mqtt.V311
	if err := d.send(&mqtt.Connect{ClientID: string(id), Clean: true}); err != nil {
		conn.Close()
		return nil, err
	}
	p, err := d.receive()
	if err != nil {
		conn.Close()
		return nil, err
	}
	if ack, ok := p.(*mqtt.Connack); !ok || ack.Code != mqtt.Accepted {
		conn.Close()
		return nil, fmt.Errorf("%w: %+v", errRefused, p)
	}
	return d, nil
}

func (d *session) send(p mqtt.Packet) error {
	b, err := p.Append(nil)
	if err != nil {
		return err
	}
	_, err = d.Write(b)
	return err
}

// receive returns the next packet.
func (d *session) receive() (mqtt.Packet, error) {
	for {
		p, rest, err := d.in.Next(d.bit)
		d.bit = rest
		if p != nil || err != nil {
			return p, err
		}
		if err := d.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return nil, err
		}
		n, err := d.Read(d.buf[:])
		if err != nil {
			return nil, err
		}
		d.bit = d.buf[:n]
	}
}

// publish sends a message without waiting for its acknowledgement.
func (d *session) publish(packet uint16, body []byte) error {
	return d.send(&mqtt.Publish{Topic: iothub.Events{Device: d.id}.String(), QoS: mqtt.AtLeastOnce, ID: packet, Payload: body})
}

// acknowledged waits for the next acknowledgement.
func (d *session) acknowledged() (uint16, error) {
	p, err := d.receive()
	if err != nil {
		return 0, err
	}
	ack, ok := p.(*mqtt.Puback)
	if !ok {
		return 0, fmt.Errorf("got %T, want an acknowledgement", p)
	}
	return ack.ID, nil
}

// window is how many messages a publisher has in flight.
const window = 16

// publisher is a device that sends numbers, and notes which are acknowledged.
type publisher struct {
	id   identity.Device
	cert *tls.Certificate
	pad  int // bytes that follow the number

	next  int // number of the next message
	acked map[int]bool
}

func newPublisher(t testing.TB, m *maker, id identity.Device) *publisher {
	return &publisher{id: id, cert: m.device(t, id), acked: map[int]bool{}}
}

// run publishes until the session ends, and returns why. No number is sent
// twice: what was not acknowledged may be stored or not.
func (p *publisher) run(t testing.TB, s *station) error {
	d, err := s.open(t, p.id, p.cert)
	if err != nil {
		return err
	}
	defer d.Close()
	slots := make(chan int, window)
	ended := make(chan error, 1)
	go func() {
		for ; ; p.next++ {
			slots <- p.next
			body := append(strconv.AppendInt(nil, int64(p.next), 10), bytes.Repeat([]byte(" "), p.pad)...)
			if err := d.publish(packetID(p.next), body); err != nil {
				p.next++
				ended <- err
				return
			}
		}
	}()
	for {
		id, err := d.acknowledged()
		if err != nil {
			d.Close()
			for {
				select {
				case <-slots: // lets the sender find that the session has ended
				case <-ended:
					return err
				}
			}
		}
		n := <-slots
		if packetID(n) != id {
			return fmt.Errorf("%s: acknowledgement of %d, want %d", p.id, id, packetID(n))
		}
		p.acked[n] = true
	}
}

// send publishes some messages, one in flight.
func (p *publisher) send(t testing.TB, s *station, count int) error {
	d, err := s.open(t, p.id, p.cert)
	if err != nil {
		return err
	}
	defer d.Close()
	for range count {
		n := p.next
		p.next++
		if err := d.publish(packetID(n), []byte(strconv.Itoa(n))); err != nil {
			return err
		}
		if _, err := d.acknowledged(); err != nil {
			return err
		}
		p.acked[n] = true
	}
	return nil
}

func packetID(n int) uint16 { return uint16(n%65535) + 1 }

// check reads what the hub has of a publisher: everything acknowledged, each
// once and in order.
func (p *publisher) check(t testing.TB, c *client.Client) {
	t.Helper()
	last, missing := -1, len(p.acked)
	err := c.Events(t.Context(), operator.EventQuery{Device: p.id, Kind: string(iothub.Telemetry)}, func(e operator.Event) error {
		n, err := strconv.Atoi(string(bytes.TrimSpace([]byte(e.Body))))
		if err != nil || n <= last {
			return fmt.Errorf("%q stands after %d", e.Body, last)
		}
		last = n
		if p.acked[n] {
			missing--
		}
		return nil
	})
	if err != nil {
		t.Errorf("%s: %v", p.id, err)
	}
	if missing > 0 {
		t.Errorf("%s: %d of %d acknowledged messages are lost", p.id, missing, len(p.acked))
	}
}

// heads keeps signed heads of the ledger, as somebody does who does not trust
// the hub.
type heads struct {
	mu   sync.Mutex
	kept []ledger.Head
}

func (h *heads) keep(head ledger.Head) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = append(h.kept, head)
}

// verify verifies the whole ledger against the heads, and returns its records.
func (h *heads) verify(t testing.TB, c *client.Client) ([]ledger.Record, ledger.Result) {
	t.Helper()
	h.mu.Lock()
	kept := slices.Clone(h.kept)
	h.mu.Unlock()
	var records []ledger.Record
	res, err := ledger.Verify(ledger.Pages(1, func(from int64, limit int) ([]ledger.Record, error) {
		rs, err := c.Ledger(t.Context(), from, limit)
		records = append(records, rs...)
		return rs, err
	}), kept...)
	if err != nil {
		t.Errorf("ledger: %v", err)
	}
	return records, res
}
