package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"holdfast/access"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// stream is what packets travel in.
type stream interface {
	io.ReadWriter
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	CloseWrite() error
}

// Session is the connection of one device.
type Session struct {
	g        *Gateway
	door     string
	id       string
	device   identity.Device
	username string
	model    string               // DTDL model id, of the user name
	register *iothub.Registration // nil: with the hub
	raw      net.Conn             // under conn; closing it ends everything
	conn     *tls.Conn
	stream   stream // of MQTT: conn, or a WebSocket over it
	opened   time.Time
	silence  time.Duration
	will     *will

	// There are many sessions: fields stand so that small ones fill words.
	version   mqtt.Version
	clean     bool
	assigned  bool   // the client left its id to us
	maxSent   uint16 // messages that the client takes before it acknowledges
	expiry    uint32 // seconds for which the session is kept after its end
	maxPacket uint32 // bytes of a packet that the client takes

	promoted bool // this and arrival belong to the registry
	stored   bool // something is kept; the rest belongs to the reading goroutine
	one      [1]byte
	arrival  uint64
	in       mqtt.Decoder
	aliases  map[uint16]string

	mu      sync.Mutex
	live    bool // CONNACK is sent
	counted bool // in Stats.Sessions
	resumed bool // it goes on with what was kept
	closed  bool
	modeSet bool // SetMode came before Admit returned
	fixed   bool
	writing bool      // flush runs
	wake    sync.Cond // signals room in unacked, or the end
	cause   Cause
	err     error // says more about cause
	mode    access.Mode
	subs    []Subscription
	limits  *terms // since it was admitted
	pace    *pace  // nil before the first packet
	sent    inflight
	unacked window
	out     []byte // packets that wait to be written
	work    *work

	wire sync.Mutex // held while packets are written, so that a goodbye does not cut into one
}

// ID returns the opaque id of the session. It is random and never used twice,
// so what is bound to it dies with it.
func (s *Session) ID() string { return s.id }

// Device returns the device whose session this is.
func (s *Session) Device() identity.Device { return s.device }

// Registration returns what a session with DPS is for, nil for one with the hub.
func (s *Session) Registration() *iothub.Registration { return s.register }

// provision returns the mode of a session with DPS, nothing for the hub's.
func (s *Session) provision() access.Mode {
	if s.register != nil {
		return access.Provision
	}
	return ""
}

// Clean reports whether the client asked for a clean session: what waits for it
// from an earlier one is to be dropped.
func (s *Session) Clean() bool { return s.clean }

// Resumed reports whether the session goes on with what was kept of an earlier
// connection.
func (s *Session) Resumed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resumed
}

// Mode returns how far the session is open now.
func (s *Session) Mode() access.Mode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode
}

// Peer returns what is known of the device's connection.
func (s *Session) Peer() Peer {
	cs := s.conn.ConnectionState()
	return Peer{
		Session: s.id, Device: s.device, Certificate: cs.PeerCertificates[0], Chain: s.chain(),
		Remote: s.raw.RemoteAddr().String(), Version: cs.Version, Suite: cs.CipherSuite, Group: cs.CurveID,
		Door: s.door, Username: s.username, Registration: s.register, KeepAlive: s.silence, Connected: s.opened,
	}
}

// chain returns what the peer has shown, as it was verified.
func (s *Session) chain() []*x509.Certificate {
	cs := s.conn.ConnectionState()
	if len(cs.VerifiedChains) > 0 {
		return cs.VerifiedChains[0]
	}
	return cs.PeerCertificates
}

// Exporter returns the RFC 9266 channel binding of the session's TLS
// connection. Under TLS 1.2 it needs the extended master secret.
func (s *Session) Exporter() ([]byte, error) {
	cs := s.conn.ConnectionState()
	b, err := cs.ExportKeyingMaterial(evidence.ExporterLabel, []byte{}, evidence.ExporterSize)
	if err != nil {
		return nil, fmt.Errorf("export keying material: %w", err)
	}
	return b, nil
}

// start opens the session as admitted. It reports false when the session was
// cut off before; a mode that was set before stays, unless the admission is
// fixed.
func (s *Session) start(a Admission) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.modeSet || a.Fixed {
		s.mode = a.Mode
	}
	s.fixed = a.Fixed
	s.limits = s.g.groups.of(a.Group, effective(a.Limits, s.g.cfg.Limits))
	return !s.closed
}

func (s *Session) setMode(m access.Mode) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if !s.fixed {
		s.recount(s.mode, m)
		s.mode, s.modeSet = m, true
	}
	return s.mode == m
}

// cut ends the session from any goroutine and reports whether it was open. The
// mark comes first: from here on nothing is taken, acknowledged or sent. The
// raw close then frees a blocked read or write, without waiting for an alert.
func (s *Session) cut(c Cause, err error) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.closed, s.cause, s.err = true, c, err
	s.out = nil
	if s.pace != nil {
		s.g.paces.leave(s.device, s.pace, &s.limits.Limits)
	}
	if s.work != nil {
		s.work.cancel()
	}
	s.wake.Broadcast()
	last := s.goodbye(c, err)
	s.mu.Unlock()
	if last == nil {
		s.raw.Close()
		return true
	}
	s.g.wg.Go(func() { // Run still waits for s, and with it for this
		defer s.raw.Close()
		s.stream.SetWriteDeadline(time.Now().Add(goodbyeTimeout)) // for what is being written too
		s.wire.Lock()
		defer s.wire.Unlock()
		s.stream.Write(last)
	})
	return true
}

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// run is the life of an admitted session. rest is what came behind CONNECT.
func (s *Session) run(ctx context.Context, rest []byte) {
	defer s.end(ctx)
	defer s.recover(ctx)
	defer time.AfterFunc(time.Until(s.ends()), func() { s.cut(Expired, nil) }).Stop()
	err := s.connack(&mqtt.Connack{SessionPresent: s.Resumed()})
	if err == nil {
		err = s.extend()
	}
	if err == nil {
		s.begin()
	}
	if err == nil {
		err = s.feed(ctx, rest)
	}
	for err == nil {
		err = s.read(ctx)
	}
	s.cut(causeOf(err), err)
}

// begin tells of the subscriptions that the session has already.
func (s *Session) begin() {
	s.mu.Lock()
	s.live = true
	subs := slices.Clone(s.subs)
	s.mu.Unlock()
	for _, sub := range subs {
		s.g.cfg.Observer.Subscribed(s, sub.Filter)
	}
}

// ends is when the first of the certificates that the device showed ends.
func (s *Session) ends() time.Time {
	chain := s.conn.ConnectionState().PeerCertificates
	end := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// recover, deferred, ends the session for a fault of ours: the hub goes on.
func (s *Session) recover(ctx context.Context) {
	if p := recover(); p != nil {
		s.g.log.ErrorContext(ctx, "panic in session", slog.String("device", string(s.device)),
			slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		s.cut(Crashed, fmt.Errorf("panic: %v", p))
	}
}

// errLeft ends the session of a device that sent DISCONNECT; errGone that of one
// that wants its will published all the same (MQTT 5).
var (
	errLeft = errors.New("disconnected")
	errGone = errors.New("disconnected with its will")
)

// violation is an error of the device's making.
type violation struct{ error }

func (v violation) Unwrap() error { return v.error }

// unstored is an error of the store of sessions.
type unstored struct{ error }

func (u unstored) Unwrap() error { return u.error }

func causeOf(err error) Cause {
	if _, ok := errors.AsType[violation](err); ok {
		return Violation
	}
	if _, ok := errors.AsType[unstored](err); ok {
		return Unstored
	}
	switch {
	case errors.Is(err, errLeft):
		return Left
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Silent
	}
	return Lost
}

// end tells everybody that the session is over.
func (s *Session) end(ctx context.Context) {
	defer s.g.reg.remove(s)
	defer s.recover(ctx)
	s.mu.Lock()
	cause, err, mode := s.cause, s.err, s.mode
	s.uncount()
	s.mu.Unlock()
	s.g.log.InfoContext(ctx, "session closed", slog.String("device", string(s.device)),
		slog.String("cause", string(cause)), slog.Any("err", err))
	defer s.g.cfg.Observer.SessionClosed(s, cause, err)
	s.abandon()
	if err := s.leave(ctx); err != nil {
		s.g.log.ErrorContext(ctx, "end of session not kept", slog.String("device", string(s.device)), slog.Any("err", err))
	}
	s.lastWill(ctx, cause, mode)
}

// buffers are lent to sessions while bytes arrive; an idle session has none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

const bufferSize = 4 << 10

// read waits for one byte, without holding a buffer, and then takes all there
// is of the packet it begins.
func (s *Session) read(ctx context.Context) error {
	n, err := s.stream.Read(s.one[:])
	if err != nil {
		return readError(err)
	}
	if err := s.feed(ctx, s.one[:n]); err != nil || !s.in.Partial() {
		return err
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for s.in.Partial() {
		n, err := s.stream.Read(buf[:])
		if ferr := s.feed(ctx, buf[:n]); ferr != nil {
			return ferr
		}
		if err != nil {
			return readError(err)
		}
	}
	return nil
}

// readError drops io.EOF, which says no more than that the connection is lost.
func readError(err error) error {
	if errors.Is(err, io.EOF) {
		return errLost
	}
	return err
}

var errLost = errors.New("connection closed without DISCONNECT")

// feed handles the packets that b completes. Only whole packets prolong the
// session (section 3.1.2.10).
func (s *Session) feed(ctx context.Context, b []byte) error {
	heard := false
	for p, err := range s.in.Feed(b) {
		if err != nil {
			return violation{err}
		}
		if err := s.handle(ctx, p); err != nil {
			return err
		}
		heard = true
	}
	if heard {
		return s.extend()
	}
	return nil
}

func (s *Session) extend() error { return s.stream.SetReadDeadline(time.Now().Add(s.silence)) }

// send queues a packet for the device.
func (s *Session) send(p mqtt.Packet) bool {
	s.mu.Lock()
	ok, err := s.queue(p)
	s.mu.Unlock()
	if err != nil {
		s.cut(Slow, err)
	}
	return ok
}

// queue appends a packet to what waits and sees that it is written. An error
// says that too much waits. s.mu is held.
func (s *Session) queue(p mqtt.Packet) (bool, error) { return s.queueUpTo(p, maxBacklog) }

// queueUpTo is queue for a packet that may not be among more than limit bytes.
func (s *Session) queueUpTo(p mqtt.Packet, limit int) (bool, error) {
	if s.closed {
		return false, nil
	}
	out, err := mqtt.AppendTo(s.out, s.version, p)
	if err != nil || len(out)-len(s.out) > int(s.maxPacket) {
		return false, nil // a topic or body of ours that MQTT or the client cannot take
	}
	if len(out) > limit && len(s.out) > 0 {
		return false, fmt.Errorf("%d bytes wait to be sent", len(out))
	}
	s.out = out
	if !s.writing {
		s.writing = true
		s.g.wg.Go(s.flush) // s is open, so Run waits for s and with it for this
	}
	return true, nil
}

// maxRecord keeps TLS records below the buffers of small devices.
const maxRecord = 4 << 10

// flush writes what waits until nothing does. It ends then: an idle session
// has no writer.
func (s *Session) flush() {
	defer s.recover(context.Background())
	var spare []byte
	for {
		s.mu.Lock()
		b := s.out
		if s.out = spare[:0]; s.closed || len(b) == 0 {
			s.out, s.writing = nil, false
			s.mu.Unlock()
			return
		}
		s.stream.SetWriteDeadline(time.Now().Add(WriteTimeout)) // before cut can set its own
		s.wire.Lock()                                           // free: a goodbye takes it once s is closed
		s.mu.Unlock()
		err := s.write(b)
		s.wire.Unlock()
		if err != nil {
			cause := Lost
			if errors.Is(err, os.ErrDeadlineExceeded) {
				cause = Slow
			}
			s.cut(cause, fmt.Errorf("write: %w", err))
		}
		spare = b
	}
}

func (s *Session) write(b []byte) error {
	for part := range slices.Chunk(b, maxRecord) {
		if _, err := s.stream.Write(part); err != nil {
			return err
		}
	}
	return nil
}
