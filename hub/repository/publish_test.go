package repository_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/fault"
	"holdfast/hub/repository"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

func TestPublishedReleasesAreWhatDevicesInstall(t *testing.T) {
	w := newWorld(t)
	changed := w.Changed()
	one, two := w.image(4, 1000), w.image(5, 1000)
	rels := w.first(one, two)
	select {
	case <-changed:
	default:
		t.Error("nobody is told that releases were published")
	}
	if got := w.recorded(); !slices.Equal(got, []string{"release.metadata", "release.metadata", "release.root", "release.publish", "release.publish"}) {
		t.Errorf("recorded %v", got)
	}
	d := w.device(w.root(1, nil))
	found, err := d.Find("pump", mcuboot.Version{Major: 1, Minor: 5}, tuf.At(w.clock()))
	if err != nil || !cmp.Equal(found, rels[1], cmpopts.EquateEmpty()) {
		t.Errorf("found %+v, %v", found, err)
	}
	if rel, ok := w.Signed(t.Context(), rels[0].Measured); !ok || rel.Version != rels[0].Version {
		t.Errorf("signed %+v, %v", rel, ok)
	}
	if rel, ok := w.Newest(t.Context(), "pump"); !ok || rel.Version != rels[1].Version {
		t.Errorf("newest %+v, %v", rel, ok)
	}
	if _, ok := w.Signed(t.Context(), identity.Sum(nil)); ok {
		t.Error("something that nobody signed is signed")
	}
	list, err := w.List(t.Context(), "pump")
	if err != nil || len(list) != 2 || list[0].Newest || !list[1].Newest {
		t.Errorf("list %+v, %v", list, err)
	}
	// After a restart all is as it was, and publishing it again changes nothing.
	w.open()
	if w.Trouble() != nil || len(w.Releases(t.Context())) != 2 {
		t.Errorf("after a restart: %v", w.Trouble())
	}
	m, err := w.Metadata(t.Context())
	if err != nil || len(m.Files) != 3 {
		t.Fatalf("%d files, %v", len(m.Files), err)
	}
	before, err := w.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.publish(m.Files)
	after, err := w.Describe(t.Context())
	if err != nil || !cmp.Equal(before, after) {
		t.Error(cmp.Diff(before, after), err)
	}
	if got := w.recorded(); len(got) != 0 {
		t.Errorf("recorded %v", got)
	}
}

func TestWithdrawnReleasesAreKnownAndNotServed(t *testing.T) {
	w := newWorld(t)
	one, two := w.image(4, 1000), w.image(5, 1000)
	rels := w.first(one, two)
	w.recorded()
	rels[1].Withdrawn = "it bricks rev-b"
	changed := w.Changed()
	w.publish(map[string][]byte{"2.pump.json": w.product(2, rels...)})
	<-changed
	if got := w.recorded(); !slices.Equal(got, []string{"release.metadata", "release.withdraw"}) {
		t.Errorf("recorded %v", got)
	}
	if rel, ok := w.Signed(t.Context(), rels[1].Measured); !ok || rel.Withdrawn == "" {
		t.Errorf("%+v, %v", rel, ok)
	}
	if rel, ok := w.Newest(t.Context(), "pump"); !ok || rel.Version != rels[0].Version {
		t.Errorf("newest %+v, %v", rel, ok)
	}
	if rec := w.get("/repository/blobs/" + identity.Sum(two).String()); rec.Code != 404 {
		t.Errorf("the image is still served: %d", rec.Code)
	}
	if rec := w.get("/repository/deltas/" + identity.Sum(two).String() + "/" + identity.Sum(one).String()); rec.Code != 503 {
		t.Errorf("there is no way back from it: %d", rec.Code)
	}
}

func TestPublishRefuses(t *testing.T) {
	w := newWorld(t)
	image := w.image(4, 1000)
	stranger := newSigner(t)
	good := func() map[string][]byte {
		return map[string][]byte{"1.root.json": w.root(1, nil), "1.targets.json": w.targets(1, "pump"), "1.pump.json": w.product(1, w.release(image))}
	}
	with := func(change func(map[string][]byte)) map[string][]byte {
		m := good()
		change(m)
		return m
	}
	pumps := func(spoil func(*release.Release)) map[string][]byte {
		r := w.release(image)
		spoil(&r)
		return with(func(m map[string][]byte) { m["1.pump.json"] = w.product(1, r) })
	}
	w.upload(image, append(bytes.Clone(image), 0xff))
	for name, tt := range map[string]struct {
		files  map[string][]byte
		kind   fault.Kind
		attack release.Attack
	}{
		"no root":       {with(func(m map[string][]byte) { delete(m, "1.root.json") }), fault.Invalid, ""},
		"no targets":    {with(func(m map[string][]byte) { delete(m, "1.targets.json") }), fault.Invalid, ""},
		"a timestamp":   {with(func(m map[string][]byte) { m["timestamp.json"] = m["1.root.json"] }), fault.Invalid, ""},
		"a snapshot":    {with(func(m map[string][]byte) { m["1.snapshot.json"] = m["1.root.json"] }), fault.Invalid, ""},
		"a way out":     {with(func(m map[string][]byte) { m["../1.root.json"] = m["1.root.json"] }), fault.Invalid, ""},
		"another name":  {with(func(m map[string][]byte) { m["2.pump.json"] = m["1.pump.json"]; delete(m, "1.pump.json") }), fault.Integrity, release.MixAndMatch},
		"a root's name": {with(func(m map[string][]byte) { m["2.root.json"] = m["1.root.json"]; delete(m, "1.root.json") }), fault.Invalid, ""},
		"a huge file":   {with(func(m map[string][]byte) { m["1.pump.json"] = make([]byte, 1<<20) }), fault.Invalid, ""},
		"a foreign hub": {with(func(m map[string][]byte) {
			m["1.root.json"] = w.root(1, func(r *author.Root) { r.Snapshot, r.Timestamp = foreign(t), foreign(t) })
		}), fault.Invalid, release.ArbitrarySoftware},
		"an unsigned root": {with(func(m map[string][]byte) {
			m["1.root.json"] = w.root(1, func(r *author.Root) { r.Release = quorum(1, stranger) })
		}), fault.Integrity, release.ArbitrarySoftware},
		"one signature of two": {with(func(m map[string][]byte) {
			d, err := author.Targets{Version: 1, Expires: begin.AddDate(1, 0, 0), Products: []author.Delegation{{Product: "pump", Signers: quorum(2, w.signers...)}}}.Document()
			m["1.targets.json"] = w.sign(d, err, w.signers[0])
		}), fault.Integrity, release.KeyCompromise},
		"another product":    {with(func(m map[string][]byte) { m["1.valve.json"] = m["1.pump.json"] }), fault.Integrity, release.WrongProduct},
		"expired":            {with(func(m map[string][]byte) { m["1.root.json"] = w.root(1, func(r *author.Root) { r.Expires = begin }) }), fault.Integrity, release.IndefiniteFreeze},
		"a missing image":    {pumps(func(r *release.Release) { r.Image.SHA256 = identity.Sum([]byte("gone")) }), fault.Invalid, ""},
		"a missing SBOM":     {pumps(func(r *release.Release) { r.SBOM = &release.Blob{Length: 2, SHA256: identity.Sum([]byte("[]"))} }), fault.Invalid, ""},
		"another length":     {pumps(func(r *release.Release) { r.Image.Length++ }), fault.Integrity, ""},
		"no image":           {pumps(func(r *release.Release) { r.Image = *r.SBOM }), fault.Integrity, ""},
		"another version":    {pumps(func(r *release.Release) { r.Version.Minor = 9 }), fault.Integrity, release.MixAndMatch},
		"another counter":    {pumps(func(r *release.Release) { r.SecurityVersion = 8 }), fault.Integrity, release.MixAndMatch},
		"another digest":     {pumps(func(r *release.Release) { r.Measured = identity.Sum(nil) }), fault.Integrity, release.MixAndMatch},
		"more behind it":     {pumps(func(r *release.Release) { r.Image = blob(append(bytes.Clone(image), 0xff)) }), fault.Integrity, release.ExtraneousContents},
		"nothing but a root": {map[string][]byte{"1.root.json": w.root(1, nil)}, fault.Invalid, ""},
	} {
		kindOf(t, name, w.try(tt.files), tt.kind, tt.attack)
		if rec := w.get("/repository/1.root.json"); rec.Code != 404 {
			t.Fatalf("%s: published nevertheless: %d", name, rec.Code)
		}
	}
	if got := w.recorded(); len(got) != 0 {
		t.Errorf("recorded %v", got)
	}
	_, err := w.Publish(t.Context(), "ada", operator.Metadata{Files: good()}, func() error { return fault.New(fault.Denied, "no") })
	kindOf(t, "no right to a root", err, fault.Denied, "")
	w.deaf = errors.New("disk")
	if err := w.try(good()); !errors.Is(err, w.deaf) {
		t.Errorf("published what the ledger does not have: %v", err)
	}
	w.deaf = nil
	w.publish(good())
	kindOf(t, "an older file", w.try(map[string][]byte{"1.pump.json": w.product(1)}), fault.Conflict, "")
	kindOf(t, "another root of that version", w.try(map[string][]byte{"1.root.json": w.root(1, func(r *author.Root) { r.Expires = r.Expires.Add(time.Hour) })}), fault.Conflict, "")
	kindOf(t, "a root left out", w.try(map[string][]byte{"3.root.json": w.root(3, nil)}), fault.Integrity, release.FastForward)
	w.publish(map[string][]byte{"3.pump.json": w.product(3, w.release(image))})
	kindOf(t, "an older version", w.try(map[string][]byte{"2.pump.json": w.product(2, w.release(image))}), fault.Conflict, "")
}

func foreign(t *testing.T) ed25519.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// A power cut at any step of a publication leaves one that devices can verify: the
// one before, or that one under the new root. The next attempt succeeds.
func TestInterruptedPublicationsLeaveTheLast(t *testing.T) {
	for cut := 0; ; cut++ {
		w := newWorld(t)
		one, two := w.image(4, 1000), w.image(5, 1000)
		rels := w.first(one)
		trust := w.device(w.root(1, nil))
		root := w.root(1, nil)
		w.upload(two)
		w.later(time.Hour)
		// New keys for targets: the old targets are of no use under the new root.
		old := slices.Clone(w.signers)
		w.signers = []author.Signer{newSigner(t), newSigner(t), newSigner(t)}
		next := w.rotated(old)
		files := map[string][]byte{"2.root.json": next, "2.targets.json": w.targets(2, "pump"), "2.pump.json": w.product(2, rels[0], w.release(two))}
		n, power := 0, errors.New("power cut")
		w.Interrupt(func(string) error {
			if n++; n > cut {
				return power
			}
			return nil
		})
		err := w.try(files)
		if err != nil && !errors.Is(err, power) {
			t.Fatal(err)
		}
		w.open()
		if w.Trouble() != nil {
			t.Fatalf("cut %d: %v", cut, w.Trouble())
		}
		if err := w.fetch(trust); err != nil {
			t.Fatalf("cut %d: a device that was there: %v", cut, err)
		}
		if got, want := len(w.device(root).Listed("pump")), map[bool]int{true: 1, false: 2}[err != nil]; got != want {
			t.Fatalf("cut %d: %d releases, want %d", cut, got, want)
		}
		if err == nil {
			if cut < 4 {
				t.Errorf("only %d steps", cut)
			}
			return
		}
		if err := w.Renew(t.Context()); err != nil {
			t.Fatalf("cut %d: %v", cut, err)
		}
		w.publish(files)
		if err := w.fetch(trust); err != nil || len(trust.Listed("pump")) != 2 {
			t.Fatalf("cut %d, second attempt: %v", cut, err)
		}
	}
}

// rotated is a second root, for the signers of now, signed by them and by those
// before.
func (w *world) rotated(old []author.Signer) []byte {
	w.Helper()
	at, err := w.Describe(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	d, err := author.Root{Version: 2, Expires: begin.AddDate(1, 0, 0), Release: quorum(2, w.signers...),
		Snapshot: publicKey(w, at.SnapshotKey), Timestamp: publicKey(w, at.TimestampKey)}.Document()
	return w.sign(d, err, old[0], old[1], w.signers[0], w.signers[1])
}

func TestRenewal(t *testing.T) {
	w := newWorld(t)
	w.first(w.image(4, 1000))
	root := w.root(1, nil)
	d := w.device(root)
	was := map[string]int64{}
	for _, role := range []string{tuf.Timestamp, tuf.Snapshot} {
		was[role] = d.Version(role)
	}
	changed := w.Changed()
	step := func(d2 time.Duration, timestamp, snapshot bool) {
		t.Helper()
		w.later(d2)
		if err := w.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.fetch(d); err != nil {
			t.Fatal(err)
		}
		for role, want := range map[string]bool{tuf.Timestamp: timestamp, tuf.Snapshot: snapshot} {
			if got := d.Version(role) > was[role]; got != want {
				t.Errorf("after %s: %s renewed: %v", d2, role, got)
			}
			was[role] = d.Version(role)
		}
	}
	step(30*time.Minute, false, false)
	step(40*time.Minute, true, false)
	step(23*time.Hour, true, true)
	step(30*24*time.Hour, true, true) // after a month without a hub
	w.open()
	step(time.Hour, true, false)
	select {
	case <-changed:
		t.Error("told of other releases")
	default:
	}
	es, err := os.ReadDir(filepath.Join(w.dir, "metadata"))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		w.later(7 * 24 * time.Hour)
		if err := w.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if after, _ := os.ReadDir(filepath.Join(w.dir, "metadata")); len(after) > len(es)+3 {
		t.Errorf("%d files, and %d before: snapshots pile up", len(after), len(es))
	}
}

// A hub that was restored from an old backup goes on with versions that devices
// have not seen.
func TestARestoredRepositoryGoesForward(t *testing.T) {
	w := newWorld(t)
	w.first(w.image(4, 1000))
	backup := t.TempDir()
	if err := os.CopyFS(filepath.Join(backup, "r"), os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	d := w.device(w.root(1, nil))
	for range 5 {
		w.later(2 * time.Hour)
		if err := w.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.fetch(d); err != nil {
			t.Fatal(err)
		}
	}
	w.dir = filepath.Join(backup, "r")
	w.open()
	w.later(2 * time.Hour)
	if err := w.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.fetch(d); err != nil {
		t.Error(err)
	}
}

func TestWarnings(t *testing.T) {
	w := newWorld(t)
	w.first(w.image(4, 1000))
	w.recorded()
	count := func(d time.Duration, want int) {
		t.Helper()
		w.later(d)
		w.Warn(t.Context())
		w.Warn(t.Context())
		if got := w.recorded(); len(got) != want || want > 0 && got[0] != "release.expiring" {
			t.Errorf("on %s recorded %v, want %d", w.clock(), got, want)
		}
	}
	day := 24 * time.Hour
	count(0, 0)
	count(61*day, 0)  // pump's file ends after 92
	count(2*day, 1)   // 29 are left
	count(10*day, 0)  // 19
	count(6*day, 1)   // 13
	count(7*day, 1)   // 6
	count(6*day, 1)   // none
	count(day, 0)     // that was said
	count(59*day, 1)  // targets
	count(365*day, 2) // targets and root
	if log := w.log.String(); !strings.Contains(log, "signed metadata expires") {
		t.Error("the log says nothing")
	}
	fs := repository.Inspect(w.dir, w.secret, w.clock())
	if len(fs) == 0 || fs[0].State != operator.FindingFail {
		t.Errorf("%+v", fs)
	}
}

func TestInspect(t *testing.T) {
	w := newWorld(t)
	state := func() string {
		fs := repository.Inspect(w.dir, w.secret, w.clock())
		if len(fs) == 0 {
			return "nothing"
		}
		return fs[0].State
	}
	if got := state(); got != operator.FindingOK {
		t.Errorf("an empty one: %s", got)
	}
	image := w.image(4, 1000)
	w.first(image)
	if got := state(); got != operator.FindingOK {
		t.Errorf("a fresh one: %s", got)
	}
	w.later(70 * 24 * time.Hour)
	if got := state(); got != operator.FindingWarn {
		t.Errorf("one that ends: %s", got)
	}
	path := filepath.Join(w.dir, "blobs", identity.Sum(image).String())
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != operator.FindingFail {
		t.Errorf("one without an image: %s", got)
	}
	if got := repository.Inspect(filepath.Join(w.dir, "nowhere"), w.secret, w.clock()); len(got) != 0 {
		t.Errorf("none: %+v", got)
	}
	other, err := pki.ParseSecret(pki.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	if fs := repository.Inspect(w.dir, other, w.clock()); len(fs) == 0 || fs[0].State != operator.FindingFail {
		t.Errorf("another seal: %+v", fs)
	}
}

// What was changed on disk is not served, and says so.
func TestDamagedMetadataIsNotServed(t *testing.T) {
	w := newWorld(t)
	w.first(w.image(4, 1000))
	path := filepath.Join(w.dir, "metadata", "1.pump.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte("1.4.0"), []byte("1.9.0"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	if w.Trouble() == nil {
		t.Fatal("taken")
	}
	if rec := w.get("/repository/timestamp.json"); rec.Code != 503 {
		t.Errorf("status %d", rec.Code)
	}
	if err := w.try(map[string][]byte{"2.pump.json": w.product(2)}); fault.Of(err) != fault.Unavailable {
		t.Errorf("publish: %v", err)
	}
	if err := w.Sweep(); err != nil {
		t.Error(err)
	}
	if _, err := w.HasBlob(t.Context(), w.release(w.image(4, 1000)).SBOM.SHA256); err != nil {
		t.Errorf("content was removed: %v", err)
	}
}
