// Package metrics shows what the parts of the hub count of themselves to
// Prometheus. The parts do not know it: a Family says where a number comes
// from, and the hub's root joins them. No label has a value that a device
// chooses, so that there are as many series with a million devices as with one.
package metrics

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"holdfast/internal/tally"
)

// Prefix begins the name of every family of ours.
const Prefix = "holdfast_"

// Kind is what a family's numbers are.
type Kind string

// The kinds of families.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Family is the numbers of one name. Numbers is asked at every scrape, for a
// histogram Sizes; they take no longer than reading memory takes.
type Family struct {
	Name    string // without Prefix
	Help    string
	Kind    Kind
	Labels  []string
	Numbers func(emit func(n float64, labels ...string))
	Sizes   func(emit func(s tally.Snapshot, labels ...string))
}

// Config is what the metrics are made of.
type Config struct {
	Version  string // of the hub
	Families []Family
	Log      *slog.Logger
}

// maxScrapes is how many scrapes may run at a time, and scrapeTimeout how long.
const (
	maxScrapes    = 4
	scrapeTimeout = 10 * time.Second
)

// New returns what serves GET /metrics. The registry is its own: what a
// library puts into the process's default one is not shown.
func New(cfg Config) (http.Handler, error) {
	if cfg.Log == nil {
		return nil, errors.New("metrics: log is required")
	}
	c, names := &collector{}, map[string]bool{}
	for _, f := range cfg.Families {
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("metrics: %s: %w", f.Name, err)
		}
		if names[f.Name] {
			return nil, fmt.Errorf("metrics: %s stands twice", f.Name)
		}
		names[f.Name] = true
		c.families = append(c.families, described{f, prometheus.NewDesc(Prefix+f.Name, f.Help, f.Labels, nil)})
	}
	r := prometheus.NewPedanticRegistry()
	for _, p := range []prometheus.Collector{c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build(cfg.Version)} {
		if err := r.Register(p); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelError), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
	}), nil
}

// Build is the family that says what program this is.
func Build() Family {
	return Family{Name: "build_info", Help: "What hub this is; the number is always 1.", Kind: Gauge, Labels: []string{"version", "goversion"}}
}

func build(version string) prometheus.Collector {
	b := Build()
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: Prefix + b.Name, Help: b.Help,
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()}}, func() float64 { return 1 })
}

func (f Family) check() error {
	switch {
	case f.Kind == Histogram && f.Sizes == nil, f.Kind != Histogram && f.Numbers == nil:
		return errors.New("it has no numbers")
	case f.Kind != Counter && f.Kind != Gauge && f.Kind != Histogram:
		return fmt.Errorf("%q is no kind", f.Kind)
	case (f.Kind == Counter) != strings.HasSuffix(f.Name, "_total"):
		return errors.New("counters, and nothing else, end in _total")
	case f.Help == "":
		return errors.New("it has no help")
	}
	return nil
}

type described struct {
	Family
	desc *prometheus.Desc
}

// collector hands the families over at a scrape.
type collector struct{ families []described }

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, f := range c.families {
		to <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	for _, f := range c.families {
		f.collect(to)
	}
}

func (f described) collect(to chan<- prometheus.Metric) {
	send := func(m prometheus.Metric, err error) {
		if err != nil {
			m = prometheus.NewInvalidMetric(f.desc, err)
		}
		to <- m
	}
	switch f.Kind {
	case Histogram:
		f.Sizes(func(s tally.Snapshot, labels ...string) {
			send(prometheus.NewConstHistogram(f.desc, s.Count, s.Sum, s.Buckets, labels...))
		})
	case Counter:
		f.Numbers(func(n float64, labels ...string) {
			send(prometheus.NewConstMetric(f.desc, prometheus.CounterValue, n, labels...))
		})
	case Gauge:
		f.Numbers(func(n float64, labels ...string) {
			send(prometheus.NewConstMetric(f.desc, prometheus.GaugeValue, n, labels...))
		})
	}
}
