package accounts_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"holdfast/hub/accounts"
	"holdfast/operator"
)

const clientID, clientSecret = "holdfast", "s3cret"

// provider is an OpenID provider whose user has logged in already. It keeps to
// the protocol, checks what a client has to send, and lies in its tokens where a
// test tells it to.
type provider struct {
	t   *testing.T
	w   *world
	srv *httptest.Server
	key *ecdsa.PrivateKey

	sub, email string
	lie        func(claims map[string]any)
	signer     *ecdsa.PrivateKey // signs in place of key
	codes      map[string]url.Values
	info       map[string]any // what userinfo says; nil: nothing
	down       bool
}

// newOIDC has a hub whose provider vouches by a claim.
func newOIDC(t *testing.T, claim string) (*world, *provider) {
	t.Helper()
	p := &provider{t: t, sub: "248289761001", email: "Ann@Example.com", codes: map[string]url.Values{}, lie: func(map[string]any) {}}
	var err error
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.configuration)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", p.userinfo)
	p.srv = httptest.NewTLSServer(mux)
	t.Cleanup(p.srv.Close)
	p.w = newWorld(t, func(c *accounts.Config) {
		c.OIDC = &accounts.OIDC{Issuer: p.srv.URL, ClientID: clientID, ClientSecret: clientSecret, Name: "Example", Claim: claim,
			Roots: []*x509.Certificate{p.srv.Certificate()}}
	})
	p.w.mu.Lock()
	p.w.now = time.Now() // a token's times are the provider's
	p.w.mu.Unlock()
	return p.w, p
}

func (p *provider) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *provider) configuration(w http.ResponseWriter, _ *http.Request) {
	if p.down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	at := p.srv.URL
	p.json(w, map[string]any{"issuer": at, "authorization_endpoint": at + "/authorize", "token_endpoint": at + "/token", "jwks_uri": at + "/keys", "userinfo_endpoint": at + "/userinfo",
		"id_token_signing_alg_values_supported": []string{"ES256"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}})
}

func (p *provider) keys(w http.ResponseWriter, _ *http.Request) {
	p.json(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &p.key.PublicKey, KeyID: "one", Algorithm: "ES256", Use: "sig"}}})
}

// authorize is RFC 6749, section 4.1.1, with PKCE (RFC 7636).
func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for name, want := range map[string]string{"response_type": "code", "client_id": clientID, "redirect_uri": "https://hub.example:9443/auth/oidc/callback", "code_challenge_method": "S256"} {
		if q.Get(name) != want {
			p.t.Errorf("authorize: %s is %q, want %q", name, q.Get(name), want)
		}
	}
	if len(q.Get("state")) < 22 || len(q.Get("nonce")) < 22 || len(q.Get("code_challenge")) != 43 || !strings.Contains(q.Get("scope"), "openid") {
		p.t.Errorf("authorize: %v", q)
	}
	code := rand.Text()
	p.codes[code] = q
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {p.srv.URL}}.Encode(), http.StatusFound)
}

// token is RFC 6749, section 4.1.3: a code is good once, for its client, with
// the verifier of its challenge.
func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	q, ok := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	challenge := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !ok || id != clientID || secret != clientSecret || b64(challenge[:]) != q.Get("code_challenge") || r.FormValue("redirect_uri") != q.Get("redirect_uri") {
		w.WriteHeader(http.StatusBadRequest)
		p.json(w, map[string]string{"error": "invalid_grant"})
		return
	}
	now := time.Now()
	claims := map[string]any{"iss": p.srv.URL, "sub": p.sub, "aud": clientID, "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nonce": q.Get("nonce"),
		"email": p.email, "email_verified": true}
	p.lie(claims)
	p.json(w, map[string]any{"access_token": "x", "token_type": "Bearer", "expires_in": 3600, "id_token": p.sign(claims)})
}

// userinfo is OpenID Connect Core 1.0, section 5.3.
func (p *provider) userinfo(w http.ResponseWriter, r *http.Request) {
	if p.info == nil || r.Header.Get("Authorization") != "Bearer x" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	p.json(w, p.info)
}

func (p *provider) sign(claims map[string]any) string {
	key := p.key
	if p.signer != nil {
		key = p.signer
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, nil)
	if err != nil {
		p.t.Error(err)
		return ""
	}
	b, _ := json.Marshal(claims)
	jws, err := s.Sign(b)
	if err != nil {
		p.t.Error(err)
		return ""
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		p.t.Error(err)
	}
	return text
}

// away sends a browser to the provider and returns what it comes back with.
func (p *provider) away(b *browser, next string) string {
	p.t.Helper()
	resp := b.do("GET", "/auth/oidc/start?next="+url.QueryEscape(next), "")
	if resp.StatusCode != http.StatusFound {
		p.t.Fatalf("start: status %d: %s", resp.StatusCode, bodyOf(p.t, resp))
	}
	client := p.srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	back, err := client.Get(resp.Header.Get("Location"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer back.Body.Close()
	u, err := url.Parse(back.Header.Get("Location"))
	if err != nil || u.Path != "/auth/oidc/callback" {
		p.t.Fatalf("sent back to %q: %v", back.Header.Get("Location"), err)
	}
	return u.RequestURI()
}

// login logs a browser in by the provider.
func (p *provider) login(b *browser, next string) *http.Response {
	p.t.Helper()
	back := p.away(b, next)
	strict := b.cookies[cookieName]
	delete(b.cookies, cookieName) // the provider's redirect does not bring it
	b.header.Set("Sec-Fetch-Site", "cross-site")
	defer b.header.Set("Sec-Fetch-Site", "same-origin")
	resp := b.do("GET", back, "")
	if b.cookies[cookieName] == nil && strict != nil {
		b.cookies[cookieName] = strict
	}
	return resp
}

func (w *world) addSubject(name, subject string) {
	w.t.Helper()
	if _, err := w.AddAccount(w.as("admin"), operator.Account{Name: name, Role: operator.RoleOperator, Subject: subject}); err != nil {
		w.t.Fatal(err)
	}
}

func TestOIDCLogsInWhoHasAnAccount(t *testing.T) {
	w, p := newOIDC(t, accounts.ClaimEmail)
	w.addSubject("ann", "ann@example.COM")
	b := w.browser()
	if body := bodyOf(t, b.do("GET", "/auth/ways", "")); body != `{"passkey":true,"oidc":"Example"}` {
		t.Errorf("ways %s", body)
	}
	resp := p.login(b, "/devices?group=pumps")
	body := bodyOf(t, resp)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `content="0; url=/devices?group=pumps"`) {
		t.Fatalf("status %d: %s", resp.StatusCode, body)
	}
	if who := b.who(); who.Name != "ann" || who.Role != operator.RoleOperator || who.Via != operator.ViaOIDC || !who.Proved.IsZero() {
		t.Errorf("logged in as %+v", who)
	}
	if c := b.cookies["__Host-holdfast-oidc"]; c != nil {
		t.Errorf("the way there left its cookie: %+v", c)
	}
	if r := w.recorded("login.ok"); r["by"] != "ann" || r["via"] != operator.ViaOIDC {
		t.Errorf("record %v", r)
	}
}

func TestOIDCBySubject(t *testing.T) {
	w, p := newOIDC(t, accounts.ClaimSubject)
	w.addSubject("ann", p.srv.URL+" 248289761001")
	w.addSubject("ben", "ann@example.com")
	b := w.browser()
	if got := p.login(b, "/").StatusCode; got != http.StatusOK || b.who().Name != "ann" {
		t.Errorf("status %d, logged in as %q", got, b.who().Name)
	}
	p.sub = "another"
	if got := p.login(w.browser(), "/").StatusCode; got != http.StatusForbidden {
		t.Errorf("a stranger: status %d", got)
	}
}

// TestOIDCAsksForTheAddress: some providers say it only when they are asked.
func TestOIDCAsksForTheAddress(t *testing.T) {
	w, p := newOIDC(t, accounts.ClaimEmail)
	w.addSubject("ann", "ann@example.com")
	p.lie = func(c map[string]any) { delete(c, "email"); delete(c, "email_verified") }
	for _, tt := range []struct {
		name  string
		info  map[string]any
		words string // of the refusal; empty: none
	}{
		{"as it should be", map[string]any{"sub": p.sub, "email": "ann@example.com", "email_verified": true}, ""},
		{"another person's", map[string]any{"sub": "another", "email": "ann@example.com", "email_verified": true}, "another person"},
		{"not verified", map[string]any{"sub": p.sub, "email": "ann@example.com", "email_verified": false}, "not verified"},
		{"nobody's", map[string]any{"email": "ann@example.com", "email_verified": true}, "another person"},
		{"nothing", nil, "ask for the e-mail address"},
	} {
		p.info = tt.info
		b := w.browser()
		resp := p.login(b, "/")
		if (resp.StatusCode == http.StatusOK) != (tt.words == "") || (b.who().Name == "ann") != (tt.words == "") {
			t.Errorf("%s: status %d, logged in as %q", tt.name, resp.StatusCode, b.who().Name)
		}
		if tt.words != "" {
			w.refusedFor(tt.words)
		}
	}
}

func TestOIDCRefuses(t *testing.T) {
	w, p := newOIDC(t, accounts.ClaimEmail)
	w.addSubject("ann", "ann@example.com")
	w.addSubject("gone", "gone@example.com")
	if err := w.RevokeAccount(w.as("admin"), "gone", "left"); err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, value any) func() {
		return func() { p.lie = func(c map[string]any) { c[name] = value } }
	}
	for _, tt := range []struct {
		name  string
		lie   func()
		words string
	}{
		{"another nonce", set("nonce", "x"), "another nonce"},
		{"no nonce", func() { p.lie = func(c map[string]any) { delete(c, "nonce") } }, "another nonce"},
		{"another issuer", set("iss", "https://evil.example"), "different provider"},
		{"another audience", set("aud", "somebody"), "expected audience"},
		{"two audiences and no party", set("aud", []string{"somebody", clientID}), "another client"},
		{"another party", set("azp", "somebody"), "another client"},
		{"expired", set("exp", time.Now().Add(-time.Minute).Unix()), "expired"},
		{"not yet good", set("nbf", time.Now().Add(time.Hour).Unix()), "before"},
		{"signed by a stranger", func() { p.signer = stranger }, "signature"},
		{"an e-mail address that is not verified", set("email_verified", false), "not verified"},
		{"nothing said of the e-mail address", func() { p.lie = func(c map[string]any) { delete(c, "email_verified") } }, "not verified"},
		{"no e-mail address", set("email", ""), "ask for the e-mail address"},
		{"nobody with an account", set("email", "eve@example.com"), "no account has that subject"},
		{"a revoked account", set("email", "gone@example.com"), "no account has that subject"},
		{"claims of wrong types", set("email", 7), "claims"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.lie, p.signer = func(map[string]any) {}, nil
			tt.lie()
			b := w.browser()
			b.remote = "192.0.2." + map[bool]string{true: "1", false: "2"}[len(tt.name)%2 == 0] + ":1"
			resp := p.login(b, "/")
			if resp.StatusCode != http.StatusForbidden || b.cookies[cookieName] != nil {
				t.Errorf("status %d, cookies %v", resp.StatusCode, b.cookies)
			}
			if body := bodyOf(t, resp); !strings.Contains(body, "this login was refused") || strings.Contains(body, "refresh") {
				t.Errorf("the answer says %s", body)
			}
			w.refusedFor(tt.words)
		})
	}
}

func TestOIDCAnswersAreForOneBrowserOnce(t *testing.T) {
	w, p := newOIDC(t, accounts.ClaimEmail)
	w.addSubject("ann", "ann@example.com")
	b := w.browser()
	back := p.away(b, "/")
	if got := w.browser().status("GET", back, ""); got != http.StatusForbidden {
		t.Errorf("in another browser: status %d", got)
	}
	w.refusedFor("another browser")
	if got := b.status("GET", back, ""); got != http.StatusForbidden {
		t.Errorf("after that: status %d", got)
	}
	w.refusedFor("state")

	back = p.away(b, "/")
	if got := b.status("GET", back, ""); got != http.StatusOK {
		t.Fatalf("as it should be: status %d", got)
	}
	if got := b.status("GET", back, ""); got != http.StatusForbidden {
		t.Errorf("again: status %d", got)
	}
	back = p.away(b, "/")
	w.pass(5 * time.Minute)
	if got := b.status("GET", back, ""); got != http.StatusForbidden {
		t.Errorf("too late: status %d", got)
	}
	for name, change := range map[string]func(url.Values){
		"an error":        func(q url.Values) { q.Set("error", "access_denied\r\nX: y") },
		"another's":       func(q url.Values) { q.Set("iss", "https://evil.example") },
		"a code made up":  func(q url.Values) { q.Set("code", "x") },
		"no code":         func(q url.Values) { q.Del("code") },
		"a state made up": func(q url.Values) { q.Set("state", "x") },
	} {
		c := w.browser()
		u, err := url.Parse(p.away(c, "/"))
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		change(q)
		if got := c.status("GET", u.Path+"?"+q.Encode(), ""); got != http.StatusForbidden || c.cookies[cookieName] != nil {
			t.Errorf("%s: status %d", name, got)
		}
	}
}

// TestOIDCLeadsNowhereElse: a login does not end on another site's page.
func TestOIDCLeadsNowhereElse(t *testing.T) {
	w, p := newOIDC(t, accounts.ClaimEmail)
	w.addSubject("ann", "ann@example.com")
	for next, want := range map[string]string{
		"/devices/pump-01":              "/devices/pump-01",
		"":                              "/",
		"https://evil.example/":         "/",
		"//evil.example/":               "/",
		"/\\evil.example":               "/",
		"\\\\evil.example":              "/",
		"javascript:alert(1)":           "/",
		"/a\r\nSet-Cookie: x=y":         "/",
		"/\t/evil.example":              "/",
		"/%2F%2Fevil.example":           "/%2F%2Fevil.example",
		`/"><script>alert(1)`:           "/%22%3E%3Cscript%3Ealert%281%29",
		"/x#" + "y":                     "/x",
		"/" + strings.Repeat("x", 2000): "/",
	} {
		b := w.browser()
		body := bodyOf(t, p.login(b, next))
		if !strings.Contains(body, `content="0; url=`+want+`"`) || strings.Contains(body, "<script") {
			t.Errorf("%q leads to %s, want %q", next, body, want)
		}
	}
}

func TestHubServesWithoutItsProvider(t *testing.T) {
	w, p := newOIDC(t, accounts.ClaimEmail)
	w.addSubject("ann", "ann@example.com")
	p.down = true
	b := w.browser()
	if got := b.status("GET", "/auth/oidc/start", ""); got != http.StatusServiceUnavailable {
		t.Errorf("status %d", got)
	}
	p.down = false
	if got := p.login(b, "/").StatusCode; got != http.StatusOK {
		t.Errorf("once it is back: status %d", got)
	}
	if got := newWorld(t).browser().status("GET", "/auth/oidc/start", ""); got != http.StatusNotFound {
		t.Errorf("without a provider: status %d", got)
	}
}

// TestHubKnowsItsProviderByItsCertificate: somebody between the hub and the
// provider cannot speak for it.
func TestHubKnowsItsProviderByItsCertificate(t *testing.T) {
	_, p := newOIDC(t, accounts.ClaimEmail)
	w := newWorld(t, func(c *accounts.Config) {
		c.OIDC = &accounts.OIDC{Issuer: p.srv.URL, ClientID: clientID, Claim: accounts.ClaimEmail} // the system's roots
	})
	if got := w.browser().status("GET", "/auth/oidc/start", ""); got != http.StatusServiceUnavailable {
		t.Errorf("status %d", got)
	}
}
