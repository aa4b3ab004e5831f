package hub_test

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"holdfast/operator"
	"holdfast/pki"
)

// receiver is what a hub tells others: a collector of spans and a webhook.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	spans  map[string]string // by name, as text
	alerts []operator.Alert
	refuse int // so many posts of alerts
	raw    strings.Builder
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{spans: map[string]string{}, refuse: 1}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		var in collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &in)
		}
		if err != nil || req.Header.Get("Authorization") != "Bearer spans" {
			t.Errorf("spans: %v, %v", err, req.Header)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, rs := range in.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					r.spans[s.Name] = s.String()
					r.raw.WriteString(s.String())
				}
			}
		}
	})
	mux.HandleFunc("POST /hook", func(w http.ResponseWriter, req *http.Request) {
		var in struct {
			Hub   string         `json:"hub"`
			Alert operator.Alert `json:"alert"`
		}
		if err := json.NewDecoder(req.Body).Decode(&in); err != nil || in.Hub == "" || req.Header.Get("X-Key") != "hook" {
			t.Errorf("alert: %v, %v", err, req.Header)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.refuse--; r.refuse >= 0 {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		r.alerts = append(r.alerts, in.Alert)
	})
	r.Server = httptest.NewTLSServer(mux)
	t.Cleanup(r.Close)
	return r
}

// configure changes hub.json and runs the hub with it.
func (w *world) configure(change map[string]any) {
	w.t.Helper()
	path := filepath.Join(w.dir, "hub.json")
	cfg := map[string]any{}
	if err := json.Unmarshal(must(os.ReadFile(path))(w.t), &cfg); err != nil {
		w.t.Fatal(err)
	}
	for k, v := range change {
		cfg[k] = v
	}
	if err := os.WriteFile(path, must(json.Marshal(cfg))(w.t), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.restart()
}

func TestHubTellsOthers(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	for name, text := range map[string]string{
		"told.pem": string(pki.EncodeCerts([]*x509.Certificate{r.Certificate()}...)), "spans.headers": "Authorization: Bearer spans\n", "hook.headers": "\nX-Key: hook\n",
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.configure(map[string]any{
		"traces": map[string]any{"endpoint": r.URL, "root": "told.pem", "headers_file": "spans.headers", "sample": 1},
		"alerts": map[string]any{"webhook": r.URL + "/hook", "webhook_root": "told.pem", "webhook_headers_file": "hook.headers"},
	})
	if _, err := w.api.Hub(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := w.fileDevice("told-01", "lab") // births and certificates
	if _, err := w.api.Act(t.Context(), d.id, "quarantine", "odd"); err != nil {
		t.Fatal(err)
	}
	if !w.until(func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.alerts) > 0 }) {
		t.Fatal("no alert was posted")
	}
	w.stop() // sends the spans that wait
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.alerts[0]; a.Device != "told-01" || a.Kind != "quarantined" || len(r.alerts) != 1 {
		t.Errorf("posted %+v", r.alerts)
	}
	for name, has := range map[string]string{"api show-hub": "admin", "enrolment": "/enroll/begin", "certificate": "certificate issued"} {
		s, ok := r.spans[name]
		if !ok || !strings.Contains(s, has) {
			t.Errorf("span %q: %s", name, s)
		}
	}
	if strings.Contains(r.raw.String(), "BEGIN") {
		t.Error("a span has a body")
	}
}
