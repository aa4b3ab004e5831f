// Package health says whether a hub lives and whether it is ready, for load
// balancers, operators and systemd's watchdog. Checks run at their own pace:
// who asks gets the last results at once, however often, and a check that hangs
// is one that failed.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Check is one thing that has to be so.
type Check struct {
	Name string
	Live bool // without it the process is of no use
	Do   func(context.Context) error
}

// Config is what Health works with.
type Config struct {
	Checks []Check
	Every  time.Duration // pause between checks; default 10 s
	Log    *slog.Logger
	// Alive is called after each round in which every Live check has answered,
	// whatever it said: to start anew heals what hangs, not a full disk. It may
	// be nil.
	Alive func()
	Now   func() time.Time // default time.Now
}

// timeout is how long a check may take, in pauses; and stale after how many a
// result counts no more.
const (
	timeout = 1
	stale   = 3
)

// Health knows how the hub is. It is safe for concurrent use.
type Health struct {
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex
	results map[string]result
}

type result struct {
	err error
	at  time.Time
}

// New returns a Health that Run keeps up to date.
func New(cfg Config) (*Health, error) {
	if cfg.Log == nil {
		return nil, errors.New("health: log is required")
	}
	if cfg.Every <= 0 {
		cfg.Every = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Health{cfg: cfg, wake: make(chan struct{}, 1), results: map[string]result{}}, nil
}

// Run checks until ctx ends.
func (h *Health) Run(ctx context.Context) error {
	for {
		h.round(ctx)
		if h.cfg.Alive != nil && h.answered() {
			h.cfg.Alive()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		case <-time.After(h.cfg.Every):
		}
	}
}

// Again has the checks done now, because something has changed.
func (h *Health) Again() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// round does each check once, side by side, and waits until they are done or
// have run out of time.
func (h *Health) round(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout*h.cfg.Every)
	defer cancel()
	var all sync.WaitGroup
	for _, c := range h.cfg.Checks {
		all.Go(func() { h.note(ctx, c, guarded(ctx, c)) })
	}
	done := make(chan struct{})
	go func() { // ends with the slowest check, which has the context's end to end by
		all.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func guarded(ctx context.Context, c Check) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return c.Do(ctx)
}

// note keeps a result; one that is other than before is logged.
func (h *Health) note(ctx context.Context, c Check, err error) {
	h.mu.Lock()
	before := h.results[c.Name]
	h.results[c.Name] = result{err, h.cfg.Now()}
	h.mu.Unlock()
	switch {
	case err != nil && before.err == nil && ctx.Err() == nil:
		h.cfg.Log.ErrorContext(ctx, "the hub is not well", "check", c.Name, "err", err)
	case err == nil && before.err != nil:
		h.cfg.Log.InfoContext(ctx, "the hub is well again", "check", c.Name)
	}
}

// answered reports whether no live check hangs.
func (h *Health) answered() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.cfg.Now()
	for _, c := range h.cfg.Checks {
		if c.Live && now.Sub(h.results[c.Name].at) > (timeout+1)*h.cfg.Every {
			return false
		}
	}
	return true
}

// Report is how the hub is.
type Report struct {
	OK     bool     `json:"ok"`
	Checks []Result `json:"checks"`
}

// Result is how a check came out.
type Result struct {
	Name  string    `json:"name"`
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"`
	Time  time.Time `json:"time,omitzero"`
}

// Report returns the last results, of live checks alone or of all. A check
// that has no result of late has failed.
func (h *Health) Report(live bool) Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, rep := h.cfg.Now(), Report{OK: true, Checks: []Result{}}
	for _, c := range h.cfg.Checks {
		if live && !c.Live {
			continue
		}
		r, known := h.results[c.Name]
		out := Result{Name: c.Name, OK: r.err == nil, Time: r.at}
		switch {
		case !known:
			out.OK, out.Error = false, "it was not checked yet"
		case now.Sub(r.at) > stale*h.cfg.Every:
			out.OK, out.Error = false, "it does not answer"
		case r.err != nil:
			out.Error = r.err.Error()
		}
		rep.OK = rep.OK && out.OK
		rep.Checks = append(rep.Checks, out)
	}
	return rep
}

// Handler serves GET /healthz, the live checks, and GET /readyz, all. Anybody
// learns whether all is well (200) or not (503); knows says who may read more.
func (h *Health) Handler(knows func(*http.Request) bool) http.Handler {
	mux := http.NewServeMux()
	for path, live := range map[string]bool{"GET /healthz": true, "GET /readyz": false} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			h.answer(w, h.Report(live), knows != nil && knows(r))
		})
	}
	return mux
}

func (h *Health) answer(w http.ResponseWriter, rep Report, all bool) {
	status, word := http.StatusOK, "ok\n"
	if !rep.OK {
		status, word = http.StatusServiceUnavailable, "not well\n"
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !all {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(word))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(rep) // who left does not mind
}
