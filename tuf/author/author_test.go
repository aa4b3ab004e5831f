package author_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

var expires = time.Date(2027, 3, 1, 12, 0, 0, 987654321, time.FixedZone("", 3600))

// signer returns the nth signer, always the same.
func signer(t testing.TB, n byte) author.Signer {
	t.Helper()
	post, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), bytes.Repeat([]byte{n}, mldsa.PrivateKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return author.Signer{Classical: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)), MLDSA: post}
}

func quorum(threshold int, signers ...author.Signer) author.Quorum {
	q := author.Quorum{Threshold: threshold}
	for _, s := range signers {
		q.Classical = append(q.Classical, s.Classical.Public())
		q.MLDSA = append(q.MLDSA, s.MLDSA.PublicKey())
	}
	return q
}

func hubKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func root(t testing.TB) author.Root {
	return author.Root{Version: 1, Expires: expires, Release: quorum(2, signer(t, 1), signer(t, 2), signer(t, 3)),
		Snapshot: public(hubKey(100)), Timestamp: public(hubKey(101))}
}

func pump(v mcuboot.Version) release.Release {
	return release.Release{Image: release.Blob{Length: 1000, SHA256: identity.Sum([]byte(v.String()))},
		Target: release.Target{Product: "pump", Version: v, SecurityVersion: 7, Measured: identity.Sum([]byte("m" + v.String())),
			Hardware: []string{"rev-b"}, Health: release.Health{Seconds: 600}}}
}

func product(t testing.TB) author.Product {
	return author.Product{Name: "pump", Version: 3, Expires: expires,
		Releases: []release.Release{pump(mcuboot.Version{Major: 1, Minor: 4}), pump(mcuboot.Version{Major: 1, Minor: 3})}}
}

func targets(t testing.TB) author.Targets {
	return author.Targets{Version: 2, Expires: expires, Products: []author.Delegation{
		{Product: "valve", Signers: quorum(1, signer(t, 4))}, {Product: "pump", Signers: quorum(2, signer(t, 1), signer(t, 2))}}}
}

type maker interface {
	Document() (*author.Document, error)
}

func document(t testing.TB, m maker) *author.Document {
	t.Helper()
	d, err := m.Document()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSameInputGivesSameBytes(t *testing.T) {
	a, b := root(t), root(t)
	b.Release = quorum(2, signer(t, 3), signer(t, 1), signer(t, 2))
	b.Expires = b.Expires.UTC().Add(5 * time.Millisecond)
	x, y := document(t, a), document(t, b)
	for _, n := range []byte{1, 2} {
		if err := x.SignFor(signer(t, n), a.Release); err != nil {
			t.Fatal(err)
		}
		if err := y.SignFor(signer(t, 3-n), a.Release); err != nil {
			t.Fatal(err)
		}
	}
	first, err := x.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	second, err := y.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("%s\n%s", first, second)
	}
}

// What is made is what TUF's own implementation takes, and what comes back.
func TestDocumentsSurviveTheirFiles(t *testing.T) {
	r, tg, p := root(t), targets(t), product(t)
	files := map[string][]byte{}
	for _, c := range []struct {
		m    maker
		q    author.Quorum
		by   []byte
		name string
	}{{r, r.Release, []byte{1, 3}, "1.root.json"}, {tg, r.Release, []byte{1, 3}, "2.targets.json"}, {p, tg.Products[1].Signers, []byte{1, 2}, "3.pump.json"}} {
		d := document(t, c.m)
		for i, n := range c.by {
			if d.Signed(c.q).Complete() {
				t.Errorf("%s is complete with %d signatures", d.Role, i)
			}
			if err := d.SignFor(signer(t, n), c.q); err != nil {
				t.Fatal(err)
			}
		}
		if !d.Signed(c.q).Complete() || d.FileName() != c.name {
			t.Errorf("%s: %+v", d.FileName(), d.Signed(c.q))
		}
		b, err := d.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := tuf.CheckStrict(b, 1<<20, 12); err != nil {
			t.Error(err)
		}
		files[d.Role] = b
	}
	gotRoot, _, err := author.ParseRoot(files["root"])
	if err != nil || !gotRoot.Release.Equal(r.Release) || !gotRoot.Snapshot.Equal(r.Snapshot) || !gotRoot.Timestamp.Equal(r.Timestamp) || gotRoot.Version != 1 {
		t.Errorf("%+v, %v", gotRoot, err)
	}
	if want := time.Date(2027, 3, 1, 11, 0, 0, 0, time.UTC); !gotRoot.Expires.Equal(want) {
		t.Errorf("expires %s", gotRoot.Expires)
	}
	gotTargets, _, err := author.ParseTargets(files["targets"])
	if err != nil || len(gotTargets.Products) != 2 || gotTargets.Products[0].Product != "pump" || !gotTargets.Products[0].Signers.Equal(tg.Products[1].Signers) {
		t.Errorf("%+v, %v", gotTargets, err)
	}
	gotProduct, doc, err := author.ParseProduct("pump", files["pump"])
	if err != nil {
		t.Fatal(err)
	}
	want := []release.Release{p.Releases[1], p.Releases[0]}
	for i := range want {
		want[i].Health.Checks = []string{}
	}
	if diff := cmp.Diff(want, gotProduct.Releases); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !doc.Same(document(t, p)) || !doc.Signed(tg.Products[1].Signers).Complete() {
		t.Error("signatures or signed bytes are lost on the way")
	}
	delegates(t, files)
}

// delegates has go-tuf verify the classical signatures.
func delegates(t *testing.T, files map[string][]byte) {
	t.Helper()
	root, err := new(metadata.Metadata[metadata.RootType]).FromBytes(files["root"])
	if err != nil {
		t.Fatal(err)
	}
	targets, err := new(metadata.Metadata[metadata.TargetsType]).FromBytes(files["targets"])
	if err != nil {
		t.Fatal(err)
	}
	pump, err := new(metadata.Metadata[metadata.TargetsType]).FromBytes(files["pump"])
	if err != nil {
		t.Fatal(err)
	}
	for role, err := range map[string]error{"root": root.VerifyDelegate("root", root), "targets": root.VerifyDelegate("targets", targets), "pump": targets.VerifyDelegate("pump", pump)} {
		if err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
}

func TestOnlineRoles(t *testing.T) {
	r := root(t)
	tb := []byte("targets")
	s := document(t, author.Snapshot{Version: 5, Expires: expires, Files: []author.File{{Role: "targets", Version: 2, Bytes: tb}, {Role: "pump", Version: 3, Bytes: tb}}})
	if err := s.Sign(author.Signer{Classical: hubKey(100)}, true, false); err != nil {
		t.Fatal(err)
	}
	sb, err := s.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	ts := document(t, author.Timestamp{Version: 9, Expires: expires, Snapshot: author.File{Role: "snapshot", Version: 5, Bytes: sb}})
	if err := ts.Sign(author.Signer{Classical: hubKey(101)}, true, false); err != nil {
		t.Fatal(err)
	}
	if ts.FileName() != "timestamp.json" || s.FileName() != "5.snapshot.json" {
		t.Error(ts.FileName(), s.FileName())
	}
	for key, d := range map[*ed25519.PublicKey]*author.Document{&r.Snapshot: s, &r.Timestamp: ts} {
		if got := d.Signed(author.Quorum{Classical: []crypto.PublicKey{*key}, Threshold: 1}); len(got.Classical) != 1 {
			t.Errorf("%s is not signed", d.Role)
		}
	}
	for _, bad := range []maker{
		author.Snapshot{Version: 1, Expires: expires},
		author.Snapshot{Version: 1, Expires: expires, Files: []author.File{{Role: "targets", Version: 0, Bytes: tb}}},
		author.Snapshot{Version: 1, Expires: expires, Files: []author.File{{Role: "targets", Version: 1, Bytes: tb}, {Role: "targets", Version: 1, Bytes: tb}}},
		author.Timestamp{Version: 1, Expires: expires},
		author.Timestamp{Expires: expires, Snapshot: author.File{Role: "snapshot", Version: 1, Bytes: tb}},
	} {
		if _, err := bad.Document(); err == nil {
			t.Errorf("%+v was made", bad)
		}
	}
}

// A key in a token signs with a new ECDSA signature each time, but always the
// same bytes.
func TestECDSA(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := author.Signer{Classical: key, MLDSA: signer(t, 1).MLDSA}
	r := root(t)
	r.Release = quorum(1, s)
	a, b := document(t, r), document(t, r)
	for _, d := range []*author.Document{a, b} {
		if err := d.SignFor(s, r.Release); err != nil {
			t.Fatal(err)
		}
		if !d.Signed(r.Release).Complete() {
			t.Error("not complete")
		}
	}
	if !a.Same(b) {
		t.Error("the signed bytes differ")
	}
	file, err := a.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	back, doc, err := author.ParseRoot(file)
	if err != nil || !back.Release.Equal(r.Release) || !doc.Signed(back.Release).Complete() {
		t.Error(err)
	}
}

func TestSignForRefusesStrangers(t *testing.T) {
	d := document(t, root(t))
	if err := d.SignFor(signer(t, 9), root(t).Release); err == nil {
		t.Error("a key that root does not name signed it")
	}
	if len(d.Signers()) != 0 {
		t.Error("there is a signature")
	}
}

// A signature of another file, or on changed bytes, does not count.
func TestSignedCountsOnlyWhatVerifies(t *testing.T) {
	r := root(t)
	d := document(t, r)
	for _, n := range []byte{1, 2} {
		if err := d.SignFor(signer(t, n), r.Release); err != nil {
			t.Fatal(err)
		}
	}
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte(`"version":1`), []byte(`"version":2`), 1)
	_, changed, err := author.ParseRoot(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := changed.Signed(r.Release); len(got.Classical)+len(got.MLDSA) != 0 {
		t.Errorf("%+v", got)
	}
	if got := d.Signed(quorum(2, signer(t, 1), signer(t, 1))); got.Complete() {
		t.Errorf("one key counts twice: %+v", got)
	}
}

func TestDocumentRefuses(t *testing.T) {
	same := quorum(2, signer(t, 1), signer(t, 1))
	shared := root(t)
	shared.Snapshot = signer(t, 1).Classical.Public().(ed25519.PublicKey)
	twice := product(t)
	twice.Releases[1] = twice.Releases[0]
	for want, m := range map[string]maker{
		"threshold of 0":     author.Root{Version: 1, Release: quorum(0, signer(t, 1))},
		"threshold of 2":     author.Root{Version: 1, Release: quorum(2, signer(t, 1))},
		"named twice":        author.Root{Version: 1, Release: same},
		"snapshot key":       author.Root{Version: 1, Release: quorum(1, signer(t, 1)), Timestamp: public(hubKey(100))},
		"also signs":         shared,
		"version 0":          author.Targets{},
		"delegated twice":    author.Targets{Version: 1, Products: []author.Delegation{{"pump", quorum(1, signer(t, 1))}, {"pump", quorum(1, signer(t, 1))}}},
		"name of a TUF role": author.Targets{Version: 1, Products: []author.Delegation{{"root", quorum(1, signer(t, 1))}}},
		"a release of":       author.Product{Name: "valve", Version: 1, Releases: product(t).Releases},
		"there twice":        twice,
		"security version":   author.Product{Name: "pump", Version: 1, Releases: []release.Release{{Target: release.Target{Product: "pump", Version: mcuboot.Version{Major: 1}}}}},
	} {
		if _, err := m.Document(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range []maker{root(f), targets(f), product(f)} {
		d := document(f, m)
		if err := d.Sign(signer(f, 1), true, true); err != nil {
			f.Fatal(err)
		}
		b, err := d.Bytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, d, err := author.ParseRoot(b); err == nil {
			again(t, r, d)
		}
		if tg, d, err := author.ParseTargets(b); err == nil {
			_, _ = tg.Document()
			_ = d.Signers()
		}
		if p, d, err := author.ParseProduct("pump", b); err == nil {
			_, _ = p.Document()
			_ = d.Signers()
		}
	})
}

// again makes a root from what was read of one.
func again(t *testing.T, r author.Root, d *author.Document) {
	t.Helper()
	_ = d.Signed(r.Release)
	_, _ = r.Document()
}
