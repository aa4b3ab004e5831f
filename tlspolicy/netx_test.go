package tlspolicy_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/measure"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// The ClientHello messages of NetX Duo 6.4.2, byte for byte but for the random:
// none has SNI, session ticket, extended master secret or ALPN.
const (
	// The azure_iot sample: 0xC027 and P-384 alone. 78 bytes.
	helloA = "0100004a 0303 RANDOM 00 0002c027 0100 001f" +
		"000a0004 00020018" + // supported_groups: secp384r1
		"000b0002 0100" + // ec_point_formats: uncompressed
		"ff010001 00" + // renegotiation_info
		"000d0008 0006 0401 0501 0403" // signature_algorithms
	// The boards of getting-started: 0x003C alone, no groups.
	helloB = "01000038 0303 RANDOM 00 0002003c 0100 000d" +
		"ff010001 00" +
		"000d0004 0002 0401"
	// An application with NetX's full tables and NX_SECURE_ENABLE_AEAD_CIPHER.
	helloC = "0100005a 0303 RANDOM 00 0008c02fc02bc027003c 0100 0029" +
		"000a0008 0006 0017 0018 0019" +
		"000b0002 0100" +
		"ff010001 00" +
		"000d000e 000c 0401 0403 0501 0503 0601 0603"
	// The same with NX_SECURE_TLS_ENABLE_TLS_1_3.
	helloC13 = "010000b0 0303 RANDOM 00 000a1301c02fc02bc027003c 0100 007d" +
		"000a0008 0006 0017 0018 0019" +
		"000b0002 0100" +
		"ff010001 00" +
		"000d000e 000c 0401 0403 0501 0503 0601 0603" +
		"002b0005 04 0304 0303" + // supported_versions
		"00330047 0045 0017 0041 POINT" // key_share: secp256r1
	// C without ECDSA, with and without TLS 1.3.
	helloRSA = "01000046 0303 RANDOM 00 0002c02f 0100 001b" +
		"000a0004 00020017" +
		"000b0002 0100" +
		"ff010001 00" +
		"000d0004 0002 0401"
	helloRSA13 = "0100009c 0303 RANDOM 00 00041301c02f 0100 006f" +
		"000a0004 00020017" +
		"000b0002 0100" +
		"ff010001 00" +
		"000d0004 0002 0401" +
		"002b0005 04 0304 0303" +
		"00330047 0045 0017 0041 POINT"
)

// hello makes the record of a ClientHello. Its lengths have to be right.
func hello(t testing.TB, text string) []byte {
	t.Helper()
	point := must(ecdh.P256().GenerateKey(rand.Reader))(t).PublicKey().Bytes()
	random := make([]byte, 32)
	rand.Read(random)
	text = strings.NewReplacer(" ", "", "RANDOM", hex.EncodeToString(random), "POINT", hex.EncodeToString(point)).Replace(text)
	msg := must(hex.DecodeString(text))(t)
	if n := int(msg[1])<<16 | int(binary.BigEndian.Uint16(msg[2:])); n != len(msg)-4 {
		t.Fatalf("ClientHello says %d bytes, has %d", n, len(msg)-4)
	}
	return append(binary.BigEndian.AppendUint16([]byte{22, 3, 3}, uint16(len(msg))), msg...)
}

// flight is a server's answer to a ClientHello.
type flight struct {
	bytes    int
	messages []byte // the types of its handshake messages
	version  uint16
	suite    uint16
	random   []byte
	chain    []*x509.Certificate
	size     int  // of the Certificate message
	alert    byte // 0: none
}

const serverHelloDone = 14

// replay sends a ClientHello and reads up to ServerHelloDone, an alert, or the
// end of what is in the clear.
func replay(t *testing.T, server *tls.Config, record []byte) flight {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	a.SetDeadline(time.Now().Add(10 * time.Second))
	b.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { defer b.Close(); _ = tls.Server(b, server).Handshake() }()
	if _, err := a.Write(record); err != nil {
		t.Fatal(err)
	}
	var f flight
	var msgs []byte
	for {
		var head [5]byte
		if _, err := io.ReadFull(a, head[:]); err != nil {
			t.Fatalf("no complete flight, only %v: %v", f.messages, err)
		}
		body := make([]byte, binary.BigEndian.Uint16(head[3:]))
		if _, err := io.ReadFull(a, body); err != nil {
			t.Fatal(err)
		}
		f.bytes += len(head) + len(body)
		switch head[0] {
		case 21:
			f.alert = body[1]
			return f
		case 22:
			msgs = append(msgs, body...)
		default: // TLS 1.3 goes on encrypted
			return f
		}
		for len(msgs) >= 4 {
			n := 4 + int(msgs[1])<<16 + int(binary.BigEndian.Uint16(msgs[2:]))
			if len(msgs) < n {
				break
			}
			f.read(t, msgs[:n])
			if msgs[0] == serverHelloDone {
				return f
			}
			msgs = msgs[n:]
		}
	}
}

// read takes in a handshake message, which is well formed or ends the test.
func (f *flight) read(t *testing.T, msg []byte) {
	t.Helper()
	f.messages = append(f.messages, msg[0])
	b := msg[4:]
	take := func(n int) []byte {
		if n > len(b) {
			t.Fatalf("message is cut short: %x", msg)
		}
		part := b[:n]
		b = b[n:]
		return part
	}
	number := func(n int) (v int) {
		for _, c := range take(n) {
			v = v<<8 | int(c)
		}
		return v
	}
	switch msg[0] {
	case 2: // ServerHello
		f.version, f.random = uint16(number(2)), take(32)
		take(number(1)) // session id
		f.suite = uint16(number(2))
		if number(1) != 0 {
			t.Fatal("ServerHello compresses")
		}
		for number(2); len(b) > 0; { // extensions
			kind, body := number(2), take(number(2))
			if kind == 43 { // supported_versions
				f.version = binary.BigEndian.Uint16(body)
			}
		}
	case 11: // Certificate
		f.size = len(msg)
		for number(3); len(b) > 0; {
			f.chain = append(f.chain, must(x509.ParseCertificate(take(number(3))))(t))
		}
	}
}

// rsaCertificate makes an RSA hierarchy for hub.example and a certificate of it.
func (h hub) rsaCertificate(t testing.TB, kind string, exchange bool) (*x509.Certificate, *tls.Certificate) {
	t.Helper()
	names := must(pki.ParseNames([]string{"hub.example"}))(t)
	root, servers, err := pki.NewRSAServers(kind, names, h.now)
	if err != nil {
		t.Fatal(err)
	}
	key := must(pki.NewRSAKey())(t)
	leaf := must(servers.Issue(pki.RSAServerLeaf(names, &key.PublicKey, exchange, time.Hour), h.now))(t)
	return root.Cert, &tls.Certificate{Certificate: [][]byte{leaf.Raw, servers.Cert.Raw}, PrivateKey: key, Leaf: leaf}
}

// legacy is a legacy listener that admits whom verify does.
func (h hub) legacy(t testing.TB, cert *tls.Certificate, verify func(tls.ConnectionState, pki.Peer) error) *tls.Config {
	l := h.listener()
	l.Certificate = func() (*tls.Certificate, error) { return cert, nil }
	l.Verify = verify
	return must(tlspolicy.LegacyMQTT(l))(t)
}

func anyone(tls.ConnectionState, pki.Peer) error { return nil }

func TestNetXOnTheLegacyListener(t *testing.T) {
	h := newHub(t)
	root, cert := h.rsaCertificate(t, "legacy", true)
	server := h.legacy(t, cert, anyone)
	for name, tc := range map[string]struct {
		hello    string
		suite    uint16
		messages []byte
	}{
		"A":              {helloA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, []byte{2, 11, 12, 13, serverHelloDone}},
		"B":              {helloB, tls.TLS_RSA_WITH_AES_128_CBC_SHA256, []byte{2, 11, 13, serverHelloDone}},
		"C":              {helloC, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, []byte{2, 11, 12, 13, serverHelloDone}},
		"C with TLS 1.3": {helloC13, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, []byte{2, 11, 12, 13, serverHelloDone}},
	} {
		t.Run(name, func(t *testing.T) {
			f := replay(t, server, hello(t, tc.hello))
			if f.alert != 0 || f.version != tls.VersionTLS12 || f.suite != tc.suite || !bytes.Equal(f.messages, tc.messages) {
				t.Fatalf("%+v", f)
			}
			if f.bytes >= 7<<10 || f.size >= 4<<10 {
				t.Errorf("flight of %d bytes with a Certificate message of %d; NetX reads 7168, of a board 4096", f.bytes, f.size)
			}
			if len(f.chain) != 2 || f.chain[0].CheckSignatureFrom(f.chain[1]) != nil || f.chain[1].CheckSignatureFrom(root) != nil {
				t.Error("the chain does not lead to the root")
			}
			for _, c := range f.chain {
				if c.SignatureAlgorithm != x509.SHA256WithRSA {
					t.Errorf("%s is signed with %s", c.Subject, c.SignatureAlgorithm)
				}
			}
			if bytes.HasPrefix(f.random[24:], []byte("DOWNGRD")) {
				t.Error("ServerHello has the mark of a downgrade, which a client of TLS 1.3 refuses")
			}
		})
	}
}

func TestNetXOnTheMainListener(t *testing.T) {
	h := newHub(t)
	_, rsaCert := h.rsaCertificate(t, "rsa", false)
	l := h.listener()
	l.AllowTLS12, l.Verify = true, anyone
	ecdsaOnly := must(tlspolicy.DeviceMQTT(l))(t)
	l.RSA = func() (*tls.Certificate, error) { return rsaCert, nil }
	both := must(tlspolicy.DeviceMQTT(l))(t)
	for _, tc := range []struct {
		name, hello string
		server      *tls.Config
		alert       byte
		version     uint16
		suite       uint16
	}{
		{"A", helloA, both, 40, 0, 0},
		{"B", helloB, both, 40, 0, 0},
		{"A without RSA", helloA, ecdsaOnly, 40, 0, 0},
		{"B without RSA", helloB, ecdsaOnly, 40, 0, 0},
		{"C", helloC, both, 0, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		{"C without RSA", helloC, ecdsaOnly, 0, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		{"C with TLS 1.3", helloC13, both, 0, tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256},
		{"RSA alone", helloRSA, both, 0, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		{"RSA alone with TLS 1.3", helloRSA13, both, 0, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		{"RSA alone without RSA", helloRSA, ecdsaOnly, 40, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := replay(t, tc.server, hello(t, tc.hello))
			if f.alert != tc.alert || f.version != tc.version || f.suite != tc.suite {
				t.Fatalf("alert %d, %s, %s", f.alert, tls.VersionName(f.version), tls.CipherSuiteName(f.suite))
			}
			if f.version == tls.VersionTLS12 && f.bytes >= 7<<10 {
				t.Errorf("flight of %d bytes", f.bytes)
			}
			if tc.hello == helloRSA13 && bytes.HasPrefix(f.random[24:], []byte("DOWNGRD")) {
				t.Error("ServerHello has the mark of a downgrade, which a client of TLS 1.3 refuses")
			}
		})
	}
}

// legacyClient is what stock firmware does, by crypto/tls.
func legacyClient(root *x509.Certificate, now time.Time, cert *tls.Certificate, suites ...uint16) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: suites, CurvePreferences: []tls.CurveID{tls.CurveP384},
		RootCAs: pool, ServerName: "hub.example", Certificates: []tls.Certificate{*cert}, Time: func() time.Time { return now },
	}
}

func TestLegacySessions(t *testing.T) {
	h := newHub(t)
	root, cert := h.rsaCertificate(t, "legacy", true)
	denied := errors.New("group meters is not marked legacy-threadx")
	pump := func(_ tls.ConnectionState, p pki.Peer) error {
		if p.Device != "pump-01" {
			return denied
		}
		return nil
	}
	other := h.certificate(t, pki.Operational, func(k crypto.PublicKey) pki.Leaf { return pki.OperationalLeaf("meter-01", k, time.Hour) })
	server := h.legacy(t, cert, pump)
	for _, suite := range []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA256} {
		state, err, clientErr := handshake(t, server, legacyClient(root, h.now, h.operational(t), suite))
		if err != nil || clientErr != nil || state.CipherSuite != suite || state.DidResume {
			t.Errorf("%s: server %v, client %v", tls.CipherSuiteName(suite), err, clientErr)
		}
		if _, err, clientErr := handshake(t, server, legacyClient(root, h.now, other, suite)); !errors.Is(err, denied) || clientErr == nil {
			t.Errorf("%s, another group: server %v, client %v", tls.CipherSuiteName(suite), err, clientErr)
		}
		if _, err, _ := handshake(t, server, legacyClient(root, h.now, h.birth(t), suite)); pki.RuleOf(err) != tlspolicy.RuleVersion {
			t.Errorf("%s, IDevID: %v", tls.CipherSuiteName(suite), err)
		}
	}
	for name, client := range map[string]*tls.Config{
		"AEAD":         legacyClient(root, h.now, h.operational(t), tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
		"CBC and SHA1": legacyClient(root, h.now, h.operational(t), tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA),
		"TLS 1.3":      h.client(t, h.operational(t)),
	} {
		if _, err, _ := handshake(t, server, client); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLegacyListenerIsNoAccident(t *testing.T) {
	h := newHub(t)
	_, cert := h.rsaCertificate(t, "legacy", true)
	l := h.listener()
	if _, err := tlspolicy.LegacyMQTT(l); err == nil {
		t.Error("nobody decides who may use it")
	}
	l.Verify, l.RSA = anyone, func() (*tls.Certificate, error) { return cert, nil }
	if _, err := tlspolicy.LegacyMQTT(l); err == nil {
		t.Error("accepted with a choice of certificates")
	}
}

// What a device on the legacy listener has to change is in its rows.
func TestLegacyRowsSayHowToMend(t *testing.T) {
	for _, suite := range []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA256} {
		facts := tlspolicy.Facts{Protocol: tlspolicy.MQTT, Version: tls.VersionTLS12, Suite: suite,
			Peer: pki.Peer{Class: pki.Maker, Name: "pump-01", Device: "pump-01"}}
		for id, want := range map[measure.ID][]string{
			measure.ProtocolCipherSuites: {tls.CipherSuiteName(suite), "{TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,", "NX_SECURE_ENABLE_AEAD_CIPHER"},
			measure.ProtocolTLS:          {"TLS 1.2 negotiated", "NX_SECURE_TLS_ENABLE_TLS_1_3"},
		} {
			rows := tlspolicy.Rows(facts, time.Now())
			row := rows[slices.IndexFunc(rows, func(r measure.Row) bool { return r.Measure == id })]
			for _, text := range want {
				if row.Verdict != measure.Fail || !strings.Contains(row.Reason, text) {
					t.Errorf("%s: %s %q lacks %q", id, row.Verdict, row.Reason, text)
				}
			}
		}
	}
}
