package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/httpfault"
	"holdfast/internal/ratelimit"
	"holdfast/operator"
)

// maxBody bounds what is read of a request: an attestation object is the
// largest.
const maxBody = 32 << 10

// StepUpProblem is the type of the problem that a fresh proof of who asks solves.
const StepUpProblem = operator.StepUpProblem

// Handler serves /auth: logging in and out. Who asks is in the request's
// context, as Identify or ByCertificate found.
func (a *Accounts) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /auth/link":                    a.attempt(a.spendLink),
		"POST /auth/passkey/login/begin":     a.withPasskeys(a.beginLogin),
		"POST /auth/passkey/login/finish":    a.attempt(a.withPasskeys(a.finishLogin)),
		"POST /auth/passkey/register/begin":  a.withPasskeys(a.beginRegistration),
		"POST /auth/passkey/register/finish": a.withPasskeys(a.finishRegistration),
		"DELETE /auth/passkey/{id}":          a.removePasskey,
		"GET /auth/oidc/start":               a.asPage(a.withProvider(a.startOIDC)),
		"GET /auth/oidc/callback":            a.asPage(a.attempt(a.withProvider(a.finishOIDC))),
		"POST /auth/logout":                  a.logout,
		"GET /auth/me":                       a.me,
		"GET /auth/ways":                     a.ways,
	} {
		mux.HandleFunc(pattern, a.answer(do))
	}
	return mux
}

// answer turns what a handler returns into a problem (RFC 9457).
func (a *Accounts) answer(do func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := do(w, r); err != nil {
			a.Problem(w, r, err)
		}
	}
}

// asPage turns an error into a page: who follows a link reads no problem.
func (a *Accounts) asPage(do func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := do(w, r)
		if err == nil {
			return nil
		}
		a.cfg.Log.WarnContext(r.Context(), "request refused", "path", r.URL.Path, "remote", r.RemoteAddr, "err", err)
		return page(w, details(w, err).Status, "Not logged in", fault.Public(err), "/login")
	}
}

// Problem answers a request with an error of this package.
func (a *Accounts) Problem(w http.ResponseWriter, r *http.Request, err error) {
	httpfault.Problem(w, a.cfg.Log, details(w, err), err, "path", r.URL.Path, "remote", r.RemoteAddr)
}

// details are the status and type of an error, and the header that goes with it.
func details(w http.ResponseWriter, err error) httpfault.Details {
	d := httpfault.Details{Status: httpfault.Status(fault.Of(err))}
	if e, ok := errors.AsType[*waitError](err); ok {
		d.Status = http.StatusTooManyRequests
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.wait.Seconds()))))
	}
	if errors.Is(err, errNobody) {
		d.Status = http.StatusUnauthorized
	}
	if errors.Is(err, operator.ErrStepUp) {
		d.Type = operator.StepUpProblem
	}
	return d
}

// attempt bounds how often an address tries to log in, and tells of each that
// failed. One that worked does not count.
func (a *Accounts) attempt(do func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if wait := a.byAddress.Take(originKey(r), a.cfg.Now()); wait > 0 {
			err := TooMany(wait)
			a.refuse(r.Context(), r.RemoteAddr, err)
			return err
		}
		err := do(w, r)
		if err == nil {
			a.byAddress.Return(originKey(r))
			return nil
		}
		a.refuse(r.Context(), r.RemoteAddr, err)
		return err
	}
}

func originKey(r *http.Request) string { return ratelimit.Origin(r.RemoteAddr).String() }

// read reads a JSON body: nothing unknown, nothing behind it. A form that
// another site posts is never of this type.
func read(r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return fault.New(fault.Invalid, "want a body of type application/json")
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fault.Hide(fault.Invalid, "the body is not what is asked for here", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "something follows the body's object")
	}
	return nil
}

func write(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // who has gone does not wait for it
	return nil
}

// me is who asks.
type me struct {
	Account  string             `json:"account"`
	Role     operator.Role      `json:"role"`
	Groups   []identity.Group   `json:"groups,omitempty"`
	Via      operator.Via       `json:"via"`
	Proved   time.Time          `json:"proved,omitzero"`
	Expires  time.Time          `json:"expires,omitzero"`
	Passkeys int                `json:"passkeys"`
	Keys     []operator.Passkey `json:"keys"` // those passkeys
}

func (a *Accounts) me(w http.ResponseWriter, r *http.Request) error {
	p, err := someone(r.Context())
	if err != nil {
		return err
	}
	keys, err := a.cfg.Store.PasskeysOf(r.Context(), p.Name)
	if err != nil {
		return err
	}
	m := me{Account: p.Name, Role: p.Role, Groups: p.Groups, Via: p.Via, Proved: p.Proved, Expires: p.Until, Passkeys: len(keys), Keys: []operator.Passkey{}}
	for _, k := range keys {
		m.Keys = append(m.Keys, k.Passkey)
	}
	return write(w, m)
}

// errNobody refuses a request that nobody is known to have made.
var errNobody = fault.New(fault.Denied, "log in first")

// someone returns who asks, or refuses nobody.
func someone(ctx context.Context) (operator.Principal, error) {
	p := operator.From(ctx)
	if p.Name == "" {
		return p, errNobody
	}
	return p, nil
}

// ways are the ways to log in that a person can choose from.
type ways struct {
	Passkey bool   `json:"passkey"`
	OIDC    string `json:"oidc"` // the provider's name; empty: none
}

func (a *Accounts) ways(w http.ResponseWriter, _ *http.Request) error {
	v := ways{Passkey: a.web != nil}
	if a.provider != nil {
		v.OIDC = a.provider.cfg.Name
	}
	return write(w, v)
}
