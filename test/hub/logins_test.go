package hub_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

// browser is an HTTP client with cookies and no certificate. It finds the hub
// by the name in its login links.
type browser struct {
	w    *world
	http *http.Client
	at   string // as https://localhost:9443
}

func (w *world) browser() *browser {
	w.t.Helper()
	cfg := w.tls(nil)
	cfg.ServerName = "localhost"
	transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	w.t.Cleanup(transport.CloseIdleConnections)
	_, port, _ := strings.Cut(w.at.Operator, ":")
	return &browser{w: w, at: "https://localhost:" + port, http: &http.Client{Transport: transport, Timeout: patience, Jar: must(cookiejar.New(nil))(w.t),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// ask asks as a page of the hub does; header may say otherwise.
func (b *browser) ask(method, path, body string, header ...string) (int, string) {
	b.w.t.Helper()
	req := must(http.NewRequest(method, b.at+path, strings.NewReader(body)))(b.w.t)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp := must(b.http.Do(req))(b.w.t)
	defer resp.Body.Close()
	return resp.StatusCode, string(must(io.ReadAll(resp.Body))(b.w.t))
}

// login is a browser that a link of an operator has logged in.
func (w *world) login(c *client.Client) *browser {
	w.t.Helper()
	b := w.browser()
	if status, body := b.ask("POST", "/auth/link", `{"secret":"`+w.secret(c)+`"}`); status != http.StatusNoContent {
		w.t.Fatalf("log in: %d %s", status, body)
	}
	return b
}

func (w *world) secret(c *client.Client) string {
	w.t.Helper()
	l := must(c.NewLink(w.t.Context(), ""))(w.t)
	u := must(url.Parse(l.URL))(w.t)
	if !strings.HasPrefix(l.URL, w.browser().at+"/login#") {
		w.t.Errorf("the link is %s", l.URL)
	}
	return u.Fragment
}

// account adds an account, and returns what its new profile opens.
func (w *world) account(name string, role operator.Role, groups ...identity.Group) *client.Client {
	w.t.Helper()
	must(w.api.AddAccount(w.t.Context(), operator.Account{Name: name, Role: role, Groups: groups}))(w.t)
	dir := filepath.Join(w.t.TempDir(), name)
	p := must(client.LoadProfile(w.profile()))(w.t)
	if err := p.Write(dir, must(w.api.NewCredential(w.t.Context(), name))(w.t)); err != nil {
		w.t.Fatal(err)
	}
	return must(client.OpenAt(filepath.Join(dir, "profile.json"), "https://"+w.at.Operator))(w.t)
}

// TestBrowserLogsInByALink, over the network as it will be used.
func TestBrowserLogsInByALink(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	for _, path := range []string{"/v1/hub", "/v1/devices", "/openapi.json", "/v1/nothing"} {
		if status, body := b.ask("GET", path, ""); status != http.StatusUnauthorized || !strings.Contains(body, `"detail"`) {
			t.Errorf("nobody asks for %s: %d %s", path, status, body)
		}
	}
	secret := w.secret(w.api)
	if status, _ := b.ask("POST", "/auth/link", `{"secret":"`+secret+`"}`); status != http.StatusNoContent {
		t.Fatalf("log in: %d", status)
	}
	if status, body := b.ask("GET", "/v1/me", ""); status != http.StatusOK || !strings.Contains(body, `"link"`) || !strings.Contains(body, `"admin"`) {
		t.Errorf("me: %d %s", status, body)
	}
	w.recorded(t, "login.ok", "", "admin", "127.0.0.1")
	if status, _ := w.browser().ask("POST", "/auth/link", `{"secret":"`+secret+`"}`); status != http.StatusForbidden {
		t.Errorf("the link again: %d", status)
	}
	w.recorded(t, "login.refused", "", "used before")

	const revoke = "/v1/devices/healthy-01/quarantine"
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, {"Sec-Fetch-Site", "", "Origin", "null"},
	} {
		if status, _ := b.ask("POST", revoke, `{"reason":"x"}`, header...); status != http.StatusForbidden {
			t.Errorf("another site, by %q: %d", header, status)
		}
		if status, _ := b.ask("POST", "/auth/logout", "", header...); status != http.StatusForbidden {
			t.Errorf("another site logs out, by %q: %d", header, status)
		}
	}
	w.recorded(t, "request.refused", "", "another site")
	if status, _ := b.ask("PUT", "/v1/groups/lab", `{"policy_name":"lenient"}`); status != http.StatusForbidden {
		t.Errorf("a dangerous act without a fresh proof: %d", status)
	}
	if status, _ := b.ask("POST", "/auth/logout", ""); status != http.StatusNoContent {
		t.Errorf("log out: %d", status)
	}
	if status, _ := b.ask("GET", "/v1/me", ""); status != http.StatusUnauthorized {
		t.Errorf("after that: %d", status)
	}
	for _, r := range w.records() {
		if strings.Contains(recordText(r), secret) {
			t.Error("the ledger has the secret")
		}
	}
	w.goesOn(t)
}

// TestAccountsSeparateOperators: a certificate is worth what its account is.
func TestAccountsSeparateOperators(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	ann := w.account("ann", operator.RoleViewer, "lab")
	must(ann.Device(ctx, "healthy-01"))(t)
	if _, err := ann.Act(ctx, "healthy-01", "quarantine", "x"); err == nil {
		t.Error("a viewer quarantined a device")
	}
	if _, err := ann.AddAccount(ctx, operator.Account{Name: "eve", Role: operator.RoleViewer}); err == nil {
		t.Error("a viewer added an account")
	}
	if _, err := ann.NewLink(ctx, "admin"); err == nil {
		t.Error("a viewer made an administrator's link")
	}
	if _, err := ann.CertifyAccount(ctx, "admin", "x"); err == nil {
		t.Error("a viewer got an administrator's certificate")
	}
	must(ann.NewCredential(ctx, "ann"))(t)

	token := must(ann.AddToken(ctx, operator.AddToken{Name: "ci", Role: operator.RoleViewer, TTL: 60}))(t)
	script := w.browser()
	if status, body := script.ask("GET", "/v1/me", "", "Authorization", "Bearer "+token.Secret); status != http.StatusOK || !strings.Contains(body, `"token"`) {
		t.Errorf("with a token: %d %s", status, body)
	}
	if status, _ := script.ask("GET", "/v1/me", "", "Authorization", "Bearer "+token.Secret+"x"); status != http.StatusUnauthorized {
		t.Errorf("with another: %d", status)
	}
	b := w.login(ann)
	if err := w.api.RevokeAccount(ctx, "ann", "left"); err != nil {
		t.Fatal(err)
	}
	if status, _ := script.ask("GET", "/v1/me", "", "Authorization", "Bearer "+token.Secret); status != http.StatusUnauthorized {
		t.Errorf("revoked, with a token: %d", status)
	}
	if status, _ := b.ask("GET", "/v1/me", ""); status != http.StatusUnauthorized {
		t.Errorf("revoked, in a browser: %d", status)
	}
	if _, err := ann.Me(ctx); err == nil {
		t.Error("revoked, with a certificate")
	}
	w.recorded(t, "operator.revoke", "", "admin", "left")
	w.recorded(t, "certificate.revoke", "", "ann")
	w.goesOn(t)
}

// TestAnOpenAnswerEndsWithItsRight: who follows events does not go on after the
// session, the token or the account has ended.
func TestAnOpenAnswerEndsWithItsRight(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", operator.RoleViewer)
	b := w.login(ann)
	b.http.Timeout = 0
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	req := must(http.NewRequestWithContext(ctx, "GET", b.at+"/v1/events?follow=true", nil))(t)
	resp := must(b.http.Do(req))(t)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, resp.Body)
	}()
	if err := w.api.RevokeAccount(t.Context(), "ann", "left"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
		if ctx.Err() != nil {
			t.Error("it went on until the test gave up")
		}
	case <-time.After(2 * patience):
		t.Error("it goes on")
	}
}

// TestARecordedCertificateNeedsAnAccount: what the operators' authority signed
// and nobody answers for opens nothing.
func TestARecordedCertificateNeedsAnAccount(t *testing.T) {
	w := newWorld(t)
	a, key := w.authority(pki.Operator), must(pki.NewKey())(t)
	cert := forged(t, a, key, pki.OperatorLeaf("admin", key.Public(), time.Hour), time.Now())
	if _, _, err := w.ask(cert, "GET", "/v1/hub", ""); err == nil {
		t.Error("a certificate of admin that is not on record opens the hub")
	}
	w.logged(t, "TLS handshake error", "not on record")
	w.goesOn(t)
}

// TestHostileHeadersStayText: nothing that a stranger sends makes a header, a
// line of the log or a record of its own.
func TestHostileHeadersStayText(t *testing.T) {
	w := newWorld(t)
	conn := must(tls.Dial("tcp", w.at.Operator, w.tls(nil, "http/1.1")))(t)
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	const body = `{"secret":"x\r\nX-Evil: 1"}`
	request := "POST /auth/link HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nUser-Agent: a\x1b[31m\"},{\"kind\":\"login.ok\r\n" +
		"Cookie: __Host-holdfast=a%0d%0aX-Evil:1\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\nContent-Length: 27\r\n\r\n" + body
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer := must(io.ReadAll(conn))(t)
	if bytes.Contains(bytes.ToLower(answer), []byte("x-evil")) || bytes.Contains(answer, []byte("HTTP/1.1 2")) {
		t.Errorf("answer %q", answer)
	}
	for _, r := range w.records() {
		if strings.Contains(recordText(r), "203.0.113.9") {
			t.Errorf("the ledger believes a header: %s", recordText(r))
		}
	}
}
