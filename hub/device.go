package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/hub/enroll"
	"holdfast/hub/fleet"
	"holdfast/hub/issuer"
	"holdfast/hub/verifier"
	"holdfast/identity"
	"holdfast/internal/httpfault"
	"holdfast/ledger"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// certifiedWithin is how fresh the evidence has to be that certifies the key
// of an operational certificate (enrolment protocol, "Operational certificate").
const certifiedWithin = 10 * time.Minute

// The bounds of a request on the device plane.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeader         = 16 << 10
	closeTimeout      = 5 * time.Second
	drainTimeout      = 2 * time.Second // for requests that run when the hub is to stop
)

// route says which client certificate a path of the device listener needs;
// none when it has no classes.
type route struct {
	pattern string
	classes []pki.Class
	handler http.Handler
}

// deviceRoutes is the one table of the device HTTPS listener. EST knows its
// classes path by path, and asks through authenticate.
func (h *hub) deviceRoutes() ([]route, error) {
	est, err := issuer.NewEST(issuer.ESTConfig{Issuer: h.issuer, Gate: h, Authenticate: h.authenticate, Refused: h.uncertified, Log: h.component("est")})
	if err != nil {
		return nil, err
	}
	devices := []pki.Class{pki.Birth, pki.Operational, pki.Maker}
	attest := h.verifier.Handler(h.attester)
	state := h.shown.health.Handler(nil) // a device learns no more than whether all is well
	return []route{
		{pattern: "GET /healthz", handler: state},
		{pattern: "GET /readyz", handler: state},
		{pattern: "GET /crl/{ca}", handler: http.HandlerFunc(h.issuer.ServeCRL)},
		{pattern: "/enroll/", handler: h.traced("enrolment", h.enroll.Handler())},
		{pattern: "/attest/", classes: devices, handler: h.traced("attestation", attest)},
		{pattern: "/repository/", classes: devices, handler: h.repository.Handler(h.fetcher)},
		{pattern: "GET /$iothub/websocket", classes: devices, handler: h.gateway}, // as Azure's SDKs have it
		{pattern: "GET /mqtt", classes: devices, handler: h.gateway},
		{pattern: "/.well-known/est/", handler: h.traced("certificate", est)},
		{pattern: "/", handler: h.provision.Handler(h.certified)}, // its paths begin with the id scope
	}, nil
}

// authenticate says which device is at the other end, and refuses one that may
// not come in: revoked, superseded, or under TLS 1.2 where its group demands 1.3.
func (h *hub) authenticate(r *http.Request) (pki.Peer, error) {
	p, err := tlspolicy.Peer(r.TLS, h.trust.current(), time.Now())
	if err != nil {
		return p, fault.Hide(fault.Denied, "a device's certificate is needed here", err)
	}
	if _, err := h.admit(r.Context(), p, r.TLS.Version, ""); err != nil {
		h.refusals.record(r.Context(), "request.refused", p.Device, r.RemoteAddr, err)
		return p, err
	}
	return p, nil
}

// uncertified records that a device got no certificate. Overload and our own
// failures say nothing of the device.
func (h *hub) uncertified(r *http.Request, p pki.Peer, err error) {
	h.shown.uncertified.Inc(string(fault.Of(err)))
	switch fault.Of(err) {
	case fault.Internal, fault.Unavailable, fault.Pending:
	default:
		h.refusals.record(r.Context(), string(ledger.RefuseIssue), p.Device, r.RemoteAddr, err)
	}
}

// attester authenticates a request for attestation and binds it to its TLS
// session.
func (h *hub) attester(r *http.Request) (verifier.Peer, error) {
	p, err := h.authenticate(r)
	if err != nil {
		return verifier.Peer{}, err
	}
	exporter, err := r.TLS.ExportKeyingMaterial(evidence.ExporterLabel, nil, evidence.ExporterSize)
	if err != nil {
		return verifier.Peer{}, fmt.Errorf("channel binding: %w", err)
	}
	// A connection has one exporter, and no other has the same.
	return verifierPeer(p.Device, "https "+identity.Sum(exporter).String(), exporter), nil
}

// verifierPeer names an attester and its session for the verifier.
func verifierPeer(d identity.Device, session string, exporter []byte) verifier.Peer {
	return verifier.Peer{Device: d, Session: session, Exporter: exporter}
}

// Grant implements issuer.Gate: posture decides the lifetime, and the key has
// to live in the device's TPM where it has one.
func (h *hub) Grant(ctx context.Context, req issuer.GrantRequest) (time.Duration, error) {
	life, err := h.fleet.Grant(ctx, req.Peer.Device, req.Peer.Class)
	if err != nil {
		return 0, err
	}
	if attests, err := h.fleet.Attests(ctx, req.Peer.Device); err != nil || !attests {
		return life, err // no TPM: its group's policy has accepted that
	}
	ok, err := h.verifier.Certified(ctx, req.Peer.Device, req.Key, certifiedWithin)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fault.New(fault.Denied, "the key was not certified by the device's attestation key within %s: attest with it first", certifiedWithin)
	}
	return life, nil
}

// issued takes in that a certificate was issued. One that is not in the ledger,
// or that opens nothing because the registry does not know it, is not handed
// out.
func (h *hub) issued(ctx context.Context, i issuer.Issued) error {
	details := map[string]any{"class": i.Class, "name": i.Name, "serial": i.Serial, "not_after": i.NotAfter.UTC(), "key": i.Key}
	if err := h.journal.Record(ctx, string(ledger.Issue), i.Device, details); err != nil {
		return err
	}
	h.shown.issued.Inc(string(i.Class))
	h.shown.tracer.Note(ctx, "certificate issued", "class", string(i.Class), "serial", i.Serial, "via", i.Via)
	if i.Class != pki.Operational {
		return nil
	}
	return h.fleet.Certificate(ctx, i.Device, fleet.Certificate{Serial: i.Serial, NotBefore: i.Issued, NotAfter: i.NotAfter, Lifetime: i.Lifetime})
}

// revoked records revoked certificates.
func (h *hub) revoked(ctx context.Context, r issuer.Revoked) {
	if len(r.Serials) == 0 {
		return
	}
	details := map[string]any{"name": r.Name, "serials": r.Serials, "code": r.Reason}
	if err := h.journal.Record(ctx, string(ledger.RevokeIssued), "", details); err != nil {
		h.log.ErrorContext(ctx, "record revocation", "name", r.Name, "err", err)
	}
}

// withdrawer puts certificates on the revocation lists.
type withdrawer struct {
	issuer *issuer.Issuer
}

// Withdraw implements fleet.Withdrawer.
func (w withdrawer) Withdraw(ctx context.Context, _ identity.Device, _ pki.Class, serial string, reason int) error {
	err := w.issuer.Revoke(ctx, serial, reason)
	if fault.Of(err) == fault.NotFound {
		return nil
	}
	return err
}

// births issues birth certificates.
type births struct {
	*issuer.Issuer
}

// BirthOf implements enroll.Issuer: the device's birth certificate in force, if
// it is for that key.
func (b births) BirthOf(ctx context.Context, id identity.Device, key identity.Digest) ([]*x509.Certificate, error) {
	certs, err := b.Certificates(ctx, pki.Birth, string(id))
	if err != nil || len(certs) == 0 {
		return nil, err
	}
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return identity.Sum(c.RawSubjectPublicKeyInfo) == key })
	if i < 0 || b.CheckRevoked(ctx, pki.SerialText(certs[i])) != nil {
		return nil, nil
	}
	return []*x509.Certificate{certs[i], b.Authority(pki.Birth)}, nil
}

func (h *hub) buildEnroll() error {
	var err error
	h.enroll, err = enroll.New(enroll.Config{Registry: h.fleet, Issuer: births{h.issuer}, Log: h.component("enroll")})
	return err
}

// serveDevices serves the device HTTPS listener until ctx ends.
func (h *hub) serveDevices(ctx context.Context, l net.Listener) error {
	routes, err := h.deviceRoutes()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.pattern, h.guard(r))
	}
	cfg, err := tlspolicy.DeviceHTTPS(h.listener())
	if err != nil {
		return err
	}
	cfg = newTurns(maxHandshakes, handshakesFromEach, turnTimeout).limit(h.refusals.watch(cfg, "https"))
	return serve(ctx, tls.NewListener(newCrowd(l, maxConns, maxPerOrigin), cfg), mux, h.component("https"))
}

// guard refuses who has no certificate of a class that the route needs.
func (h *hub) guard(r route) http.Handler {
	if len(r.classes) == 0 {
		return r.handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p, err := tlspolicy.Peer(req.TLS, h.trust.current(), time.Now())
		if err != nil || !slices.Contains(r.classes, p.Class) {
			httpfault.Write(w, h.log, fault.Hide(fault.Denied, "a device's certificate is needed here", err), "path", req.URL.Path, "remote", req.RemoteAddr)
			return
		}
		r.handler.ServeHTTP(w, req)
	})
}

// serve serves HTTP/1.1 on l until ctx ends, then lets requests finish, for
// drainTimeout: a connection on which nobody has asked anything yet counts as one
// (http.Server.Shutdown).
func serve(ctx context.Context, l net.Listener, handler http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ConnContext: withBeginning,
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if s.Shutdown(wait) != nil {
			s.Close()
		}
	})
	err := s.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
