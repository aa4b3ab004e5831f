package provision

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/dps"
	"holdfast/fault"
	"holdfast/iothub"
	"holdfast/pki"
)

// edge serves a Service over HTTPS.
type edge struct {
	*Service
	peer func(*http.Request) (pki.Peer, error)
}

// Handler serves DPS over HTTPS. peer says who is at the other end by the
// certificate of the TLS session; it need not be in the registry yet.
//
//	PUT  /{idScope}/registrations/{registrationId}/register
//	GET  /{idScope}/registrations/{registrationId}/operations/{operationId}
//	POST /{idScope}/registrations/{registrationId}
//
// The query's api-version is not looked at: the forms are the same in all that
// clients use. Everything else is answered with 404.
func (s *Service) Handler(peer func(*http.Request) (pki.Peer, error)) http.Handler {
	e := edge{s, peer}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /{scope}/registrations/{id}/register", e.register)
	mux.HandleFunc("GET /{scope}/registrations/{id}/operations/{operation}", e.operation)
	mux.HandleFunc("POST /{scope}/registrations/{id}", e.lookup)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		e.refuse(w, r, Caller{}, iothub.Fail(iothub.CodeDeviceNotFound, "there is nothing here"))
	})
	return mux
}

// errToken refuses keys and tokens, as Azure refuses those that it does not know.
var errToken = iothub.Fail(iothub.CodeUnauthorized, "shared access signatures are not accepted: only certificates are")

// caller says who asks.
func (e edge) caller(r *http.Request) (Caller, error) {
	c := Caller{Scope: r.PathValue("scope"), ID: r.PathValue("id")}
	if r.Header.Get("Authorization") != "" {
		return c, errToken
	}
	var err error
	if c.Peer, err = e.peer(r); err != nil {
		return c, errors.Join(iothub.Fail(iothub.CodeUnauthorized, "a device's certificate is needed here"), err)
	}
	return c, nil
}

func (e edge) register(w http.ResponseWriter, r *http.Request) {
	c, err := e.caller(r)
	if err != nil {
		e.refuse(w, r, c, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, dps.MaxRequest))
	if err != nil {
		e.refuse(w, r, c, iothub.Fail(iothub.CodeFormat, "body: %w", err))
		return
	}
	p, err := e.Register(r.Context(), c, body)
	if err != nil {
		e.refuse(w, r, c, err)
		return
	}
	retry(w, RetryAfter)
	e.write(w, http.StatusAccepted, p)
}

// operation does not read the body: Node's client sends one with GET.
func (e edge) operation(w http.ResponseWriter, r *http.Request) {
	c, err := e.caller(r)
	var p dps.Progress
	if err == nil {
		p, err = e.Operation(r.Context(), c, r.PathValue("operation"))
	}
	if err != nil {
		e.refuse(w, r, c, err)
		return
	}
	e.write(w, http.StatusOK, p)
}

func (e edge) lookup(w http.ResponseWriter, r *http.Request) {
	c, err := e.caller(r)
	var state dps.State
	if err == nil {
		state, err = e.Registration(r.Context(), c)
	}
	if err != nil {
		e.refuse(w, r, c, err)
		return
	}
	e.write(w, http.StatusOK, state)
}

func retry(w http.ResponseWriter, after time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(after/time.Second)))
}

func (e edge) write(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		e.cfg.Log.Error("answer of DPS", "err", err)
		status, b = iothub.Refusal(err, dps.NewTracking(), e.now())
	}
	send(w, status, b)
}

// refuse answers with the protocol's error body.
func (e edge) refuse(w http.ResponseWriter, r *http.Request, c Caller, err error) {
	tracking := dps.NewTracking()
	level := slog.LevelWarn
	if fault.Of(err) == fault.Internal {
		level = slog.LevelError
	}
	e.cfg.Log.Log(r.Context(), level, "registration refused", "device", c.Peer.Device, "registration", strings.ToValidUTF8(c.ID, "?"),
		"remote", r.RemoteAddr, "id", tracking, "err", err)
	status, body := iothub.Refusal(err, tracking, e.now())
	if status >= http.StatusTooManyRequests {
		retry(w, busyRetry)
	}
	send(w, status, body)
}

// busyRetry is when to ask again after 429 or an error of ours.
const busyRetry = 10 * time.Second

func send(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever went away asks again
}
