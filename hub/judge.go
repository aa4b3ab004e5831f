package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/hub/accounts"
	"holdfast/hub/api"
	"holdfast/hub/console"
	"holdfast/internal/httpfault"
	"holdfast/internal/ratelimit"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// askAgain is how often it is asked of a request that goes on and on whether
// whoever made it still may.
const askAgain = 5 * time.Second

// Nobody may ask strangersBurst things at once, and then one each
// strangersEvery, until it is known who asks: the login page is for everybody.
const (
	strangersEvery = 50 * time.Millisecond
	strangersBurst = 200
)

// byPath says which part of the operator plane has a path.
func byPath(api, auth, console http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/auth/"):
			auth.ServeHTTP(w, r)
		case ofAPI(r.URL.Path):
			api.ServeHTTP(w, r)
		default:
			console.ServeHTTP(w, r)
		}
	})
}

func ofAPI(path string) bool {
	return strings.HasPrefix(path, "/v1/") || path == "/openapi.json" || path == "/openapi-3.0.json" || path == "/docs" || strings.HasPrefix(path, "/docs/")
}

// judge is in front of everything that operators ask. It finds out who asks,
// for each request anew: a connection may live for longer than a right. A
// browser does not let other sites use it.
func (h *hub) judge(trust *pki.Trust, next http.Handler) http.Handler {
	g := &judge{hub: h, trust: trust, next: next,
		strangers: ratelimit.New(ratelimit.Config{Every: strangersEvery, Burst: strangersBurst, Keys: 4096})}
	csrf := http.NewCrossOriginProtection()
	csrf.SetDenyHandler(http.HandlerFunc(g.crossSite))
	return csrf.Handler(api.Bounded(g))
}

// judge judges each request.
type judge struct {
	hub       *hub
	trust     *pki.Trust
	next      http.Handler
	strangers *ratelimit.Limit
}

// crossSite refuses what another site has a browser ask.
func (g *judge) crossSite(w http.ResponseWriter, r *http.Request) {
	g.refuse(w, r, http.StatusForbidden, fault.New(fault.Denied, "another site asks for this"))
}

// refuse answers with a problem and records it.
func (g *judge) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	g.hub.refusals.record(r.Context(), "request.refused", "", r.RemoteAddr, err)
	httpfault.Problem(w, g.hub.component("api"), httpfault.Details{Status: status}, err, "path", r.URL.Path, "remote", r.RemoteAddr)
}

// ServeHTTP implements http.Handler.
func (g *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	identify := g.hub.accounts.Identify
	if refreshes(r) {
		identify = g.hub.accounts.Again
	}
	p, err := g.who(r, identify)
	switch {
	case errors.Is(err, errCertificate):
		g.refuse(w, r, http.StatusForbidden, err)
		return
	case fault.Of(err) == fault.Denied:
		w.Header().Set("WWW-Authenticate", "Bearer")
		httpfault.Problem(w, g.hub.component("api"), httpfault.Details{Status: http.StatusUnauthorized}, err, "path", r.URL.Path, "remote", r.RemoteAddr)
		return
	case err != nil:
		g.hub.accounts.Problem(w, r, err)
		return
	case p.Name == "":
		g.stranger(w, r)
		return
	}
	ctx, cancel := context.WithDeadline(operator.With(r.Context(), p), p.Until)
	defer cancel()
	defer g.watch(ctx, r, p, cancel).Stop()
	g.next.ServeHTTP(w, r.WithContext(ctx))
}

// refreshes reports whether a page of the console shows itself anew: perhaps
// nobody looks, so that it is no use of a login.
func refreshes(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get(console.Refresh) != ""
}

// stranger serves who is not known: what is for everybody.
func (g *judge) stranger(w http.ResponseWriter, r *http.Request) {
	if !ofHealth(r.URL.Path) && g.strangers.Take(ratelimit.Origin(r.RemoteAddr).String(), time.Now()) > 0 {
		g.hub.accounts.Problem(w, r, accounts.TooMany(time.Second))
		return
	}
	accounts.Forget(w, r)
	if ofAPI(r.URL.Path) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		httpfault.Problem(w, g.hub.component("api"), httpfault.Details{Status: http.StatusUnauthorized},
			fault.New(fault.Denied, "log in, or show an operator certificate or a token"), "path", r.URL.Path, "remote", r.RemoteAddr)
		return
	}
	g.next.ServeHTTP(w, r)
}

// errCertificate is in the error of a request whose connection has a
// certificate that opens nothing any more.
var errCertificate = errors.New("operator certificate")

// who says who asks: by a token or cookie where the request has one, otherwise
// by the connection's certificate.
func (g *judge) who(r *http.Request, identify func(*http.Request) (operator.Principal, error)) (operator.Principal, error) {
	p, err := identify(r)
	if err != nil || p.Name != "" || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return p, err
	}
	peer, err := tlspolicy.Peer(r.TLS, g.trust, time.Now())
	if err == nil {
		err = g.hub.issuer.CheckRevoked(r.Context(), peer.Serial)
	}
	if err == nil {
		p, err = g.hub.accounts.ByCertificate(r, peer, beginning(r.Context()))
	}
	if err != nil {
		return p, fault.Hide(fault.Denied, "an operator's certificate is needed here", fmt.Errorf("%w of %.100q: %w", errCertificate, peer.Name, err))
	}
	return p, nil
}

// watch asks again and again whether whoever made a request still may, and with
// the same rights, and otherwise cancels it. That an answer goes on is no use of
// a session: it ends when its user has gone.
func (g *judge) watch(ctx context.Context, r *http.Request, p operator.Principal, cancel context.CancelFunc) *time.Timer {
	return time.AfterFunc(askAgain, func() {
		if ctx.Err() != nil {
			return
		}
		now, err := g.who(r, g.hub.accounts.Again)
		sameGroups := slices.Equal(now.Groups, p.Groups) && (now.Groups == nil) == (p.Groups == nil) // nil: all
		if err != nil || now.Name != p.Name || now.Role != p.Role || now.Via != p.Via || !sameGroups {
			cancel()
			return
		}
		g.watch(ctx, r, p, cancel)
	})
}

// beginningKey is the key of when a connection began.
type beginningKey struct{}

// withBeginning says in a connection's context when it began, which is no later
// than its handshake.
func withBeginning(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, beginningKey{}, time.Now())
}

func beginning(ctx context.Context) time.Time {
	t, _ := ctx.Value(beginningKey{}).(time.Time)
	return t
}

// operator refuses an operator whose certificate was revoked.
func (h *hub) operator(_ tls.ConnectionState, p pki.Peer) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout) // crypto/tls hands none down
	defer cancel()
	return h.issuer.CheckRevoked(ctx, p.Serial)
}
