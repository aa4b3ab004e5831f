package tlspolicy_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"holdfast/pki"
	"holdfast/tlspolicy"
)

// hub is a PKI with a certificate for each side of a handshake.
type hub struct {
	root   *pki.Authority
	ca     map[pki.Class]*pki.Authority
	server *tls.Certificate
	trust  *pki.Trust
	now    time.Time
}

func newHub(t testing.TB) hub {
	t.Helper()
	h := hub{now: time.Now(), ca: make(map[pki.Class]*pki.Authority)}
	h.root = must(pki.NewRoot(h.now))(t)
	names := pki.Names{DNS: []string{"hub.example"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	for _, class := range pki.Classes() {
		h.ca[class] = must(h.root.NewIntermediate(class, names, h.now))(t)
	}
	h.server = h.certificate(t, pki.Server, func(k crypto.PublicKey) pki.Leaf { return pki.ServerLeaf(names, k, time.Hour) })
	h.trust = must(pki.NewTrust(
		pki.Anchor{Class: pki.Birth, Cert: h.ca[pki.Birth].Cert},
		pki.Anchor{Class: pki.Operational, Cert: h.ca[pki.Operational].Cert}))(t)
	return h
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (h hub) certificate(t testing.TB, class pki.Class, leaf func(crypto.PublicKey) pki.Leaf) *tls.Certificate {
	t.Helper()
	key := must(pki.NewKey())(t)
	cert := must(h.ca[class].Issue(leaf(key.Public()), h.now))(t)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw, h.ca[class].Cert.Raw}, PrivateKey: key}
}

func (h hub) birth(t testing.TB) *tls.Certificate {
	return h.certificate(t, pki.Birth, func(k crypto.PublicKey) pki.Leaf { return pki.BirthLeaf("pump-01", k) })
}

func (h hub) operational(t testing.TB) *tls.Certificate {
	return h.certificate(t, pki.Operational, func(k crypto.PublicKey) pki.Leaf {
		return pki.OperationalLeaf("pump-01", k, time.Hour)
	})
}

func (h hub) operator(t testing.TB) *tls.Certificate {
	return h.certificate(t, pki.Operator, func(k crypto.PublicKey) pki.Leaf { return pki.OperatorLeaf("ada", k, time.Hour) })
}

func (h hub) listener() tlspolicy.Listener {
	return tlspolicy.Listener{
		Certificate: func() (*tls.Certificate, error) { return h.server, nil },
		Trust:       func() *pki.Trust { return h.trust },
		Now:         func() time.Time { return h.now },
	}
}

func (h hub) client(t testing.TB, cert *tls.Certificate) *tls.Config {
	t.Helper()
	return must(tlspolicy.Client(tlspolicy.Dialer{
		Roots: []*x509.Certificate{h.root.Cert}, ServerName: "hub.example",
		Now:         func() time.Time { return h.now },
		Certificate: func() (*tls.Certificate, error) { return cert, nil },
	}))(t)
}

// handshake runs both ends over a pipe and returns what each says.
func handshake(t testing.TB, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	deadline := time.Now().Add(time.Minute)
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		conn := tls.Client(b, client)
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Read(make([]byte, 1)) // TLS 1.3: the server's verdict on us comes after
		}
		b.Close()
		done <- err
	}()
	conn := tls.Server(a, server)
	if serverErr = conn.Handshake(); serverErr == nil {
		_, serverErr = conn.Write([]byte("x"))
	}
	state = conn.ConnectionState()
	a.Close()
	return state, serverErr, <-done
}

// TestOperatorsAuthorityIsNamed, so that browsers offer no other certificates;
// one of another authority is judged all the same.
func TestOperatorsAuthorityIsNamed(t *testing.T) {
	h := newHub(t)
	cert := h.operational(t)
	authority := must(x509.ParseCertificate(cert.Certificate[1]))(t)
	l := h.listener()
	l.Hint = []*x509.Certificate{authority}
	client := h.client(t, nil)
	var named [][]byte
	client.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		named = r.AcceptableCAs
		return h.operator(t), nil
	}
	if _, err, _ := handshake(t, must(tlspolicy.Operator(l))(t), client); pki.RuleOf(err) != pki.RuleIssuer {
		t.Errorf("a certificate of another authority: %v", err)
	}
	if len(named) != 1 || !bytes.Equal(named[0], authority.RawSubject) {
		t.Errorf("named are %d authorities", len(named))
	}
}

func TestHandshakes(t *testing.T) {
	h := newHub(t)
	foreign := newHub(t)
	for _, tc := range []struct {
		name   string
		listen func(tlspolicy.Listener) (*tls.Config, error)
		cert   *tls.Certificate
		want   pki.Rule // of the server's refusal
		text   string   // or its text
	}{
		{"MQTT, LDevID", tlspolicy.DeviceMQTT, h.operational(t), "", ""},
		{"MQTT, IDevID", tlspolicy.DeviceMQTT, h.birth(t), "", ""},
		{"MQTT, nothing", tlspolicy.DeviceMQTT, nil, "", "didn't provide a certificate"},
		{"MQTT, operator", tlspolicy.DeviceMQTT, h.operator(t), pki.RuleIssuer, ""},
		{"MQTT, the hub's own", tlspolicy.DeviceMQTT, h.server, pki.RuleIssuer, ""},
		{"MQTT, another hub's device", tlspolicy.DeviceMQTT, foreign.operational(t), pki.RuleIssuer, ""},
		{"HTTPS, LDevID", tlspolicy.DeviceHTTPS, h.operational(t), "", ""},
		{"HTTPS, nothing", tlspolicy.DeviceHTTPS, nil, "", ""},
		{"HTTPS, operator", tlspolicy.DeviceHTTPS, h.operator(t), pki.RuleIssuer, ""},
		{"operators, LDevID where devices are trusted", tlspolicy.Operator, h.operational(t), "", ""},
		{"operators, nothing", tlspolicy.Operator, nil, "", ""},
		{"operators, another hub's", tlspolicy.Operator, foreign.operator(t), pki.RuleIssuer, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state, err, clientErr := handshake(t, must(tc.listen(h.listener()))(t), h.client(t, tc.cert))
			wantErr := tc.want != "" || tc.text != ""
			if pki.RuleOf(err) != tc.want || (err != nil) != wantErr || err != nil && !strings.Contains(err.Error(), tc.text) {
				t.Errorf("server: %v, want rule %q text %q", err, tc.want, tc.text)
			}
			if (clientErr != nil) != wantErr {
				t.Errorf("client: %v", clientErr)
			}
			if !wantErr && (state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 || state.DidResume) {
				t.Errorf("negotiated %s, %s", tls.VersionName(state.Version), state.CurveID)
			}
		})
	}
}

// An anchor added while the listener runs counts in the next handshake.
func TestTrustIsAskedForInEachHandshake(t *testing.T) {
	h := newHub(t)
	trust := must(pki.NewTrust())(t)
	l := h.listener()
	l.Trust = func() *pki.Trust { return trust }
	server, client := must(tlspolicy.DeviceMQTT(l))(t), h.client(t, h.birth(t))
	if _, err, _ := handshake(t, server, client); pki.RuleOf(err) != pki.RuleIssuer {
		t.Errorf("before: %v", err)
	}
	trust = h.trust
	if _, err, _ := handshake(t, server, client); err != nil {
		t.Errorf("after: %v", err)
	}
}

func TestVersions(t *testing.T) {
	h := newHub(t)
	allow := func(tls.ConnectionState, pki.Peer) error { return nil }
	deny := func(tls.ConnectionState, pki.Peer) error { return errors.New("not in this group") }
	for _, tc := range []struct {
		name    string
		allow12 bool
		verify  func(tls.ConnectionState, pki.Peer) error
		cert    *tls.Certificate
		max     uint16
		suites  []uint16
		want    string // in the server's error
	}{
		{"1.3", false, nil, h.operational(t), tls.VersionTLS13, nil, ""},
		{"1.2 where no group allows it", false, nil, h.operational(t), tls.VersionTLS12, nil, "unsupported versions"},
		{"1.2, group allows", true, allow, h.operational(t), tls.VersionTLS12, nil, ""},
		{"1.2, group denies", true, deny, h.operational(t), tls.VersionTLS12, nil, "not in this group"},
		{"1.2, IDevID", true, allow, h.birth(t), tls.VersionTLS12, nil, string(tlspolicy.RuleVersion)},
		{"1.2, no certificate", true, allow, nil, tls.VersionTLS12, nil, string(tlspolicy.RuleVersion)},
		{"1.2, CBC", true, allow, h.operational(t), tls.VersionTLS12,
			[]uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256}, "no cipher suite"},
		{"1.2, RSA key exchange", true, allow, h.operational(t), tls.VersionTLS12,
			[]uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, "no cipher suite"},
		{"1.1", true, allow, h.operational(t), tls.VersionTLS11, nil, "unsupported versions"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := h.listener()
			l.AllowTLS12, l.Verify = tc.allow12, tc.verify
			client := h.client(t, tc.cert)
			client.MinVersion, client.MaxVersion, client.CipherSuites = tls.VersionTLS10, tc.max, tc.suites
			_, err, _ := handshake(t, must(tlspolicy.DeviceHTTPS(l))(t), client)
			if (err != nil) != (tc.want != "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("server: %v, want %q", err, tc.want)
			}
		})
	}
}

func TestExpiredCertificateIsNamed(t *testing.T) {
	h := newHub(t)
	l := h.listener()
	l.Now = func() time.Time { return h.now.Add(2 * time.Hour) }
	if _, err, _ := handshake(t, must(tlspolicy.DeviceMQTT(l))(t), h.client(t, h.operational(t))); pki.RuleOf(err) != pki.RuleExpired {
		t.Errorf("got %v, want rule %q", err, pki.RuleExpired)
	}
}

func TestClientTrustsOnlyItsRootsAndServers(t *testing.T) {
	h, other := newHub(t), newHub(t)
	cert := h.operational(t)
	impostor := h.listener() // a device that plays the hub
	impostor.Certificate = func() (*tls.Certificate, error) { return cert, nil }
	for name, tc := range map[string]struct {
		listener tlspolicy.Listener
		client   *tls.Config
	}{
		"another root":        {h.listener(), other.client(t, cert)},
		"a device as the hub": {impostor, h.client(t, cert)},
		"another name": {h.listener(), func() *tls.Config {
			c := h.client(t, cert)
			c.ServerName = "evil.example"
			return c
		}()},
	} {
		if _, _, err := handshake(t, must(tlspolicy.DeviceHTTPS(tc.listener))(t), tc.client); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestIncompleteConfigIsRefused(t *testing.T) {
	h := newHub(t)
	for name, spoil := range map[string]func(*tlspolicy.Listener){
		"no certificate": func(l *tlspolicy.Listener) { l.Certificate = nil },
		"no trust":       func(l *tlspolicy.Listener) { l.Trust = nil },
		"no clock":       func(l *tlspolicy.Listener) { l.Now = nil },
		"nobody decides": func(l *tlspolicy.Listener) { l.AllowTLS12 = true },
	} {
		l := h.listener()
		spoil(&l)
		if _, err := tlspolicy.DeviceMQTT(l); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := tlspolicy.Client(tlspolicy.Dialer{ServerName: "hub.example", Now: time.Now}); err == nil {
		t.Error("a client without roots was accepted")
	}
}

func TestPeerAfterTheHandshake(t *testing.T) {
	h := newHub(t)
	state, err, _ := handshake(t, must(tlspolicy.DeviceHTTPS(h.listener()))(t), h.client(t, h.birth(t)))
	if err != nil {
		t.Fatal(err)
	}
	peer, err := tlspolicy.Peer(&state, h.trust, h.now)
	if err != nil || peer.Class != pki.Birth || peer.Device != "pump-01" {
		t.Errorf("%+v, %v", peer, err)
	}
	for name, state := range map[string]*tls.ConnectionState{
		"no session": nil, "unfinished": {PeerCertificates: state.PeerCertificates}, "anonymous": {HandshakeComplete: true},
	} {
		if _, err := tlspolicy.Peer(state, h.trust, h.now); pki.RuleOf(err) != pki.RuleNone {
			t.Errorf("%s: %v", name, err)
		}
	}
}
