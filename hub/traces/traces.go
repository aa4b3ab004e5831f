// Package traces follows what the hub does for whom, as OpenTelemetry spans
// that go to a collector over OTLP/HTTP. It is off unless it is configured, and
// then costs nothing: all methods of a nil Tracer do nothing.
//
// A span names what was done and how it came out. It has no bodies, no keys and
// no claims; of errors it has the kind and what the peer was told. Spans that
// the collector does not take are dropped: nothing here waits for it.
package traces

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"holdfast/fault"
	"holdfast/tlspolicy"
)

// Config says where spans go.
type Config struct {
	Endpoint string              // of the collector, https; empty: the environment's, if any
	Headers  map[string]string   // sent along, as an Authorization
	Roots    []*x509.Certificate // of the collector's certificate; none: the system's
	Sample   float64             // share of the traces that is kept; 0: a hundredth
	Version  string              // of the hub
	Log      *slog.Logger        // required
}

// defaultSample is Config.Sample where it is not set.
const defaultSample = 0.01

// closeTimeout bounds the wait for what is still to be sent when the hub ends.
const closeTimeout = 3 * time.Second

// FromEnvironment fills in Endpoint from the standard variables of
// OpenTelemetry, where it is not set. Headers, certificates and the rest of
// those variables are the exporter's own to read.
func (c Config) FromEnvironment() Config {
	if c.Endpoint != "" || os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return c
	}
	c.Endpoint = os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if base := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); c.Endpoint == "" && base != "" {
		c.Endpoint = strings.TrimRight(base, "/") + defaultPath
	}
	return c
}

const defaultPath = "/v1/traces"

// ParseEndpoint checks where spans are to go. A URL without a path gets OTLP's.
func ParseEndpoint(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return "", fmt.Errorf("endpoint of traces: %w", err)
	case u.Scheme != "https" || u.Host == "" || u.User != nil:
		return "", fmt.Errorf("endpoint of traces %q: want https://HOST, without a password in it", u.Redacted())
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = defaultPath
	}
	return u.String(), nil
}

// Tracer makes spans. A nil Tracer makes none. It is safe for concurrent use.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// New returns a Tracer, nil where no endpoint is set. The collector need not be
// there yet.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	if cfg.Endpoint == "" {
		return nil, nil
	}
	endpoint, err := ParseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil || cfg.Sample < 0 || cfg.Sample > 1 {
		return nil, errors.New("traces: a log is required, and the share that is kept is from 0 to 1")
	}
	if cfg.Sample == 0 {
		cfg.Sample = defaultSample
	}
	options := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(endpoint)}
	if len(cfg.Headers) > 0 {
		options = append(options, otlptracehttp.WithHeaders(cfg.Headers))
	}
	if len(cfg.Roots) > 0 {
		options = append(options, otlptracehttp.WithTLSClientConfig(tlspolicy.Web(cfg.Roots...)))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	// The library reports to the process, not to a provider; there is one.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { cfg.Log.Warn("spans are not sent", "err", err) }))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(cfg.Sample))),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "holdfast-hub"), attribute.String("service.version", cfg.Version))))
	return &Tracer{provider: provider, tracer: provider.Tracer("holdfast")}, nil
}

// Close sends what is still to be sent, for a moment, and ends.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what was not taken by now is lost, as it may be
}

// End ends a span with how it came out.
type End func(err error)

func nothing(error) {}

// Start begins a span and returns a context that has it, and what ends it. The
// attributes are pairs of a name and a value.
func (t *Tracer) Start(ctx context.Context, name string, attributes ...string) (context.Context, End) {
	if t == nil {
		return ctx, nothing
	}
	return t.start(ctx, name, trace.SpanKindInternal, attributes)
}

// Serve is Start for a request of somebody who has proved who they are: their
// trace goes on in it, where the header names one (W3C Trace Context).
func (t *Tracer) Serve(ctx context.Context, name string, header http.Header, attributes ...string) (context.Context, End) {
	if t == nil {
		return ctx, nothing
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
	return t.start(ctx, name, trace.SpanKindServer, attributes)
}

func (t *Tracer) start(ctx context.Context, name string, kind trace.SpanKind, attributes []string) (context.Context, End) {
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(pairs(attributes)...))
	return ctx, func(err error) {
		if err != nil {
			span.SetAttributes(attribute.String("error.type", string(fault.Of(err))))
			span.SetStatus(codes.Error, fault.Public(err))
		}
		span.End()
	}
}

// Note puts an event on the span that ctx has, if it has one.
func (t *Tracer) Note(ctx context.Context, what string, attributes ...string) {
	if t == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.AddEvent(what, trace.WithAttributes(pairs(attributes)...))
}

// pairs makes attributes of names and values; empty values are left out.
func pairs(texts []string) []attribute.KeyValue {
	kv := make([]attribute.KeyValue, 0, len(texts)/2)
	for i := 0; i+1 < len(texts); i += 2 {
		if texts[i+1] != "" {
			kv = append(kv, attribute.String(texts[i], texts[i+1]))
		}
	}
	return kv
}

// ID returns the id of the trace that ctx has, empty without: for the log.
func (t *Tracer) ID(ctx context.Context) string {
	if t == nil {
		return ""
	}
	if s := trace.SpanContextFromContext(ctx); s.IsSampled() {
		return s.TraceID().String()
	}
	return ""
}
