package accounts_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/accounts"
	"holdfast/hub/store"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

const cookieName = "__Host-holdfast"

// world is the accounts of a hub on a real store, under a clock of its own,
// behind what the hub puts in front of them.
type world struct {
	t *testing.T
	*accounts.Accounts
	store store.Accounts

	mu      sync.Mutex
	now     time.Time
	records []record // the ledger
	refused []string // and what was refused, and why
	full    bool     // the ledger takes nothing
	revoked []string // whose certificates were
	log     bytes.Buffer
}

// record is an act in the ledger.
type record struct {
	kind    string
	details map[string]any
}

// newWorld has the account "admin", an administrator; change may alter the
// configuration.
func newWorld(t *testing.T, change ...func(*accounts.Config)) *world {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "holdfast.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, store: db.Accounts(), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	cfg := accounts.Config{Store: w.store, Ledger: w, Certifier: w, Console: &url.URL{Scheme: "https", Host: "hub.example:9443"},
		Hosts: []string{"hub.example", "192.0.2.7"}, Now: w.clock, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Refused: func(_ context.Context, kind, remote string, err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.refused = append(w.refused, kind+" "+remote+" "+err.Error())
		}}
	for _, c := range change {
		c(&cfg)
	}
	if w.Accounts, err = accounts.New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := w.Adopt(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Record implements accounts.Ledger.
func (w *world) Record(_ context.Context, kind string, _ identity.Device, details any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full {
		return fault.New(fault.Unavailable, "the ledger is full")
	}
	w.records = append(w.records, record{kind, details.(map[string]any)})
	return nil
}

// IssueOperator implements accounts.Certifier.
func (w *world) IssueOperator(_ context.Context, name string, key crypto.PublicKey, lifetime time.Duration) ([]*x509.Certificate, error) {
	root, err := pki.NewRoot(w.clock())
	if err != nil {
		return nil, err
	}
	ca, err := root.NewIntermediate(pki.Operator, pki.Names{}, w.clock())
	if err != nil {
		return nil, err
	}
	leaf, err := ca.Issue(pki.OperatorLeaf(name, key, lifetime), w.clock())
	return []*x509.Certificate{leaf, ca.Cert}, err
}

// RevokeOperator implements accounts.Certifier.
func (w *world) RevokeOperator(_ context.Context, name string, _ int) error {
	w.revoked = append(w.revoked, name)
	return nil
}

// recorded returns the details of the newest record of a kind; the test fails
// without one.
func (w *world) recorded(kind string) map[string]any {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range slices.Backward(w.records) {
		if r.kind == kind {
			return r.details
		}
	}
	w.t.Fatalf("the ledger has no %s", kind)
	return nil
}

// refusedFor tells whether a refusal with these words was recorded last.
func (w *world) refusedFor(words string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.refused); n == 0 || !strings.Contains(w.refused[n-1], words) {
		w.t.Errorf("refusals %q, want the last with %q", w.refused, words)
	}
}

// as returns the context of what somebody asks for with a certificate, just
// shown.
func (w *world) as(name string) context.Context {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), "GET", "/", nil)
	p, err := w.ByCertificate(r, pki.Peer{Name: name, NotAfter: w.clock().Add(time.Hour)}, w.clock())
	if err != nil {
		w.t.Fatalf("certificate of %s: %v", name, err)
	}
	return operator.With(w.t.Context(), p)
}

// add adds an account.
func (w *world) add(name string, role operator.Role, groups ...identity.Group) {
	w.t.Helper()
	if _, err := w.AddAccount(w.as("admin"), operator.Account{Name: name, Role: role, Groups: groups}); err != nil {
		w.t.Fatal(err)
	}
}

// browser keeps cookies, as a browser does.
type browser struct {
	w       *world
	remote  string
	cookies map[string]*http.Cookie
	header  http.Header
}

func (w *world) browser() *browser {
	return &browser{w: w, remote: "192.0.2.99:4711", cookies: map[string]*http.Cookie{}, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}}
}

// do asks, as the hub has it asked: who asks is found out first.
func (b *browser) do(method, path, body string) *http.Response {
	b.w.t.Helper()
	r := b.request(method, path, body)
	rec := httptest.NewRecorder()
	p, err := b.w.Identify(r)
	if err != nil {
		b.w.Problem(rec, r, err)
	} else {
		b.w.Handler().ServeHTTP(rec, r.WithContext(operator.With(r.Context(), p)))
	}
	resp := rec.Result()
	for _, c := range resp.Cookies() {
		if b.cookies[c.Name] = c; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return resp
}

func (b *browser) request(method, path, body string) *http.Request {
	r := httptest.NewRequestWithContext(b.w.t.Context(), method, "https://hub.example:9443"+path, strings.NewReader(body))
	r.RemoteAddr = b.remote
	maps.Copy(r.Header, b.header)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	return r
}

// status is do for its status alone.
func (b *browser) status(method, path, body string) int {
	b.w.t.Helper()
	return b.do(method, path, body).StatusCode
}

// ctx is the context of what somebody asks for with this browser.
func (b *browser) ctx() context.Context {
	b.w.t.Helper()
	p, err := b.w.Identify(b.request("GET", "/", ""))
	if err != nil {
		b.w.t.Fatal(err)
	}
	return operator.With(b.w.t.Context(), p)
}

// who is who the hub says asks.
func (b *browser) who() operator.Principal {
	b.w.t.Helper()
	return operator.From(b.ctx())
}

// link makes a login link and returns its secret.
func (w *world) link(name string) string {
	w.t.Helper()
	l, err := w.NewLink(w.as(name), "")
	if err != nil {
		w.t.Fatal(err)
	}
	u, err := url.Parse(l.URL)
	if err != nil || u.Fragment == "" {
		w.t.Fatalf("link %q: %v", l.URL, err)
	}
	return u.Fragment
}

func linkBody(secret string) string {
	b, _ := json.Marshal(map[string]string{"secret": secret})
	return string(b)
}

// login logs in by a link.
func (w *world) login(name string) *browser {
	w.t.Helper()
	b := w.browser()
	if got := b.status("POST", "/auth/link", linkBody(w.link(name))); got != http.StatusNoContent {
		w.t.Fatalf("log in as %s: status %d", name, got)
	}
	return b
}

// bodyOf reads an answer.
func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// isKind fails unless an error is of a kind and says so with words.
func isKind(t *testing.T, what string, err error, kind fault.Kind, words string) {
	t.Helper()
	if err == nil || fault.Of(err) != kind || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %v, want %s with %q", what, err, kind, words)
	}
}
