package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/hub/api"
	"holdfast/hub/console"
	"holdfast/hub/fleet"
	"holdfast/hub/issuer"
	"holdfast/hub/store"
	"holdfast/hub/stream"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// registry is the fleet as operators steer it: what changes whom the device
// listeners trust takes effect with the answer.
type registry struct {
	*fleet.Fleet
	trust *anchors
}

// SetGroup implements api.Groups.
func (r registry) SetGroup(ctx context.Context, by string, id identity.Group, s operator.SetGroup) (operator.Group, error) {
	g, err := r.Fleet.SetGroup(ctx, by, id, s)
	if err != nil {
		return g, err
	}
	return g, r.trust.refresh(ctx)
}

// AddCA implements api.CAs.
func (r registry) AddCA(ctx context.Context, by string, in operator.CA) (operator.CA, error) {
	ca, err := r.Fleet.AddCA(ctx, by, in)
	if err != nil {
		return ca, err
	}
	return ca, r.trust.refresh(ctx)
}

// Devices implements api.Devices.
func (r registry) Devices(ctx context.Context, f api.Filter) ([]operator.Device, error) {
	return r.Fleet.Devices(ctx, operator.FleetQuery{Group: f.Group, Status: f.Status, Groups: f.Groups, After: string(f.After), Limit: f.Limit})
}

// history is the issuer's books as operators read them.
type history struct{ db *store.Store }

// Certificates implements api.History.
func (h history) Certificates(ctx context.Context, id identity.Device) ([]operator.Issued, error) {
	return h.db.History(ctx, id)
}

// events reads the stream as operators do.
type events struct {
	stream   *stream.Stream
	stopping <-chan struct{} // closed when the hub is to stop
}

// Read implements api.Events. Who follows is let go when the hub stops: such a
// request would never end by itself.
func (e events) Read(ctx context.Context, q operator.EventQuery, each func(string, iothub.Message) error) error {
	after, err := stream.ParsePosition(q.After)
	if err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	if q.Follow {
		watching.Go(func() {
			defer cancel()
			select {
			case <-e.stopping:
			case <-ctx.Done():
			}
		})
	}
	sq := stream.Query{Device: q.Device, Kind: iothub.Kind(q.Kind), Since: q.Since, After: after, Follow: q.Follow}
	return e.stream.Read(ctx, sq, func(m iothub.Message, p stream.Position) error { return each(p.String(), m) })
}

// Check implements api.Events.
func (e events) Check(ctx context.Context, q operator.EventQuery) error {
	after, err := stream.ParsePosition(q.After)
	if err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	return e.stream.Check(ctx, after)
}

// describe says what hub this is.
func (h *hub) describe(ctx context.Context) (operator.Hub, error) {
	n, err := h.fleet.Count(ctx)
	return operator.Hub{Version: h.version, Hosts: h.cfg.Hosts, MQTT: h.at.MQTT, HTTPS: h.at.HTTPS, Legacy: h.at.Legacy,
		RSARoot: h.rootText(issuer.Modern), OldRoot: h.rootText(issuer.Legacy),
		Root: string(pki.EncodeCerts(h.issuer.Root())), Scope: string(h.provision.Scope()), Devices: n, Connected: h.fleet.Connected(),
		Time: time.Now().UTC(), LastBackup: lastBackup(h.dir)}, err
}

// serveOperators serves the operator API until ctx ends.
func (h *hub) serveOperators(ctx context.Context, l net.Listener) error {
	trust, err := pki.NewTrust(h.issuer.Anchors(pki.Operator)...)
	if err != nil {
		return err
	}
	cfg, err := tlspolicy.Operator(tlspolicy.Listener{Certificate: h.serving.Certificate, Trust: func() *pki.Trust { return trust },
		Now: time.Now, Verify: h.operator, Hint: []*x509.Certificate{h.issuer.Authority(pki.Operator)}})
	if err != nil {
		return err
	}
	r := registry{Fleet: h.fleet, trust: h.trust}
	apiHandler := api.New(api.Config{Version: h.version, Hub: h.describe, Groups: r, CAs: r, Devices: r, Arrivals: r,
		References: h.verifier, Auditors: h.auditors, Twins: h.twins, Methods: tracedCalls{h.calls, h.shown.tracer}, Messages: h.messages, Enrollments: h.provision, Events: events{h.stream, ctx.Done()}, Ledger: h.journal, Log: h.component("api"),
		Alerts: h.shown.monitor, Series: h.shown.monitor, SessionHistory: h.shown.monitor, Rollouts: h.rollouts, Repository: h.repository, Began: h.began,
		Accounts: h.accounts, Logins: h.accounts, Tokens: h.accounts, Certifier: h.accounts, Overview: h.fleet, History: history{h.db}, Backup: h.backUp})
	pages, err := console.New(console.Config{API: apiHandler, Log: h.component("console")})
	if err != nil {
		return err
	}
	handler := h.judge(trust, h.shows(byPath(apiHandler, h.accounts.Handler(), pages)))
	return serve(ctx, tls.NewListener(newCrowd(l, maxConns, maxPerOrigin), h.refusals.watch(cfg, "operator")), handler, h.component("api"))
}
