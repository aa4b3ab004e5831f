// Package tlspolicy is the one place that configures TLS, so that no listener
// and no client can be weaker than the rest, and it judges what a session
// negotiated.
//
// Servers take any client certificate in the handshake and judge it themselves
// (tls.RequireAnyClientCert and VerifyConnection with [pki.Trust]) instead of
// handing crypto/tls a pool. With a pool, an expired, a foreign and a SHA-1
// certificate all end as one kind of x509 error before our code sees them; the
// server would also name its CAs in every handshake, and clients whose CA is
// not among them would stay silent, leaving nothing to log. The handshake
// itself still proves that the peer holds the certificate's key. Trust is
// asked for in each handshake, so an anchor added at run time counts at once.
// crypto/tls calls VerifyConnection for resumed sessions too, but there are
// none: session tickets are off.
package tlspolicy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"holdfast/pki"
)

// RuleVersion is broken by a peer that may not use the negotiated version of
// TLS.
const RuleVersion pki.Rule = "tls-version"

// groups are the key exchanges: hybrid post-quantum, then classical.
func groups() []tls.CurveID { return []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256} }

// suites12 are the suites of TLS 1.2: ECDHE and AEAD, with an ECDSA or an RSA
// certificate of ours. (TLS 1.3 has only AEAD suites and is not configurable.)
func suites12() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// Listener is what a listener of the hub needs. All functions are called in
// each handshake, concurrently.
type Listener struct {
	// Certificate returns the hub's current certificate. Required.
	Certificate func() (*tls.Certificate, error)

	// RSA returns the certificate for clients that cannot verify the other.
	// Nil: there is none, and they fail.
	RSA func() (*tls.Certificate, error)

	// Trust returns the anchors this listener trusts now. Required.
	Trust func() *pki.Trust

	// Now returns the time that certificates are judged at. Required.
	Now func() time.Time

	// Verify, if set, has the last word on a peer whose certificate passed:
	// a device that is revoked, or whose group does not allow what was
	// negotiated. It is not called for a client without a certificate.
	Verify func(tls.ConnectionState, pki.Peer) error

	// Hint, if set, are the authorities that clients are told of: a browser offers
	// its user no other certificates. It decides nothing.
	Hint []*x509.Certificate

	// AllowTLS12 lets a handshake with TLS 1.2 (ECDHE and AEAD only) get as
	// far as Verify, which then decides by group, and which must be set.
	// IDevIDs and clients without a certificate need TLS 1.3 regardless.
	AllowTLS12 bool
}

// DeviceMQTT is the policy of the MQTT listener: no session without a device's
// certificate.
func DeviceMQTT(l Listener) (*tls.Config, error) {
	return l.config("device MQTT", tls.RequireAnyClientCert, "mqtt")
}

// DeviceHTTPS is the policy of the device HTTPS listener: a certificate is
// asked for, and one that is shown has to pass; which path needs one is the
// handler's business. HTTP/1.1 only: attestation binds to the connection.
func DeviceHTTPS(l Listener) (*tls.Config, error) {
	return l.config("device HTTPS", tls.RequestClientCert, "http/1.1")
}

// Operator is the policy of the operators' listener: a certificate is asked
// for, and one that is shown has to pass. Browsers mostly show none; what else
// says who asks is the handler's business.
func Operator(l Listener) (*tls.Config, error) {
	cfg, err := l.config("operator", tls.RequestClientCert, "h2", "http/1.1")
	if err != nil || len(l.Hint) == 0 {
		return cfg, err
	}
	cfg.ClientCAs = x509.NewCertPool()
	for _, ca := range l.Hint {
		cfg.ClientCAs.AddCert(ca)
	}
	return cfg, nil
}

func (l Listener) config(name string, auth tls.ClientAuthType, protos ...string) (*tls.Config, error) {
	if l.Certificate == nil || l.Trust == nil || l.Now == nil {
		return nil, fmt.Errorf("%s listener: Certificate, Trust and Now are required", name)
	}
	if l.AllowTLS12 && l.Verify == nil {
		return nil, fmt.Errorf("%s listener: AllowTLS12 needs Verify to decide who may use it", name)
	}
	cfg := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       groups(),
		CipherSuites:           suites12(),
		NextProtos:             protos,
		SessionTicketsDisabled: true,
		Time:                   l.Now,
		ClientAuth:             auth,
		GetCertificate:         l.choose,
		VerifyConnection:       l.verify,
	}
	if l.AllowTLS12 {
		cfg.MinVersion = tls.VersionTLS12
		if l.RSA != nil {
			cfg.GetConfigForClient = capped(cfg)
		}
	}
	return cfg, nil
}

// verify judges the client's certificate. crypto/tls has already refused the
// lack of one where it is required.
func (l Listener) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return needTLS13(state, "a client without a certificate")
	}
	peer, err := l.Trust().Verify(state.PeerCertificates, l.Now())
	if err != nil {
		return err
	}
	if peer.Class == pki.Birth { // TLS 1.2 shows client certificates to the network
		if err := needTLS13(state, "an IDevID"); err != nil {
			return err
		}
	}
	if l.Verify != nil {
		return l.Verify(state, peer)
	}
	return nil
}

func needTLS13(state tls.ConnectionState, who string) error {
	if state.Version >= tls.VersionTLS13 {
		return nil
	}
	return &pki.Refusal{Of: "certificate", Rule: RuleVersion,
		Detail: fmt.Sprintf("%s over %s, TLS 1.3 is needed", who, tls.VersionName(state.Version))}
}

// Peer is who is at the other end of a session whose handshake is done, as
// judged by trust now: for handlers that need more than Listener.Verify saw.
// It costs no signature check (see [pki.Trust]). A client without a
// certificate is refused by rule pki.RuleNone.
func Peer(state *tls.ConnectionState, trust *pki.Trust, now time.Time) (pki.Peer, error) {
	if state == nil || !state.HandshakeComplete {
		return pki.Peer{}, &pki.Refusal{Of: "certificate", Rule: pki.RuleNone, Detail: "no TLS session"}
	}
	return trust.Verify(state.PeerCertificates, now)
}

// Dialer is what a client of the hub needs: a device, or the operators' tool.
type Dialer struct {
	// Roots are the hub's roots. Nothing else is trusted, and there is no
	// default. Required.
	Roots []*x509.Certificate

	// ServerName is the hub's host name or address. Required.
	ServerName string

	// Now returns the time that the hub's certificate is judged at. Required:
	// a device without a clock judges by its floor.
	Now func() time.Time

	// Certificate returns the client's current certificate, whose PrivateKey
	// may be a crypto.Signer in a TPM. Without it, or where it returns nil,
	// none is shown.
	Certificate func() (*tls.Certificate, error)

	// Protocols are offered by ALPN: "mqtt", "http/1.1", "h2".
	Protocols []string
}

// Client is the policy of a client: TLS 1.3 alone, the given roots alone, and
// a certificate of the server class.
func Client(d Dialer) (*tls.Config, error) {
	if len(d.Roots) == 0 || d.ServerName == "" || d.Now == nil {
		return nil, errors.New("TLS client: Roots, ServerName and Now are required")
	}
	roots := x509.NewCertPool()
	for _, root := range d.Roots {
		roots.AddCert(root)
	}
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		CurvePreferences:     groups(),
		NextProtos:           d.Protocols,
		RootCAs:              roots,
		ServerName:           d.ServerName,
		Time:                 d.Now,
		GetClientCertificate: d.certificate,
		VerifyConnection:     func(s tls.ConnectionState) error { return pki.CheckServer(s.PeerCertificates) },
	}, nil
}

func (d Dialer) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if d.Certificate == nil {
		return &tls.Certificate{}, nil
	}
	cert, err := d.Certificate()
	if cert == nil && err == nil {
		cert = &tls.Certificate{}
	}
	return cert, err
}
