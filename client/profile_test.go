package client

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/pki"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// must makes an error fatal.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// newProfile writes a profile and returns its path and the key of its ledger.
func newProfile(t *testing.T) (string, crypto.Signer) {
	t.Helper()
	dir := t.TempDir()
	key := must(pki.NewKey())(t)
	der := must(x509.MarshalPKIXPublicKey(key.Public()))(t)
	profile := Profile{URL: "https://127.0.0.1:9443", Root: "root.pem", Certificate: "operator.pem", Key: "operator.key", LedgerKey: "ledger.pub"}
	write(t, filepath.Join(dir, "profile.json"), must(json.Marshal(profile))(t))
	write(t, filepath.Join(dir, "ledger.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return filepath.Join(dir, "profile.json"), key
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tip is the end of a ledger of n records whose last is named.
func tip(n uint64, last string) ledger.Tip {
	return ledger.Tip{Seq: n, Hash: identity.Sum([]byte(last))}
}

func TestKeepFollowsOneLedger(t *testing.T) {
	type seen struct {
		tip ledger.Tip
		at  time.Time
	}
	tests := []struct {
		name string
		h    seen
		want string // part of the refusal; empty: taken
		keep uint64 // records of the head that is kept after
	}{
		{"the same head", seen{tip(5, "five"), now}, "", 5},
		{"the same, signed again", seen{tip(5, "five"), now.Add(time.Hour)}, "", 5},
		{"more", seen{tip(6, "six"), now.Add(time.Hour)}, "", 6},
		{"an answer that was overtaken", seen{tip(4, "four"), now.Add(-time.Second)}, "", 5},
		{"shortened", seen{tip(4, "four"), now.Add(time.Second)}, "shortened: it has 4 records, this operator has seen 5", 5},
		{"rewritten", seen{tip(5, "another"), now.Add(time.Second)}, "rewritten: record 5", 5},
		{"rewritten and dated back", seen{tip(5, "another"), now.Add(-time.Second)}, "rewritten: record 5", 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path, key := newProfile(t)
			p := must(LoadProfile(path))(t)
			if err := p.keep(must(ledger.Sign(key, tip(5, "five"), now))(t)); err != nil {
				t.Fatal(err)
			}
			err := p.keep(must(ledger.Sign(key, tt.h.tip, tt.h.at))(t))
			if tt.want == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if tt.want != "" && (fault.Of(err) != fault.Integrity || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want one of integrity with %q", err, tt.want)
			}
			if kept, ok, err := p.Kept(); !ok || err != nil || kept.Seq != tt.keep {
				t.Errorf("kept %d records (%v, %v), want %d", kept.Seq, ok, err, tt.keep)
			}
		})
	}
}

func TestKeepRefusesAHeadOfAnotherKey(t *testing.T) {
	path, _ := newProfile(t)
	p := must(LoadProfile(path))(t)
	if err := p.keep(must(ledger.Sign(must(pki.NewKey())(t), tip(1, "one"), now))(t)); err == nil {
		t.Error("a head that somebody else signed was kept")
	}
	if _, ok, err := p.Kept(); ok || err != nil {
		t.Errorf("kept: %v, %v", ok, err)
	}
}

// A wrong head is an error of the call, whatever else the answer says.
func TestClientRefusesAnAnswerWithAWrongHead(t *testing.T) {
	path, key := newProfile(t)
	p := must(LoadProfile(path))(t)
	header := ""
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(operator.HeadHeader, header)
		_, _ = w.Write([]byte("{}"))
	}))
	defer srv.Close()
	c := New(Config{URL: srv.URL + "/", HTTP: srv.Client(), Head: p.keep})
	encoded := func(h ledger.Head) string {
		return base64.StdEncoding.EncodeToString(must(json.Marshal(h))(t))
	}
	for _, tt := range []struct {
		name, header string
		ok           bool
	}{
		{"a head", encoded(must(ledger.Sign(key, tip(5, "five"), now))(t)), true},
		{"none", "", true},
		{"shortened", encoded(must(ledger.Sign(key, tip(4, "four"), now.Add(time.Hour)))(t)), false},
		{"not base64", "?", false},
		{"not JSON", base64.StdEncoding.EncodeToString([]byte("head")), false},
	} {
		header = tt.header
		_, err := c.Hub(t.Context())
		if tt.ok && err != nil || !tt.ok && fault.Of(err) != fault.Integrity {
			t.Errorf("%s: error %v", tt.name, err)
		}
	}
}

func TestClientReadsProblems(t *testing.T) {
	status, body := 0, ""
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	c := New(Config{URL: srv.URL, HTTP: srv.Client()})
	for _, tt := range []struct {
		status int
		body   string
		kind   fault.Kind
		text   string
	}{
		{404, `{"detail":"no device pump-9"}`, fault.NotFound, "no device pump-9"},
		{403, `{"detail":"no"}`, fault.Denied, "no"},
		{409, `{"detail":"exists"}`, fault.Conflict, "exists"},
		{422, `{"detail":"validation failed","errors":[{"location":"body.x","message":"unexpected property"}]}`, fault.Invalid, "validation failed; body.x unexpected property"},
		{503, `{"detail":"full"}`, fault.Unavailable, "full"},
		{500, `{"detail":"internal error"}`, fault.Internal, "internal error"},
		{502, `<html>`, fault.Internal, "502 Bad Gateway"},
	} {
		status, body = tt.status, tt.body
		if _, err := c.Hub(t.Context()); fault.Of(err) != tt.kind || err.Error() != tt.text {
			t.Errorf("%d %s: %s %q, want %s %q", tt.status, tt.body, fault.Of(err), err, tt.kind, tt.text)
		}
	}
	srv.Close()
	if _, err := c.Hub(t.Context()); fault.Of(err) != fault.Unavailable {
		t.Errorf("nobody there: %v, want unavailable", err)
	}
}

func TestLoadProfileRefusals(t *testing.T) {
	for name, tt := range map[string]struct{ profile, pub, want string }{
		"not JSON":        {"x", "", "profile.json"},
		"an unknown key":  {`{"url":"https://h:1","password":"x"}`, "", `unknown field "password"`},
		"no ledger key":   {`{"ledger_key":"other.pub"}`, "", "other.pub"},
		"no PEM":          {`{"ledger_key":"ledger.pub"}`, "x", "no PEM block"},
		"not a key's PEM": {`{"ledger_key":"ledger.pub"}`, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "ledger.pub: "},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "profile.json"), []byte(tt.profile))
		write(t, filepath.Join(dir, "ledger.pub"), []byte(tt.pub))
		if _, err := LoadProfile(filepath.Join(dir, "profile.json")); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, tt.want)
		}
	}
}

func TestOpenRefusals(t *testing.T) {
	root := must(pki.NewRoot(now))(t)
	for name, tt := range map[string]struct{ url, root, want string }{
		"plain HTTP":     {"http://127.0.0.1:9443", "", "want https://HOST:PORT"},
		"no URL":         {"", "", "want https://HOST:PORT"},
		"no root":        {"https://127.0.0.1:9443", "", "root.pem"},
		"no certificate": {"https://127.0.0.1:9443", string(pki.EncodeCerts(root.Cert)), "operator.pem"},
	} {
		path, _ := newProfile(t)
		if tt.root != "" {
			write(t, filepath.Join(filepath.Dir(path), "root.pem"), []byte(tt.root))
		}
		p := must(LoadProfile(path))(t)
		p.URL = tt.url
		write(t, path, must(json.Marshal(p))(t))
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, tt.want)
		}
	}
}

func TestRedirectChangesOnlyTheURL(t *testing.T) {
	path, _ := newProfile(t)
	before := must(LoadProfile(path))(t)
	if err := Redirect(path, "https://127.0.0.1:40001"); err != nil {
		t.Fatal(err)
	}
	after := must(LoadProfile(path))(t)
	if after.URL != "https://127.0.0.1:40001" {
		t.Errorf("url is %s", after.URL)
	}
	if after.Root != before.Root || after.Certificate != before.Certificate || after.Key != before.Key || after.LedgerKey != before.LedgerKey {
		t.Errorf("%+v became %+v", before, after)
	}
	if err := Redirect(filepath.Join(t.TempDir(), "profile.json"), "https://x:1"); err == nil {
		t.Error("a profile that is not there was redirected")
	}
}
