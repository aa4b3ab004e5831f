// Package monitor watches the fleet for whoever answers for it: alerts on what
// somebody should know, quantities over time, and the sessions that a device
// had. It asks nothing of devices or their sessions.
//
// Alerts follow from the ledger, which it reads record by record. How far it
// has come is stored in one transaction with what follows: a crash loses no
// alert and makes none twice. Quantities come from counters that the process
// keeps anyway, looked at once a minute.
//
// Invariants:
//   - of a device and a kind of alert at most one is open; one that comes and
//     goes opens the same again, and counts;
//   - a quantity that nobody took, because the hub was not running, is missing,
//     not zero.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/identity"
	"holdfast/internal/tally"
	"holdfast/iothub"
	"holdfast/ledger"
	"holdfast/operator"
)

// Ledger is read from a record on.
type Ledger interface {
	LedgerRecords(ctx context.Context, from uint64, limit int) ([]ledger.Record, error)
}

// Journal records what is relevant to security.
type Journal interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}

// Registry knows the devices.
type Registry interface {
	// Device returns a device; a fault of kind NotFound where there is none.
	Device(ctx context.Context, id identity.Device) (operator.Device, error)
	// Away calls each with every device that has been here and has no session
	// now, and when it was last seen.
	Away(ctx context.Context, each func(id identity.Device, seen time.Time)) error
}

// Events reads what the stream has stored of a device's connections since a
// time, oldest first.
type Events interface {
	Lifecycle(ctx context.Context, id identity.Device, since time.Time, each func(iothub.Message) error) error
}

// Source is what is looked at once a minute.
type Source struct {
	// Gauges returns what there is of each name now. A name that it leaves out
	// is a gap.
	Gauges func(context.Context) (map[string]float64, error)
	// Counters returns how often each has happened since the process began.
	Counters func() map[string]uint64
}

// Config is what a Monitor works with. Hook and the durations may be left out.
type Config struct {
	Store    Store
	Ledger   Ledger
	Journal  Journal
	Registry Registry
	Events   Events
	Source   Source
	Log      *slog.Logger

	// Offline is after how long a device that was well is missed. Default 24 h.
	Offline time.Duration
	// OfflineOf has groups that are missed sooner or later; zero: never.
	OfflineOf map[identity.Group]time.Duration
	// Keep is how long alerts are kept that are cleared or acknowledged. Default
	// 90 days.
	Keep time.Duration
	// MaxAlerts is how many alerts are kept at all. Default 10,000.
	MaxAlerts int
	// Hook posts each new alert, in their order, until it returns nil; nil: they
	// are only kept here.
	Hook func(context.Context, operator.Alert) error

	Now func() time.Time // default time.Now
}

// The defaults of Config.
const (
	DefaultOffline   = 24 * time.Hour
	DefaultKeep      = 90 * 24 * time.Hour
	DefaultMaxAlerts = 10_000
)

// How often the ledger is looked at, and how many of its records at a time.
const (
	followEvery = time.Second
	followBatch = 256
)

// Monitor watches. It is safe for concurrent use.
type Monitor struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	hooked  chan struct{} // wakes who posts alerts

	records *tally.Bag[atomic.Uint64] // of the ledger, by kind
	place   atomic.Uint64             // the last record that was followed

	rates rates

	mu   sync.Mutex
	open map[identity.Device]string // session that is open
	away map[identity.Device]absence
	told map[identity.Device]bool // missed already
	back []identity.Device        // told, and here again
}

// New returns a Monitor that Run starts.
func New(cfg Config) (*Monitor, error) {
	switch {
	case cfg.Store == nil || cfg.Ledger == nil || cfg.Journal == nil || cfg.Registry == nil || cfg.Events == nil || cfg.Log == nil:
		return nil, errors.New("monitor: store, ledger, journal, registry, events and log are required")
	case cfg.Source.Gauges == nil || cfg.Source.Counters == nil:
		return nil, errors.New("monitor: a source of quantities is required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Offline <= 0 {
		cfg.Offline = DefaultOffline
	}
	if cfg.Keep <= 0 {
		cfg.Keep = DefaultKeep
	}
	if cfg.MaxAlerts <= 0 {
		cfg.MaxAlerts = DefaultMaxAlerts
	}
	return &Monitor{cfg: cfg, log: cfg.Log, started: cfg.Now(), hooked: make(chan struct{}, 1),
		records: tally.NewBag(maxKinds, func() *atomic.Uint64 { return new(atomic.Uint64) }),
		open:    map[identity.Device]string{}, away: map[identity.Device]absence{}, told: map[identity.Device]bool{}}, nil
}

// maxKinds bounds how many kinds of the ledger's records are counted apart.
const maxKinds = 128

// Records calls f with how many records of each kind were followed since the
// process began.
func (m *Monitor) Records(f func(n float64, kind string)) {
	m.records.Each(func(n *atomic.Uint64, labels [3]string) { f(float64(n.Load()), labels[0]) })
}

// Place returns the number of the ledger's last record that was followed.
func (m *Monitor) Place() uint64 { return m.place.Load() }

// Run watches until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	jobs, ctx := errgroup.WithContext(ctx)
	jobs.Go(func() error { return m.every(ctx, followEvery, "follow the ledger", m.follow) })
	jobs.Go(func() error { return m.minutes(ctx) })
	if m.cfg.Hook != nil {
		jobs.Go(func() error { return m.post(ctx) })
	}
	return jobs.Wait()
}

// every does a job now and every so often until ctx ends; what goes wrong is
// logged, and tried again next time.
func (m *Monitor) every(ctx context.Context, pause time.Duration, what string, do func(context.Context) error) error {
	for {
		if err := m.guarded(ctx, do); err != nil && ctx.Err() == nil {
			m.log.ErrorContext(ctx, what, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// guarded turns a panic of a job into its error: the hub goes on.
func (m *Monitor) guarded(ctx context.Context, do func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return do(ctx)
}

// minutes does once a minute, just after it has ended, what is due then.
func (m *Monitor) minutes(ctx context.Context) error {
	if err := m.guarded(ctx, m.loadAway); err != nil && ctx.Err() == nil {
		m.log.ErrorContext(ctx, "read who is away", "err", err)
	}
	m.rates.begin(m.cfg.Source.Counters(), m.cfg.Now())
	for {
		now := m.cfg.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(now.Truncate(time.Minute).Add(time.Minute).Sub(now)):
		}
		for _, job := range []struct {
			what string
			do   func(context.Context) error
		}{{"take quantities", m.sample}, {"look for devices that are away", m.missed}, {"look for certificates that end", m.expiring}, {"drop old alerts", m.prune}} {
			if err := m.guarded(ctx, job.do); err != nil && ctx.Err() == nil {
				m.log.ErrorContext(ctx, job.what, "err", err)
			}
		}
	}
}

func (m *Monitor) prune(ctx context.Context) error {
	return m.cfg.Store.PruneAlerts(ctx, m.cfg.Now().Add(-m.cfg.Keep), m.cfg.MaxAlerts)
}
