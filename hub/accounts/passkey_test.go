package accounts_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"holdfast/fault"
	"holdfast/hub/accounts"
	"holdfast/operator"
)

// authenticator is a passkey in software: what a security key and a browser do
// together, and what a hostile one could.
type authenticator struct {
	t       *testing.T
	origin  string // what the browser says where it is
	rp      string // what the passkey takes for the relying party
	counter uint32
	flags   byte // user present and verified

	id, handle []byte
	key        *ecdsa.PrivateKey
}

const (
	userPresent, userVerified, attested = 1, 4, 64
)

func newAuthenticator(t *testing.T) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authenticator{t: t, origin: "https://hub.example:9443", rp: "hub.example", flags: userPresent | userVerified, id: make([]byte, 16), key: key}
	rand.Read(a.id)
	return a
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// begin reads the options of a ceremony.
func (a *authenticator) begin(resp *http.Response) (options struct {
	PublicKey struct {
		Challenge string
		RPID      string `json:"rpId"`
		RP        struct{ ID string }
		User      struct{ ID string }

		UserVerification       string
		AuthenticatorSelection struct{ ResidentKey, UserVerification string }
		Attestation            string
		AllowCredentials       []any
		ExcludeCredentials     []struct{ ID string }
	}
}) {
	a.t.Helper()
	body := bodyOf(a.t, resp)
	if resp.StatusCode != http.StatusOK {
		a.t.Fatalf("begin: status %d: %s", resp.StatusCode, body)
	}
	if err := json.Unmarshal([]byte(body), &options); err != nil {
		a.t.Fatal(err)
	}
	return options
}

func (a *authenticator) clientData(kind, challenge string) []byte {
	b, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": a.origin, "crossOrigin": false})
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

// data is the authenticator data, with a new credential's key where flags say so.
func (a *authenticator) data(flags byte) []byte {
	rp := sha256.Sum256([]byte(a.rp))
	b := append(rp[:], flags)
	b = binary.BigEndian.AppendUint32(b, a.counter)
	if flags&attested == 0 {
		return b
	}
	b = append(b, make([]byte, 16)...) // AAGUID: says nothing
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(a.id))), a.id...)
	point, err := a.key.PublicKey.Bytes()
	if err != nil {
		a.t.Fatal(err)
	}
	cose, err := cbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	if err != nil {
		a.t.Fatal(err)
	}
	return append(b, cose...)
}

func (a *authenticator) credential(response map[string]any) string {
	b, err := json.Marshal(map[string]any{"id": b64(a.id), "rawId": b64(a.id), "type": "public-key", "authenticatorAttachment": "platform",
		"clientExtensionResults": map[string]any{}, "response": response})
	if err != nil {
		a.t.Fatal(err)
	}
	return string(b)
}

// create answers a registration's challenge.
func (a *authenticator) create(challenge string) string {
	object, err := cbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": a.data(a.flags | attested)})
	if err != nil {
		a.t.Fatal(err)
	}
	return a.credential(map[string]any{"clientDataJSON": b64(a.clientData("webauthn.create", challenge)), "attestationObject": b64(object), "transports": []string{"internal"}})
}

// get answers a login's challenge.
func (a *authenticator) get(challenge string) string {
	a.counter++
	data, client := a.data(a.flags), a.clientData("webauthn.get", challenge)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(data, hash[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.credential(map[string]any{"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(sig), "userHandle": b64(a.handle)})
}

// register registers the passkey with the account of a browser.
func (a *authenticator) register(b *browser, name string) *http.Response {
	a.t.Helper()
	options := a.begin(b.do("POST", "/auth/passkey/register/begin", fmt.Sprintf(`{"name":%q}`, name)))
	handle, err := base64.RawURLEncoding.DecodeString(options.PublicKey.User.ID)
	if err != nil || len(handle) != 64 {
		a.t.Fatalf("user handle %q", options.PublicKey.User.ID)
	}
	a.handle = handle
	return b.do("POST", "/auth/passkey/register/finish", a.create(options.PublicKey.Challenge))
}

// challenge begins a login.
func (a *authenticator) challenge(b *browser) string {
	a.t.Helper()
	return a.begin(b.do("POST", "/auth/passkey/login/begin", `{}`)).PublicKey.Challenge
}

// login logs in.
func (a *authenticator) login(b *browser) *http.Response {
	a.t.Helper()
	return b.do("POST", "/auth/passkey/login/finish", a.get(a.challenge(b)))
}

// registered is a passkey of an account.
func (w *world) registered(name string) *authenticator {
	w.t.Helper()
	a := newAuthenticator(w.t)
	if resp := a.register(w.login(name), "laptop"); resp.StatusCode != http.StatusOK {
		w.t.Fatalf("register: status %d: %s", resp.StatusCode, bodyOf(w.t, resp))
	}
	return a
}

func TestPasskeyRegistersLogsInAndStepsUp(t *testing.T) {
	w := newWorld(t)
	a := newAuthenticator(t)
	link := w.login("admin")
	options := a.begin(link.do("POST", "/auth/passkey/register/begin", `{"name":"laptop"}`)).PublicKey
	if options.RP.ID != "hub.example" || options.Attestation != "none" || options.AuthenticatorSelection.ResidentKey != "required" || options.AuthenticatorSelection.UserVerification != "required" {
		t.Errorf("options %+v", options)
	}
	if resp := a.register(link, "laptop"); resp.StatusCode != http.StatusOK {
		t.Fatalf("register: status %d: %s", resp.StatusCode, bodyOf(t, resp))
	}
	if r := w.recorded("passkey.add"); r["by"] != "admin" || r["name"] != "laptop" || r["via"] != operator.ViaLink {
		t.Errorf("record %v", r)
	}

	b := w.browser()
	login := a.begin(b.do("POST", "/auth/passkey/login/begin", `{}`)).PublicKey
	if login.RPID != "hub.example" || login.UserVerification != "required" || len(login.AllowCredentials) != 0 {
		t.Errorf("options %+v", login)
	}
	if resp := b.do("POST", "/auth/passkey/login/finish", a.get(login.Challenge)); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("log in: status %d: %s", resp.StatusCode, bodyOf(t, resp))
	}
	p := b.who()
	if p.Name != "admin" || p.Via != operator.ViaPasskey || !p.Proved.Equal(w.now) {
		t.Errorf("logged in as %+v", p)
	}
	dangerous := operator.Right{Role: operator.RoleAdministrator, StepUp: true}
	if err := p.May(dangerous, w.now); err != nil {
		t.Errorf("just proved: %v", err)
	}

	w.pass(operator.StepUpFor + time.Second)
	isKind(t, "the proof is old", b.who().May(dangerous, w.now), fault.Denied, operator.ErrStepUp.Error())
	before, until := b.cookies[cookieName], b.who().Until
	if resp := a.login(b); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("step up: status %d", resp.StatusCode)
	}
	if p := b.who(); p.May(dangerous, w.now) != nil || !p.Until.Equal(until) {
		t.Errorf("stepped up to %+v, the session is to end at %s as before", p, until)
	}
	b.cookies[cookieName] = before
	if p := b.who(); p.Name != "" {
		t.Errorf("the cookie of before is good for %+v", p)
	}

	as, err := w.Accounts.Accounts(w.as("admin"))
	if err != nil || len(as) != 1 || len(as[0].Passkeys) != 1 || as[0].Passkeys[0].Name != "laptop" || !as[0].Passkeys[0].LastUsed.Equal(w.now) {
		t.Errorf("accounts %+v, %v", as, err)
	}
}

func TestPasskeyLoginRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*authenticator)
		words  string
	}{
		"a page of another origin":        {func(a *authenticator) { a.origin = "https://hub.example.evil" }, "origin"},
		"a page of another port":          {func(a *authenticator) { a.origin = "https://hub.example:444" }, "origin"},
		"a page without TLS":              {func(a *authenticator) { a.origin = "http://hub.example:9443" }, "origin"},
		"another relying party":           {func(a *authenticator) { a.rp = "evil.example" }, "RP Hash"},
		"nobody verified":                 {func(a *authenticator) { a.flags = userPresent }, "ser verification"},
		"nobody present":                  {func(a *authenticator) { a.flags = userVerified }, "ser presence"},
		"a counter that went back":        {func(a *authenticator) { a.counter = 3 }, "counter went back"},
		"a counter that stays":            {func(a *authenticator) { a.counter = 9 }, "counter went back"},
		"another's key":                   {func(a *authenticator) { a.key = newAuthenticator(a.t).key }, "signature"},
		"a passkey that is unknown":       {func(a *authenticator) { a.id = []byte("0123456789abcdef") }, "credential"},
		"an account that is unknown":      {func(a *authenticator) { a.handle = make([]byte, 64) }, "handle"},
		"an answer that names no account": {func(a *authenticator) { a.handle = nil }, "handle"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.registered("admin")
			a.counter = 9
			if got := a.login(w.browser()).StatusCode; got != http.StatusNoContent {
				t.Fatalf("as it should be: status %d", got)
			}
			tt.change(a)
			b := w.browser()
			resp := a.login(b)
			if resp.StatusCode != http.StatusForbidden || b.who().Name != "" {
				t.Errorf("status %d, logged in as %q", resp.StatusCode, b.who().Name)
			}
			if body := bodyOf(t, resp); !strings.Contains(body, "does not open anything here") {
				t.Errorf("the answer says %s", body)
			}
			w.refusedFor(tt.words)
		})
	}
}

func TestPasskeyChallengeIsGoodOnce(t *testing.T) {
	w := newWorld(t)
	a := w.registered("admin")
	answer := a.get(a.challenge(w.browser()))
	if got := w.browser().status("POST", "/auth/passkey/login/finish", answer); got != http.StatusNoContent {
		t.Fatalf("status %d", got)
	}
	if got := w.browser().status("POST", "/auth/passkey/login/finish", answer); got != http.StatusForbidden {
		t.Errorf("replayed: status %d", got)
	}
	w.refusedFor("challenge")
	late := a.challenge(w.browser())
	w.pass(5 * time.Minute)
	if got := w.browser().status("POST", "/auth/passkey/login/finish", a.get(late)); got != http.StatusForbidden {
		t.Errorf("too late: status %d", got)
	}
	if got := w.browser().status("POST", "/auth/passkey/login/finish", a.get(b64(make([]byte, 32)))); got != http.StatusForbidden {
		t.Errorf("made up: status %d", got)
	}
	b := w.login("admin")
	for name, answer := range map[string]string{"nothing": `{}`, "no JSON": `x`, "a challenge of a registration": a.get(a.begin(b.do("POST", "/auth/passkey/register/begin", `{"name":"x"}`)).PublicKey.Challenge)} {
		if got := w.browser().status("POST", "/auth/passkey/login/finish", answer); got < 400 || got >= 500 {
			t.Errorf("%s: status %d", name, got)
		}
	}
}

func TestPasskeyOfARevokedAccountOpensNothing(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleViewer)
	a := w.registered("ann")
	if err := w.RevokeAccount(w.as("admin"), "ann", "left"); err != nil {
		t.Fatal(err)
	}
	if got := a.login(w.browser()).StatusCode; got != http.StatusForbidden {
		t.Errorf("status %d", got)
	}
}

func TestPasskeyRegistrationRefuses(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleViewer)
	begin := func(b *browser) (*authenticator, string) {
		a := newAuthenticator(t)
		return a, a.begin(b.do("POST", "/auth/passkey/register/begin", `{"name":"x"}`)).PublicKey.Challenge
	}
	b := w.login("admin")
	for name, change := range map[string]func(*authenticator){
		"another origin":  func(a *authenticator) { a.origin = "https://evil.example" },
		"another party":   func(a *authenticator) { a.rp = "evil.example" },
		"nobody verified": func(a *authenticator) { a.flags = userPresent },
	} {
		a, challenge := begin(b)
		change(a)
		if got := b.status("POST", "/auth/passkey/register/finish", a.create(challenge)); got != http.StatusForbidden {
			t.Errorf("%s: status %d", name, got)
		}
	}
	a, challenge := begin(b)
	if got := w.login("ann").status("POST", "/auth/passkey/register/finish", a.create(challenge)); got != http.StatusForbidden {
		t.Errorf("in another's session: status %d", got)
	}
	a, challenge = begin(b)
	if got := w.login("admin").status("POST", "/auth/passkey/register/finish", a.create(challenge)); got != http.StatusForbidden {
		t.Errorf("in another session: status %d", got)
	}
	a, challenge = begin(b)
	if got := b.status("POST", "/auth/passkey/register/finish", a.create(challenge)); got != http.StatusOK {
		t.Fatalf("as it should be: status %d", got)
	}
	if got := b.status("POST", "/auth/passkey/register/finish", a.create(challenge)); got != http.StatusForbidden {
		t.Errorf("the challenge again: status %d", got)
	}
	_, challenge = begin(b)
	if got := b.status("POST", "/auth/passkey/register/finish", a.create(challenge)); got != http.StatusConflict {
		t.Errorf("the same passkey again: status %d", got)
	}
	for _, body := range []string{`{"name":""}`, `{"name":"a\nb"}`, `{}`, `{"name":"x","account":"ann"}`} {
		if got := b.status("POST", "/auth/passkey/register/begin", body); got != http.StatusBadRequest {
			t.Errorf("begin with %s: status %d", body, got)
		}
	}
	if got := w.browser().status("POST", "/auth/passkey/register/begin", `{"name":"x"}`); got != http.StatusUnauthorized {
		t.Errorf("nobody: status %d", got)
	}
}

// TestPasskeysChangeByAFreshProofOnly: who finds an open browser, or steals a
// cookie, does not keep a way in.
func TestPasskeysChangeByAFreshProofOnly(t *testing.T) {
	w := newWorld(t)
	a := w.registered("admin")
	b := w.browser()
	if got := a.login(b).StatusCode; got != http.StatusNoContent {
		t.Fatalf("status %d", got)
	}
	link := w.login("admin")
	w.pass(operator.StepUpFor + time.Second)
	const begin, body = "/auth/passkey/register/begin", `{"name":"second"}`
	resp := b.do("POST", begin, body)
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(bodyOf(t, resp), operator.StepUpProblem) {
		t.Errorf("an old proof: status %d", resp.StatusCode)
	}
	if got := b.status("DELETE", "/auth/passkey/"+b64(a.id), ""); got != http.StatusForbidden {
		t.Errorf("removing with an old proof: status %d", got)
	}
	if got := link.status("POST", begin, body); got != http.StatusOK {
		t.Errorf("soon after a link: status %d", got)
	}
	w.pass(15 * time.Minute)
	if got := link.status("POST", begin, body); got != http.StatusForbidden {
		t.Errorf("long after a link: status %d", got)
	}
	token, err := w.AddToken(w.as("admin"), operator.AddToken{Name: "ci", Role: operator.RoleAdministrator, TTL: 3600})
	if err != nil {
		t.Fatal(err)
	}
	script := w.browser()
	script.header.Set("Authorization", "Bearer "+token.Secret)
	if got := script.status("POST", begin, body); got != http.StatusForbidden {
		t.Errorf("with a token: status %d", got)
	}
	if got := a.login(b).StatusCode; got != http.StatusNoContent {
		t.Fatalf("step up: status %d", got)
	}
	if got := b.status("DELETE", "/auth/passkey/"+b64([]byte("nothing")), ""); got != http.StatusNotFound {
		t.Errorf("removing none: status %d", got)
	}
	if got := b.status("DELETE", "/auth/passkey/"+b64(a.id), ""); got != http.StatusNoContent {
		t.Errorf("removing: status %d", got)
	}
	if r := w.recorded("passkey.remove"); r["by"] != "admin" || r["id"] != b64(a.id) {
		t.Errorf("record %v", r)
	}
	if got := a.login(w.browser()).StatusCode; got != http.StatusForbidden {
		t.Errorf("the passkey that was removed: status %d", got)
	}
}

func TestAttemptsOnOneAccountAreLimited(t *testing.T) {
	w := newWorld(t)
	a := w.registered("admin")
	a.flags = userPresent
	var last int
	for i := range 30 {
		b := w.browser()
		b.remote = fmt.Sprintf("192.0.2.%d:1", i) // each from elsewhere
		last = a.login(b).StatusCode
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the 30th attempt: status %d", last)
	}
}

func TestHubsThatBrowsersReachByAnAddressHaveNoPasskeys(t *testing.T) {
	w := newWorld(t, func(c *accounts.Config) { c.Console = &url.URL{Scheme: "https", Host: "192.0.2.7:9443"} })
	if body := bodyOf(t, w.browser().do("GET", "/auth/ways", "")); body != `{"passkey":false,"oidc":""}` {
		t.Errorf("ways %s", body)
	}
	if got := w.browser().status("POST", "/auth/passkey/login/begin", `{}`); got != http.StatusConflict {
		t.Errorf("status %d", got)
	}
	if body := bodyOf(t, newWorld(t).browser().do("GET", "/auth/ways", "")); body != `{"passkey":true,"oidc":""}` {
		t.Errorf("ways %s", body)
	}
}
