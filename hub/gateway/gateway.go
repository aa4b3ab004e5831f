// Package gateway holds the sessions of devices: MQTT 3.1.1 and 5.0 over mutual
// TLS.
//
// A connection becomes a session in steps, each with a deadline: it sends a
// first byte, gets one of the handshake slots in the order of arrival, proves
// itself in the TLS handshake, sends CONNECT with the id that its certificate
// says, and is admitted by the hub. From then on it is one goroutine that
// waits for a byte; everything else of an idle session is its TLS state.
//
// The gateway is no broker. Devices publish to the hub and the hub to devices.
// What a session may do is decided by package access; what it sends goes to
// the sinks of Config, and is acknowledged when they say that it is stored.
//
// Invariants:
//   - A session is in the registry before the hub is asked to admit it, so a
//     revocation or quarantine at any moment finds it.
//   - A revoked session is marked first and closed then: nothing that was on
//     its way is acknowledged after Revoke returned.
//   - Acknowledgements leave in the order of their messages.
//   - A message that is not allowed is never acknowledged and closes the
//     connection.
//   - A subscription of a session that is to be kept is on disk before it is
//     acknowledged.
//   - A device that is over its limits is read later, so that its own connection
//     fills up and nobody else waits for it.
//   - No session outlives the certificates that opened it.
package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/logs"
	"holdfast/operator"
)

// Admitter decides on a connection whose certificate has been verified.
type Admitter interface {
	// Admit says how far a session is open. The kind of an error (package
	// fault) decides the return code of CONNACK. ctx ends after AdmitTimeout.
	Admit(ctx context.Context, p Peer) (Admission, error)
}

// Admission is how far a session is open. Fixed sessions stay in their mode
// until they end: SetMode does not open the session of a birth certificate.
// A session with DPS is in access.Provision, and always fixed; no other is.
type Admission struct {
	Mode   access.Mode
	Fixed  bool
	Group  identity.Group  // whose limits hold for its devices together
	Limits operator.Limits // zero fields are those of Config
}

// Peer is what is known of the other side of a connection.
type Peer struct {
	Session     string          // opaque id of the session, never used twice
	Device      identity.Device // the certified id, which CONNECT named too
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // as verified, the certificate first; as sent, where tls.Config has its own verification
	Remote      string              // address and port
	Version     uint16              // of TLS, as tls.VersionTLS13
	Suite       uint16              // as tls.TLS_AES_128_GCM_SHA256
	Group       tls.CurveID         // of the key exchange
	Door        string              // of Config.Doors that it came through; empty: the main listener
	Username    string              // of CONNECT, empty when it had none
	// Registration is the user name of a session with DPS, nil for one with the
	// hub. Device is then whose the certificate is, and may not be known yet; the
	// id in here is the same but for the case of letters, or as Config.Whose says.
	Registration *iothub.Registration
	KeepAlive    time.Duration // after which a silent session is closed
	Connected    time.Time
}

// Sink stores messages of devices.
type Sink interface {
	// Append takes a message. It calls done once, from any goroutine, after
	// the message is on disk or with the error that kept it from there.
	// Append may block to slow the device down; it keeps m.
	Append(m iothub.Message, done func(error))
}

// LogSink stores the logs of devices.
type LogSink interface {
	// AppendLogs is like Append for a shipment of logs: m has it as it came,
	// records are its parts.
	AppendLogs(m iothub.Message, records []logs.Record, done func(error))
}

// Requests answers requests of devices.
type Requests interface {
	// Answer returns the topic (of t.Result) and the body that answer a
	// request; or an error, which the device is told in the form of its topic
	// with the status of the error's kind or code. payload is Answer's to keep.
	// ctx ends with the session or after RequestTimeout.
	//
	// A session's requests of one kind are answered one after the other, in
	// their order: attestation; twin; credentials; registration; reports of updates. Beyond a
	// number of them that wait, requests are refused without asking.
	Answer(ctx context.Context, s *Session, t iothub.Request, payload []byte) (iothub.Topic, []byte, error)
}

// Methods takes the results of methods that were called on devices.
type Methods interface {
	// Answered is called for each result, asked for or not, and holds the
	// session up. payload is its own to keep.
	Answered(s *Session, r iothub.MethodResult, payload []byte)
}

// Observer is told of sessions, those with DPS included. Its methods are called one after the other for
// one session and hold it up. A session's end may be told after the beginning
// of the one that replaced it: tell them apart by their ids.
type Observer interface {
	// SessionOpened is called before the device gets its CONNACK.
	SessionOpened(s *Session)
	// Subscribed is called after a filter was granted and acknowledged, and
	// after CONNACK for each that a kept session brings with it.
	Subscribed(s *Session, filter string)
	// SessionClosed is called once for each session that was opened. err says
	// more about the cause and may be nil.
	SessionClosed(s *Session, cause Cause, err error)
	// Refused is called for a connection that never became a session.
	Refused(r Refusal)
}

// Refusal is a connection that was refused. Certificate is what the peer
// showed, nil if nothing; unless Verified it proves nothing.
type Refusal struct {
	Remote      string
	Device      identity.Device // the certified id, if Verified
	Certificate *x509.Certificate
	Verified    bool
	Err         error
}

// Cause says why a session ended.
type Cause string

// The causes.
const (
	Left      Cause = "left"      // the device sent DISCONNECT
	Lost      Cause = "lost"      // the connection broke
	Silent    Cause = "silent"    // nothing came for one and a half times the keep-alive
	Violation Cause = "violation" // the device broke the protocol or its permissions
	Replaced  Cause = "replaced"  // the device opened a newer session
	Revoked   Cause = "revoked"   // the hub cut it
	Expired   Cause = "expired"   // the certificate that opened it has ended
	Unstored  Cause = "unstored"  // a sink failed
	Slow      Cause = "slow"      // the device does not read what it is sent
	Shutdown  Cause = "shutdown"  // the gateway ends
	Crashed   Cause = "crashed"   // our own fault
)

// The fixed limits of a session.
const (
	ConnectLimit   = 8 << 10          // bytes of a CONNECT packet
	AdmitTimeout   = 10 * time.Second // for Admit
	RequestTimeout = 30 * time.Second // for one request to be answered
	WriteTimeout   = 10 * time.Second // for the device to take what it is sent
	MaxSilence     = 1767 * time.Second

	maxUnackedBytes = 1 << 20   // of messages of a session that no sink has answered for, if more than one
	maxQueued       = 256 << 10 // bytes that wait to be sent, for what may be refused to who sends it
	maxBacklog      = 384 << 10 // and for what may not; more end the session
	maxInFlight     = 64        // messages that a device has not acknowledged
	maxPerDevice    = 4         // connections of one device, the established one included
)

// Config is what a gateway needs. All but the limits and timeouts is required.
type Config struct {
	// Listener has plain TCP connections. Run closes it.
	Listener net.Listener
	// TLS must require a client certificate and verify it.
	TLS *tls.Config
	// Doors are further ways in, each under a TLS policy of its own. What comes
	// through them shares everything else: limits, registry, sinks.
	Doors []Door

	Admitter  Admitter
	Telemetry Sink
	Logs      LogSink
	Requests  Requests
	Methods   Methods
	Sessions  Sessions
	Observer  Observer
	Log       *slog.Logger

	// Whose says which device a certificate is of that TLS has accepted, and the
	// registration id by which it names itself to DPS. Default: its common name
	// is both.
	Whose func(chain []*x509.Certificate) (d identity.Device, registration string, err error)

	// Limits are what a device may send, where its admission does not say. Zero
	// fields are those of DefaultLimits.
	Limits operator.Limits
	// Slots is how many TLS handshakes run at a time; default 128.
	Slots int
	// MaxPending is how many connections may be on their way to a session;
	// more are closed at once. Default 4096.
	MaxPending int
	// PerAddress is how many of them may come from one address (of IPv6, one
	// /64 network), so that one host cannot keep everybody out; it gets no
	// more than a quarter of the slots either. Default a quarter of MaxPending.
	PerAddress int
	// MaxSessions is how many sessions are held; default 65536.
	MaxSessions int
	// HandshakeTimeout bounds each of: the wait for the first byte, the TLS
	// handshake, the wait for CONNECT. Default 10 s.
	HandshakeTimeout time.Duration
	// QueueTimeout bounds the wait for a handshake slot; default 30 s.
	QueueTimeout time.Duration
}

// Door is a listener beside the main one. Run closes it.
type Door struct {
	Name     string       // tells its peers apart (Peer.Door); not empty
	Listener net.Listener // of plain TCP connections
	TLS      *tls.Config  // as Config.TLS
}

// Gateway accepts devices and holds their sessions.
type Gateway struct {
	cfg     Config
	log     *slog.Logger
	slots   slots
	reg     registry
	pend    pending
	wills   wills
	running running
	keeping keeping
	paces   paces
	groups  groups
	stats   Stats
	wg      sync.WaitGroup // every goroutine of the gateway
}

// New returns a gateway that Run starts.
func New(cfg Config) (*Gateway, error) {
	switch {
	case cfg.Listener == nil || cfg.TLS == nil || cfg.Log == nil:
		return nil, errors.New("gateway: config has no listener, TLS or log")
	case cfg.Admitter == nil || cfg.Telemetry == nil || cfg.Logs == nil || cfg.Requests == nil || cfg.Methods == nil || cfg.Sessions == nil || cfg.Observer == nil:
		return nil, errors.New("gateway: config lacks a collaborator")
	case !verifies(cfg.TLS):
		return nil, errors.New("gateway: TLS config does not verify client certificates")
	}
	for _, d := range cfg.Doors {
		if d.Name == "" || d.Listener == nil || d.TLS == nil || !verifies(d.TLS) {
			return nil, fmt.Errorf("gateway: door %q has no name, no listener or no TLS that verifies client certificates", d.Name)
		}
	}
	if cfg.Whose == nil {
		cfg.Whose = commonName
	}
	cfg.Limits = effective(cfg.Limits, DefaultLimits)
	setDefault(&cfg.Slots, 128)
	setDefault(&cfg.MaxPending, 4096)
	setDefault(&cfg.PerAddress, max(1, cfg.MaxPending/4))
	setDefault(&cfg.MaxSessions, 65536)
	setDefault(&cfg.HandshakeTimeout, 10*time.Second)
	setDefault(&cfg.QueueTimeout, 30*time.Second)
	g := &Gateway{cfg: cfg, log: cfg.Log, slots: make(slots, cfg.Slots), stats: newStats()}
	g.keeping.seed = maphash.MakeSeed()
	g.reg.sessions = map[identity.Device][]*Session{}
	g.groups.terms = map[identity.Group]*terms{}
	g.paces.left = map[identity.Device]debt{}
	g.pend.conns = map[net.Conn]*source{}
	g.pend.sources = map[netip.Prefix]*source{}
	return g, nil
}

func setDefault[T ~int | ~int64](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// verifies reports whether c lets no client in without a verified certificate.
func verifies(c *tls.Config) bool {
	own := c.VerifyPeerCertificate != nil || c.VerifyConnection != nil
	return c.ClientAuth == tls.RequireAndVerifyClientCert || c.ClientAuth == tls.RequireAnyClientCert && own
}

// Run accepts connections until ctx ends, then closes all of them and returns
// when everything that ran for them has ended: nil after a shutdown, or the
// error that stopped the listener.
func (g *Gateway) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer g.wills.publishAll()
	defer g.wg.Wait()
	defer g.closeAll()
	defer g.running.stop()
	defer cancel()
	g.running.set(ctx)
	g.wg.Go(func() { g.trim(ctx) })
	doors := append([]Door{{Listener: g.cfg.Listener, TLS: g.cfg.TLS}}, g.cfg.Doors...)
	ended := make(chan error, len(doors))
	for _, d := range doors {
		g.wg.Go(func() { ended <- g.listen(ctx, d) })
	}
	err := <-ended
	cancel() // one that fails takes the others down
	for range doors[1:] {
		err = errors.Join(err, <-ended)
	}
	return err
}

// listen accepts connections at one door until ctx ends, which is no error.
func (g *Gateway) listen(ctx context.Context, d Door) error {
	stop := context.AfterFunc(ctx, func() { d.Listener.Close() })
	defer stop()
	defer d.Listener.Close()
	for backoff := time.Duration(0); ; {
		raw, err := d.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				raw.Close()
			}
			return nil
		case err == nil:
			backoff = 0
			g.accepted(ctx, raw, d)
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept devices: %w", err)
		default: // out of file descriptors, or a connection that was gone before it was taken
			backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
			g.log.WarnContext(ctx, "accept failed", slog.String("door", d.Name), slog.Any("err", err))
			pause(ctx, backoff)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// accepted starts the way of a connection to a session, unless too many are
// on it already.
func (g *Gateway) accepted(ctx context.Context, raw net.Conn, d Door) {
	from, ok := g.pend.add(raw, g.cfg)
	if !ok {
		g.stats.Connections.Inc(resultBusy)
		raw.Close()
		return
	}
	g.wg.Go(func() {
		defer g.pend.remove(raw)
		g.connect(ctx, raw, from, d)
	})
}

// closeAll ends the sessions, each with its cause and its last words, and
// closes the connections on their way. One that has just become a session is
// among both.
func (g *Gateway) closeAll() {
	sessions := map[net.Conn]bool{}
	for _, s := range g.reg.close() {
		sessions[s.raw] = true
		s.cut(Shutdown, nil)
	}
	g.pend.close(sessions)
}

// Revoke ends every session of a device, those on their way included, and
// reports whether there was one. When it returns, no message is acknowledged
// any more. It does not keep the device from coming back; Admit does.
func (g *Gateway) Revoke(d identity.Device) bool {
	found := false
	for _, s := range g.reg.of(d) {
		found = s.cut(Revoked, nil) || found
	}
	return found
}

// SetMode changes how far the sessions of a device are open, at once, and
// reports whether there is one that is now in that mode.
func (g *Gateway) SetMode(d identity.Device, m access.Mode) bool {
	found := false
	for _, s := range g.reg.of(d) {
		found = s.setMode(m) || found
	}
	return found
}

// Publish sends a message of quality of service 0 to a device and reports
// whether it was queued: the device has a session with a subscription that
// selects the topic and that its mode leaves open.
func (g *Gateway) Publish(d identity.Device, topic string, body []byte) bool {
	for _, s := range g.reg.of(d) {
		if s.publishTo(topic, body) {
			return true
		}
	}
	return false
}

// Call is Publish for what is refused rather than that it ends the session when
// the device does not read fast enough: calls of methods, which may be large.
// The error is of kind fault.NotFound where Publish reports false, and
// fault.Unavailable when too much waits for the device already.
func (g *Gateway) Call(d identity.Device, topic string, body []byte) error {
	for _, s := range g.reg.of(d) {
		ok, err := s.publishUpTo(topic, body, maxQueued)
		if err != nil {
			return fault.New(fault.Unavailable, "device %s does not read fast enough", d)
		}
		if ok {
			return nil
		}
	}
	return fault.New(fault.NotFound, "device %s is not there, or has not subscribed", d)
}

// Sessions returns the sessions that are open now.
func (g *Gateway) Sessions() []*Session { return g.reg.open() }
