package hub

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
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
	pins   pki.Pins
	naming pki.Naming
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
	a.trust.Store(t.Pin(a.pins).Name(a.naming))
	return nil
}

func (a *anchors) current() *pki.Trust { return a.trust.Load() }

// listener is the TLS policy that both device listeners share.
func (h *hub) listener() tlspolicy.Listener {
	l := tlspolicy.Listener{Certificate: h.serving.Certificate, Trust: h.trust.current, Now: time.Now, AllowTLS12: true, Verify: h.version12}
	if s := h.rsa[issuer.Modern]; s != nil {
		l.RSA = s.Certificate
	}
	return l
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
	return mayUse(g, state.Version, "")
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
		open := h.gateway.SetMode(d, access.Full)
		h.messages.Wake(d)
		return nil, open
	case stream.VerbDesired:
		return nil, h.tellDesired(d, body)
	case stream.VerbMethod:
		return h.calls.Deliver(d, body)
	case stream.VerbMessages:
		h.messages.Wake(d)
		return nil, true
	case stream.VerbUpdate:
		return nil, h.tellOffer(d, body)
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
func (h *hub) buildGateway(ls *listeners) error {
	cfg, err := tlspolicy.DeviceMQTT(h.listener())
	if err != nil {
		return err
	}
	doors, err := h.legacyDoor(ls.legacy)
	if err != nil {
		return err
	}
	h.gateway, err = gateway.New(gateway.Config{
		Listener: ls.mqtt, TLS: cfg, Doors: doors, Admitter: h, Telemetry: h.stream, Logs: h.logs, Requests: h, Methods: h, Sessions: h.db.Sessions(), Observer: h, Whose: h.whose, Limits: h.cfg.Limits, Log: h.component("gateway"),
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
	if p.Registration != nil {
		return h.admitRegistration(p)
	}
	who, err := h.peer(p)
	if err != nil {
		return gateway.Admission{}, err
	}
	a, err := h.admit(ctx, who, p.Version, p.Door)
	if err != nil {
		return gateway.Admission{}, err
	}
	return gateway.Admission{Mode: a.Mode, Fixed: who.Class == pki.Birth, Group: a.Group.ID, Limits: a.Group.Limits}, nil
}

// admit is what both device listeners ask about a peer, over a version of TLS,
// once it has proved that it has its certificate's key. A key that a maker has
// put into two devices is taken from the first that shows it.
func (h *hub) admit(ctx context.Context, who pki.Peer, version uint16, door string) (fleet.Admitted, error) {
	a, err := h.fleet.Admit(ctx, who)
	if err != nil {
		return a, err
	}
	if err := mayUse(a.Group, version, door); err != nil { // it may have changed since the handshake
		return a, err
	}
	if who.Class != pki.Maker && who.Class != pki.SelfSigned {
		return a, nil
	}
	err = h.issuer.NoteKey(ctx, who.Key, who.Device, string(who.Class))
	if fault.Of(err) == fault.Denied {
		err = fault.Hide(fault.Denied, "the certificate's key is another device's too", err)
	}
	return a, err
}

// Answer implements gateway.Requests: it hands each kind of request to the
// service that answers it.
func (h *hub) Answer(ctx context.Context, s *gateway.Session, t iothub.Request, payload []byte) (iothub.Topic, []byte, error) {
	if err := notOnLegacy(s.Peer().Door, t); err != nil {
		return nil, nil, err
	}
	switch t := t.(type) {
	case iothub.Attest:
		status, body := h.attest(ctx, s, string(t.Op), payload)
		return t.Result(status), body, nil
	case iothub.TwinGet, iothub.ReportedPatch:
		return h.twins.Answer(ctx, s.Device(), t, payload)
	case iothub.UpdateProgress:
		if err := h.rollouts.Progress(ctx, s.Device(), payload); err != nil {
			return nil, nil, err
		}
		return t.Result(http.StatusNoContent), nil, nil
	case iothub.Register, iothub.OperationStatus:
		return h.register(ctx, s, t, payload)
	case iothub.IssueCertificate:
		return h.credentials(ctx, s, t, payload)
	}
	return nil, nil, fault.New(fault.NotFound, "this hub does not answer such requests")
}

// Answered implements gateway.Methods.
func (h *hub) Answered(s *gateway.Session, r iothub.MethodResult, payload []byte) {
	h.calls.Answered(s.Device(), r, payload)
}

// attest answers an attestation request over the MQTT session.
func (h *hub) attest(ctx context.Context, s *gateway.Session, op string, payload []byte) (int, []byte) {
	exporter, err := s.Exporter()
	if err != nil {
		h.log.WarnContext(ctx, "no channel binding", "device", s.Device(), "err", err)
		exporter = nil
	}
	ctx, end := h.shown.tracer.Start(ctx, "attestation", "device", string(s.Device()), "op", op)
	status, body := h.verifier.Exchange(ctx, verifierPeer(s.Device(), "mqtt "+s.ID(), exporter), op, payload)
	end(ofStatus(status))
	return status, body
}

// SessionOpened implements gateway.Observer.
func (h *hub) SessionOpened(s *gateway.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout)
	defer cancel()
	p := s.Peer()
	if p.Registration != nil {
		h.log.InfoContext(ctx, "registration opened", "device", s.Device(), "remote", p.Remote)
		return // it is no session of a device of the registry, or not yet
	}
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
	h.shown.monitor.Opened(s.Device(), s.ID())
	if s.Clean() && s.Mode() == access.Full { // in quarantine it could not have them, and does not lose them
		h.messages.Discard(s.Device(), p.Connected)
	} else {
		h.messages.Wake(s.Device()) // subscriptions may be of an earlier session
	}
	h.connected(p, who, string(s.Mode()))
	h.log.InfoContext(ctx, "session opened", "device", s.Device(), "class", who.Class, "mode", s.Mode(), "remote", p.Remote)
}

// facts are what the gateway saw of a session, in the policy's words.
func facts(p gateway.Peer, who pki.Peer) tlspolicy.Facts {
	return tlspolicy.Facts{
		Protocol: tlspolicy.MQTT, Version: p.Version, Suite: p.Suite, Group: p.Group, Peer: who,
		Key: pki.KeyText(p.Certificate.PublicKey), Signature: p.Certificate.SignatureAlgorithm, Weak: pki.StrongCertificate(p.Certificate),
	}
}

// Subscribed implements gateway.Observer: who asks for its posture, its
// messages or updates gets them.
func (h *hub) Subscribed(s *gateway.Session, filter string) {
	switch filter {
	case iothub.DeviceboundFilter(s.Device()):
		h.messages.Wake(s.Device())
		return
	case iothub.UpdateFilter:
		h.offer(s)
		return
	case iothub.PostureFilter:
	default:
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
	s.Publish(iothub.Posture{Version: uint64(r.Version)}.String(), b)
}

// SessionClosed implements gateway.Observer.
func (h *hub) SessionClosed(s *gateway.Session, cause gateway.Cause, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout)
	defer cancel()
	h.fleet.SessionClosed(ctx, s.Device(), s.ID())
	if s.Registration() == nil {
		h.shown.monitor.Closed(s.Device(), s.ID())
		h.disconnected(s, cause)
	}
	if cause == gateway.Violation {
		h.refusals.record(ctx, "session.violation", s.Device(), s.Peer().Remote, err)
	}
}

// Refused implements gateway.Observer.
func (h *hub) Refused(r gateway.Refusal) {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout)
	defer cancel()
	if r.Certificate != nil {
		h.refusals.record(ctx, "session.refused", r.Device, r.Remote, r.Err)
	}
}
