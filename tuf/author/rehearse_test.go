package author_test

import (
	"testing"
	"time"

	"holdfast/release"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// signed makes a file and has it signed.
func signed(t *testing.T, m maker, q author.Quorum, by ...byte) []byte {
	t.Helper()
	d := document(t, m)
	for _, n := range by {
		if err := d.SignFor(signer(t, n), q); err != nil {
			t.Fatal(err)
		}
	}
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRehearse(t *testing.T) {
	r, p := root(t), product(t)
	tg := author.Targets{Version: 2, Expires: expires, Products: targets(t).Products[1:]}
	trust, err := tuf.NewTrust(signed(t, r, r.Release, 1, 2), tuf.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	good := signed(t, tg, r.Release, 1, 3)
	pump := signed(t, p, tg.Products[0].Signers, 1, 2)
	at := tuf.At(expires.Add(-time.Hour))
	for _, c := range []struct {
		name     string
		targets  []byte
		products map[release.Product][]byte
		at       tuf.Clock
		want     release.Attack
	}{
		{"all of it", good, map[release.Product][]byte{"pump": pump}, at, ""},
		{"targets by one", signed(t, tg, r.Release, 1), map[release.Product][]byte{"pump": pump}, at, release.KeyCompromise},
		{"a product by one", good, map[release.Product][]byte{"pump": signed(t, p, r.Release, 1)}, at, release.KeyCompromise},
		{"a product by another product's key", good, map[release.Product][]byte{"pump": signed(t, p, r.Release, 3)}, at, release.ArbitrarySoftware},
		{"no file of a product", good, nil, at, release.MixAndMatch},
		{"a product that nobody delegates to", good, map[release.Product][]byte{"pump": pump, "valve": pump}, at, release.ArbitrarySoftware},
		{"expired", good, map[release.Product][]byte{"pump": pump}, tuf.At(expires.Add(time.Hour)), release.IndefiniteFreeze},
	} {
		if err := trust.Rehearse(c.targets, c.products, c.at); release.AttackOf(err) != c.want || (err == nil) != (c.want == "") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
