package virtual

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/identity"
	"holdfast/mcuboot"
)

func TestChoose(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	good, err := mcuboot.Build(Payload([]byte("program")), mcuboot.Version{Major: 1}, 2, key)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), good...)
	bad[40] ^= 1
	verify := Fuses{KeyHash: hash, Verify: true}
	other := Fuses{KeyHash: identity.Sum(nil), Verify: true}
	burnt := Fuses{KeyHash: hash, Verify: true, SecurityCounter: 3}
	level := Fuses{KeyHash: hash, Verify: true, SecurityCounter: 2}
	for _, c := range []struct {
		name    string
		fuses   Fuses
		a, b    content
		slot    string
		refused []string
	}{
		{"healthy", verify, content{image: good}, content{image: good}, "A", nil},
		{"tampered A", verify, content{image: bad}, content{image: good}, "B", []string{"slot A: wrong hash"}},
		{"tampered A, no verification", Fuses{}, content{image: bad}, content{image: good}, "A", nil},
		{"no image, no verification", Fuses{}, content{image: []byte("no")}, content{image: good}, "B", []string{"slot A: truncated"}},
		{"both tampered", verify, content{image: bad}, content{image: bad}, "", []string{"slot A: wrong hash", "slot B: wrong hash"}},
		{"another key", other, content{image: good}, content{trouble: empty}, "", []string{"slot A: wrong key", "slot B: empty"}},
		{"A empty", verify, content{trouble: empty}, content{image: good}, "B", []string{"slot A: empty"}},
		{"A unreadable", verify, content{trouble: unreadable}, content{image: good}, "B", []string{"slot A: unreadable"}},
		{"counter at the fuses", level, content{image: good}, content{image: good}, "A", nil},
		{"counter below the fuses", burnt, content{image: good}, content{trouble: empty}, "", []string{"slot A: security counter too low", "slot B: empty"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.a.slot, c.b.slot = SlotA, SlotB
			slot, img, refused := choose(c.fuses, []content{c.a, c.b})
			var texts []string
			for _, r := range refused {
				texts = append(texts, r.String())
			}
			if slot != c.slot || (img == nil) != (c.slot == "") {
				t.Errorf("chose %q, %v; want %q", slot, img, c.slot)
			}
			if diff := cmp.Diff(c.refused, texts); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
		})
	}
}
