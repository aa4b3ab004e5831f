package metrics_test

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/hub/metrics"
	"holdfast/internal/tally"
)

var quiet = slog.New(slog.DiscardHandler)

func one(emit func(float64, ...string)) { emit(1) }

func TestShowsFamilies(t *testing.T) {
	h := tally.NewDurations(time.Millisecond, time.Second)
	h.Took(20 * time.Millisecond)
	v := tally.NewVec([]string{"a"}, []string{"ok"})
	v.Inc("a", "ok")
	handler, err := metrics.New(metrics.Config{Version: "1.2.3", Log: quiet, Families: []metrics.Family{
		{Name: "things_total", Help: "Things.", Kind: metrics.Counter, Labels: []string{"kind", "outcome"}, Numbers: v.Each},
		{Name: "open", Help: "Open.", Kind: metrics.Gauge, Numbers: one},
		{Name: "wait_seconds", Help: "Wait.", Kind: metrics.Histogram, Sizes: func(emit func(tally.Snapshot, ...string)) { emit(h.Snapshot()) }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`holdfast_things_total{kind="a",outcome="ok"} 1`, "holdfast_open 1", `holdfast_wait_seconds_bucket{le="0.001"} 0`,
		`holdfast_wait_seconds_bucket{le="1"} 1`, "holdfast_wait_seconds_sum 0.02", `version="1.2.3"`, "go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is missing in\n%s", want, w.Body)
		}
	}
}

func TestRefusesBadFamilies(t *testing.T) {
	for name, f := range map[string]metrics.Family{
		"counter without _total":  {Name: "x", Help: "x", Kind: metrics.Counter, Numbers: one},
		"gauge with _total":       {Name: "x_total", Help: "x", Kind: metrics.Gauge, Numbers: one},
		"histogram without sizes": {Name: "x", Help: "x", Kind: metrics.Histogram, Numbers: one},
		"no numbers":              {Name: "x", Help: "x", Kind: metrics.Gauge},
		"no kind":                 {Name: "x", Help: "x", Numbers: one},
		"no help":                 {Name: "x", Kind: metrics.Gauge, Numbers: one},
	} {
		if _, err := metrics.New(metrics.Config{Log: quiet, Families: []metrics.Family{f}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	twice := metrics.Family{Name: "x", Help: "x", Kind: metrics.Gauge, Numbers: one}
	if _, err := metrics.New(metrics.Config{Log: quiet, Families: []metrics.Family{twice, twice}}); err == nil {
		t.Error("a name that stands twice: no error")
	}
}

func TestWrongLabelsSpoilTheirFamilyAlone(t *testing.T) {
	handler, err := metrics.New(metrics.Config{Log: quiet, Families: []metrics.Family{
		{Name: "bad", Help: "Bad.", Kind: metrics.Gauge, Labels: []string{"kind"}, Numbers: one},
		{Name: "good", Help: "Good.", Kind: metrics.Gauge, Numbers: one},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if b := w.Body.String(); !strings.Contains(b, "holdfast_good 1") || strings.Contains(b, "holdfast_bad") {
		t.Error(b)
	}
}
