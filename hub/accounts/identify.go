package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/operator"
	"holdfast/pki"
)

// ErrTooMany is in the error of an attempt that came too soon after others.
var ErrTooMany = errors.New("too many attempts: wait a little")

// errCredential is all that the peer learns of a token or certificate that
// opens nothing.
const errCredential = "this credential opens nothing: it is unknown, has expired or was taken back"

// Identify says who asks by the credential in a request: an API token, or a
// session's cookie. Nobody, the zero Principal, is no error; a token that opens
// nothing is fault.Denied. A cookie that opens nothing is as none: sessions
// end, and the console then asks to log in.
func (a *Accounts) Identify(r *http.Request) (operator.Principal, error) {
	return a.identify(r, a.used)
}

// Again is Identify for a request that goes on: it is no new use of what the
// request came with.
func (a *Accounts) Again(r *http.Request) (operator.Principal, error) {
	return a.identify(r, func(context.Context, Use, time.Time) {})
}

func (a *Accounts) identify(r *http.Request, note func(context.Context, Use, time.Time)) (operator.Principal, error) {
	if _, ok := r.Header["Authorization"]; ok {
		return a.byToken(r, note)
	}
	s, err := a.session(r)
	switch {
	case errors.Is(err, errForged):
		a.refuse(r.Context(), r.RemoteAddr, err)
		return operator.Principal{}, nil
	case errors.Is(err, errNoCookie), errors.Is(err, errStale):
		return operator.Principal{}, nil
	case err != nil:
		return operator.Principal{}, err
	}
	account, err := a.account(r.Context(), s.Account)
	if err != nil {
		return operator.Principal{}, ignoreDenied(err)
	}
	note(r.Context(), Use{Account: s.Account, Session: s.ID}, s.Used)
	return operator.Principal{Name: account.Name, Role: account.Role, Groups: account.Groups, Via: s.Via, Remote: host(r.RemoteAddr),
		Proved: s.Proved, Until: s.Expires, Credential: s.ID}, nil
}

// Forget has the browser drop a session cookie that opens nothing.
func Forget(w http.ResponseWriter, r *http.Request) {
	if len(r.CookiesNamed(cookieName)) > 0 {
		dropCookie(w, cookieName, http.SameSiteStrictMode)
	}
}

// ignoreDenied takes a session of a revoked account for none.
func ignoreDenied(err error) error {
	if fault.Of(err) == fault.Denied {
		return nil
	}
	return err
}

func (a *Accounts) byToken(r *http.Request, note func(context.Context, Use, time.Time)) (operator.Principal, error) {
	p, err := a.token(r, note)
	if fault.Of(err) != fault.Denied {
		return p, err
	}
	if wait := a.badTokens.Take(originKey(r), a.cfg.Now()); wait > 0 {
		return operator.Principal{}, TooMany(wait)
	}
	a.refuse(r.Context(), r.RemoteAddr, err)
	return operator.Principal{}, err
}

func (a *Accounts) token(r *http.Request, note func(context.Context, Use, time.Time)) (operator.Principal, error) {
	var none operator.Principal
	values := r.Header["Authorization"]
	scheme, value, _ := strings.Cut(values[0], " ")
	if len(values) != 1 || !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(value, tokenPrefix) || len(value) > 100 {
		return none, fault.Hide(fault.Denied, errCredential, errors.New("an Authorization header that has no token of ours"))
	}
	t, err := a.cfg.Store.TokenByHash(r.Context(), secret(value).digest())
	switch {
	case fault.Of(err) == fault.NotFound:
		return none, fault.Hide(fault.Denied, errCredential, errors.New("an API token that is none"))
	case err != nil:
		return none, fmt.Errorf("find the token: %w", err)
	case !a.cfg.Now().Before(t.Expires):
		return none, fault.Hide(fault.Denied, errCredential, fmt.Errorf("token %s of %s has expired", t.ID, t.Account))
	}
	account, err := a.account(r.Context(), t.Account)
	if err != nil {
		return none, err
	}
	role := t.Role
	if !account.Role.Includes(role) {
		role = account.Role
	}
	note(r.Context(), Use{Account: t.Account, Token: t.ID}, t.LastUsed)
	return operator.Principal{Name: account.Name, Role: role, Groups: common(account.Groups, t.Groups), Via: operator.ViaToken,
		Remote: host(r.RemoteAddr), Until: t.Expires, Credential: t.ID}, nil
}

// ByCertificate says who asks by a certificate that the caller has verified and
// whose key the peer showed to have at a time.
func (a *Accounts) ByCertificate(r *http.Request, peer pki.Peer, proved time.Time) (operator.Principal, error) {
	account, err := a.account(r.Context(), peer.Name)
	if err != nil {
		return operator.Principal{}, err
	}
	a.used(r.Context(), Use{Account: account.Name}, account.LastSeen)
	return operator.Principal{Name: account.Name, Role: account.Role, Groups: account.Groups, Via: operator.ViaCertificate,
		Remote: host(r.RemoteAddr), Proved: proved, Until: peer.NotAfter}, nil
}

// account returns the live account of a name; otherwise fault.Denied.
func (a *Accounts) account(ctx context.Context, name string) (Record, error) {
	r, err := a.cfg.Store.Account(ctx, name)
	switch {
	case fault.Of(err) == fault.NotFound:
		return r, fault.Hide(fault.Denied, errCredential, fmt.Errorf("there is no account %.100q", name))
	case err != nil:
		return r, fmt.Errorf("find the account: %w", err)
	case !r.Live():
		return r, fault.Hide(fault.Denied, errCredential, fmt.Errorf("account %.100q was revoked", name))
	}
	return r, nil
}

// used notes a use, once a minute at most. That it cannot be noted refuses
// nobody.
func (a *Accounts) used(ctx context.Context, u Use, last time.Time) {
	u.Time = a.cfg.Now().UTC()
	if u.Time.Sub(last) < useEvery {
		return
	}
	if err := a.cfg.Store.Used(ctx, u); err != nil {
		a.cfg.Log.WarnContext(ctx, "note a use", "account", u.Account, "err", err)
	}
}

// TooMany refuses for a while.
func TooMany(wait time.Duration) error {
	return &waitError{error: fault.New(fault.Unavailable, "%w", ErrTooMany), wait: wait}
}

// waitError says how long to wait.
type waitError struct {
	error
	wait time.Duration
}

func (e *waitError) Unwrap() error { return e.error }
