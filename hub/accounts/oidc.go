package accounts

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"holdfast/fault"
	"holdfast/operator"
	"holdfast/tlspolicy"
)

// OIDC says which provider vouches for accounts (OpenID Connect Core 1.0), and
// by what.
type OIDC struct {
	Issuer       string // URL, as the provider's tokens name it
	ClientID     string
	ClientSecret string // empty: a public client
	Name         string // how the login page calls it
	Claim        string // ClaimEmail or ClaimSubject
	// Roots are those of the provider's certificate; empty: the system's.
	Roots []*x509.Certificate
}

// The claims that may name an account.
const (
	ClaimEmail   = "email" // has to be verified
	ClaimSubject = "sub"
)

// maxSubject bounds what a provider calls somebody, in bytes.
const maxSubject = 400

// parseSubject brings what a provider calls somebody into the form that is
// compared: an e-mail address in lower case, or "ISSUER SUBJECT".
func parseSubject(s string) (string, error) {
	switch issuer, sub, isSub := strings.Cut(s, " "); {
	case s == "":
		return "", nil
	case text(s, maxSubject) != s:
		return "", fault.New(fault.Invalid, "OIDC subject: want at most %d printable characters", maxSubject)
	case isSub && sub != "" && strings.HasPrefix(issuer, "https://"):
		return s, nil
	case !isSub && strings.Count(s, "@") == 1:
		return strings.ToLower(s), nil
	}
	return "", fault.New(fault.Invalid, "OIDC subject %.100q: want an e-mail address, or the issuer and the subject with a space between", s)
}

// The provider's answers: how long they may take, and how long they may be.
const (
	providerTimeout = 10 * time.Second
	maxProvider     = 1 << 20
)

// stateCookie binds what a provider answers to the browser that was sent there.
// It is SameSite=Lax: coming back from the provider is another site's doing.
const stateCookie = "__Host-holdfast-oidc"

// errOIDC is the one answer to somebody whom a provider sends and who does not
// get in.
const errOIDC = "this login was refused: the provider vouches for nobody who has an account here, or it took too long; ask an administrator of this hub"

// The ways in which what comes back from a provider is refused.
var (
	errState   = errors.New("nobody was sent to the provider with this state, or it was used or is too old")
	errBrowser = errors.New("another browser was sent to the provider")
	errNonce   = errors.New("the ID token has another nonce")
	errParty   = errors.New("the ID token was made for another client")
	errEmail   = errors.New("the provider has not verified the e-mail address")
	errIssuer  = errors.New("the answer is another provider's")
	errPerson  = errors.New("the provider speaks of another person than the ID token")
)

// journey is somebody's way to the provider and back.
type journey struct {
	browser  secret // in the cookie
	nonce    string
	verifier string // PKCE (RFC 7636)
	next     string // path to go to then
}

// provider asks the configured provider. What it says of itself is read when it
// is needed first: a hub starts without it.
type provider struct {
	cfg      OIDC
	redirect string // where it sends people back to
	client   *http.Client
	asking   chan struct{}  // full while somebody reads what it says
	known    *oidc.Provider // nil: not read yet; asking guards it
}

func newProvider(cfg Config) *provider {
	if cfg.OIDC == nil {
		return nil
	}
	return &provider{
		cfg: *cfg.OIDC, redirect: cfg.Console.JoinPath("auth/oidc/callback").String(), asking: make(chan struct{}, 1),
		client: &http.Client{Timeout: providerTimeout, Transport: limited{&http.Transport{TLSClientConfig: tlspolicy.Web(cfg.OIDC.Roots...),
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}}},
	}
}

// limited asks over TLS alone, and reads no more than an answer may have.
type limited struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s is not reached over TLS", r.URL.Host)
	}
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxProvider), resp.Body}
	}
	return resp, err
}

// discover returns what the provider says of itself.
func (p *provider) discover(ctx context.Context) (*oidc.Provider, error) {
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.known == nil {
		known, err := oidc.NewProvider(p.with(ctx), p.cfg.Issuer)
		if err != nil {
			return nil, fault.Hide(fault.Unavailable, "the OIDC provider does not answer as it should", err)
		}
		p.known = known
	}
	return p.known, nil
}

func (p *provider) with(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.client)
}

func (p *provider) oauth(known *oidc.Provider) *oauth2.Config {
	scopes := []string{oidc.ScopeOpenID}
	if p.cfg.Claim == ClaimEmail {
		scopes = append(scopes, oidc.ScopeEmail)
	}
	return &oauth2.Config{ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret, Endpoint: known.Endpoint(), RedirectURL: p.redirect, Scopes: scopes}
}

// withProvider serves only a hub that has a provider.
func (a *Accounts) withProvider(do func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if a.provider == nil {
			return fault.New(fault.NotFound, "this hub has no OIDC provider")
		}
		return do(w, r)
	}
}

// ownPath returns s where it is a path of this hub, otherwise "/": what follows
// a login is nobody else's page.
func ownPath(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || len(s) > 1000 || strings.ContainsAny(s, "\\ ") || text(s, len(s)) != s {
		return "/"
	}
	path := u.EscapedPath()
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") { // which names another host
		return "/"
	}
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	return path
}

// startOIDC sends a browser to the provider.
func (a *Accounts) startOIDC(w http.ResponseWriter, r *http.Request) error {
	known, err := a.provider.discover(r.Context())
	if err != nil {
		return err
	}
	state := newSecret()
	j := journey{browser: newSecret(), nonce: string(newSecret()), verifier: oauth2.GenerateVerifier(), next: ownPath(r.URL.Query().Get("next"))}
	a.journeys.put(string(state), j, a.cfg.Now())
	setCookie(w, stateCookie, string(j.browser), pendingFor, http.SameSiteLaxMode)
	http.Redirect(w, r, a.provider.oauth(known).AuthCodeURL(string(state), oidc.Nonce(j.nonce), oauth2.S256ChallengeOption(j.verifier)), http.StatusFound)
	return nil
}

// finishOIDC logs in whom the provider sends back.
func (a *Accounts) finishOIDC(w http.ResponseWriter, r *http.Request) error {
	dropCookie(w, stateCookie, http.SameSiteLaxMode)
	subject, next, err := a.vouched(r)
	if err != nil {
		return fault.Hide(kindOr(err, fault.Denied), errOIDC, err)
	}
	account, err := a.cfg.Store.AccountBySubject(r.Context(), subject)
	if err == nil && !account.Live() {
		err = errRevoked
	}
	if err != nil {
		return fault.Hide(fault.Denied, errOIDC, fmt.Errorf("provider vouches for %.100q: %w", subject, err))
	}
	if err := a.begin(w, r, account, operator.ViaOIDC); err != nil {
		return err
	}
	dropCookie(w, stateCookie, http.SameSiteLaxMode) // begin has set its own alone
	return page(w, http.StatusOK, "Logged in", "Logged in. Going on …", next)
}

// kindOr is the kind of an error that has one; others get kind.
func kindOr(err error, kind fault.Kind) fault.Kind {
	if k := fault.Of(err); k != fault.Internal {
		return k
	}
	return kind
}

// vouched returns whom the provider vouches for, and where they go next.
func (a *Accounts) vouched(r *http.Request) (subject, next string, err error) {
	q, p := r.URL.Query(), a.provider
	j, ok := a.journeys.take(q.Get("state"), a.cfg.Now())
	if !ok {
		return "", "", errState
	}
	cookies := r.CookiesNamed(stateCookie)
	if len(cookies) != 1 || subtle.ConstantTimeCompare([]byte(cookies[0].Value), []byte(j.browser)) != 1 {
		return "", "", errBrowser
	}
	if iss := q.Get("iss"); iss != "" && iss != p.cfg.Issuer { // RFC 9207
		return "", "", errIssuer
	}
	if e := q.Get("error"); e != "" {
		return "", "", fmt.Errorf("the provider refuses: %q %q", text(e, 100), text(q.Get("error_description"), 300))
	}
	ctx, cancel := context.WithTimeout(p.with(r.Context()), 2*providerTimeout)
	defer cancel()
	known, err := p.discover(ctx)
	if err != nil {
		return "", "", err
	}
	tokens, err := p.oauth(known).Exchange(ctx, q.Get("code"), oauth2.VerifierOption(j.verifier))
	if err != nil {
		return "", "", fmt.Errorf("exchange the code: %w", err)
	}
	raw, _ := tokens.Extra("id_token").(string)
	token, err := known.Verifier(&oidc.Config{ClientID: p.cfg.ClientID, Now: a.cfg.Now}).Verify(ctx, raw)
	if err != nil {
		return "", "", fmt.Errorf("ID token: %w", err)
	}
	who, err := p.judge(token, j.nonce)
	if err == nil && p.cfg.Claim == ClaimEmail && who.Email == "" {
		err = p.inform(ctx, known, tokens, token.Subject, &who)
	}
	if err != nil {
		return "", "", err
	}
	subject, err = p.subject(token.Subject, who)
	return subject, j.next, err
}

// claims are what a provider says of somebody.
type claims struct {
	Party    string `json:"azp"`
	Email    string `json:"email"`
	Verified any    `json:"email_verified"` // some write it as text
}

// judge reads a token whose signature, issuer, audience and time are good.
func (p *provider) judge(token *oidc.IDToken, nonce string) (claims, error) {
	var who claims
	if err := token.Claims(&who); err != nil {
		return who, fmt.Errorf("claims of the ID token: %w", err)
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1:
		return who, errNonce
	case who.Party != p.cfg.ClientID && (who.Party != "" || len(token.Audience) > 1):
		return who, errParty
	}
	return who, nil
}

// inform asks for the claims of whom the token is about, where the token does
// not have them: OpenID Connect Core 1.0, section 5.4, leaves that to the
// provider. Section 5.3.2 wants the answer to be about the same person.
func (p *provider) inform(ctx context.Context, known *oidc.Provider, tokens *oauth2.Token, subject string, who *claims) error {
	info, err := known.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil {
		return fmt.Errorf("ask for the e-mail address: %w", err)
	}
	if info.Subject != subject {
		return errPerson
	}
	who.Email, who.Verified = info.Email, info.EmailVerified
	return nil
}

// subject is what names an account.
func (p *provider) subject(sub string, who claims) (string, error) {
	switch {
	case p.cfg.Claim == ClaimSubject:
		return parseSubject(p.cfg.Issuer + " " + sub)
	case who.Verified != true && who.Verified != "true":
		return "", errEmail
	}
	return parseSubject(who.Email)
}
