package tuf_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/tuf"
)

var (
	now   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	known = tuf.At(now)
)

// signer is a classical key.
type signer struct {
	crypto.Signer
	key *metadata.Key
}

func newSigner(s crypto.Signer) signer { return signer{s, must(metadata.KeyFromPublicKey(s.Public()))} }

func newEd25519() signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return newSigner(must(key, err))
}

func newECDSA() signer { return newSigner(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))) }

func newMLDSA() *mldsa.PrivateKey { return must(mldsa.GenerateKey(mldsa.MLDSA65())) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// id returns the id under which a key stands: a signer or an ML-DSA key.
func id(key any) string {
	switch k := key.(type) {
	case signer:
		return must(k.key.ID())
	case *mldsa.PrivateKey:
		return tuf.MLDSAKeyID(k.PublicKey())
	}
	panic("no key")
}

// sign returns one signature of a signer or an ML-DSA key.
func sign(key any, message []byte) metadata.Signature {
	switch k := key.(type) {
	case signer:
		if _, ok := k.Public().(*ecdsa.PublicKey); ok {
			sum := sha256.Sum256(message)
			return metadata.Signature{KeyID: id(k), Signature: must(k.Sign(rand.Reader, sum[:], crypto.SHA256))}
		}
		return metadata.Signature{KeyID: id(k), Signature: must(k.Sign(rand.Reader, message, crypto.Hash(0)))}
	case *mldsa.PrivateKey:
		return must(tuf.SignMLDSA(k, message))
	}
	panic("no key")
}

// signed returns the file of metadata with exactly these keys' signatures.
func signed[T metadata.Roles](m *metadata.Metadata[T], keys ...any) []byte {
	message := must(tuf.Canonical(m.Signed))
	m.Signatures = []metadata.Signature{}
	for _, k := range keys {
		m.Signatures = append(m.Signatures, sign(k, message))
	}
	return must(m.ToBytes(false))
}

// repo is a repository with three releasers, of whom two must sign, and a hub.
type repo struct {
	keys      []signer            // of the releasers; the third is ECDSA
	post      []*mldsa.PrivateKey // of the releasers
	online    signer              // of the hub
	root      *metadata.Metadata[metadata.RootType]
	targets   *metadata.Metadata[metadata.TargetsType]
	products  map[string]*metadata.Metadata[metadata.TargetsType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	timestamp *metadata.Metadata[metadata.TimestampType]

	files map[string][]byte // what a device can fetch
}

// release is what the two releasers sign with.
func (r *repo) release() []any { return []any{r.keys[0], r.post[0], r.keys[2], r.post[2]} }

// strange returns a repository with keys of its own.
func strange() *repo {
	r := &repo{
		keys:     []signer{newEd25519(), newEd25519(), newECDSA()},
		post:     []*mldsa.PrivateKey{newMLDSA(), newMLDSA(), newMLDSA()},
		online:   newEd25519(),
		products: map[string]*metadata.Metadata[metadata.TargetsType]{},
		files:    map[string][]byte{},
	}
	r.root = metadata.Root(now.AddDate(1, 0, 0))
	r.targets = metadata.Targets(now.AddDate(0, 6, 0))
	r.snapshot = metadata.Snapshot(now.AddDate(0, 0, 7))
	r.timestamp = metadata.Timestamp(now.AddDate(0, 0, 1))
	r.setRootKeys()
	r.delegate("pump", "valve")
	r.addRelease("pump", "1.4.0")
	r.addRelease("valve", "2.0.0")
	r.publishRoot()
	r.publish()
	return r
}

// model is signed once, since that is what takes time.
var model = sync.OnceValue(strange)

// newRepo returns a repository like all others, to be changed.
func newRepo() *repo {
	m := model()
	return &repo{
		keys: slices.Clone(m.keys), post: slices.Clone(m.post), online: m.online, files: maps.Clone(m.files),
		root:      must(metadata.Root().FromBytes(m.files["1.root.json"])),
		targets:   must(metadata.Targets().FromBytes(m.files["1.targets.json"])),
		snapshot:  must(metadata.Snapshot().FromBytes(m.files["1.snapshot.json"])),
		timestamp: must(metadata.Timestamp().FromBytes(m.files["timestamp.json"])),
		products: map[string]*metadata.Metadata[metadata.TargetsType]{
			"pump":  must(metadata.Targets().FromBytes(m.files["1.pump.json"])),
			"valve": must(metadata.Targets().FromBytes(m.files["1.valve.json"])),
		},
	}
}

// setRootKeys writes the repository's keys into root.
func (r *repo) setRootKeys() {
	s := &r.root.Signed
	s.Keys = map[string]*metadata.Key{id(r.online): r.online.key}
	var ids []string
	for _, k := range r.keys {
		s.Keys[id(k)] = k.key
		ids = append(ids, id(k))
	}
	for _, role := range []string{tuf.Root, tuf.Targets} {
		s.Roles[role] = &metadata.Role{KeyIDs: ids, Threshold: 2}
	}
	for _, role := range []string{tuf.Snapshot, tuf.Timestamp} {
		s.Roles[role] = &metadata.Role{KeyIDs: []string{id(r.online)}, Threshold: 1}
	}
	s.UnrecognizedFields = map[string]any{tuf.MLDSAField: r.mldsa(tuf.Root, tuf.Targets)}
}

// mldsa names the releasers' ML-DSA keys for roles.
func (r *repo) mldsa(roles ...string) tuf.MLDSA {
	x := tuf.MLDSA{Keys: map[string]metadata.HexBytes{}, Roles: map[string]tuf.MLDSARole{}}
	var ids []string
	for _, k := range r.post {
		x.Keys[id(k)] = k.PublicKey().Bytes()
		ids = append(ids, id(k))
	}
	for _, role := range roles {
		x.Roles[role] = tuf.MLDSARole{KeyIDs: ids, Threshold: 2}
	}
	return x
}

// delegate has targets delegate to products.
func (r *repo) delegate(products ...string) {
	d := &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
	var ids []string
	for _, k := range r.keys {
		d.Keys[id(k)] = k.key
		ids = append(ids, id(k))
	}
	for _, p := range products {
		d.Roles = append(d.Roles, metadata.DelegatedRole{Name: p, KeyIDs: ids, Threshold: 2, Terminating: true, Paths: []string{p + "/*"}})
		if r.products[p] == nil {
			r.products[p] = metadata.Targets(now.AddDate(0, 3, 0))
		}
	}
	r.targets.Signed.Delegations = d
	r.targets.Signed.UnrecognizedFields = map[string]any{tuf.MLDSAField: r.mldsa(products...)}
}

func version(s string) mcuboot.Version { return must(mcuboot.ParseVersion(s)) }

// target describes a release.
func target(p, v string) release.Target {
	return release.Target{
		Product: release.Product(p), Version: version(v), SecurityVersion: 7,
		Measured: identity.Sum([]byte(p + v)), Hardware: []string{"rev-b"},
		Health: release.Health{Checks: []string{release.CheckHub}, Seconds: 600},
	}
}

// addRelease lists a release in its product's role.
func (r *repo) addRelease(p, v string) *metadata.TargetFiles {
	d := target(p, v)
	return r.addTarget(p, d.Path(), d)
}

func (r *repo) addTarget(p, path string, custom any) *metadata.TargetFiles {
	sum := sha256.Sum256([]byte("image of " + path))
	text := json.RawMessage(must(json.Marshal(custom)))
	f := &metadata.TargetFiles{Length: 1000, Hashes: metadata.Hashes{"sha256": sum[:]}, Custom: &text, Path: path}
	r.products[p].Signed.Targets[path] = f
	return f
}

// publishRoot publishes the root, signed by two releasers.
func (r *repo) publishRoot() []byte {
	b := signed(r.root, r.release()...)
	r.files[fmt.Sprintf("%d.root.json", r.root.Signed.Version)] = b
	return b
}

// publish publishes all but the root as honest releasers and a hub would.
func (r *repo) publish() {
	r.putTargets(r.release()...)
	for p := range r.products {
		r.putProduct(p, r.release()...)
	}
	r.publishSnapshot()
}

func (r *repo) putTargets(keys ...any) {
	r.put("targets", r.targets.Signed.Version, signed(r.targets, keys...))
}

func (r *repo) putProduct(p string, keys ...any) {
	r.put(p, r.products[p].Signed.Version, signed(r.products[p], keys...))
}

// put publishes a role's file and has the snapshot list it.
func (r *repo) put(role string, version int64, b []byte) {
	r.files[fmt.Sprintf("%d.%s.json", version, role)] = b
	r.snapshot.Signed.Meta[role+".json"] = listing(version, b)
}

func listing(version int64, b []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(b)
	return &metadata.MetaFiles{Version: version, Length: int64(len(b)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// publishSnapshot publishes snapshot and timestamp.
func (r *repo) publishSnapshot() {
	b := signed(r.snapshot, r.online)
	r.files[fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version)] = b
	r.timestamp.Signed.Meta["snapshot.json"] = listing(r.snapshot.Signed.Version, b)
	r.publishTimestamp()
}

func (r *repo) publishTimestamp() { r.files["timestamp.json"] = signed(r.timestamp, r.online) }

// bump gives all but the root their next version, and publishes them.
func (r *repo) bump() {
	r.targets.Signed.Version++
	for _, p := range r.products {
		p.Signed.Version++
	}
	r.snapshot.Signed.Version++
	r.timestamp.Signed.Version++
	r.publish()
}

// copy returns a copy of what is published.
func (r *repo) copy() map[string][]byte { return maps.Clone(r.files) }

// open trusts the first root.
func (r *repo) open(t testing.TB) *tuf.Trust {
	t.Helper()
	trust, err := tuf.NewTrust(r.files["1.root.json"], tuf.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// opened returns a device that has all that is published.
func (r *repo) opened(t testing.TB) *tuf.Trust {
	t.Helper()
	trust := r.open(t)
	if err := refresh(trust, r.files, known); err != nil {
		t.Fatal(err)
	}
	return trust
}

// refresh does what a device does: ask for what is wanted.
func refresh(trust *tuf.Trust, files map[string][]byte, at tuf.Clock) error {
	r := trust.Refresh(at, "pump", "valve")
	for w, ok := r.Next(); ok; w, ok = r.Next() {
		b, ok := files[w.Name]
		err := error(nil)
		switch {
		case !ok:
			err = r.Absent()
		case int64(len(b)) > w.Max:
			err = release.Refuse(release.EndlessData, fmt.Errorf("%s", w.Name))
		default:
			err = r.Take(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refused checks that an error names an attack, and what text it has.
func refused(t *testing.T, err error, want release.Attack, texts ...string) {
	t.Helper()
	if got := release.AttackOf(err); got != want {
		t.Errorf("attack %q, want %q: %v", got, want, err)
	}
	for _, text := range texts {
		if err != nil && !bytes.Contains([]byte(err.Error()), []byte(text)) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}

// unchanged runs f, which must leave what is held as it is.
func unchanged(t *testing.T, trust *tuf.Trust, f func()) {
	t.Helper()
	before := must(json.Marshal(trust.State()))
	f()
	if after := must(json.Marshal(trust.State())); !bytes.Equal(before, after) {
		t.Error("what is held has changed")
	}
}

// installs reports whether a release would be installed.
func installs(trust *tuf.Trust, p, v string, at tuf.Clock) bool {
	_, err := trust.Find(release.Product(p), version(v), at)
	return err == nil
}

func paths(rs []release.Release) []string {
	var out []string
	for _, r := range rs {
		out = append(out, r.Path())
	}
	return slices.Clip(out)
}
