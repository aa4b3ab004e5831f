package statement_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/finding"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/statement"
)

func subject(name string) statement.Subject {
	s := statement.Subject{Name: name}
	s.Digest.SHA256 = identity.Sum([]byte(name))
	return s
}

func good() *statement.Statement {
	return &statement.Statement{
		Type: statement.Type, PredicateType: statement.PredicateType,
		Subject: []statement.Subject{subject("app.elf"), subject("app.bin"), subject("other.bin")},
		Predicate: statement.Predicate{
			Auditor: "holdfast 1", Rules: "r", Time: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC),
			Images: []finding.Image{
				{File: "app.bin", Measured: identity.Sum([]byte("app.bin")), Matches: "app.elf"},
				{File: "other.bin", Measured: identity.Sum([]byte("other.bin"))},
			},
			Rows:     []finding.Row{{Measure: measure.MemoryStack, Verdict: measure.Pass, Applies: true, Reason: "canaries are called"}},
			Findings: map[finding.Severity]int{finding.High: 1},
		},
	}
}

func keys(t testing.TB) (p256, ed crypto.Signer) {
	t.Helper()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err = ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return p256, ed
}

func sign(t testing.TB, s *statement.Statement, key crypto.Signer) []byte {
	t.Helper()
	b, err := statement.Sign(t.Context(), s, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSignVerify(t *testing.T) {
	a, b := keys(t)
	for _, key := range []crypto.Signer{a, b} {
		got, id, err := statement.Verify(t.Context(), sign(t, good(), key), a.Public(), b.Public())
		if err != nil {
			t.Fatal(err)
		}
		want, err := statement.KeyID(key.Public())
		if err != nil || id != want {
			t.Errorf("signed by %s, want %s (%v)", id, want, err)
		}
		if diff := cmp.Diff(good(), got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestStatementIsAboutMatchedImagesAlone(t *testing.T) {
	s := good()
	if _, ok := s.Image(identity.Sum([]byte("app.bin"))); !ok {
		t.Error("not about the image that matches")
	}
	for _, name := range []string{"other.bin", "app.elf", "none"} {
		if _, ok := s.Image(identity.Sum([]byte(name))); ok {
			t.Errorf("about %s, which nobody has shown to carry what was judged", name)
		}
	}
	if r := s.Row(measure.MemoryStack); r.Verdict != measure.Pass {
		t.Errorf("%+v", r)
	}
	if r := s.Row(measure.AppDebug); r.Verdict != measure.Unknown {
		t.Errorf("%+v", r)
	}
}

func TestVerifyRefuses(t *testing.T) {
	a, b := keys(t)
	whole := sign(t, good(), a)
	change := func(f func(e map[string]any)) []byte {
		var e map[string]any
		if err := json.Unmarshal(whole, &e); err != nil {
			t.Fatal(err)
		}
		f(e)
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, envelope := range map[string][]byte{
		"empty":            nil,
		"no JSON":          []byte("nonsense"),
		"truncated":        whole[:len(whole)/2],
		"trailing":         append(append([]byte{}, whole...), '{', '}'),
		"a name twice":     []byte(strings.Replace(string(whole), `"payloadType"`, `"payloadType":"x","payloadType"`, 1)),
		"too large":        make([]byte, statement.MaxSize+1),
		"another type":     change(func(e map[string]any) { e["payloadType"] = "text/plain" }),
		"another payload":  change(func(e map[string]any) { e["payload"] = base64.StdEncoding.EncodeToString([]byte("{}")) }),
		"no signatures":    change(func(e map[string]any) { e["signatures"] = []any{} }),
		"another envelope": sign(t, good(), b),
	} {
		if s, _, err := statement.Verify(t.Context(), envelope, a.Public()); err == nil || s != nil {
			t.Errorf("%s: took it", name)
		}
	}
	if _, _, err := statement.Verify(t.Context(), whole); !errors.Is(err, statement.ErrNotSigned) {
		t.Errorf("without auditors: %v", err)
	}
	if _, _, err := statement.Verify(t.Context(), whole, b.Public()); !errors.Is(err, statement.ErrNotSigned) {
		t.Errorf("by another: %v", err)
	}
}

func TestCheckRefuses(t *testing.T) {
	key, _ := keys(t)
	for want, spoil := range map[string]func(*statement.Statement){
		"type":            func(s *statement.Statement) { s.Type = "x" },
		"predicate":       func(s *statement.Statement) { s.PredicateType = "x" },
		"no subject":      func(s *statement.Statement) { s.Subject = nil },
		"longer than":     func(s *statement.Statement) { s.Subject = make([]statement.Subject, 5000) },
		"missing":         func(s *statement.Statement) { s.Predicate.Auditor = "" },
		"time is missing": func(s *statement.Statement) { s.Predicate.Time = time.Time{} },
		"no measure":      func(s *statement.Statement) { s.Predicate.Rows[0].Measure = "luck" },
		"verdict":         func(s *statement.Statement) { s.Predicate.Rows[0].Verdict = "maybe" },
		"two rows":        func(s *statement.Statement) { s.Predicate.Rows = append(s.Predicate.Rows, s.Predicate.Rows[0]) },
		"not a subject":   func(s *statement.Statement) { s.Predicate.Images[0].Measured = identity.Sum([]byte("x")) },
		"what it matches": func(s *statement.Statement) { s.Predicate.Images[0].Matches = "x" },
	} {
		s := good()
		spoil(s)
		if _, err := statement.Sign(t.Context(), s, key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := statement.Sign(t.Context(), good(), weak); err == nil {
		t.Error("signed with a key of P-224")
	}
}

func TestParseKey(t *testing.T) {
	p256, ed := keys(t)
	weak, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := func(typ string, key crypto.PublicKey) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}))
	}
	for _, key := range []crypto.Signer{p256, ed} {
		got, err := statement.ParseKey([]byte(text("PUBLIC KEY", key.Public()) + "\n"))
		want, _ := statement.KeyID(key.Public())
		if id, _ := statement.KeyID(got); err != nil || id != want {
			t.Errorf("%v %v", got, err)
		}
	}
	good := text("PUBLIC KEY", ed.Public())
	for name, bad := range map[string]string{
		"nothing": "", "another type": text("PRIVATE KEY", ed.Public()), "two": good + good, "P-384": text("PUBLIC KEY", weak.Public()),
		"no key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
	} {
		if _, err := statement.ParseKey([]byte(bad)); err == nil {
			t.Errorf("%s is a key", name)
		}
	}
}

func TestSigners(t *testing.T) {
	key, _ := keys(t)
	want, _ := statement.KeyID(key.Public())
	if got, err := statement.Signers(sign(t, good(), key)); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%q %v", got, err)
	}
	if got, err := statement.Signers([]byte("{}")); err != nil || len(got) != 0 {
		t.Errorf("%q %v", got, err)
	}
	if _, err := statement.Signers([]byte("nonsense")); err == nil {
		t.Error("nonsense is an envelope")
	}
}

func FuzzVerify(f *testing.F) {
	key, _ := keys(f)
	f.Add(sign(f, good(), key))
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, _, err := statement.Verify(t.Context(), b, key.Public()); err == nil && s.Check() != nil {
			t.Error("took a statement that is wrong")
		}
	})
}
