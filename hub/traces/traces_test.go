package traces_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"holdfast/fault"
	"holdfast/hub/traces"
)

var quiet = slog.New(slog.DiscardHandler)

// sink is a collector: OTLP over HTTP and TLS, as protobuf.
type sink struct {
	*httptest.Server
	got     chan *spans.Span
	headers chan http.Header
}

func newSink(t *testing.T) *sink {
	s := &sink{got: make(chan *spans.Span, 100), headers: make(chan http.Header, 100)}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(body)
			if err != nil {
				http.Error(w, err.Error(), 400)
				return
			}
			body = z
		}
		b, err := io.ReadAll(body)
		var req collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &req)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s: %v", r.URL, r.Header, err)
		}
		s.headers <- r.Header
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, span := range ss.Spans {
					s.got <- span
				}
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) tracer(t *testing.T, change func(*traces.Config)) *traces.Tracer {
	t.Helper()
	cfg := traces.Config{Endpoint: s.URL, Roots: []*x509.Certificate{s.Certificate()}, Sample: 1, Log: quiet,
		Headers: map[string]string{"Authorization": "Bearer x"}}
	if change != nil {
		change(&cfg)
	}
	tr, err := traces.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestSpansReachTheCollector(t *testing.T) {
	s := newSink(t)
	tr := s.tracer(t, nil)
	header := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	ctx, end := tr.Serve(t.Context(), "api set-group", header, "operator", "alice", "empty", "")
	tr.Note(ctx, "certificate", "class", "birth")
	inner, endInner := tr.Start(ctx, "method call", "device", "pump-01")
	if id := tr.ID(inner); id != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("trace %q", id)
	}
	endInner(fault.Hide(fault.Denied, "no", errors.New("secret cause")))
	end(nil)
	tr.Close()
	byName := map[string]*spans.Span{}
	for range 2 {
		select {
		case span := <-s.got:
			byName[span.Name] = span
		case <-time.After(time.Minute):
			t.Fatal("the collector got too little")
		}
	}
	outer, call := byName["api set-group"], byName["method call"]
	if outer == nil || call == nil {
		t.Fatalf("spans %v", byName)
	}
	if string(call.ParentSpanId) != string(outer.SpanId) || call.Status.Code != spans.Status_STATUS_CODE_ERROR || call.Status.Message != "no" {
		t.Errorf("call: %v", call)
	}
	if text := call.String() + outer.String(); strings.Contains(text, "secret") || !strings.Contains(text, "pump-01") || len(outer.Attributes) != 1 || len(outer.Events) != 1 {
		t.Errorf("spans %s", text)
	}
	if outer.Kind != spans.Span_SPAN_KIND_SERVER || len(outer.ParentSpanId) == 0 {
		t.Errorf("outer: %v", outer)
	}
	if h := <-s.headers; h.Get("Authorization") != "Bearer x" {
		t.Errorf("headers %v", h)
	}
}

func TestWithoutEndpointThereIsNothing(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		t.Setenv(name, "")
	}
	tr, err := traces.New(t.Context(), traces.Config{Log: quiet}.FromEnvironment())
	if tr != nil || err != nil {
		t.Fatalf("%v, %v", tr, err)
	}
	allocs := testing.AllocsPerRun(100, func() {
		ctx, end := tr.Start(t.Context(), "x", "device", "pump-01")
		tr.Note(ctx, "y", "a", "b")
		end(nil)
	})
	if allocs != 0 {
		t.Errorf("a span that is off allocates %v times", allocs)
	}
	if ctx, end := tr.Serve(t.Context(), "x", http.Header{}); ctx != t.Context() || tr.ID(ctx) != "" {
		t.Error("there is a span")
	} else {
		end(nil)
	}
	tr.Close()
}

func TestEnvironment(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318/")
	if c := (traces.Config{}).FromEnvironment(); c.Endpoint != "https://collector:4318/v1/traces" {
		t.Error(c.Endpoint)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces/x")
	if c := (traces.Config{}).FromEnvironment(); c.Endpoint != "https://traces/x" {
		t.Error(c.Endpoint)
	}
	if c := (traces.Config{Endpoint: "https://own"}).FromEnvironment(); c.Endpoint != "https://own" {
		t.Error(c.Endpoint)
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if c := (traces.Config{}).FromEnvironment(); c.Endpoint != "" {
		t.Error(c.Endpoint)
	}
}

func TestRefusesEndpoints(t *testing.T) {
	for _, e := range []string{"http://collector:4318", "collector:4318", "https://", "https://user:pass@collector", "ftp://x", "https://a b", "\x00"} {
		_, err := traces.New(t.Context(), traces.Config{Endpoint: e, Log: quiet})
		if err == nil || strings.Contains(err.Error(), "pass@") {
			t.Errorf("%q: %v", e, err)
		}
	}
	if _, err := traces.New(t.Context(), traces.Config{Endpoint: "https://x", Sample: 1.5, Log: quiet}); err == nil {
		t.Error("more than all traces: no error")
	}
}

// TestDeadCollectorHoldsNobodyUp makes more spans than are kept, with a
// collector that takes the connection and never answers.
func TestDeadCollectorHoldsNobodyUp(t *testing.T) {
	hang := make(chan struct{})
	dead := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer dead.Close()
	defer close(hang)
	var log bytes.Buffer
	tr, err := traces.New(context.Background(), traces.Config{Endpoint: dead.URL, Roots: []*x509.Certificate{dead.Certificate()}, Sample: 1,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 10_000 {
		_, end := tr.Start(t.Context(), "x")
		end(nil)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("10000 spans took %s", took)
	}
	began = time.Now()
	tr.Close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %s", took)
	}
}
