package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// recordHandshake is the first byte of a TLS handshake record (RFC 8446
// section 5.1).
const recordHandshake = 0x16

// errNotTLS refuses a plaintext protocol on the TLS port.
var errNotTLS = errors.New("first byte is not of a TLS handshake")

// What else may keep a connection from its handshake.
var (
	errNoByte = errors.New("wait for the first byte")
	errNoSlot = errors.New("no handshake slot in time")
)

// connect takes a connection all the way to a session. It runs on a goroutine
// of its own, because a handshake needs a deep stack and an idle session does
// not.
func (g *Gateway) connect(ctx context.Context, raw net.Conn, from *source, d Door) {
	defer func() {
		if p := recover(); p != nil {
			raw.Close()
			g.log.ErrorContext(ctx, "panic while connecting", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	conn, err := g.handshake(ctx, raw, from, d.TLS)
	if err != nil {
		raw.Close()
		g.refused(ctx, raw, refusedCertificate(conn, err), false, err)
		return
	}
	cert := shown(conn)
	if err := g.open(ctx, raw, conn, conn, cert, d); err != nil {
		g.refused(ctx, raw, cert, true, err)
	}
}

func (g *Gateway) refused(ctx context.Context, raw net.Conn, cert *x509.Certificate, verified bool, err error) {
	if ctx.Err() != nil {
		return // a shutdown refuses nobody
	}
	r := Refusal{Remote: raw.RemoteAddr().String(), Certificate: cert, Verified: verified, Err: err}
	if verified {
		r.Device, _ = identity.ParseDevice(cert.Subject.CommonName)
	}
	g.log.InfoContext(ctx, "connection refused", slog.String("remote", r.Remote), slog.String("device", string(r.Device)), slog.Any("err", err))
	g.stats.refused(cert, verified, err)
	g.cfg.Observer.Refused(r)
}

// shown returns the certificate that the peer has shown, even one that was
// refused; nil if none, or if there is no TLS connection.
func shown(conn *tls.Conn) *x509.Certificate {
	if conn == nil {
		return nil
	}
	if certs := conn.ConnectionState().PeerCertificates; len(certs) > 0 {
		return certs[0]
	}
	return nil
}

// refusedCertificate returns the certificate that the peer of a failed
// handshake has shown: crypto/tls keeps it in the connection when our own check
// refuses it, and in the error when its own does.
func refusedCertificate(conn *tls.Conn, err error) *x509.Certificate {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(e.UnverifiedCertificates) > 0 {
		return e.UnverifiedCertificates[0]
	}
	return shown(conn)
}

// handshake waits for the first byte, then for a slot, and does the TLS
// handshake. A connection that sends nothing takes no slot. One whose handshake
// failed is returned with the error.
func (g *Gateway) handshake(ctx context.Context, raw net.Conn, from *source, policy *tls.Config) (*tls.Conn, error) {
	var first [1]byte
	raw.SetDeadline(time.Now().Add(g.cfg.HandshakeTimeout))
	if _, err := io.ReadFull(raw, first[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoByte, err)
	}
	if first[0] != recordHandshake {
		return nil, errNotTLS
	}
	began := time.Now()
	queue := time.NewTimer(g.cfg.QueueTimeout)
	defer queue.Stop()
	for _, slots := range []slots{from.slots, g.slots} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-queue.C:
			return nil, errNoSlot
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	raw.SetDeadline(time.Now().Add(g.cfg.HandshakeTimeout))
	conn := tls.Server(&firstByte{Conn: raw, b: first[0], unread: true}, policy)
	if err := conn.Handshake(); err != nil { // without a context: it would cost a goroutine, and closeAll closes raw
		return conn, fmt.Errorf("TLS handshake: %w", err)
	}
	if shown(conn) == nil {
		return conn, errors.New("TLS handshake: no client certificate")
	}
	g.stats.Handshakes.Took(time.Since(began))
	return conn, nil
}

// firstByte gives back the byte that was read before the handshake.
type firstByte struct {
	net.Conn
	b      byte
	unread bool
}

func (c *firstByte) Read(p []byte) (int, error) {
	if !c.unread || len(p) == 0 {
		return c.Conn.Read(p)
	}
	p[0], c.unread = c.b, false
	return 1, nil
}

// open reads CONNECT, asks the hub and starts the session. It closes the
// connection when it returns an error.
func (g *Gateway) open(ctx context.Context, raw net.Conn, conn *tls.Conn, over stream, cert *x509.Certificate, d Door) error {
	raw.SetDeadline(time.Now().Add(g.cfg.HandshakeTimeout))
	s := &Session{g: g, door: d.Name, raw: raw, conn: conn, stream: over, id: rand.Text(), opened: time.Now()}
	s.wake.L = &s.mu
	s.in = *mqtt.NewDecoder(mqtt.FromClient, ConnectLimit)
	c, rest, err := s.readConnect()
	if err != nil {
		return s.refuse(codecCode(err), fmt.Errorf("read CONNECT: %w", err))
	}
	if code, err := s.identify(c); err != nil {
		return s.refuse(code, err)
	}
	if !g.reg.add(s, g.cfg.MaxSessions) {
		return s.refuse(mqtt.RefusedNotNow, errors.New("too many sessions"))
	}
	running := false
	defer func() {
		if !running {
			g.reg.remove(s)
		}
	}()
	if err := s.admit(ctx); err != nil {
		return s.refuse(connackCode(err), err)
	}
	g.cfg.Observer.SessionOpened(s)
	s.in.SetLimit(mqtt.DefaultLimit)
	s.count()
	running = true
	g.wg.Go(func() { s.run(ctx, rest) })
	return nil
}

// readConnect reads until CONNECT is complete and returns the bytes that came
// after it: a client may go on without waiting (MQTT-3.1.4-5).
func (s *Session) readConnect() (*mqtt.Connect, []byte, error) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := s.stream.Read(buf[:])
		p, rest, bad := s.in.Next(buf[:n])
		switch c, ok := p.(*mqtt.Connect); {
		case bad != nil:
			return nil, nil, bad
		case ok:
			return c, bytes.Clone(rest), nil
		case p != nil:
			return nil, nil, fmt.Errorf("first packet is of type %d [MQTT-3.1.0-1]", p.Type())
		case err != nil:
			return nil, nil, err
		}
	}
}

// commonName is the default of Config.Whose.
func commonName(chain []*x509.Certificate) (identity.Device, string, error) {
	name := chain[0].Subject.CommonName
	d, err := identity.ParseDevice(name)
	return d, name, err
}

// identify checks that CONNECT names the device whose the certificate is.
func (s *Session) identify(c *mqtt.Connect) (mqtt.Code, error) {
	if code, err := s.settings(c); err != nil {
		return code, err
	}
	certified, registration, err := s.g.cfg.Whose(s.chain())
	if err != nil {
		return mqtt.RefusedForbidden, fmt.Errorf("certificate names no device: %w", err)
	}
	if c.ClientID == "" && c.Version == mqtt.V5 {
		c.ClientID, s.assigned = string(certified), true
	}
	named, err := identity.ParseDevice(c.ClientID)
	switch {
	case err != nil:
		return mqtt.RefusedClientID, fmt.Errorf("client id: %w", err)
	case registers(c) && !strings.EqualFold(string(named), registration):
		return mqtt.RefusedForbidden, fmt.Errorf("client id %s, but the certificate is of %s", named, registration)
	case named != certified && !registers(c):
		return mqtt.RefusedForbidden, fmt.Errorf("client id %s, but the certificate is of %s", named, certified)
	case c.Password != nil:
		return mqtt.RefusedForbidden, errors.New("password sent: devices are known by certificate only")
	}
	if c.Username != nil {
		if code, err := s.name(*c.Username, certified, registration); err != nil {
			return code, err
		}
	}
	s.device = certified
	s.silence = silence(c.KeepAlive)
	return s.setWill(c.Will)
}

func registers(c *mqtt.Connect) bool { return c.Username != nil && iothub.IsRegistration(*c.Username) }

// name takes in the user name, which says whether the session is with the hub
// or with DPS. Registration ids are the same in any case of letters.
func (s *Session) name(username string, certified identity.Device, registration string) (mqtt.Code, error) {
	s.username = username
	if iothub.IsRegistration(username) {
		r, err := iothub.ParseRegistration(username)
		switch {
		case err != nil:
			return mqtt.RefusedUsername, err
		case !strings.EqualFold(string(r.ID), registration):
			return mqtt.RefusedForbidden, fmt.Errorf("registration of %s, but the certificate is of %s", r.ID, registration)
		}
		s.register = &r
		return mqtt.Accepted, nil
	}
	u, err := iothub.ParseUsername(username)
	switch {
	case err != nil:
		return mqtt.RefusedUsername, err
	case u.Device != certified:
		return mqtt.RefusedForbidden, fmt.Errorf("user name of %s, but the certificate is of %s", u.Device, certified)
	}
	s.model = u.ModelID
	return mqtt.Accepted, nil
}

// silence is how long a session may be silent (MQTT-3.1.2-24). A client that
// turns the keep-alive off gets the longest there is.
func silence(keepAlive uint16) time.Duration {
	d := time.Duration(keepAlive) * time.Second * 3 / 2
	if d == 0 || d > MaxSilence {
		return MaxSilence
	}
	return d
}

// setWill keeps the will.
func (s *Session) setWill(w *mqtt.Will) (mqtt.Code, error) {
	if w == nil {
		return mqtt.Accepted, nil
	}
	var err error
	if s.will, err = s.newWill(w); err != nil {
		return mqtt.RefusedForbidden, fmt.Errorf("will: %w", err)
	}
	return mqtt.Accepted, nil
}

// noConnack is the code of a refusal without a CONNACK: the connection is just
// closed (MQTT-3.1.4-1).
const noConnack = mqtt.Accepted

// codecCode is the return code for a CONNECT that cannot be read.
func codecCode(err error) mqtt.Code {
	switch {
	case errors.Is(err, mqtt.ErrVersion):
		return mqtt.RefusedVersion
	case errors.Is(err, mqtt.ErrClientID):
		return mqtt.RefusedClientID
	}
	return noConnack
}

// connackCode is the one table from the hub's errors to return codes.
func connackCode(err error) mqtt.Code {
	switch fault.Of(err) {
	case fault.Denied, fault.NotFound, fault.Integrity, fault.Pending:
		return mqtt.RefusedForbidden
	case fault.Invalid:
		return mqtt.RefusedClientID
	}
	return mqtt.RefusedNotNow
}

// admit asks the hub about a registered session, makes it the open one of its
// device and tells the device. Whatever the hub decided meanwhile counts.
func (s *Session) admit(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, AdmitTimeout)
	defer cancel()
	a, err := s.g.cfg.Admitter.Admit(ask, s.Peer())
	if err != nil {
		return err
	}
	if (a.Mode == access.Provision) != (s.register != nil) {
		return fmt.Errorf("admitted in mode %s", a.Mode)
	}
	a.Fixed = a.Fixed || s.register != nil
	if !s.start(a) {
		return fault.New(fault.Denied, "cut off while connecting")
	}
	replaced, ok := s.g.reg.promote(s)
	if !ok {
		return fault.New(fault.Conflict, "a newer session is open")
	}
	for _, o := range replaced {
		o.cut(Replaced, nil)
	}
	if err := s.restore(ask); err != nil {
		return err
	}
	s.settleWill()
	return nil
}

// refuse sends CONNACK with a code, closes the connection and returns err.
func (s *Session) refuse(code mqtt.Code, err error) error {
	defer s.raw.Close()
	if code == noConnack || s.isClosed() {
		return err
	}
	ack := &mqtt.Connack{Code: code}
	if s.version == mqtt.V5 {
		ack.Code, ack.Properties = codes5[code], reasonText(err)
		if r, ok := errors.AsType[reasoned](err); ok {
			ack.Code = r.code
		}
	}
	if werr := s.connack(ack); werr == nil {
		s.stream.CloseWrite()
	}
	return err
}

// connack answers CONNECT, before anything else is written.
func (s *Session) connack(ack *mqtt.Connack) error {
	if s.version == mqtt.V5 && ack.Code == mqtt.Success {
		ack.Properties = s.offer()
	}
	b, err := mqtt.AppendTo(nil, s.version, ack)
	if err != nil {
		return err
	}
	s.stream.SetWriteDeadline(time.Now().Add(WriteTimeout))
	if _, err := s.stream.Write(b); err != nil {
		return fmt.Errorf("write CONNACK: %w", err)
	}
	return nil
}
