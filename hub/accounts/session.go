package accounts

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
)

// cookieName is the session's cookie. Browsers take one of this prefix only from
// the very host, over TLS and for all paths.
const cookieName = "__Host-holdfast"

// useEvery is how exactly it is known when something was last used.
const useEvery = time.Minute

// errRevoked says of whom everything is refused.
var errRevoked = errors.New("the account was revoked")

func orRevoked(err error) error {
	if err != nil {
		return err
	}
	return errRevoked
}

// begin begins a session of an account and sets its cookie; the caller answers. A session that the
// request came with ends: the new one has another secret, so that nobody keeps
// one that they planted. Where that was the account's own and a passkey was
// shown, this is a step up: the session goes on under the new cookie, for no
// longer than before.
func (a *Accounts) begin(w http.ResponseWriter, r *http.Request, account Record, via operator.Via) error {
	ctx, now, s := r.Context(), a.cfg.Now().UTC(), newSecret()
	p := operator.From(ctx)
	login := operator.Login{ID: rand.Text(), Account: account.Name, Via: via, Remote: host(r.RemoteAddr), Agent: text(r.UserAgent(), 200),
		Created: now, Expires: now.Add(a.cfg.Lifetime)}
	session := Session{Login: login, Hash: s.digest(), Used: now}
	if via == operator.ViaPasskey {
		session.Proved = now
	}
	old, err := a.session(r)
	if err == nil && old.Account == account.Name && p.Credential == old.ID && via == operator.ViaPasskey {
		session.Created, session.Expires = old.Created, old.Expires
	}
	err = a.cfg.Ledger.Record(ctx, kindLogin, "", map[string]any{"by": account.Name, "via": via, "remote": session.Remote, "session": session.ID,
		"agent": session.Agent, "replaces": old.ID})
	if err != nil {
		return fmt.Errorf("record login: %w", err)
	}
	if err := a.cfg.Store.AddSession(ctx, session, old.ID); err != nil {
		return fmt.Errorf("begin a session of %s: %w", account.Name, err)
	}
	a.cfg.Log.InfoContext(ctx, "logged in", "account", account.Name, "via", via, "remote", session.Remote)
	w.Header().Del("Set-Cookie") // that drops the one before
	setCookie(w, cookieName, string(s), session.Expires.Sub(now), http.SameSiteStrictMode)
	return nil
}

func setCookie(w http.ResponseWriter, name, value string, age time.Duration, site http.SameSite) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: max(int(age.Seconds()), 1), Secure: true, HttpOnly: true, SameSite: site})
}

func dropCookie(w http.ResponseWriter, name string, site http.SameSite) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: site})
}

func host(addr string) string {
	if h, _, err := net.SplitHostPort(addr); err == nil {
		return h
	}
	return addr
}

// The ways in which a cookie opens nothing.
var (
	errNoCookie = errors.New("no session cookie")
	errStale    = errors.New("the session has ended")
	errForged   = errors.New("a cookie that is no session's")
)

// session returns the session whose cookie a request has. An error says that
// there is none, and the Session has no ID then.
func (a *Accounts) session(r *http.Request) (Session, error) {
	cookies := r.CookiesNamed(cookieName)
	if len(cookies) == 0 {
		return Session{}, errNoCookie
	}
	if len(cookies) > 1 {
		return Session{}, errForged
	}
	s, err := a.cfg.Store.SessionByHash(r.Context(), secret(cookies[0].Value).digest())
	switch {
	case fault.Of(err) == fault.NotFound:
		return Session{}, errForged
	case err != nil:
		return Session{}, fmt.Errorf("find the session: %w", err)
	case !a.goesOn(s):
		return Session{}, errStale
	}
	return s, nil
}

// goesOn reports whether a session has neither ended nor run out.
func (a *Accounts) goesOn(s Session) bool {
	now := a.cfg.Now()
	return s.Ended.IsZero() && now.Before(s.Expires) && now.Before(s.Used.Add(a.cfg.Idle))
}

// Logins returns the sessions of whoever asks, and of those that they
// administer.
func (a *Accounts) Logins(ctx context.Context) ([]operator.Login, error) {
	p := operator.From(ctx)
	sessions, err := a.cfg.Store.SessionsOf(ctx, "", a.cfg.Now())
	if err != nil {
		return nil, fmt.Errorf("list logins: %w", err)
	}
	sees, err := a.sees(ctx)
	if err != nil {
		return nil, fmt.Errorf("list logins: %w", err)
	}
	out := []operator.Login{}
	for _, s := range sessions {
		if sees[s.Account] && a.goesOn(s) {
			s.Current = s.ID == p.Credential
			out = append(out, s.Login)
		}
	}
	return out, nil
}

// sees says of which accounts whoever asks sees all that opens them.
func (a *Accounts) sees(ctx context.Context) (map[string]bool, error) {
	p := operator.From(ctx)
	all, err := a.cfg.Store.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	sees := map[string]bool{}
	for _, r := range all {
		sees[r.Name] = r.Name == p.Name || over(p, r)
	}
	return sees, nil
}

// EndLogin ends a session.
func (a *Accounts) EndLogin(ctx context.Context, id string) error {
	logins, err := a.Logins(ctx)
	if err != nil {
		return err
	}
	for _, l := range logins {
		if l.ID == id && a.mayEnd(ctx, l.Account, l.ID) {
			return a.end(ctx, l)
		}
	}
	return fault.New(fault.NotFound, "there is no session %.100q", id)
}

// mayEnd reports whether whoever asks may end what opens an account that they
// see: with a token only as an administrator of it, or that token itself.
func (a *Accounts) mayEnd(ctx context.Context, account, id string) bool {
	p := operator.From(ctx)
	return own(p, account) || p.Role == operator.RoleAdministrator || p.Credential == id
}

func (a *Accounts) end(ctx context.Context, l operator.Login) error {
	if err := a.record(ctx, kindLogout, map[string]any{"name": l.Account, "session": l.ID}); err != nil {
		return err
	}
	if err := a.cfg.Store.EndSession(ctx, l.ID, a.cfg.Now()); err != nil {
		return fmt.Errorf("end session of %s: %w", l.Account, err)
	}
	return nil
}

// logout ends the session that a request came with. Without one it is done
// already.
func (a *Accounts) logout(w http.ResponseWriter, r *http.Request) error {
	s, err := a.session(r)
	if err == nil {
		if err := a.end(r.Context(), s.Login); err != nil {
			return err
		}
	}
	dropCookie(w, cookieName, http.SameSiteStrictMode)
	w.Header().Set("Clear-Site-Data", `"cache"`)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// common are the groups that both of two sets have, of which nil has all.
func common(one, other []identity.Group) []identity.Group {
	switch {
	case one == nil:
		return other
	case other == nil:
		return one
	}
	both := []identity.Group{}
	has := map[identity.Group]bool{}
	for _, g := range one {
		has[g] = true
	}
	for _, g := range other {
		if has[g] {
			both = append(both, g)
		}
	}
	return both
}
