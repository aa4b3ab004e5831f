package hub

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/hub/gateway"
	"holdfast/hub/issuer"
	"holdfast/hub/stream"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/pki"
	"holdfast/posture"
	"holdfast/tlspolicy"
)

// anchors is what the device listeners trust: the hub's own authorities and
// the makers' CAs, which come and go while the hub runs.
type anchors struct {
	issuer *issuer.Issuer
	fleet  *fleet.Fleet
	trust  atomic.Pointer[pki.Trust]
}

// refresh takes in the makers' CAs as they are registered now.
func (a *anchors) refresh(ctx context.Context) error {
	makers, err := a.fleet.MakerAnchors(ctx)
	if err != nil {
		return fmt.Errorf("read makers' CAs: %w", err)
	}
	t, err := pki.NewTrust(append(a.issuer.Anchors(pki.Birth, pki.Operational), makers...)...)
	if err != nil {
		return err
	}
	a.trust.Store(t)
	return nil
}

func (a *anchors) current() *pki.Trust { return a.trust.Load() }

// listener is the TLS policy that both device listeners share.
func (h *hub) listener() tlspolicy.Listener {
	return tlspolicy.Listener{Certificate: h.serving.Certificate, Trust: h.trust.current, Now: time.Now, AllowTLS12: true, Verify: h.version12}
}

// version12 lets a session use TLS 1.2 only where the device's group allows it.
// crypto/tls asks before the peer has proved that it has its certificate's key,
// so nothing may follow from this but a refusal.
func (h *hub) version12(state tls.ConnectionState, peer pki.Peer) error {
	if state.Version >= tls.VersionTLS13 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout) // crypto/tls hands none down
	defer cancel()
	g, err := h.fleet.GroupOf(ctx, peer)
	if err != nil {
		return err
	}
	if !g.TLS12 {
		return fault.New(fault.Denied, "group %s demands TLS 1.3", g.ID)
	}
	return nil
}

// sessions reaches live sessions over the bus, in whatever process they are.
// A device without one is not an error: it is held to the same when it comes.
type sessions struct {
	bus *stream.Bus
}

// SetMode implements fleet.Sessions.
func (s *sessions) SetMode(ctx context.Context, d identity.Device, m access.Mode, reason string) error {
	verb := stream.VerbRestore
	if m == access.Quarantine {
		verb = stream.VerbQuarantine
	}
	return s.request(ctx, d, verb, []byte(reason))
}

// Revoke implements fleet.Sessions.
func (s *sessions) Revoke(ctx context.Context, d identity.Device, reason string) error {
	return s.request(ctx, d, stream.VerbRevoke, []byte(reason))
}

// Publish implements fleet.Sessions.
func (s *sessions) Publish(ctx context.Context, d identity.Device, r posture.Report) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("posture report of %s: %w", d, err)
	}
	return s.request(ctx, d, stream.VerbPosture, b)
}

func (s *sessions) request(ctx context.Context, d identity.Device, verb string, body []byte) error {
	_, err := s.bus.Request(ctx, d, verb, body)
	if fault.Of(err) == fault.NotFound {
		return nil
	}
	return err
}

// onSession does a verb of the bus on the session that this process holds.
func (h *hub) onSession(d identity.Device, verb string, body []byte) ([]byte, bool) {
	switch verb {
	case stream.VerbRevoke:
		return nil, h.gateway.Revoke(d)
	case stream.VerbQuarantine:
		return nil, h.gateway.SetMode(d, access.Quarantine)
	case stream.VerbRestore:
		return nil, h.gateway.SetMode(d, access.Full)
	case stream.VerbPosture:
		var r posture.Report
		if err := json.Unmarshal(body, &r); err != nil {
			h.log.Error("posture report on the bus", "device", d, "err", err)
			return nil, false
		}
		return nil, h.gateway.Publish(d, iothub.Posture{Version: uint64(r.Version)}.String(), body)
	}
	return nil, false
}

// buildGateway makes the gateway.
func (h *hub) buildGateway(l net.Listener) error {
	cfg, err := tlspolicy.DeviceMQTT(h.listener())
	if err != nil {
		return err
	}
	h.gateway, err = gateway.New(gateway.Config{
		Listener: l, TLS: cfg, Admitter: h, Telemetry: h.stream, Logs: h.logs, Exchange: h, Observer: h, Log: h.component("gateway"),
	})
	return err
}

// peer says who a gateway's peer is, by the certificate of its session.
func (h *hub) peer(p gateway.Peer) (pki.Peer, error) {
	who, err := h.trust.current().Verify(p.Chain, time.Now())
	if err != nil {
		return who, fault.Hide(fault.Denied, "the certificate is not accepted", err)
	}
	return who, nil
}

// Admit implements gateway.Admitter.
func (h *hub) Admit(ctx context.Context, p gateway.Peer) (gateway.Admission, error) {
	who, err := h.peer(p)
	if err != nil {
		return gateway.Admission{}, err
	}
	a, err := h.admit(ctx, who, p.Version)
	if err != nil {
		return gateway.Admission{}, err
	}
	return gateway.Admission{Mode: a.Mode, Fixed: who.Class == pki.Birth}, nil
}

// admit is what both device listeners ask about a peer, over a version of TLS,
// once it has proved that it has its certificate's key. A key that a maker has
// put into two devices is taken from the first that shows it.
func (h *hub) admit(ctx context.Context, who pki.Peer, version uint16) (fleet.Admitted, error) {
	a, err := h.fleet.Admit(ctx, who)
	if err != nil {
		return a, err
	}
	if version < tls.VersionTLS13 && !a.Group.TLS12 { // it may have changed since the handshake
		return a, fault.New(fault.Denied, "group %s demands TLS 1.3", a.Group.ID)
	}
	if who.Class != pki.Maker {
		return a, nil
	}
	err = h.issuer.NoteKey(ctx, who.Key, who.Device, string(pki.Maker))
	if fault.Of(err) == fault.Denied {
		err = fault.Hide(fault.Denied, "the certificate's key is another device's too", err)
	}
	return a, err
}

// Exchange implements gateway.Exchange: attestation over the MQTT session.
func (h *hub) Exchange(ctx context.Context, s *gateway.Session, op string, payload []byte) (int, []byte) {
	exporter, err := s.Exporter()
	if err != nil {
		h.log.WarnContext(ctx, "no channel binding", "device", s.Device(), "err", err)
		exporter = nil
	}
	return h.verifier.Exchange(ctx, verifierPeer(s.Device(), "mqtt "+s.ID(), exporter), op, payload)
}

// SessionOpened implements gateway.Observer.
func (h *hub) SessionOpened(s *gateway.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout)
	defer cancel()
	p := s.Peer()
	who, err := h.peer(p)
	if err == nil {
		rows := tlspolicy.Rows(facts(p, who), time.Now().UTC())
		_, err = h.fleet.SessionOpened(ctx, who, s.ID(), s.Mode(), rows)
	}
	if err != nil {
		h.log.WarnContext(ctx, "session not admitted after all", "device", s.Device(), "err", err)
		h.gateway.Revoke(s.Device())
		return
	}
	h.log.InfoContext(ctx, "session opened", "device", s.Device(), "class", who.Class, "mode", s.Mode(), "remote", p.Remote)
}

// facts are what the gateway saw of a session, in the policy's words.
func facts(p gateway.Peer, who pki.Peer) tlspolicy.Facts {
	return tlspolicy.Facts{
		Protocol: tlspolicy.MQTT, Version: p.Version, Suite: p.Suite, Group: p.Group, Peer: who,
		Key: pki.KeyText(p.Certificate.PublicKey), Signature: p.Certificate.SignatureAlgorithm, Weak: pki.StrongCertificate(p.Certificate),
	}
}

// Subscribed implements gateway.Observer: who asks for its posture gets it.
func (h *hub) Subscribed(s *gateway.Session, filter string) {
	if filter != iothub.PostureFilter {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout)
	defer cancel()
	r, err := h.fleet.Current(ctx, s.Device())
	if err != nil {
		h.log.ErrorContext(ctx, "current posture", "device", s.Device(), "err", err)
		return
	}
	b, err := json.Marshal(r)
	if err != nil {
		h.log.ErrorContext(ctx, "current posture", "device", s.Device(), "err", err)
		return
	}
	h.gateway.Publish(s.Device(), iothub.Posture{Version: uint64(r.Version)}.String(), b)
}

// SessionClosed implements gateway.Observer.
func (h *hub) SessionClosed(s *gateway.Session, cause gateway.Cause, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout)
	defer cancel()
	h.fleet.SessionClosed(ctx, s.Device(), s.ID())
	h.log.InfoContext(ctx, "session closed", "device", s.Device(), "cause", cause, "err", err)
	if cause == gateway.Violation {
		h.refusals.record(ctx, "session.violation", s.Device(), s.Peer().Remote, err)
	}
}

// Refused implements gateway.Observer.
func (h *hub) Refused(r gateway.Refusal) {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout)
	defer cancel()
	h.log.LogAttrs(ctx, slog.LevelWarn, "connection refused", slog.String("remote", r.Remote), slog.String("device", string(r.Device)), slog.Any("err", r.Err))
	if r.Certificate != nil {
		h.refusals.record(ctx, "session.refused", r.Device, r.Remote, r.Err)
	}
}
