package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/tuf"
)

// Trust says whose releases are trusted.
type Trust struct {
	Source  *Source
	Dir     string           // where the trust is kept; made where needed
	Root    []byte           // the root of the metadata, as it was provisioned
	Product release.Product  // of the device
	Clock   func() tuf.Clock // what the device knows of the time
	Limits  tuf.Limits       // zero: tuf.DefaultLimits
}

// Metadata is what the device knows of releases. It may be used concurrently.
type Metadata struct {
	cfg  Trust
	keep keeper

	mu    sync.Mutex // guards trust, for all of a refresh
	trust *tuf.Trust
}

// Open returns Metadata that trusts what was trusted before, or else the root
// that the device was provisioned with. It refuses a root that is not signed
// by its own thresholds, and a directory whose trust began with another root.
func Open(cfg Trust) (*Metadata, error) {
	if cfg.Source == nil || cfg.Dir == "" || len(cfg.Root) == 0 || cfg.Product == "" || cfg.Clock == nil {
		return nil, errors.New("fetch: a required part is missing")
	}
	if cfg.Limits == (tuf.Limits{}) {
		cfg.Limits = tuf.DefaultLimits()
	}
	m := &Metadata{cfg: cfg, keep: keeper{dir: cfg.Dir, root: identity.Sum(cfg.Root)}}
	state, err := m.keep.load(cfg.Root)
	if err == nil {
		m.trust, err = tuf.OpenTrust(state, cfg.Limits)
	}
	if err != nil {
		return nil, fmt.Errorf("open the trust in releases: %w", err)
	}
	return m, nil
}

// refresh brings the metadata up to date, file by file over one connection.
// Each file that is accepted is kept before the next one is asked for.
func (m *Metadata) refresh(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := m.cfg.Source.cfg.Dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // what it had to say was read
	r := m.trust.Refresh(m.cfg.Clock(), m.cfg.Product)
	for w, ok := r.Next(); ok; w, ok = r.Next() {
		b, err := m.file(ctx, conn, w, cancel)
		if fault.Of(err) == fault.NotFound && err != nil {
			if err = r.Absent(); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			err = r.Take(b)
		}
		if err == nil {
			err = m.keep.save(m.trust.State())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
	}
	return nil
}

// file reads one file of metadata. More than it may have is not read.
func (m *Metadata) file(ctx context.Context, conn Conn, w tuf.Want, end context.CancelCauseFunc) ([]byte, error) {
	resp, err := conn.Get(ctx, "/repository/"+w.Name, nil)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength < 0 || resp.ContentLength > w.Max {
		return nil, release.Refuse(release.EndlessData, fmt.Errorf("%d bytes, the most is %d", resp.ContentLength, w.Max))
	}
	b := make([]byte, resp.ContentLength)
	p := pace{slow: m.cfg.Source.cfg.Slow}
	for have := 0; have < len(b); {
		n, err := p.read(resp.Body, b[have:], end)
		if have += n; err != nil && have < len(b) {
			return nil, unfinished(err)
		}
	}
	// A connection goes on only after the end of an answer has been read.
	if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return nil, release.Refuse(release.EndlessData, fmt.Errorf("more than the %d bytes that were announced", len(b)))
	}
	return b, nil
}

// unfinished gives an answer that breaks off its kind.
func unfinished(err error) error {
	if release.AttackOf(err) != "" {
		return err
	}
	return fault.New(fault.Unavailable, "the answer breaks off: %w", err)
}

// Refresh brings the metadata up to date. A refusal names its attack; what was
// accepted before it stays. Without a clock that is known it may go through,
// and still no release be given.
func (m *Metadata) Refresh(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refresh(ctx); err != nil {
		return fmt.Errorf("refresh metadata: %w", err)
	}
	return nil
}

// Find returns a release of the device's product for installation: complete
// and fresh metadata lists it, and it is not withdrawn.
func (m *Metadata) Find(v mcuboot.Version) (release.Release, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.trust.Find(m.cfg.Product, v, m.cfg.Clock())
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return release.Release{}, fmt.Errorf("release %s: %w", release.Path(m.cfg.Product, v), err)
	}
	return r, nil
}

// Listed returns the releases that are known of the device's product, oldest
// first: to know what runs, never to install.
func (m *Metadata) Listed() []release.Release {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trust.Listed(m.cfg.Product)
}
