package gateway

import (
	"context"
	"crypto/tls"
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

// Session is the connection of one device.
type Session struct {
	g        *Gateway
	id       string
	device   identity.Device
	username string
	raw      net.Conn // under conn; closing it ends everything
	conn     *tls.Conn
	opened   time.Time
	silence  time.Duration
	will     *will

	arrival  uint64 // these two belong to the registry
	promoted bool

	in  *mqtt.Decoder // these two belong to the reading goroutine
	one [1]byte

	mu      sync.Mutex
	wake    sync.Cond // signals room in unacked, or the end
	closed  bool
	cause   Cause
	err     error // says more about cause
	mode    access.Mode
	modeSet bool // SetMode came before Admit returned
	fixed   bool
	subs    []string
	unacked window
	out     []byte // packets that wait to be written
	writing bool   // flush runs
	cancel  context.CancelFunc
}

type will struct {
	events iothub.Events
	body   []byte
	retain bool
}

// ID returns the opaque id of the session. It is random and never used twice,
// so what is bound to it dies with it.
func (s *Session) ID() string { return s.id }

// Device returns the device whose session this is.
func (s *Session) Device() identity.Device { return s.device }

// Mode returns how far the session is open now.
func (s *Session) Mode() access.Mode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode
}

// Peer returns what is known of the device's connection.
func (s *Session) Peer() Peer {
	cs := s.conn.ConnectionState()
	chain := cs.PeerCertificates
	if len(cs.VerifiedChains) > 0 {
		chain = cs.VerifiedChains[0]
	}
	return Peer{
		Session: s.id, Device: s.device, Certificate: cs.PeerCertificates[0], Chain: chain,
		Remote: s.raw.RemoteAddr().String(), Version: cs.Version, Suite: cs.CipherSuite, Group: cs.CurveID,
		Username: s.username, KeepAlive: s.silence, Connected: s.opened,
	}
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
	return !s.closed
}

func (s *Session) setMode(m access.Mode) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if !s.fixed {
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
	cancel := s.cancel
	s.wake.Broadcast()
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	s.raw.Close()
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
	err := s.connack(mqtt.Accepted)
	if err == nil {
		err = s.extend()
	}
	if err == nil {
		err = s.feed(ctx, rest)
	}
	for err == nil {
		err = s.read(ctx)
	}
	s.cut(causeOf(err), err)
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

// errLeft ends the session of a device that sent DISCONNECT.
var errLeft = errors.New("disconnected")

// violation is an error of the device's making.
type violation struct{ error }

func (v violation) Unwrap() error { return v.error }

func causeOf(err error) Cause {
	if _, ok := errors.AsType[violation](err); ok {
		return Violation
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
	s.mu.Unlock()
	s.g.log.InfoContext(ctx, "session closed", slog.String("device", string(s.device)),
		slog.String("cause", string(cause)), slog.Any("err", err))
	defer s.g.cfg.Observer.SessionClosed(s, cause, err)
	if cause != Left && cause != Revoked && cause != Expired && cause != Shutdown && mode == access.Full {
		s.publishWill(ctx)
	}
}

// publishWill stores the will as telemetry (MQTT-3.1.2-8).
func (s *Session) publishWill(ctx context.Context) {
	if s.will == nil {
		return
	}
	m, err := iothub.NewTelemetry(s.will.events, s.will.body, time.Now())
	if err != nil {
		return // it was made once before, to check it
	}
	m.MarkWill()
	if s.will.retain {
		m.MarkRetained()
	}
	log, device := s.g.log, string(s.device)
	s.g.cfg.Telemetry.Append(m, func(err error) {
		if err != nil {
			log.WarnContext(ctx, "will not stored", slog.String("device", device), slog.Any("err", err))
		}
	})
}

// buffers are lent to sessions while bytes arrive; an idle session has none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

const bufferSize = 4 << 10

// read waits for one byte, without holding a buffer, and then takes all there
// is of the packet it begins.
func (s *Session) read(ctx context.Context) error {
	n, err := s.conn.Read(s.one[:])
	if err != nil {
		return readError(err)
	}
	if err := s.feed(ctx, s.one[:n]); err != nil || !s.in.Partial() {
		return err
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for s.in.Partial() {
		n, err := s.conn.Read(buf[:])
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

func (s *Session) extend() error { return s.conn.SetReadDeadline(time.Now().Add(s.silence)) }

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

// deliver queues a message if a subscription selects it and the mode leaves
// that open.
func (s *Session) deliver(topic string, body []byte) bool {
	s.mu.Lock()
	ok, err := false, error(nil)
	if slices.ContainsFunc(s.subs, func(f string) bool { return s.selects(f, topic) }) {
		ok, err = s.queue(&mqtt.Publish{Topic: topic, Payload: body})
	}
	s.mu.Unlock()
	if err != nil {
		s.cut(Slow, err)
	}
	return ok
}

func (s *Session) selects(filter, topic string) bool {
	_, err := access.Subscribe(s.device, s.mode, filter)
	return err == nil && mqtt.Match(filter, topic)
}

// queue appends a packet to what waits and sees that it is written. An error
// says that too much waits. s.mu is held.
func (s *Session) queue(p mqtt.Packet) (bool, error) {
	if s.closed {
		return false, nil
	}
	out, err := p.Append(s.out)
	if err != nil {
		return false, nil // a topic or body of ours that MQTT cannot carry
	}
	if len(out) > maxQueued && len(s.out) > 0 {
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
		s.mu.Unlock()
		s.conn.SetWriteDeadline(time.Now().Add(WriteTimeout))
		for part := range slices.Chunk(b, maxRecord) {
			if _, err := s.conn.Write(part); err != nil {
				cause := Lost
				if errors.Is(err, os.ErrDeadlineExceeded) {
					cause = Slow
				}
				s.cut(cause, fmt.Errorf("write: %w", err))
				break
			}
		}
		spare = b
	}
}
