package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"strings"
	"testing"

	"holdfast/identity"
)

func TestParseDevice(t *testing.T) {
	for _, s := range []string{"a", "7", "pump-01", "Pump-01", "a.b_c:d-e", "00:1A:2b", strings.Repeat("x", identity.MaxDevice)} {
		if d, err := identity.ParseDevice(s); err != nil || string(d) != s {
			t.Errorf("ParseDevice(%q) = %q, %v", s, d, err)
		}
	}
	for why, s := range map[string]string{
		"empty":               "",
		"too long":            strings.Repeat("x", identity.MaxDevice+1),
		"looks like a flag":   "-rf",
		"hidden file":         ".profile",
		"parent directory":    "..",
		"topic separator":     "a/b",
		"topic wildcard":      "a+",
		"all topics":          "#",
		"protocol topic":      "$hub",
		"subject wildcard":    "a*",
		"URL escape":          "a%2f",
		"query":               "a?b",
		"space":               "a b",
		"line break":          "a\nb",
		"NUL":                 "a\x00",
		"letter beyond ASCII": "pümp",
		"broken UTF-8":        "a\xff",
		"markup":              "a<b>",
		"quote":               "a'",
	} {
		if d, err := identity.ParseDevice(s); err == nil {
			t.Errorf("%s: ParseDevice(%q) = %q, want an error", why, s, d)
		}
	}
}

func TestParseGroup(t *testing.T) {
	for _, s := range []string{"a", "pumps", "line-2", strings.Repeat("g", identity.MaxGroup)} {
		if g, err := identity.ParseGroup(s); err != nil || string(g) != s {
			t.Errorf("ParseGroup(%q) = %q, %v", s, g, err)
		}
	}
	for why, s := range map[string]string{
		"empty":            "",
		"too long":         strings.Repeat("g", identity.MaxGroup+1),
		"begins with -":    "-a",
		"begins with 2":    "2a",
		"capital":          "Pumps",
		"dot":              "a.b",
		"underscore":       "a_b",
		"parent directory": "..",
		"space":            "a b",
	} {
		if g, err := identity.ParseGroup(s); err == nil {
			t.Errorf("%s: ParseGroup(%q) = %q, want an error", why, s, g)
		}
	}
}

func TestSubject(t *testing.T) {
	if got := identity.Device("pump-01").Subject(); got != "ob2w24bngayq" {
		t.Errorf("Subject() = %q", got)
	}
	if identity.Device("A").Subject() == identity.Device("a").Subject() {
		t.Error("ids that differ in case share a subject")
	}
}

func TestDigest(t *testing.T) {
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	d := identity.Sum([]byte("abc"))
	if d.String() != abc {
		t.Errorf("Sum(abc) = %s", d)
	}
	for _, s := range []string{abc, strings.ToUpper(abc)} {
		if got, err := identity.ParseDigest(s); err != nil || got != d {
			t.Errorf("ParseDigest(%q) = %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", abc[:62], abc + "00", "0x" + abc[2:], abc[:63] + "g", " " + abc} {
		if got, err := identity.ParseDigest(s); err == nil {
			t.Errorf("ParseDigest(%q) = %s, want an error", s, got)
		}
	}
}

func TestDigestInJSON(t *testing.T) {
	d := identity.Sum([]byte("abc"))
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back identity.Digest
	if err := json.Unmarshal(b, &back); err != nil || back != d {
		t.Errorf("%s comes back as %s, %v", b, back, err)
	}
	if err := json.Unmarshal([]byte(`"ba78"`), &back); err == nil {
		t.Error("a short digest is accepted")
	}
}

func TestKeyDigest(t *testing.T) {
	a, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	da, err := identity.KeyDigest(a.Public())
	if err != nil {
		t.Fatal(err)
	}
	again, _ := identity.KeyDigest(a.Public())
	db, _ := identity.KeyDigest(b.Public())
	if da != again || da == db {
		t.Errorf("digests %s, %s of one key and %s of another", da, again, db)
	}
	if _, err := identity.KeyDigest("not a key"); err == nil {
		t.Error("the digest of something that is no key")
	}
}

func FuzzParseDevice(f *testing.F) {
	for _, s := range []string{"pump-01", "", "..", "a/b", "$hub", "\xff", strings.Repeat("x", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := identity.ParseDevice(s)
		if err != nil {
			return
		}
		if string(d) != s || strings.ContainsAny(s, "/+#$%*?<>'\"\\ ") || strings.HasPrefix(s, ".") || strings.HasPrefix(s, "-") {
			t.Errorf("accepted %q as %q", s, d)
		}
		b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(d.Subject()))
		if err != nil || string(b) != s {
			t.Errorf("subject %q of %q decodes to %q, %v", d.Subject(), s, b, err)
		}
	})
}

func FuzzParseDigest(f *testing.F) {
	f.Add("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
	f.Add("ba78")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := identity.ParseDigest(s); err == nil && d.String() != strings.ToLower(s) {
			t.Errorf("ParseDigest(%q) = %s", s, d)
		}
	})
}
