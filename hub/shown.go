package hub

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"holdfast/fault"
	"holdfast/hub/health"
	"holdfast/hub/metrics"
	"holdfast/hub/monitor"
	"holdfast/hub/stream"
	"holdfast/hub/traces"
	"holdfast/identity"
	"holdfast/internal/tally"
	"holdfast/iothub"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// shown is what the hub shows of itself.
type shown struct {
	monitor *monitor.Monitor
	metrics http.Handler
	health  *health.Health
	tracer  *traces.Tracer // nil: off
	up      atomic.Bool    // the listeners are open
	began   time.Time

	issued      *tally.Vec // certificates, by class
	uncertified *tally.Vec // requests for one that were refused, by kind of fault
	refusals    *tally.Vec // by kind, each of them
	asked       *tally.Bag[tally.Histogram]
	answered    *tally.Bag[atomic.Uint64]
	vitals      atomic.Pointer[vitals]
}

// vitals is what is looked at once a minute, because looking has its price.
type vitals struct {
	statuses map[posture.Status]int
	devices  int
	verdicts []monitor.VerdictCount
	alerts   []monitor.AlertCount
	ledger   uint64 // the last record
	fed      uint64 // the last that the stream has
	stream   stream.State
}

// maxOperations bounds how many operations of the API are counted apart, times
// the statuses that they answer with.
const maxOperations = 600

func newShown() *shown {
	classes := []string{}
	for _, c := range pki.Classes() {
		classes = append(classes, string(c))
	}
	return &shown{
		began:  time.Now(),
		issued: tally.NewVec(classes),
		uncertified: tally.NewVec([]string{string(fault.Invalid), string(fault.Denied), string(fault.NotFound), string(fault.Conflict),
			string(fault.Unavailable), string(fault.Integrity), string(fault.Pending), string(fault.Internal)}),
		refusals: tally.NewVec([]string{"connection.refused", "session.refused", "session.violation", "request.refused", "certificate.refuse", "login.refused"}),
		asked:    tally.NewBag(maxOperations, func() *tally.Histogram { return tally.NewDurations(tally.Latencies()...) }),
		answered: tally.NewBag(maxOperations, func() *atomic.Uint64 { return new(atomic.Uint64) }),
	}
}

// buildShown makes what shows the hub, once there is a hub to show.
func (h *hub) buildShown(ctx context.Context, dir string) error {
	for _, build := range []func() error{
		func() error { return h.buildTraces(ctx, dir) },
		func() error { return h.buildMonitor(dir) },
		func() error { return h.buildHealth(dir) },
	} {
		if err := build(); err != nil {
			return err
		}
	}
	var err error
	h.shown.metrics, err = metrics.New(metrics.Config{Version: h.version, Families: h.families(dir), Log: h.component("metrics")})
	return err
}

func (h *hub) buildTraces(ctx context.Context, dir string) error {
	cfg := traces.Config{Version: h.version, Log: h.component("traces")}
	if t := h.cfg.Traces; t != nil {
		var err error
		if cfg.Headers, err = readHeaders(dir, t.HeadersFile); err != nil {
			return err
		}
		if cfg.Roots, err = readRoots(dir, t.Root); err != nil {
			return err
		}
		cfg.Endpoint, cfg.Sample = t.Endpoint, t.Sample
	}
	var err error
	h.shown.tracer, err = traces.New(ctx, cfg.FromEnvironment())
	return err
}

func (h *hub) buildMonitor(dir string) error {
	cfg := monitor.Config{
		Store: h.db.Monitor(), Ledger: h.db, Journal: h.journal, Registry: devices{h}, Events: lifecycle{h.stream}, Log: h.component("monitor"),
		Source: monitor.Source{Gauges: h.gauges, Counters: h.counters},
	}
	if a := h.cfg.Alerts; a != nil {
		cfg.Offline, cfg.Keep, cfg.MaxAlerts = time.Duration(a.Offline), time.Duration(a.Keep), a.Max
		cfg.OfflineOf = map[identity.Group]time.Duration{}
		for g, d := range a.OfflineGroups {
			cfg.OfflineOf[g] = time.Duration(d)
		}
		if a.Webhook != "" {
			hook, err := newWebhook(dir, h.cfg)
			if err != nil {
				return err
			}
			cfg.Hook = hook.post
		}
	}
	var err error
	h.shown.monitor, err = monitor.New(cfg)
	return err
}

// devices is the registry as the monitor asks it.
type devices struct{ h *hub }

// Device implements monitor.Registry.
func (d devices) Device(ctx context.Context, id identity.Device) (operator.Device, error) {
	return d.h.fleet.Device(ctx, id)
}

// Away implements monitor.Registry.
func (d devices) Away(ctx context.Context, each func(identity.Device, time.Time)) error {
	return d.h.fleet.Absent(ctx, each)
}

// lifecycle reads what the stream has of a device's connections.
type lifecycle struct{ stream *stream.Stream }

// Lifecycle implements monitor.Events.
func (l lifecycle) Lifecycle(ctx context.Context, id identity.Device, since time.Time, each func(iothub.Message) error) error {
	q := stream.Query{Device: id, Kind: iothub.Lifecycle, Since: since}
	return l.stream.Read(ctx, q, func(m iothub.Message, _ stream.Position) error { return each(m) })
}

// counters are what the monitor makes rates of.
func (h *hub) counters() map[string]uint64 {
	counts, all := map[string]uint64{}, uint64(0)
	for _, kind := range monitor.MessageKinds() {
		n := uint64(0)
		h.stream.Stats().Messages.Each(func(v float64, labels ...string) {
			if labels[0] == kind && labels[1] == "stored" {
				n = uint64(v)
			}
		})
		counts["messages."+kind] = n
		all += n
	}
	counts["messages"] = all
	return counts
}

// gauges looks at the hub for the monitor, and keeps what it saw for metrics.
func (h *hub) gauges(ctx context.Context) (map[string]float64, error) {
	v, err := h.look(ctx)
	if err != nil {
		return nil, err
	}
	h.shown.vitals.Store(v)
	values := map[string]float64{"connections": float64(h.fleet.Connected()), "pass": 0, "fail": 0}
	for _, c := range v.verdicts {
		values[string(c.Verdict)] += float64(c.Devices)
	}
	values["unknown"] = max(float64(v.devices*len(verdictMeasures()))-values["pass"]-values["fail"], 0)
	for _, s := range monitor.Statuses() {
		values["devices."+string(s)] = float64(v.statuses[s])
	}
	return values, nil
}

func (h *hub) look(ctx context.Context) (*vitals, error) {
	page, err := h.fleet.Page(ctx, operator.FleetQuery{Limit: 1})
	if err != nil {
		return nil, err
	}
	v := &vitals{statuses: page.Counts, devices: page.Total}
	if v.verdicts, err = h.db.Monitor().Verdicts(ctx); err != nil {
		return nil, err
	}
	if v.alerts, err = h.db.Monitor().OpenAlerts(ctx); err != nil {
		return nil, err
	}
	tip, err := h.db.LedgerTip(ctx)
	if err != nil {
		return nil, err
	}
	v.ledger = tip.Seq
	if v.fed, err = h.db.Fed(ctx); err != nil {
		return nil, err
	}
	if v.stream, err = h.stream.State(ctx); err != nil {
		h.log.WarnContext(ctx, "look at the stream", "err", err) // the rest is worth showing
	}
	for _, class := range []pki.Class{pki.Birth, pki.Operational} { // so that there is always a list, and its age to be seen
		if _, err := h.issuer.CRL(ctx, class); err != nil {
			h.log.ErrorContext(ctx, "revocation list", "class", class, "err", err)
		}
	}
	return v, nil
}

// runShown runs what shows the hub until ctx ends.
func (h *hub) runShown(ctx context.Context) error {
	if _, err := h.gauges(ctx); err != nil && ctx.Err() == nil { // so that there is something to scrape
		h.log.WarnContext(ctx, "look at the hub", "err", err)
	}
	return h.shown.monitor.Run(ctx)
}
