package staging

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/mldsa"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/keyfile"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var opt = Options{Now: now}

func signer(t testing.TB, n byte) Signer {
	t.Helper()
	post, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), bytes.Repeat([]byte{n}, mldsa.PrivateKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return Signer{Name: fmt.Sprintf("release-%d", n), Signer: author.Signer{Classical: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)), MLDSA: post}}
}

func quorum(threshold int, signers ...Signer) author.Quorum {
	q := author.Quorum{Threshold: threshold}
	for _, s := range signers {
		q.Classical = append(q.Classical, s.Classical.Public())
		q.MLDSA = append(q.MLDSA, s.MLDSA.PublicKey())
	}
	return q
}

// fakeHub publishes as a hub does: it signs snapshot and timestamp, and every
// publication has to be one that a device takes.
type fakeHub struct {
	t     testing.TB
	keys  [2]ed25519.PrivateKey // snapshot, timestamp
	files map[string][]byte
	blobs map[identity.Digest][]byte
	count int64
	state tuf.State
	fail  func(op string) error
}

func newHub(t testing.TB) *fakeHub {
	h := &fakeHub{t: t, files: map[string][]byte{}, blobs: map[identity.Digest][]byte{}, fail: func(string) error { return nil }}
	for i := range h.keys {
		h.keys[i] = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(200 + i)}, ed25519.SeedSize))
	}
	return h
}

func (h *fakeHub) public() HubKeys {
	return HubKeys{Snapshot: h.keys[0].Public().(ed25519.PublicKey), Timestamp: h.keys[1].Public().(ed25519.PublicKey)}
}

func (h *fakeHub) Repository(context.Context) (operator.Repository, error) {
	r := operator.Repository{SnapshotKey: hex.EncodeToString(h.public().Snapshot), TimestampKey: hex.EncodeToString(h.public().Timestamp),
		Files: map[string]identity.Digest{}, Roles: map[string]operator.RepositoryRole{}}
	for name, b := range h.files {
		r.Files[name] = identity.Sum(b)
	}
	s, err := read(h.files)
	for role, doc := range s.docs {
		r.Roles[role] = operator.RepositoryRole{Version: doc.Version, Expires: doc.Expires}
	}
	return r, err
}

func (h *fakeHub) Metadata(context.Context) (operator.Metadata, error) {
	return operator.Metadata{Files: h.files}, nil
}

func (h *fakeHub) HasBlob(_ context.Context, d identity.Digest) (bool, error) {
	_, ok := h.blobs[d]
	return ok, nil
}

func (h *fakeHub) PutBlob(_ context.Context, b release.Blob, open func() (io.ReadCloser, error)) error {
	if err := h.fail("before blob"); err != nil {
		return err
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if identity.Sum(content) != b.SHA256 || int64(len(content)) != b.Length {
		return fault.New(fault.Integrity, "another content")
	}
	h.blobs[b.SHA256] = content
	return h.fail("after blob")
}

func (h *fakeHub) PublishMetadata(ctx context.Context, m operator.Metadata) (operator.Repository, error) {
	if err := h.fail("before publication"); err != nil {
		return operator.Repository{}, err
	}
	next := state{Settled: h.files, Draft: m.Files}
	s, err := read(next.all())
	if err != nil {
		return operator.Repository{}, err
	}
	if err := h.device(s, m.Files); err != nil {
		return operator.Repository{}, fault.New(fault.Integrity, "a device refuses it: %w", err)
	}
	h.files = (&desk{state: next, full: s}).newest()
	if err := h.fail("after publication"); err != nil {
		return operator.Repository{}, err
	}
	return h.Repository(ctx)
}

// device has a device that saw all earlier publications take this one.
func (h *fakeHub) device(s shelf, files map[string][]byte) error {
	h.count++
	snap := author.Snapshot{Version: h.count, Expires: now.Add(24 * time.Hour)}
	newest := map[string][]byte{}
	for role, doc := range s.docs {
		b, err := doc.Bytes()
		if err != nil {
			return err
		}
		if have := (state{Settled: h.files, Draft: files}).all()[doc.FileName()]; !bytes.Equal(have, b) {
			return fmt.Errorf("%s does not survive being read", doc.FileName())
		}
		newest[role] = b
		if role != tuf.Root {
			snap.Files = append(snap.Files, author.File{Role: role, Version: doc.Version, Bytes: b})
		}
	}
	sb, err := online(snap, h.keys[0])
	if err != nil {
		return err
	}
	tb, err := online(author.Timestamp{Version: h.count, Expires: now.Add(time.Hour), Snapshot: author.File{Role: tuf.Snapshot, Version: h.count, Bytes: sb}}, h.keys[1])
	if err != nil {
		return err
	}
	if h.state.Root == nil {
		h.state.Root = files["1.root.json"]
	}
	trust, err := tuf.OpenTrust(h.state, tuf.DefaultLimits())
	if err != nil {
		return err
	}
	for v := trust.Version(tuf.Root) + 1; v <= s.root.Version; v++ {
		if err := trust.UpdateRoot(files[fmt.Sprintf("%d.root.json", v)]); err != nil {
			return err
		}
	}
	for _, take := range []func() error{
		func() error { return trust.UpdateTimestamp(tb, tuf.At(now)) },
		func() error { return trust.UpdateSnapshot(sb, tuf.At(now)) },
		func() error { return trust.UpdateTargets(newest[tuf.Targets], tuf.At(now)) },
	} {
		if err := take(); err != nil {
			return err
		}
	}
	for _, p := range trust.Products() {
		if err := trust.UpdateProduct(p, newest[string(p)], tuf.At(now)); err != nil {
			return err
		}
		if _, err := trust.Releases(p, tuf.At(now)); err != nil {
			return err
		}
	}
	h.state = trust.State()
	return nil
}

func online(m interface {
	Document() (*author.Document, error)
}, key ed25519.PrivateKey) ([]byte, error) {
	d, err := m.Document()
	if err != nil {
		return nil, err
	}
	if err := d.Sign(author.Signer{Classical: key}, true, false); err != nil {
		return nil, err
	}
	return d.Bytes()
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// image describes an image that is not in MCUboot's format.
func image(t testing.TB, d *Dir, version string) release.Release {
	t.Helper()
	v := must[mcuboot.Version](t)(mcuboot.ParseVersion(version))
	return must[release.Release](t)(d.Describe(Claim{Image: fmt.Appendf(nil, "image %-40s", version), Measured: identity.Sum([]byte(version)), SBOM: []byte("{}"),
		Target: release.Target{Product: "pump", Version: v, SecurityVersion: 7, Health: release.Health{Seconds: 600}}}))
}

// begun is a staging directory with a root that two of three have signed.
func begun(t testing.TB, h *fakeHub) *Dir {
	t.Helper()
	d := Open(filepath.Join(t.TempDir(), "releases"))
	a, b, c := signer(t, 1), signer(t, 2), signer(t, 3)
	must[Staged](t)(d.Stage(Init(quorum(2, a, b, c), h.public()), opt, a, b))
	return d
}

func TestTwoSignersPublish(t *testing.T) {
	h := newHub(t)
	d := begun(t, h)
	r := image(t, d, "1.4.0")
	if got := must[Staged](t)(d.Stage(Release(r), opt, signer(t, 1))); got.Complete || len(got.Signed) != 2 {
		t.Errorf("after one signer: %+v", got)
	}
	if _, err := d.Publish(t.Context(), h, now); fault.Of(err) != fault.Denied || len(h.files)+len(h.blobs) != 0 {
		t.Errorf("published with one signature: %v", err)
	}
	// The same a day later signs what the first has signed.
	if got := must[Staged](t)(d.Stage(Release(r), Options{Now: now.Add(30 * time.Hour)}, signer(t, 3))); !got.Complete || len(got.Signed) != 2 {
		t.Errorf("after two signers: %+v", got)
	}
	if got := must[Published](t)(d.Publish(t.Context(), h, now)); len(got.Files) != 3 || got.Blobs != 2 {
		t.Errorf("%+v", got)
	}
	if got := must[Published](t)(d.Publish(t.Context(), h, now)); len(got.Files) != 0 || got.Blobs != 0 {
		t.Errorf("a second time: %+v", got)
	}
	if got := must[Staged](t)(d.Stage(Release(r), opt, signer(t, 1))); !got.Complete || len(got.Signed) != 0 {
		t.Errorf("signed what is published: %+v", got)
	}
	s := must[Status](t)(d.Status())
	if s.Draft || !s.Complete || len(s.Changes) != 0 || s.Roles[1].Role != "targets" || s.Roles[1].Version != 2 {
		t.Errorf("%+v", s)
	}
}

// published has pump 1.4.0 published.
func published(t testing.TB, h *fakeHub) *Dir {
	t.Helper()
	d := begun(t, h)
	r := image(t, d, "1.4.0")
	must[Staged](t)(d.Stage(Release(r), opt, signer(t, 1), signer(t, 2)))
	must[Published](t)(d.Publish(t.Context(), h, now))
	return d
}

func TestWithdrawTakesTheThreshold(t *testing.T) {
	h := newHub(t)
	d := published(t, h)
	target := release.Target{Product: "pump", Version: mcuboot.Version{Major: 1, Minor: 4}}
	must[Staged](t)(d.Stage(Withdraw(target, "leaks"), opt, signer(t, 1)))
	if _, err := d.Publish(t.Context(), h, now); fault.Of(err) != fault.Denied {
		t.Errorf("withdrawn by one: %v", err)
	}
	if _, err := d.Stage(Withdraw(target, "another reason"), opt, signer(t, 2)); fault.Of(err) != fault.Conflict {
		t.Errorf("another reason: %v", err)
	}
	must[Staged](t)(d.Stage(Withdraw(target, "leaks"), opt, signer(t, 2)))
	must[Published](t)(d.Publish(t.Context(), h, now))
	s := must[shelf](t)(read(h.files))
	if got := s.products["pump"].Releases[0].Withdrawn; got != "leaks" {
		t.Errorf("withdrawn %q", got)
	}
	if _, err := d.Stage(Release(image(t, d, "1.4.0")), opt, signer(t, 1)); fault.Of(err) != fault.Conflict {
		t.Errorf("signed again: %v", err)
	}
}

func TestRotate(t *testing.T) {
	h := newHub(t)
	d := published(t, h)
	r := Rotation{Add: quorum(0, signer(t, 4)), Remove: quorum(0, signer(t, 1)), Threshold: 2}
	// 4 and 3 are enough for the new root, but of the old only 3 has signed.
	if got := must[Staged](t)(d.Stage(Rotate(r), opt, signer(t, 4), signer(t, 3))); got.Complete {
		t.Errorf("without the old threshold: %+v", got)
	}
	if _, err := d.Publish(t.Context(), h, now); fault.Of(err) != fault.Denied {
		t.Errorf("published: %v", err)
	}
	if got := must[Staged](t)(d.Stage(Rotate(r), opt, signer(t, 1))); !got.Complete || len(got.Signed) != 1 {
		t.Errorf("with the one that goes: %+v", got)
	}
	must[Published](t)(d.Publish(t.Context(), h, now))
	if _, err := d.Stage(Release(image(t, d, "1.5.0")), opt, signer(t, 1)); fault.Of(err) != fault.Denied {
		t.Errorf("a removed key signs: %v", err)
	}
	must[Staged](t)(d.Stage(Release(image(t, d, "1.5.0")), opt, signer(t, 4), signer(t, 2)))
	must[Published](t)(d.Publish(t.Context(), h, now))
}

// A new hub's keys change root alone.
func TestRotateHub(t *testing.T) {
	h := newHub(t)
	d := published(t, h)
	h.keys[0], h.keys[1] = h.keys[1], h.keys[0]
	if _, err := d.Publish(t.Context(), h, now); fault.Of(err) != fault.Conflict {
		t.Errorf("published to a hub with other keys: %v", err)
	}
	keys := h.public()
	got := must[Staged](t)(d.Stage(Rotate(Rotation{Hub: &keys}), opt, signer(t, 1), signer(t, 2)))
	if len(got.Signed) != 2 || !got.Complete {
		t.Errorf("%+v", got)
	}
	must[Published](t)(d.Publish(t.Context(), h, now))
}

func TestRenew(t *testing.T) {
	h := newHub(t)
	d := published(t, h)
	later := Options{Now: now.Add(300 * 24 * time.Hour)}
	if _, err := d.Stage(Renew("valve"), later, signer(t, 1)); fault.Of(err) != fault.NotFound {
		t.Errorf("unknown role: %v", err)
	}
	must[Staged](t)(d.Stage(Renew(), later, signer(t, 1)))
	must[Staged](t)(d.Stage(Renew(), later, signer(t, 2)))
	must[Published](t)(d.Publish(t.Context(), h, now))
	for _, r := range must[Status](t)(d.Status()).Roles {
		if !r.Expires.After(later.Now.Add(Lifetime)) {
			t.Errorf("%s until %s", r.Role, r.Expires)
		}
	}
}

func TestPublishRefusesWhatHasExpired(t *testing.T) {
	h := newHub(t)
	d := published(t, h)
	must[Staged](t)(d.Stage(Release(image(t, d, "1.5.0")), opt, signer(t, 1), signer(t, 2)))
	before := h.files
	if _, err := d.Publish(t.Context(), h, now.Add(2*Lifetime)); fault.Of(err) != fault.Integrity || !strings.Contains(err.Error(), "release renew") {
		t.Error(err)
	}
	if len(h.files) != len(before) {
		t.Error("something was published")
	}
}

// A draft that others have signed is not changed under them, and nobody signs
// more than what was asked for.
func TestDraftOfOthersStays(t *testing.T) {
	h := newHub(t)
	d := published(t, h)
	first, second := image(t, d, "1.5.0"), image(t, d, "1.6.0")
	must[Staged](t)(d.Stage(Release(first), opt, signer(t, 1)))
	if _, err := d.Stage(Release(second), opt, signer(t, 2)); fault.Of(err) != fault.Conflict {
		t.Errorf("changed what 1 has signed: %v", err)
	}
	must[Staged](t)(d.Stage(Release(second), opt, signer(t, 1))) // their own they may
	if _, err := d.Stage(Release(first), opt, signer(t, 2)); fault.Of(err) != fault.Conflict || !strings.Contains(err.Error(), "countersign") {
		t.Errorf("signed more than was asked for: %v", err)
	}
	changed := first
	changed.SecurityVersion++
	if _, err := d.Stage(Release(changed), opt, signer(t, 1)); fault.Of(err) != fault.Conflict {
		t.Errorf("a version with two meanings: %v", err)
	}
	if _, err := d.Stage(Release(second), Options{Now: now, Expires: now.Add(time.Hour)}, signer(t, 2)); fault.Of(err) != fault.Conflict {
		t.Errorf("another expiry: %v", err)
	}
	var seen []string
	got := must[Staged](t)(d.Countersign(opt, func(changes []string) error { seen = changes; return nil }, signer(t, 2)))
	if text := strings.Join(seen, "\n"); !got.Complete || !strings.Contains(text, "release 1.5.0") || !strings.Contains(text, "release 1.6.0") {
		t.Errorf("%+v\n%s", got, text)
	}
	refused := errors.New("no")
	if _, err := d.Countersign(opt, func([]string) error { return refused }, signer(t, 3)); !errors.Is(err, refused) {
		t.Error(err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	if s := must[Status](t)(d.Status()); s.Draft || !s.Complete {
		t.Errorf("%+v", s)
	}
}

func TestStrangersDoNotSign(t *testing.T) {
	d := begun(t, newHub(t))
	if _, err := d.Stage(Release(image(t, d, "1.0.0")), opt, signer(t, 9)); fault.Of(err) != fault.Denied {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")).Stage(Renew(), opt, signer(t, 1)); fault.Of(err) != fault.NotFound {
		t.Error(err)
	}
}

// A signature that somebody changed in the staging directory does not count, and
// one who changed what is signed finds no signatures.
func TestTamperedDraft(t *testing.T) {
	h := newHub(t)
	d := begun(t, h)
	must[Staged](t)(d.Stage(Release(image(t, d, "1.4.0")), opt, signer(t, 1), signer(t, 2)))
	s := must[state](t)(d.load())
	s.Draft["1.pump.json"] = bytes.Replace(s.Draft["1.pump.json"], []byte(`"security_version":7`), []byte(`"security_version":1`), 1)
	if err := d.save(s); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Publish(t.Context(), h, now); fault.Of(err) != fault.Denied {
		t.Error(err)
	}
}

func TestFetch(t *testing.T) {
	h := newHub(t)
	d := published(t, h)
	first := h.files["1.root.json"]
	other := Open(filepath.Join(t.TempDir(), "releases"))
	if _, err := other.Fetch(t.Context(), h, nil, now); fault.Of(err) != fault.Invalid {
		t.Errorf("without a root: %v", err)
	}
	if _, err := other.Fetch(t.Context(), h, []byte("{}"), now); fault.Of(err) != fault.Integrity {
		t.Errorf("with another root: %v", err)
	}
	must[Status](t)(other.Fetch(t.Context(), h, first, now))
	must[Staged](t)(other.Stage(Release(image(t, other, "1.5.0")), opt, signer(t, 1), signer(t, 2)))
	must[Published](t)(other.Publish(t.Context(), h, now))
	// The first directory is behind now.
	must[Staged](t)(d.Stage(Release(image(t, d, "1.4.1")), opt, signer(t, 1), signer(t, 2)))
	if _, err := d.Publish(t.Context(), h, now); fault.Of(err) != fault.Conflict {
		t.Errorf("two of one version: %v", err)
	}
	if _, err := d.Fetch(t.Context(), h, nil, now); fault.Of(err) != fault.Conflict {
		t.Errorf("a draft of what is there: %v", err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	must[Status](t)(d.Fetch(t.Context(), h, nil, now))
	old := h.files
	h.files = map[string][]byte{}
	for name, b := range old {
		h.files[name] = bytes.Replace(b, []byte(`"length":46`), []byte(`"length":47`), 1)
	}
	if _, err := d.Fetch(t.Context(), h, nil, now); fault.Of(err) != fault.Integrity {
		t.Errorf("unsigned metadata: %v", err)
	}
}

func TestDescribeRefuses(t *testing.T) {
	d := Open(t.TempDir())
	key := must[*keyfile.Key](t)(keyfile.Generate(keyfile.Config{UnencryptedUnsafe: true}))
	if err := d.Name("release-1", key); err != nil {
		t.Fatal(err)
	}
	good := func() Claim {
		return Claim{Image: bootable(t, "1.4.0", 7), Target: release.Target{Product: "pump", Version: mcuboot.Version{Major: 1, Minor: 4}, SecurityVersion: 7, Health: release.Health{Seconds: 60}}}
	}
	if r, err := d.Describe(good()); err != nil || r.Measured == (identity.Digest{}) || r.Measured == r.Image.SHA256 {
		t.Fatalf("%+v, %v", r, err)
	}
	for want, spoil := range map[string]func(*Claim){
		"header says version 1.4.0, not 1.5.0": func(c *Claim) { c.Target.Version.Minor = 5 },
		"security counter is 7, not 8":         func(c *Claim) { c.Target.SecurityVersion = 8 },
		"--measured":                           func(c *Claim) { c.Image = bytes.Repeat([]byte{1}, 100) },
		"measures":                             func(c *Claim) { c.Measured = identity.Sum(nil) },
		"the image is damaged":                 func(c *Claim) { c.Image = c.Image[:len(c.Image)-1] },
		"health":                               func(c *Claim) { c.Target.Health.Seconds = 0 },
	} {
		c := good()
		spoil(&c)
		if _, err := d.Describe(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

var errCut = errors.New("the power went")

// Every write of a story is cut before it and after it. What is left each time is
// a directory that can be read and a hub with a whole repository, and the same
// commands again go on from there.
func TestInterruptedAnywhere(t *testing.T) {
	h := newHub(t)
	d := Open(filepath.Join(t.TempDir(), "releases"))
	cut, passed := map[string]bool{}, map[string]int{}
	at := func(op string) error {
		place := fmt.Sprintf("%s %d", op, passed[op])
		if first := !cut[place]; first && strings.HasPrefix(op, "before") {
			cut[place] = true
			return errCut // it has not happened: the next one is the same
		} else if passed[op]++; first {
			cut[place] = true
			return errCut
		}
		return nil
	}
	h.fail = at
	plain := d.write
	d.write = func(path string, mode os.FileMode, write func(io.Writer) error) error {
		name := filepath.Base(path)
		if err := at("before " + name); err != nil {
			return err
		}
		if err := plain(path, mode, write); err != nil {
			return err
		}
		return at("after " + name)
	}
	a, b := signer(t, 1), signer(t, 2)
	target := release.Target{Product: "pump", Version: mcuboot.Version{Major: 1, Minor: 4}}
	for _, step := range []func() (Edit, error){
		func() (Edit, error) { return Init(quorum(2, a, b, signer(t, 3)), h.public()), nil },
		func() (Edit, error) { return stated(d, "1.4.0") },
		func() (Edit, error) { return Rotate(Rotation{Add: quorum(0, signer(t, 4))}), nil },
		func() (Edit, error) { return Withdraw(target, "leaks"), nil },
	} {
		before := len(cut)
		for tries := 0; ; tries++ {
			err := h.follow(d, step, a, b)
			if _, broken := read(h.files); broken != nil {
				t.Fatalf("the hub has half of it: %v", broken)
			}
			if _, broken := d.desk(opt); broken != nil {
				t.Fatalf("the directory is broken: %v", broken)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, errCut) || tries > 100 {
				t.Fatal(err)
			}
		}
		if len(cut)-before < 6 {
			t.Errorf("the step was cut %d times: not where it writes", len(cut)-before)
		}
	}
	t.Logf("%d cuts", len(cut))
	s := must[shelf](t)(read(h.files))
	if len(s.products["pump"].Releases) != 1 || s.products["pump"].Releases[0].Withdrawn != "leaks" || s.root.Version != 2 || len(h.blobs) != 2 {
		t.Errorf("%+v", s.content)
	}
}

// follow is what signers do who do not know how far they came.
func (h *fakeHub) follow(d *Dir, step func() (Edit, error), signers ...Signer) error {
	e, err := step()
	if err != nil {
		return err
	}
	for _, s := range signers {
		if _, err := d.Stage(e, opt, s); err != nil && !(e.first && fault.Of(err) == fault.Conflict) {
			return err
		}
	}
	_, err = d.Publish(h.t.Context(), h, now)
	return err
}

func stated(d *Dir, version string) (Edit, error) {
	v, err := mcuboot.ParseVersion(version)
	if err != nil {
		return Edit{}, err
	}
	r, err := d.Describe(Claim{Image: fmt.Appendf(nil, "image %-40s", version), Measured: identity.Sum([]byte(version)), SBOM: []byte("{}"),
		Target: release.Target{Product: "pump", Version: v, SecurityVersion: 7, Health: release.Health{Seconds: 600}}})
	return Release(r), err
}
