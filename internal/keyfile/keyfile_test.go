package keyfile_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/fault"
	"holdfast/internal/keyfile"
)

const phrase = "correct horse"

// cheap makes a key that is quick to open.
func cheap(t *testing.T) *keyfile.Key {
	t.Helper()
	k, err := keyfile.Generate(keyfile.Config{Passphrase: phrase, Work: 4})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeySurvivesItsFile(t *testing.T) {
	k, path := cheap(t), filepath.Join(t.TempDir(), "release-1.key")
	if err := k.Save(path); err != nil {
		t.Fatal(err)
	}
	back, err := keyfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := back.Open(phrase)
	if err != nil {
		t.Fatal(err)
	}
	if !p.MLDSA.PublicKey().Equal(k.Public.MLDSA) || !k.Public.Classical.(ed25519.PublicKey).Equal(p.Classical.Public()) {
		t.Error("another key came back")
	}
	public, err := keyfile.Load(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if public.Private() || !public.Public.MLDSA.Equal(k.Public.MLDSA) {
		t.Error("the public file has private halves or another key")
	}
	if _, err := public.Open(phrase); err == nil {
		t.Error("a public half signs")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := k.Save(path); err == nil || !strings.Contains(err.Error(), "never replaced") {
		t.Errorf("a second time: %v", err)
	}
}

func TestSecretsAreNotReadable(t *testing.T) {
	k := cheap(t)
	p, err := k.Open(phrase)
	if err != nil {
		t.Fatal(err)
	}
	file, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := json.Marshal(p.MLDSA.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{string(file), fmt.Sprintf("%v %+v %#v %s", p, *p, *p, p)} {
		if strings.Contains(shown, strings.Trim(string(seed), `"`)) || strings.Contains(shown, fmt.Sprint(p.MLDSA.Bytes())) {
			t.Errorf("a seed is in %s", shown)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	k := cheap(t)
	file, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	other, err := cheap(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	swapped := swap(t, file, other)
	for _, c := range []struct {
		name, phrase string
		file         []byte
		kind         fault.Kind
	}{
		{"wrong passphrase", "incorrect horse", file, fault.Denied},
		{"no passphrase", "", file, fault.Invalid},
		{"another key's public half", phrase, swapped, fault.Integrity},
	} {
		k, err := keyfile.Parse(c.file)
		if err != nil {
			t.Fatal(c.name, err)
		}
		if _, err := k.Open(c.phrase); fault.Of(err) != c.kind {
			t.Errorf("%s: %v, want %s", c.name, err, c.kind)
		}
	}
}

// swap puts the public ML-DSA half of other into file.
func swap(t *testing.T, file, other []byte) []byte {
	t.Helper()
	var a, b map[string]any
	if err := json.Unmarshal(file, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(other, &b); err != nil {
		t.Fatal(err)
	}
	a["mldsa65"] = b["mldsa65"]
	out, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGenerateRefuses(t *testing.T) {
	for want, cfg := range map[string]keyfile.Config{
		"at least 8":          {Passphrase: "short"},
		"a passphrase of 0":   {},
		"not to be encrypted": {UnencryptedUnsafe: true, Passphrase: phrase},
	} {
		if _, err := keyfile.Generate(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestTokenKey(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token := &keyfile.Token{Module: "/lib/x.so", Label: "hsm", Key: "release-1"}
	k, err := keyfile.Generate(keyfile.Config{UnencryptedUnsafe: true, Token: token, TokenKey: ec.Public()})
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := keyfile.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := back.Open("")
	if err != nil || p.Classical != nil || *back.Token != *token || !ec.PublicKey.Equal(back.Public.Classical) || back.Encrypted() {
		t.Errorf("%v, %+v", err, back)
	}
}

func TestParseRefuses(t *testing.T) {
	good, err := cheap(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(map[string]any){
		"version":            func(m map[string]any) { m["holdfast_release_key"] = 2 },
		"unknown field":      func(m map[string]any) { m["x"] = 1 },
		"short ML-DSA":       func(m map[string]any) { m["mldsa65"] = "AAAA" },
		"short ed25519":      func(m map[string]any) { m["classical"] = map[string]any{"kind": "ed25519", "public": "AAAA"} },
		"another kind":       func(m map[string]any) { m["classical"] = map[string]any{"kind": "rsa", "public": "AAAA"} },
		"not a key":          func(m map[string]any) { m["classical"] = map[string]any{"kind": "ecdsa-p256", "public": "AAAA"} },
		"both ways":          func(m map[string]any) { m["unencrypted"] = map[string]any{"mldsa65": "AAAA"} },
		"ed25519 in a token": func(m map[string]any) { m["pkcs11"] = map[string]any{"module": "m", "token": "t", "key": "k"} },
	} {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		spoil(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keyfile.Parse(b); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for _, b := range [][]byte{nil, []byte("{}"), append(good, good...), bytes.Repeat([]byte(" "), keyfile.MaxSize+1)} {
		if _, err := keyfile.Parse(b); err == nil {
			t.Errorf("took %d bytes", len(b))
		}
	}
}

func FuzzParse(f *testing.F) {
	k, err := keyfile.Generate(keyfile.Config{UnencryptedUnsafe: true})
	if err != nil {
		f.Fatal(err)
	}
	b, err := k.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := keyfile.Parse(b)
		if err != nil {
			return
		}
		if !k.Encrypted() {
			_, _ = k.Open("")
		}
		again, err := k.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keyfile.Parse(again); err != nil {
			t.Fatal(err)
		}
	})
}
