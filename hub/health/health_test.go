package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/hub/health"
)

// run runs a Health in a bubble until the test ends.
func run(t *testing.T, alive func(), checks ...health.Check) *health.Health {
	t.Helper()
	h, err := health.New(health.Config{Checks: checks, Log: slog.New(slog.DiscardHandler), Alive: alive})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return h
}

func get(h *health.Health, path string, knows bool) (int, string) {
	w := httptest.NewRecorder()
	h.Handler(func(*http.Request) bool { return knows }).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func TestReadyAndLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full, dead atomic.Bool
		var alive atomic.Int32
		fails := func(b *atomic.Bool, text string) func(context.Context) error {
			return func(context.Context) error {
				if b.Load() {
					return errors.New(text)
				}
				return nil
			}
		}
		h := run(t, func() { alive.Add(1) },
			health.Check{Name: "store", Live: true, Do: fails(&dead, "secret path /x")}, health.Check{Name: "disk", Do: fails(&full, "disk is full")})
		want := func(path string, status int) {
			t.Helper()
			code, body := get(h, path, false)
			if code != status || strings.Contains(body, "secret") || len(body) > 10 {
				t.Errorf("%s: %d %q, want %d", path, code, body, status)
			}
		}
		synctest.Wait()
		want("/readyz", 200)
		want("/healthz", 200)
		full.Store(true)
		time.Sleep(11 * time.Second)
		want("/readyz", 503)
		want("/healthz", 200)
		dead.Store(true)
		n := alive.Load()
		time.Sleep(30 * time.Second)
		want("/healthz", 503)
		if alive.Load() == n {
			t.Error("the watchdog bites a hub that a new start does not heal")
		}
		code, body := get(h, "/readyz", true)
		var rep health.Report
		if err := json.Unmarshal([]byte(body), &rep); err != nil || code != 503 || len(rep.Checks) != 2 || rep.Checks[1].Error != "disk is full" {
			t.Errorf("%d %s: %v", code, body, err)
		}
		full.Store(false)
		dead.Store(false)
		time.Sleep(11 * time.Second)
		want("/readyz", 200)
	})
}

func TestCheckThatHangsHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hang atomic.Bool
		free := make(chan struct{})
		t.Cleanup(func() { close(free) })
		var alive atomic.Int32
		h := run(t, func() { alive.Add(1) }, health.Check{Name: "store", Live: true, Do: func(context.Context) error {
			if hang.Load() {
				<-free // whatever the context says
			}
			return nil
		}}, health.Check{Name: "panics", Do: func(context.Context) error { panic("no") }})
		synctest.Wait()
		if code, _ := get(h, "/healthz", false); code != 200 {
			t.Errorf("healthy: %d", code)
		}
		hang.Store(true)
		time.Sleep(30 * time.Second)
		n := alive.Load()
		time.Sleep(time.Minute)
		if alive.Load() != n {
			t.Error("the watchdog is fed though the store hangs")
		}
		if code, body := get(h, "/healthz", true); code != 503 || !strings.Contains(body, "does not answer") {
			t.Errorf("hanging: %d %s", code, body)
		}
		if code, body := get(h, "/readyz", true); code != 503 || !strings.Contains(body, "panic: no") {
			t.Errorf("panicking: %d %s", code, body)
		}
	})
}

func TestNothingIsWellBeforeItWasChecked(t *testing.T) {
	h, err := health.New(health.Config{Log: slog.New(slog.DiscardHandler), Checks: []health.Check{
		{Name: "store", Live: true, Do: func(context.Context) error { return nil }}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := get(h, path, true); code != 503 || !strings.Contains(body, "not checked yet") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestOnlyGETIsServed(t *testing.T) {
	h, err := health.New(health.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.Handler(nil).ServeHTTP(w, httptest.NewRequest("POST", "/healthz", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}
