package pki_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"holdfast/pki"
)

func TestSealOpensOnlyAsItWasSealed(t *testing.T) {
	secret := must(pki.ParseSecret(pki.NewSecret()))(t)
	other := must(pki.ParseSecret(pki.NewSecret()))(t)
	plain := []byte("a key")
	sealed := must(secret.Seal("ca birth", plain))(t)
	if bytes.Contains(sealed, plain) {
		t.Error("sealed text contains the plaintext")
	}
	if got, err := secret.Open("ca birth", sealed); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("open: %q, %v", got, err)
	}
	if again := must(secret.Seal("ca birth", plain))(t); bytes.Equal(again, sealed) {
		t.Error("sealing twice gives the same bytes")
	}
	if _, err := secret.Open("ca server", sealed); err == nil {
		t.Error("opened for another purpose")
	}
	if _, err := other.Open("ca birth", sealed); err == nil {
		t.Error("opened under another secret")
	}
	if _, err := (pki.Secret{}).Seal("ca birth", plain); err == nil {
		t.Error("sealed without a secret")
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := secret.Open("ca birth", changed); err == nil {
			t.Fatalf("opened with byte %d changed", i)
		}
		if _, err := secret.Open("ca birth", sealed[:i]); err == nil {
			t.Fatalf("opened with %d bytes only", i)
		}
	}
}

func TestParseSecretRefuses(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("0", 64), strings.Repeat("x", pki.MinSecret-1) + "\n"} {
		if _, err := pki.ParseSecret([]byte(s)); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	text := pki.NewSecret()
	secret := must(pki.ParseSecret(text))(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("secret", "secret", secret)
	for _, out := range []string{fmt.Sprint(secret), fmt.Sprintf("%v %+v %#v %s", secret, secret, secret, secret), log.String()} {
		if strings.Contains(out, string(text[:8])) || !strings.Contains(out, "[secret]") {
			t.Errorf("prints as %q", out)
		}
	}
}
