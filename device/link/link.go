// Package link is a device's MQTT session with its hub: one TLS connection,
// from CONNECT to its end. Whoever opens sessions decides when to try again.
//
// A session needs no attention to stay alive: it pings, and ends when the hub
// has been silent for one and a half keep-alive intervals.
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/tlsalert"
	"holdfast/iothub"
	"holdfast/mqtt"
	"holdfast/posture"
)

const (
	defaultKeepAlive = time.Minute
	defaultTimeout   = 20 * time.Second
	window           = 16       // messages on their way without a PUBACK
	maxPacket        = 64 << 10 // the largest packet taken from a hub
)

// ErrClosed is the error of a session that this side ended.
var ErrClosed = errors.New("session closed")

// Conn is a connection whose TLS handshake is done, such as *tls.Conn.
type Conn interface {
	net.Conn
	ConnectionState() tls.ConnectionState
}

// Config says whose session it is and how patient it is.
type Config struct {
	Device    identity.Device
	KeepAlive time.Duration // 0: a minute; whole seconds
	Timeout   time.Duration // of the hub's answers and of writing; 0: 20 s
	Updates   bool          // the device takes updates: it asks for offers
	Beat      func()        // called at each sign of progress; may be nil
}

// Session is an open session. Its methods may be used concurrently.
type Session struct {
	cfg      Config
	conn     Conn
	decoder  *mqtt.Decoder
	waiting  []mqtt.Packet // arrived together with the answer to CONNECT or SUBSCRIBE
	slots    chan struct{} // one for each message on its way
	postures chan posture.Report
	offers   chan []byte
	updates  bool           // the hub speaks of updates
	done     chan struct{}  // closed when the session is over
	group    sync.WaitGroup // of the reader and the pinger

	write struct { // guards writing, so that packets do not mix
		sync.Mutex
		buf []byte
	}
	mu struct { // guards what follows
		sync.Mutex
		err      error
		lastID   uint16
		acks     map[uint16]chan struct{}
		requests map[string]chan answer
		lastRID  uint64
	}
}

// answer is what the hub said to a request.
type answer struct {
	status int
	body   []byte
}

// Open makes a session of a connection: CONNECT with a session that the hub
// keeps, for a clean one has it purge the messages that wait for the device, and
// the subscriptions of the device's own topics. A hub that refuses the device is
// an error of the kind fault.Denied, whether it says so by a TLS alert or by
// CONNACK. Open takes over conn and closes it when it fails.
func Open(ctx context.Context, conn Conn, cfg Config) (*Session, error) {
	defaults(&cfg)
	s := &Session{
		cfg: cfg, conn: conn,
		decoder:  mqtt.NewDecoder(mqtt.FromServer, maxPacket),
		slots:    make(chan struct{}, window),
		postures: make(chan posture.Report, 1),
		offers:   make(chan []byte, 1),
		done:     make(chan struct{}),
	}
	s.decoder.Version = mqtt.V311
	s.mu.acks, s.mu.requests = make(map[uint16]chan struct{}), make(map[string]chan answer)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends a read that hangs
	err := s.open()
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close() // err says more
		return nil, fmt.Errorf("open session: %w", err)
	}
	s.group.Go(s.receive)
	s.group.Go(s.ping)
	return s, nil
}

func defaults(cfg *Config) {
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = defaultKeepAlive
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Beat == nil {
		cfg.Beat = func() {}
	}
}

// open exchanges CONNECT and SUBSCRIBE with their answers.
func (s *Session) open() error {
	connect := &mqtt.Connect{ClientID: string(s.cfg.Device), KeepAlive: uint16(s.cfg.KeepAlive / time.Second)}
	p, err := s.exchange(connect)
	if err != nil {
		return err
	}
	ack, ok := p.(*mqtt.Connack)
	if !ok {
		return fmt.Errorf("hub answers CONNECT with packet type %d", p.Type())
	}
	if err := refusal(ack.Code); err != nil {
		return err
	}
	filters := []mqtt.Filter{{Filter: iothub.AttestFilter}, {Filter: iothub.PostureFilter}}
	if s.cfg.Updates {
		filters = append(filters, mqtt.Filter{Filter: iothub.UpdateFilter})
	}
	if p, err = s.exchange(&mqtt.Subscribe{ID: 1, Filters: filters}); err != nil {
		return err
	}
	s.updates, err = granted(p, len(filters))
	return err
}

// refusal is the error of a CONNACK's code.
func refusal(c mqtt.Code) error {
	switch c {
	case mqtt.Accepted:
		return nil
	case mqtt.RefusedNotNow:
		return fault.New(fault.Unavailable, "hub does not take sessions now")
	}
	return fault.New(fault.Denied, "hub refuses the session (CONNACK %d)", c)
}

// granted checks the answer to SUBSCRIBE, and reports whether the hub will speak
// of updates: an older one does not, and may still be worked with.
func granted(p mqtt.Packet, filters int) (updates bool, err error) {
	ack, ok := p.(*mqtt.Suback)
	if !ok || ack.ID != 1 || len(ack.Codes) != filters {
		return false, fmt.Errorf("hub answers SUBSCRIBE with packet type %d", p.Type())
	}
	for _, c := range ack.Codes[:2] {
		if c == mqtt.SubackFailure {
			return false, fault.New(fault.Denied, "hub refuses the subscriptions")
		}
	}
	return filters > 2 && ack.Codes[2] != mqtt.SubackFailure, nil
}

// exchange sends a packet and waits for its answer. A PUBLISH that comes
// before the answer waits for the session to be open.
func (s *Session) exchange(request mqtt.Packet) (mqtt.Packet, error) {
	if err := s.send(request); err != nil {
		return nil, err
	}
	var found mqtt.Packet
	for found == nil {
		err := s.read(s.cfg.Timeout, func(p mqtt.Packet) error {
			if pub, ok := p.(*mqtt.Publish); ok || found != nil {
				if !ok || len(s.waiting) == window {
					return fmt.Errorf("hub sends packet type %d before its answer", p.Type())
				}
				pub.Payload = append([]byte(nil), pub.Payload...)
				s.waiting = append(s.waiting, pub)
				return nil
			}
			found = p
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// read waits for bytes and hands on the packets that they complete.
func (s *Session) read(patience time.Duration, take func(mqtt.Packet) error) error {
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	buf := make([]byte, 4<<10)
	n, err := s.conn.Read(buf)
	for p, err := range s.decoder.Feed(buf[:n]) {
		if err != nil {
			return fmt.Errorf("hub breaks the protocol: %w", err)
		}
		if err := take(p); err != nil {
			return err
		}
	}
	return classify(err)
}

// classify gives a refusal by TLS alert its kind.
func classify(err error) error {
	if tlsalert.Refused(err) {
		return fault.New(fault.Denied, "hub refuses the certificate: %w", err)
	}
	return err
}

// send writes one packet.
func (s *Session) send(p mqtt.Packet) error {
	s.write.Lock()
	defer s.write.Unlock()
	var err error
	if s.write.buf, err = p.Append(s.write.buf[:0]); err != nil {
		return err
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.cfg.Timeout)); err != nil {
		return err
	}
	_, err = s.conn.Write(s.write.buf)
	if cap(s.write.buf) > 16<<10 {
		s.write.buf = nil // one large shipment of logs is not worth keeping
	}
	return classify(err)
}

// receive handles what the hub sends until the connection ends.
func (s *Session) receive() {
	for _, p := range s.waiting {
		if err := s.handle(p); err != nil {
			s.end(err)
			return
		}
	}
	s.waiting = nil
	for {
		if err := s.read(s.cfg.KeepAlive*3/2, s.handle); err != nil {
			s.end(err)
			return
		}
		s.cfg.Beat()
	}
}

// ping keeps the session alive. The reader notices when no answer comes.
func (s *Session) ping() {
	tick := time.NewTicker(s.cfg.KeepAlive / 2)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-tick.C:
		}
		if err := s.send(&mqtt.Pingreq{}); err != nil {
			s.end(err)
			return
		}
		s.cfg.Beat()
	}
}

// end closes the session; the first reason stays.
func (s *Session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err != nil {
		return
	}
	s.mu.err = err
	close(s.done)
	_ = s.conn.Close() // nothing is left to be said on it
}

// Done is closed when the session is over; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the session ended, or nil while it is open.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

// Close ends the session and waits for its goroutines.
func (s *Session) Close() error {
	_ = s.send(&mqtt.Disconnect{}) // a courtesy: the hub may be gone
	s.end(ErrClosed)
	s.group.Wait()
	return nil
}

// Postures yields the newest posture that the hub told; older ones that nobody
// took are gone.
func (s *Session) Postures() <-chan posture.Report { return s.postures }

// Offers yields the newest offer of an update, as it came: whoever takes it reads
// it, with suspicion. Older ones that nobody took are gone.
func (s *Session) Offers() <-chan []byte { return s.offers }

// Exporter returns the RFC 9266 channel binding of the connection.
func (s *Session) Exporter() ([]byte, error) {
	state := s.conn.ConnectionState()
	return state.ExportKeyingMaterial(evidence.ExporterLabel, nil, evidence.ExporterSize)
}
