// Package httpfault is the one place that turns an error into an HTTP answer:
// the status of its kind, and as much of its text as a peer may read.
package httpfault

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"

	"holdfast/fault"
)

// Body is the error body of the device plane: {"error":{...}}.
type Body struct {
	Error Detail `json:"error"`
}

// Detail says what a peer may know. ID finds the cause in the hub's log.
type Detail struct {
	Kind    fault.Kind `json:"kind"`
	Message string     `json:"message"`
	ID      string     `json:"id"`
}

// Status returns the HTTP status of a kind.
func Status(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Denied:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Integrity:
		return http.StatusUnprocessableEntity
	case fault.Pending:
		return http.StatusAccepted
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Encode logs err under a fresh id and returns the status and body that tell
// the peer. args are further attributes for the log.
func Encode(log *slog.Logger, err error, args ...any) (int, []byte) {
	kind, id := fault.Of(err), rand.Text()
	level := slog.LevelWarn
	if kind == fault.Internal {
		level = slog.LevelError
	}
	log.With(args...).Log(context.Background(), level, "request refused", "kind", kind, "id", id, "err", err)
	b, _ := json.Marshal(Body{Detail{Kind: kind, Message: fault.Public(err), ID: id}}) // strings always marshal
	return Status(kind), b
}

// Write answers an HTTP request with err.
func Write(w http.ResponseWriter, log *slog.Logger, err error, args ...any) {
	status, b := Encode(log, err, args...)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// Details is the error body of the operator plane (RFC 9457).
type Details struct {
	Type   string `json:"type,omitempty"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// Problem answers an operator's request with err, under the status and type of
// d. args are further attributes for the log.
func Problem(w http.ResponseWriter, log *slog.Logger, d Details, err error, args ...any) {
	level := slog.LevelWarn
	if d.Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	log.With(args...).Log(context.Background(), level, "request refused", "status", d.Status, "err", err)
	d.Title, d.Detail = http.StatusText(d.Status), fault.Public(err)
	b, _ := json.Marshal(d) // strings always marshal
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(d.Status)
	_, _ = w.Write(b)
}
