package tlspolicy_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"holdfast/tlspolicy"
)

// said is a connection whose peer has said something and hung up.
type said struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *said) Read(p []byte) (int, error)     { return s.in.Read(p) }
func (s *said) Write(p []byte) (int, error)    { return s.out.Write(p) }
func (*said) Close() error                     { return nil }
func (*said) SetDeadline(time.Time) error      { return nil }
func (*said) SetWriteDeadline(time.Time) error { return nil }
func (*said) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*said) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// helloOf reads what a ServerHello chose; zeros where there is none.
func helloOf(r io.Reader) (version, suite uint16) {
	var head [9]byte // of the record and of the message
	if _, err := io.ReadFull(r, head[:]); err != nil || head[0] != 22 || head[5] != 2 {
		return 0, 0
	}
	body := make([]byte, int(head[7])<<8|int(head[8]))
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, 0
	}
	id := int(body[34])
	return binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[35+id:])
}

// FuzzClientHello says anything to the listeners: whatever is offered, the main
// one chooses nothing weak and the legacy one nothing but its two suites.
func FuzzClientHello(f *testing.F) {
	h := newHub(f)
	_, rsaCert := h.rsaCertificate(f, "rsa", false)
	_, oldCert := h.rsaCertificate(f, "legacy", true)
	l := h.listener()
	l.AllowTLS12, l.Verify = true, anyone
	l.RSA = func() (*tls.Certificate, error) { return rsaCert, nil }
	modern, old := must(tlspolicy.DeviceMQTT(l))(f), h.legacy(f, oldCert, anyone)
	for _, text := range []string{helloA, helloB, helloC, helloC13, helloRSA, helloRSA13} {
		f.Add(hello(f, text)[5:])
	}
	strong := []uint16{
		tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	weak := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA256}
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) > 1<<14 {
			return // more than a record holds
		}
		record := append(binary.BigEndian.AppendUint16([]byte{22, 3, 1}, uint16(len(message))), message...)
		for _, c := range []struct {
			name   string
			server *tls.Config
			may    []uint16
		}{{"main", modern, strong}, {"legacy", old, weak}} {
			conn := &said{in: bytes.NewReader(record)}
			if tls.Server(conn, c.server).Handshake() == nil {
				t.Errorf("%s listener: a handshake without a certificate", c.name)
			}
			if version, suite := helloOf(&conn.out); version != 0 && (version != tls.VersionTLS12 || !slices.Contains(c.may, suite)) {
				t.Errorf("%s listener chose %s, %s", c.name, tls.VersionName(version), tls.CipherSuiteName(suite))
			}
		}
	})
}
