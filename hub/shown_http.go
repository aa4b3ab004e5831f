package hub

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"holdfast/fault"
	"holdfast/hub/traces"
	"holdfast/identity"
	"holdfast/internal/httpfault"
	"holdfast/operator"
)

// ofHealth reports whether a path asks how the hub is: that is answered from
// memory, to anybody and as often as they like.
func ofHealth(path string) bool { return path == "/healthz" || path == "/readyz" }

// shows serves /healthz and /readyz to anybody, with the details to who is
// known, and /metrics to who may see all groups; next has the rest.
func (h *hub) shows(next http.Handler) http.Handler {
	state := h.shown.health.Handler(func(r *http.Request) bool { return operator.From(r.Context()).Name != "" })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case ofHealth(r.URL.Path):
			state.ServeHTTP(w, r)
		case r.URL.Path == "/metrics":
			h.serveMetrics(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (h *hub) serveMetrics(w http.ResponseWriter, r *http.Request) {
	who := operator.From(r.Context())
	if who.Name == "" {
		w.Header().Set("WWW-Authenticate", "Bearer")
		httpfault.Problem(w, h.component("metrics"), httpfault.Details{Status: http.StatusUnauthorized},
			fault.New(fault.Denied, "show an operator certificate or a token"), "path", r.URL.Path, "remote", r.RemoteAddr)
		return
	}
	if err := who.May(operator.Right{Role: operator.RoleViewer, Global: true}, time.Now()); err != nil {
		httpfault.Problem(w, h.component("metrics"), httpfault.Details{Status: http.StatusForbidden}, err, "path", r.URL.Path, "remote", r.RemoteAddr)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	h.shown.metrics.ServeHTTP(w, r)
}

// began is told of an operation of the API, and returns who is told of its end.
func (h *hub) began(ctx context.Context, operation string, header http.Header) (context.Context, func(status int)) {
	start := time.Now()
	who := operator.From(ctx)
	ctx, end := h.shown.tracer.Serve(ctx, "api "+operation, header, "operation", operation, "operator", who.Name, "via", string(who.Via))
	return ctx, func(status int) {
		h.shown.asked.Of(operation).Took(time.Since(start))
		h.shown.answered.Of(operation, strconv.Itoa(status)).Add(1)
		end(ofStatus(status))
	}
}

// ofStatus is the error that an HTTP status stands for, nil for none.
func ofStatus(status int) error {
	if status < http.StatusBadRequest {
		return nil
	}
	return fault.New(kindOfStatus(status), "status %d", status)
}

func kindOfStatus(status int) fault.Kind {
	for _, k := range []fault.Kind{fault.Invalid, fault.Denied, fault.NotFound, fault.Conflict, fault.Unavailable, fault.Integrity} {
		if httpfault.Status(k) == status {
			return k
		}
	}
	if status < 500 {
		return fault.Invalid
	}
	return fault.Internal
}

// traced makes a span of each request of a device to next. Whose trace a device
// says it is part of does not count.
func (h *hub) traced(name string, next http.Handler) http.Handler {
	if h.shown.tracer == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, end := h.shown.tracer.Start(r.Context(), name, "path", r.URL.Path)
		seen := &statusOf{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r.WithContext(ctx))
		end(ofStatus(seen.status))
	})
}

// statusOf remembers an answer's status.
type statusOf struct {
	http.ResponseWriter
	status int
}

func (s *statusOf) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (s *statusOf) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// tracedCalls makes a span of each call of a method.
type tracedCalls struct {
	calls interface {
		CallMethod(ctx context.Context, by string, d identity.Device, method string, in operator.CallMethod) (operator.MethodResult, error)
	}
	tracer *traces.Tracer
}

// CallMethod implements api.Methods.
func (t tracedCalls) CallMethod(ctx context.Context, by string, d identity.Device, method string, in operator.CallMethod) (operator.MethodResult, error) {
	ctx, end := t.tracer.Start(ctx, "method call", "device", string(d), "method", method)
	out, err := t.calls.CallMethod(ctx, by, d, method, in)
	end(err)
	return out, err
}
