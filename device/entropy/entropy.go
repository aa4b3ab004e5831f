// Package entropy watches a device's raw source of randomness with the two
// health tests of NIST SP 800-90B: repetition count (section 4.4.1) and
// adaptive proportion (section 4.4.2).
//
// No key may be made before Start has passed, nor after Err is set: a source
// that failed once stays failed until the device starts again. The tests find
// a source that is stuck or badly biased; they say nothing on how good a
// passing source is. A source that conditions its own output (a TPM's
// GetRandom, a kernel pool) hides its faults from any test behind it, so the
// report names the source.
package entropy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"holdfast/evidence"
)

// Defaults. A byte of a healthy source is assumed to have at least 4 bits of
// min-entropy: hardware sources state 7 and more, and the margin keeps false
// alarms far below the 2^-20 that the tests are computed for.
const (
	DefaultMinEntropy = 4.0
	DefaultAlpha      = 20
	DefaultSamples    = 4096
	minSamples        = 1024 // section 4.3, requirement 4
)

// ErrUnhealthy is in the chain of every error that says the source failed a
// health test.
var ErrUnhealthy = errors.New("entropy source is unhealthy")

// Failure says which test the source failed and at which sample.
type Failure struct {
	Source string
	Test   string // "repetition count" or "adaptive proportion"
	Sample int    // samples taken up to the failure
}

// Error names the source and the test.
func (f *Failure) Error() string {
	return fmt.Sprintf("entropy source %s failed the %s test of SP 800-90B at sample %d", f.Source, f.Test, f.Sample)
}

// Unwrap makes a Failure an ErrUnhealthy.
func (f *Failure) Unwrap() error { return ErrUnhealthy }

// Config says what is tested and how strictly.
type Config struct {
	Source     io.Reader     // the raw source; one byte is one sample
	Name       string        // how reports name it
	MinEntropy float64       // assumed bits per sample, above 0 up to 8; 0: DefaultMinEntropy
	Alpha      int           // a healthy source fails with chance 2^-Alpha, 20 to 40; 0: DefaultAlpha
	Samples    int           // of one Start or one round of Run, at least 1024; 0: DefaultSamples
	Interval   time.Duration // between the rounds of Run; 0: a minute
}

// Monitor tests one source.
type Monitor struct {
	cfg Config

	mu         sync.Mutex // guards what follows, and the order of samples
	repetition repetition
	proportion proportion
	samples    int
	started    bool
	err        error
}

// New returns a Monitor that has tested nothing yet.
func New(cfg Config) (*Monitor, error) {
	defaults(&cfg)
	switch {
	case cfg.Source == nil:
		return nil, errors.New("entropy: no source")
	case cfg.MinEntropy <= 0 || cfg.MinEntropy > 8:
		return nil, fmt.Errorf("entropy: min-entropy of %v bits per byte is not possible", cfg.MinEntropy)
	case cfg.Alpha < 20 || cfg.Alpha > 40:
		return nil, fmt.Errorf("entropy: alpha 2^-%d, SP 800-90B recommends 2^-20 to 2^-40", cfg.Alpha)
	case cfg.Samples < minSamples:
		return nil, fmt.Errorf("entropy: %d start-up samples, SP 800-90B wants %d", cfg.Samples, minSamples)
	}
	return &Monitor{
		cfg:        cfg,
		repetition: repetition{cutoff: RepetitionCutoff(cfg.MinEntropy, cfg.Alpha)},
		proportion: proportion{cutoff: ProportionCutoff(cfg.MinEntropy, cfg.Alpha)},
	}, nil
}

func defaults(cfg *Config) {
	if cfg.MinEntropy == 0 {
		cfg.MinEntropy = DefaultMinEntropy
	}
	if cfg.Alpha == 0 {
		cfg.Alpha = DefaultAlpha
	}
	if cfg.Samples == 0 {
		cfg.Samples = DefaultSamples
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Minute
	}
}

// Start is the start-up test. A source that cannot be read fails it too, but
// may be asked again.
func (m *Monitor) Start() error {
	if err := m.round(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.started = true
	return nil
}

// Err returns nil when keys may be made: the start-up test passed and no
// sample since failed.
func (m *Monitor) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil && !m.started {
		return errors.New("entropy source has not been tested yet")
	}
	return m.err
}

// Run goes on testing until ctx ends or the source fails, which it returns.
func (m *Monitor) Run(ctx context.Context) error {
	tick := time.NewTicker(m.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := m.round(); errors.Is(err, ErrUnhealthy) {
			return err
		}
	}
}

// round tests as many samples as a start-up test does.
func (m *Monitor) round() error {
	buf := make([]byte, m.cfg.Samples)
	defer clear(buf)
	if _, err := io.ReadFull(m.cfg.Source, buf); err != nil {
		return fmt.Errorf("read entropy source %s: %w", m.cfg.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range buf {
		m.take(s)
	}
	return m.err
}

// take puts one sample through both tests; the first failure stays.
func (m *Monitor) take(s byte) {
	if m.err != nil {
		return
	}
	m.samples++
	switch {
	case !m.repetition.take(s):
		m.err = &Failure{Source: m.cfg.Name, Test: "repetition count", Sample: m.samples}
	case !m.proportion.take(s):
		m.err = &Failure{Source: m.cfg.Name, Test: "adaptive proportion", Sample: m.samples}
	}
}

// Report returns what the tests found so far. A test counts as passed only
// once the start-up test has run.
func (m *Monitor) Report() evidence.Entropy {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := evidence.Entropy{Source: m.cfg.Name, Samples: m.samples, RepetitionCount: m.started, AdaptiveProportion: m.started}
	if f, ok := errors.AsType[*Failure](m.err); ok {
		r.RepetitionCount = f.Test != "repetition count"
		r.AdaptiveProportion = f.Test != "adaptive proportion"
	}
	return r
}
