package accounts_test

import (
	"encoding/pem"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

func (w *world) script(secret string) *browser {
	b := w.browser()
	b.header = http.Header{"Authorization": {"Bearer " + secret}}
	return b
}

func TestTokensOpenWhatTheyAreFor(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleOperator, "pumps", "valves")
	token, err := w.AddToken(w.as("ann"), operator.AddToken{Name: "nightly report", Role: operator.RoleViewer, Groups: []identity.Group{"pumps"}, TTL: 3600})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^hft_[a-z2-7]{52}$`).MatchString(token.Secret) || !token.Expires.Equal(w.now.Add(time.Hour)) {
		t.Errorf("token %+v", token)
	}
	if r := w.recorded("token.add"); r["by"] != "ann" || r["name"] != "nightly report" || strings.Contains(w.log.String(), token.Secret) {
		t.Errorf("record %v", r)
	}
	p := w.script(token.Secret).who()
	if p.Name != "ann" || p.Role != operator.RoleViewer || !slices.Equal(p.Groups, []identity.Group{"pumps"}) || p.Via != operator.ViaToken || !p.Proved.IsZero() || p.Credential != token.ID {
		t.Errorf("the token is good for %+v", p)
	}
	ts, err := w.Tokens(w.as("ann"))
	if err != nil || len(ts) != 1 || ts[0].Secret != "" || !ts[0].LastUsed.Equal(w.now) {
		t.Errorf("tokens %+v, %v", ts, err)
	}
	whole, err := w.AddToken(w.as("ann"), operator.AddToken{Name: "x", Role: operator.RoleOperator, TTL: 3600})
	if err != nil || !slices.Equal(whole.Groups, []identity.Group{"pumps", "valves"}) {
		t.Errorf("a token of no groups has %+v, %v", whole, err)
	}
	w.pass(time.Hour)
	if _, err := w.Identify(w.script(token.Secret).request("GET", "/", "")); fault.Of(err) != fault.Denied {
		t.Errorf("after its time: %v", err)
	}
	w.refusedFor("has expired")
}

func TestAddTokenRefuses(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleOperator, "pumps")
	const v = operator.RoleViewer
	for _, tt := range []struct {
		in    operator.AddToken
		kind  fault.Kind
		words string
	}{
		{operator.AddToken{Name: "x", Role: operator.RoleAdministrator, TTL: 60}, fault.Denied, "more than they have"},
		{operator.AddToken{Name: "x", Role: v, TTL: 60, Groups: []identity.Group{"valves"}}, fault.Denied, "more than they have"},
		{operator.AddToken{Name: "x", Role: v, TTL: 60, Groups: []identity.Group{"pumps", "valves"}}, fault.Denied, "more than they have"},
		{operator.AddToken{Name: "x", Role: v, TTL: 60, Groups: []identity.Group{}}, fault.Invalid, "groups"},
		{operator.AddToken{Name: "x", Role: "", TTL: 60}, fault.Invalid, "role"},
		{operator.AddToken{Name: "", Role: v, TTL: 60}, fault.Invalid, "name"},
		{operator.AddToken{Name: "a\nb", Role: v, TTL: 60}, fault.Invalid, "name"},
		{operator.AddToken{Name: "x", Role: v, TTL: 59}, fault.Invalid, "good for"},
		{operator.AddToken{Name: "x", Role: v, TTL: 1 << 40}, fault.Invalid, "good for"},
		{operator.AddToken{Name: "x", Role: v, TTL: -1}, fault.Invalid, "good for"},
	} {
		_, err := w.AddToken(w.as("ann"), tt.in)
		isKind(t, tt.in.Name, err, tt.kind, tt.words)
	}
	token, err := w.AddToken(w.as("ann"), operator.AddToken{Name: "x", Role: operator.RoleOperator, TTL: 3600})
	if err != nil {
		t.Fatal(err)
	}
	for what, ctx := range map[string]*browser{"a token": w.script(token.Secret), "a session of a link": w.login("ann")} {
		_, err := w.AddToken(ctx.ctx(), operator.AddToken{Name: "y", Role: v, TTL: 60})
		isKind(t, "with "+what, err, fault.Denied, operator.ErrStepUp.Error())
		_, err = w.NewLink(ctx.ctx(), "")
		isKind(t, "a link with "+what, err, fault.Denied, operator.ErrStepUp.Error())
		_, err = w.CertifyAccount(ctx.ctx(), "ann", request(t, "ann"))
		isKind(t, "a certificate with "+what, err, fault.Denied, operator.ErrStepUp.Error())
	}
	for range 99 {
		if _, err := w.AddToken(w.as("ann"), operator.AddToken{Name: "x", Role: v, TTL: 3600}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.AddToken(w.as("ann"), operator.AddToken{Name: "x", Role: v, TTL: 3600})
	isKind(t, "one more than there may be", err, fault.Conflict, "100 tokens")
}

func TestHeadersThatAreNoTokenAreRefused(t *testing.T) {
	w := newWorld(t)
	token, err := w.AddToken(w.as("admin"), operator.AddToken{Name: "x", Role: operator.RoleViewer, TTL: 3600})
	if err != nil {
		t.Fatal(err)
	}
	logged := w.login("admin")
	for name, header := range map[string][]string{
		"made up":      {"Bearer hft_" + strings.Repeat("a", 52)},
		"cut":          {"Bearer " + token.Secret[:55]},
		"longer":       {"Bearer " + token.Secret + "a"},
		"other case":   {"Bearer hft_" + strings.ToUpper(token.Secret[4:])},
		"its id":       {"Bearer " + token.ID},
		"no prefix":    {"Bearer " + token.Secret[4:]},
		"basic":        {"Basic " + token.Secret},
		"no scheme":    {token.Secret},
		"two":          {"Bearer " + token.Secret, "Bearer " + token.Secret},
		"two in one":   {"Bearer " + token.Secret + ", Bearer " + token.Secret},
		"empty":        {""},
		"a cookie too": {"Bearer x"},
	} {
		b := w.browser()
		if name == "a cookie too" {
			b.cookies = logged.cookies
		}
		b.header = http.Header{"Authorization": header}
		if p, err := w.Identify(b.request("GET", "/", "")); fault.Of(err) != fault.Denied || p.Name != "" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	limited := 0
	for range 100 {
		if got := w.script("hft_x").status("GET", "/auth/me", ""); got == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited == 0 {
		t.Error("nobody limits how many tokens are tried")
	}
	if p := w.script(token.Secret).who(); p.Name != "admin" {
		t.Errorf("then the right one is refused too: %+v", p)
	}
}

func TestTokensAreRemovedByTheirOwn(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleViewer)
	w.add("ben", operator.RoleAdministrator, "pumps")
	add := func() operator.Token {
		t.Helper()
		token, err := w.AddToken(w.as("ann"), operator.AddToken{Name: "x", Role: operator.RoleViewer, TTL: 3600})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	one, two, three := add(), add(), add()
	isKind(t, "an administrator of others", w.RemoveToken(w.as("ben"), one.ID), fault.NotFound, "no token")
	isKind(t, "with another token", w.RemoveToken(w.script(two.Secret).ctx(), one.ID), fault.NotFound, "no token")
	isKind(t, "none", w.RemoveToken(w.as("ann"), "x"), fault.NotFound, "no token")
	for what, err := range map[string]error{
		"its own":          w.RemoveToken(w.as("ann"), one.ID),
		"itself":           w.RemoveToken(w.script(two.Secret).ctx(), two.ID),
		"an administrator": w.RemoveToken(w.as("admin"), three.ID),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, token := range []operator.Token{one, two, three} {
		if _, err := w.Identify(w.script(token.Secret).request("GET", "/", "")); fault.Of(err) != fault.Denied {
			t.Errorf("removed, and yet %v", err)
		}
	}
	if r := w.recorded("token.remove"); r["name"] != "x" || r["account"] != "ann" {
		t.Errorf("record %v", r)
	}
}

// request makes a certificate request in PEM; change may spoil it.
func request(t *testing.T, name string, change ...func(*x509.CertificateRequest)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
	for _, c := range change {
		c(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func TestCertifyAccount(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleViewer)
	w.add("ben", operator.RoleAdministrator, "pumps")
	for by, of := range map[string]string{"ann": "ann", "admin": "ann"} {
		text, err := w.CertifyAccount(w.as(by), of, request(t, of))
		if err != nil {
			t.Fatal(err)
		}
		chain, err := pki.ParseCerts([]byte(text))
		if err != nil || len(chain) != 2 || chain[0].Subject.CommonName != of || !chain[0].NotAfter.After(w.now.Add(300*24*time.Hour)) {
			t.Errorf("chain %v, %v", chain, err)
		}
	}
	if r := w.recorded("operator.certificate"); r["name"] != "ann" {
		t.Errorf("record %v", r)
	}
	for _, tt := range []struct {
		by, of, csr string
		kind        fault.Kind
		words       string
	}{
		{"ann", "admin", request(t, "admin"), fault.NotFound, "no account"},
		{"ben", "ann", request(t, "ann"), fault.NotFound, "no account"},
		{"ann", "ann", request(t, "admin"), fault.Invalid, "common name"},
		{"ann", "ann", request(t, "ann", func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"x"} }), fault.Invalid, "only a common name"},
		{"ann", "ann", request(t, "ann", func(r *x509.CertificateRequest) { r.DNSNames = []string{"ann"} }), fault.Invalid, "extension"},
		{"ann", "ann", request(t, "ann", func(r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 15}, Value: []byte{3, 2, 7, 128}}}
		}), fault.Invalid, "extension"},
		{"ann", "ann", request(t, "ann") + request(t, "ann"), fault.Invalid, "one certificate request"},
		{"ann", "ann", "x", fault.Invalid, "one certificate request"},
		{"ann", "ann", strings.ReplaceAll(request(t, "ann"), "CERTIFICATE REQUEST", "CERTIFICATE"), fault.Invalid, "one certificate request"},
	} {
		_, err := w.CertifyAccount(w.as(tt.by), tt.of, tt.csr)
		isKind(t, tt.by+" certifies "+tt.of, err, tt.kind, tt.words)
	}
}

// FuzzRequests: whatever is sent to the login's paths, nobody gets in and
// nothing fails.
func FuzzRequests(f *testing.F) {
	for _, body := range []string{`{}`, `{"secret":"x"}`, `{"name":"x"}`,
		`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"AA","signature":"AA","userHandle":"AA"}}`,
		`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","attestationObject":"o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YUEA"}}`} {
		f.Add(body, "Bearer hft_x", cookieName+"=x", "state=x&code=y")
	}
	f.Fuzz(func(t *testing.T, body, authorization, cookie, query string) {
		w := newWorld(t)
		for _, r := range []struct{ method, path string }{
			{"POST", "/auth/link"}, {"POST", "/auth/passkey/login/finish"}, {"POST", "/auth/passkey/register/begin"}, {"POST", "/auth/passkey/register/finish"},
			{"GET", "/auth/oidc/callback?x=" + queryText(query)}, {"DELETE", "/auth/passkey/x"}, {"GET", "/auth/me"},
		} {
			b := w.browser()
			b.header["Cookie"] = []string{cookie}
			if authorization != "" {
				b.header["Authorization"] = []string{authorization}
			}
			resp := b.do(r.method, r.path, body)
			if resp.StatusCode < 400 || resp.StatusCode == 500 || b.cookies[cookieName] != nil {
				t.Errorf("%s %s: status %d", r.method, r.path, resp.StatusCode)
			}
		}
	})
}

// queryText is a query that a request can have.
func queryText(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == '#' {
			return 'x'
		}
		return r
	}, s)
}
