package main_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/testkit"
	"holdfast/internal/token"
)

// build builds the helper with or without cgo.
func build(t *testing.T, cgo string) string {
	t.Helper()
	helper := filepath.Join(t.TempDir(), "holdfast-pkcs11")
	cmd := exec.Command("go", "build", "-o", helper, "holdfast/cmd/holdfast-pkcs11")
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return helper
}

func TestWithoutCgoItSaysSo(t *testing.T) {
	_, err := token.Ask(t.Context(), build(t, "0"), token.Request{Op: token.OpList})
	if err == nil || !strings.Contains(err.Error(), "built without cgo") {
		t.Error(err)
	}
}

func TestTokenSigns(t *testing.T) {
	testkit.Need(t, "gcc")
	hsm := testkit.NewSoftHSM(t)
	helper := build(t, "1")
	cfg := token.Config{Helper: helper, Module: hsm.Module, Token: hsm.Token, Key: hsm.Key, PIN: hsm.PIN}
	list, err := token.Ask(t.Context(), helper, token.Request{Op: token.OpList, Module: hsm.Module, Token: hsm.Token, PIN: hsm.PIN})
	if err != nil || !slices.Contains(list.Tokens, hsm.Token) || !slices.Equal(list.Keys, []string{hsm.Key}) {
		t.Errorf("%+v, %v", list, err)
	}
	s, err := token.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("signed bytes"))
	var before []byte
	for range 2 {
		sig, err := s.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), sum[:], sig) || bytes.Equal(sig, before) {
			t.Error("a signature that does not verify, or comes twice")
		}
		before = sig
	}
	if _, err := s.Sign(rand.Reader, sum[:31], crypto.SHA256); err == nil {
		t.Error("signed 31 bytes")
	}
	for want, spoil := range map[string]func(*token.Config){
		"log in":         func(c *token.Config) { c.PIN = "0000" },
		"no token":       func(c *token.Config) { c.Token = "other" },
		"0 P-256 keys":   func(c *token.Config) { c.Key = "other" },
		"no PKCS#11":     func(c *token.Config) { c.Module = "/dev/null" },
		"holdfast-other": func(c *token.Config) { c.Helper += "-other" },
	} {
		c := cfg
		spoil(&c)
		if want == "holdfast-other" {
			want = "no such file"
		}
		if _, err := token.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
