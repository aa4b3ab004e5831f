// Package hub joins the hub's services into one process: it starts them, gives
// each the others it needs behind small interfaces, and holds the listeners.
// The services are in the folders below and do not know one another.
//
// Device plane: MQTT over mutual TLS (gateway), and HTTPS for enrolment,
// attestation and EST. Operator plane: the API, on a listener of its own with
// a trust of its own. Nothing listens in the clear.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/hub/accounts"
	"holdfast/hub/auditors"
	"holdfast/hub/calls"
	"holdfast/hub/enroll"
	"holdfast/hub/fleet"
	"holdfast/hub/gateway"
	"holdfast/hub/issuer"
	"holdfast/hub/journal"
	"holdfast/hub/messages"
	"holdfast/hub/outbox"
	"holdfast/hub/provision"
	"holdfast/hub/repository"
	"holdfast/hub/rollouts"
	"holdfast/hub/store"
	"holdfast/hub/stream"
	"holdfast/hub/twins"
	"holdfast/hub/verifier"
	"holdfast/internal/filelock"
	"holdfast/internal/sdnotify"
	"holdfast/ledger"
	"holdfast/pki"
)

// servingLifetime is how long the hub's own certificates live; they are
// renewed at two thirds of it.
const servingLifetime = 30 * 24 * time.Hour

// Options are what a run of the hub may override or wants to know.
type Options struct {
	Version  string
	MQTT     string // address of the MQTT listener, in place of the configured
	HTTPS    string // address of the device HTTPS listener, likewise
	Legacy   string // address of the legacy listener, likewise; it has to be enabled
	Operator string // address of the operator API, likewise
	Stream   string // URL of an external NATS cluster, likewise
	Log      *slog.Logger
	Ready    func(Addresses) // told once all listeners are open; may be nil
}

// Addresses are where a running hub listens.
type Addresses struct {
	MQTT, HTTPS, Operator string
	Legacy                string // empty: none
}

// hub is one hub process.
type hub struct {
	dir     string // of its state
	cfg     Config
	secret  pki.Secret
	version string
	log     *slog.Logger
	at      Addresses

	db         *store.Store
	stream     *stream.Stream
	journal    *journal.Journal
	issuer     *issuer.Issuer
	serving    *issuer.Serving
	rsa        map[issuer.RSA]*issuer.Serving // of the hierarchies that this hub has
	accounts   *accounts.Accounts
	fleet      *fleet.Fleet
	verifier   *verifier.Verifier
	enroll     *enroll.Enroller
	gateway    *gateway.Gateway
	twins      *twins.Twins
	calls      *calls.Calls
	messages   *messages.Messages
	outbox     *outbox.Outbox
	teller     *teller
	provision  *provision.Service
	rollouts   *rollouts.Service
	repository *repository.Repository
	auditors   *auditors.Auditors
	catalogue  catalogue // nil: nothing is published
	trust      *anchors
	logs       *shipments
	refusals   *refusals

	backingUp sync.Mutex
	shown     *shown
}

// Run runs the hub whose state is in dir until ctx ends.
func Run(ctx context.Context, dir string, o Options) error {
	cfg, err := LoadConfig(dir)
	if err != nil {
		return err
	}
	for _, a := range []struct {
		at *string
		by string
	}{{&cfg.MQTT, o.MQTT}, {&cfg.HTTPS, o.HTTPS}, {&cfg.Operator, o.Operator}, {&cfg.Legacy, o.Legacy}, {&cfg.Stream, o.Stream}} {
		if a.by != "" {
			*a.at = a.by
		}
	}
	unlock, err := filelock.Try(filepath.Join(dir, "lock"))
	if err != nil {
		return fmt.Errorf("lock state directory %s: %w", dir, err)
	}
	defer unlock()
	ls, err := listen(cfg)
	if err != nil {
		return err
	}
	defer ls.close()
	h := &hub{dir: dir, cfg: cfg, version: o.Version, log: o.Log, at: ls.addresses(), shown: newShown()}
	if h.db, err = store.Open(ctx, filepath.Join(dir, databaseName)); err != nil {
		return err
	}
	defer h.db.Close()
	if err := h.build(ctx, dir, ls); err != nil {
		return err
	}
	return h.run(ctx, ls, o.Ready)
}

// listeners are the sockets of a hub.
type listeners struct {
	mqtt, https, operator net.Listener
	legacy                net.Listener // nil: none
}

func listen(cfg Config) (*listeners, error) {
	ls := &listeners{}
	for _, l := range []struct {
		at   *net.Listener
		name string
		addr string
	}{{&ls.mqtt, "MQTT", cfg.MQTT}, {&ls.https, "device HTTPS", cfg.HTTPS}, {&ls.operator, "operator API", cfg.Operator}, {&ls.legacy, "legacy", cfg.Legacy}} {
		if l.addr == "" {
			continue // only the legacy listener has no default
		}
		var err error
		if *l.at, err = net.Listen("tcp", l.addr); err != nil {
			ls.close()
			return nil, fmt.Errorf("open the %s listener: %w", l.name, err)
		}
	}
	return ls, nil
}

func (l *listeners) close() {
	for _, s := range []net.Listener{l.mqtt, l.https, l.operator, l.legacy} {
		if s != nil {
			s.Close()
		}
	}
}

func (l *listeners) addresses() Addresses {
	at := Addresses{MQTT: l.mqtt.Addr().String(), HTTPS: l.https.Addr().String(), Operator: l.operator.Addr().String()}
	if l.legacy != nil {
		at.Legacy = l.legacy.Addr().String()
	}
	return at
}

// build makes the services, each on those it needs.
func (h *hub) build(ctx context.Context, dir string, ls *listeners) error {
	b, err := os.ReadFile(h.cfg.SealFile)
	if err != nil {
		return fmt.Errorf("read seal file: %w", err)
	}
	secret, err := pki.ParseSecret(b)
	if err != nil {
		return fmt.Errorf("seal file %s: %w", h.cfg.SealFile, err)
	}
	h.secret = secret
	for _, step := range []func() error{
		func() error { return h.buildJournal(dir, secret) },
		func() error { return h.buildStream(ctx, dir) },
		func() error { return h.buildIssuer(ctx, dir, secret) },
		func() error { return h.buildAccounts(ctx, dir) },
		func() error { return h.buildRepository(dir, secret) },
		func() error { return h.buildAuditors(ctx) },
		func() error { return h.buildFleet(ctx) },
		func() error { return h.buildTwins() },
		func() error { return h.buildRollouts(ctx) },
		func() error { return h.buildProvision(ctx) },
		func() error { return h.buildVerifier() },
		func() error { return h.buildEnroll() },
		func() error { return h.trust.refresh(ctx) },
		func() error { return h.buildGateway(ls) },
		func() error { return h.buildShown(ctx, dir) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (h *hub) component(name string) *slog.Logger { return h.log.With("component", name) }

func (h *hub) buildJournal(dir string, secret pki.Secret) error {
	key, err := openLedgerKey(dir, secret)
	if err != nil {
		return err
	}
	h.journal, err = journal.New(journal.Config{Store: h.db, Signer: key, Log: h.component("journal")})
	h.refusals = newRefusals(h.journal, h.shown.refusals, h.component("refusals"))
	return err
}

func (h *hub) buildStream(ctx context.Context, dir string) error {
	var err error
	h.stream, err = stream.New(ctx, stream.Config{
		Dir: filepath.Join(dir, streamDir), MaxAge: time.Duration(h.cfg.RetentionAge), MaxBytes: h.cfg.RetentionBytes,
		URL: h.cfg.Stream, Credentials: h.cfg.StreamCredentials, Root: h.cfg.StreamRoot, Replicas: h.cfg.StreamReplicas,
		Log: h.component("stream"), WithoutSyncUnsafe: acknowledgeUnsynced,
	})
	return err
}

func (h *hub) buildIssuer(ctx context.Context, dir string, secret pki.Secret) error {
	names, err := pki.ParseNames(h.cfg.Hosts)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(h.at.HTTPS)
	if err != nil {
		return err
	}
	h.issuer, err = issuer.New(issuer.Config{
		Dir: filepath.Join(dir, caDir), Secret: secret, Store: h.db, Log: h.component("issuer"),
		URL: "https://" + net.JoinHostPort(h.cfg.Hosts[0], port), Issued: h.issued, Revoked: h.revoked,
	})
	if err != nil {
		return err
	}
	if h.serving, err = issuer.NewServing(ctx, h.issuer, names, servingLifetime); err != nil {
		return err
	}
	return h.buildRSA(ctx, names)
}

func (h *hub) buildFleet(ctx context.Context) error {
	var err error
	h.fleet, err = fleet.New(fleet.Config{
		Store: h.db.Fleet(), Ledger: h.journal, Sessions: &sessions{bus: h.stream.Bus()}, Withdrawer: withdrawer{h.issuer}, Enrolments: enrolments{h}, Releases: h.repository, Offers: offered{h}, Audits: h.auditors,
		Log: h.component("fleet"),
	})
	if err != nil {
		return err
	}
	h.trust = &anchors{issuer: h.issuer, fleet: h.fleet, pins: h.pinned, naming: h.named}
	h.logs = newShipments(h.stream, h.fleet, h.crashes, h.component("logs"))
	return h.fleet.Load(ctx)
}

// run serves until ctx ends. The edges stop first, so that what they took is
// committed by the services behind them.
func (h *hub) run(ctx context.Context, ls *listeners, ready func(Addresses)) error {
	behind, stopBehind := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBehind()
	core, behind := errgroup.WithContext(behind)
	core.Go(func() error { return h.stream.Run(behind) })
	core.Go(func() error { return h.serving.Run(behind) })
	for _, s := range h.rsa {
		core.Go(func() error { return s.Run(behind) })
	}
	core.Go(func() error { return h.fleet.Run(behind) })
	feed := &feed{ledger: h.db, place: h.db, stream: h.stream, log: h.component("feed")}
	core.Go(func() error { return feed.Run(behind) })
	core.Go(func() error { return h.logs.Run(behind) })
	core.Go(func() error { return h.messages.Run(behind) })
	core.Go(func() error { return h.rollouts.Run(behind) })
	core.Go(func() error { return h.repository.Run(behind) })
	core.Go(func() error { return h.watchReleases(behind) })
	core.Go(func() error { return h.watchAudits(behind) })
	core.Go(func() error { return h.outbox.Run(behind) })
	core.Go(func() error { return h.teller.Run(behind) })
	core.Go(func() error { return h.stream.Bus().Serve(behind, h.onSession) })
	core.Go(func() error { return h.runShown(behind) })
	core.Go(func() error { return h.shown.health.Run(behind) })

	edges, ctx := errgroup.WithContext(ctx)
	edges.Go(func() error { return h.gateway.Run(ctx) })
	edges.Go(func() error { return h.serveDevices(ctx, ls.https) })
	edges.Go(func() error { return h.serveOperators(ctx, ls.operator) })
	edges.Go(func() error { // a service that fails takes the edges down
		select {
		case <-behind.Done():
			return errors.New("a service behind the listeners ended")
		case <-ctx.Done():
			return nil
		}
	})
	if err := h.journal.Append(ctx, ledger.Entry{Kind: ledger.HubStart, Actor: "hub"}); err != nil {
		h.log.ErrorContext(ctx, "record start", "err", err)
	}
	h.log.InfoContext(ctx, "hub is up", "mqtt", h.at.MQTT, "https", h.at.HTTPS, "operator", h.at.Operator, "legacy", h.at.Legacy, "version", h.version)
	h.shown.up.Store(true)
	h.shown.health.Again()
	h.notify(sdnotify.Ready)
	if ready != nil {
		ready(h.at)
	}
	edgeErr := edges.Wait()
	h.shown.up.Store(false)
	h.notify(sdnotify.Stopping)
	defer h.shown.tracer.Close()
	stopBehind()
	defer h.teller.close() // once the stream has answered for all that it was told
	if err := core.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	h.log.Info("hub stopped")
	return edgeErr
}
