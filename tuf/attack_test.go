package tuf_test

import (
	"crypto/mldsa"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/release"
	"holdfast/tuf"
)

// An attacker without any key.
func TestArbitrarySoftware(t *testing.T) {
	r := newRepo()
	trust := r.opened(t)
	stranger := strange() // keys of nobody we know

	for name, attempt := range map[string]func() error{
		"root": func() error {
			stranger.root.Signed.Version = 2
			return trust.UpdateRoot(stranger.publishRoot())
		},
		"timestamp": func() error {
			stranger.timestamp.Signed.Version = 9
			return trust.UpdateTimestamp(signed(stranger.timestamp, stranger.online), known)
		},
		"timestamp without signatures": func() error {
			return trust.UpdateTimestamp(signed(stranger.timestamp), known)
		},
		"signature of another key under a known id": func() error {
			s := sign(stranger.online, must(tuf.Canonical(stranger.timestamp.Signed)))
			s.KeyID = id(r.online)
			stranger.timestamp.Signatures = []metadata.Signature{s}
			return trust.UpdateTimestamp(must(stranger.timestamp.ToBytes(false)), known)
		},
	} {
		t.Run(name, func(t *testing.T) {
			unchanged(t, trust, func() { refused(t, attempt(), release.ArbitrarySoftware, strings.Fields(name)[0]) })
		})
	}

	// One byte of a signed file.
	for _, role := range []string{"timestamp.json", "1.snapshot.json", "1.targets.json", "1.pump.json"} {
		t.Run("changed "+role, func(t *testing.T) {
			files := r.copy()
			files[role] = []byte(strings.Replace(string(files[role]), `"version":1`, `"version":2`, 1))
			if err := refresh(r.open(t), files, known); release.AttackOf(err) == "" {
				t.Errorf("taken: %v", err)
			}
		})
	}
	_, err := trust.Find("pump", version("6.6.6"), known)
	refused(t, err, release.ArbitrarySoftware, "pump 1", "6.6.6")
}

// An older file instead of a newer one.
func TestRollbackOfTimestamp(t *testing.T) {
	r := newRepo()
	old := r.copy()
	r.bump()
	trust := r.opened(t)
	unchanged(t, trust, func() {
		refused(t, refresh(trust, old, known), release.Rollback, "timestamp 1", "version 2 has been seen")
	})
	// A restart forgets nothing.
	again, err := tuf.OpenTrust(trust.State(), tuf.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	refused(t, refresh(again, old, known), release.Rollback, "timestamp 1")
}

func TestRollbackOfSnapshot(t *testing.T) {
	r := newRepo()
	old := r.copy()
	r.bump()
	trust := r.opened(t)
	r.timestamp.Signed.Version = 3
	r.timestamp.Signed.Meta["snapshot.json"] = listing(1, old["1.snapshot.json"])
	r.publishTimestamp()
	unchanged(t, trust, func() {
		refused(t, refresh(trust, r.files, known), release.Rollback, "timestamp 3", "lists snapshot 1", "snapshot 2 has been listed")
	})
}

func TestRollbackOfTargetsAndProducts(t *testing.T) {
	for _, role := range []string{"targets", "pump"} {
		t.Run(role, func(t *testing.T) {
			r := newRepo()
			old := r.copy()
			r.bump()
			trust := r.opened(t)
			r.snapshot.Signed.Version, r.timestamp.Signed.Version = 3, 3
			r.snapshot.Signed.Meta[role+".json"] = listing(1, old["1."+role+".json"])
			r.publishSnapshot()
			refused(t, refresh(trust, r.files, known), release.Rollback, "snapshot 3", role+".json version 1", "version 2 has been seen")
			if installs(trust, "pump", "1.4.0", known) {
				t.Error("installs while the hub announces a snapshot that is refused")
			}
		})
	}
}

func TestRollbackByLeavingOut(t *testing.T) {
	r := newRepo()
	trust := r.opened(t)
	delete(r.snapshot.Signed.Meta, "pump.json")
	r.snapshot.Signed.Version, r.timestamp.Signed.Version = 2, 2
	r.publishSnapshot()
	refused(t, refresh(trust, r.files, known), release.Rollback, "snapshot 2", "lists no pump.json", "version 1 has been seen")
}

func TestRollbackOfRoot(t *testing.T) {
	r := newRepo()
	trust := r.opened(t)
	unchanged(t, trust, func() {
		refused(t, trust.UpdateRoot(r.files["1.root.json"]), release.Rollback, "root 1", "version 2 follows")
	})
}

// The same version with other content: the hub says different things to
// different devices.
func TestRollbackBySecondFileOfOneVersion(t *testing.T) {
	r := newRepo()
	trust := r.opened(t)
	r.timestamp.Signed.Expires = r.timestamp.Signed.Expires.Add(time.Hour)
	unchanged(t, trust, func() {
		refused(t, trust.UpdateTimestamp(signed(r.timestamp, r.online), known), release.MixAndMatch, "timestamp 1", "another one")
	})
	r = newRepo()
	trust = r.opened(t)
	r.addRelease("pump", "1.5.0")
	r.putProduct("pump", r.release()...)
	r.snapshot.Signed.Version, r.timestamp.Signed.Version = 2, 2
	r.publishSnapshot()
	refused(t, refresh(trust, r.files, known), release.MixAndMatch, "pump 1", "another one")
}

// One more signature on what is held already is no attack.
func TestMoreSignaturesAreTaken(t *testing.T) {
	r := newRepo()
	trust := r.opened(t)
	r.putProduct("pump", append(r.release(), r.keys[1], r.post[1])...)
	r.snapshot.Signed.Version, r.timestamp.Signed.Version = 2, 2
	r.publishSnapshot()
	if err := refresh(trust, r.files, known); err != nil {
		t.Error(err)
	}
	if !installs(trust, "pump", "1.4.0", known) {
		t.Error("the release is not there")
	}
}

// The hub, or who stands before it, keeps showing what was valid once.
func TestIndefiniteFreeze(t *testing.T) {
	r := newRepo()
	trust := r.opened(t)
	for after, role := range map[time.Duration]string{
		24 * time.Hour:       "timestamp 1",
		8 * 24 * time.Hour:   "timestamp 1",
		400 * 24 * time.Hour: "root 1",
	} {
		at := tuf.At(now.Add(after))
		unchanged(t, trust, func() {
			refused(t, refresh(trust, r.files, at), release.IndefiniteFreeze, role, "expired on")
		})
		_, err := trust.Find("pump", version("1.4.0"), at)
		refused(t, err, release.IndefiniteFreeze, role, "expired on")
	}
	if !installs(trust, "pump", "1.4.0", tuf.At(now.Add(24*time.Hour-time.Second))) {
		t.Error("refused a second before it expires")
	}
	if len(trust.Listed("pump")) != 1 {
		t.Error("what has expired is no longer known")
	}
}

func TestIndefiniteFreezeOfEachRole(t *testing.T) {
	past := now.Add(-time.Second)
	for role, expire := range map[string]func(*repo){
		"root":      func(r *repo) { r.root.Signed.Expires = past; r.publishRoot() },
		"timestamp": func(r *repo) { r.timestamp.Signed.Expires = past },
		"snapshot":  func(r *repo) { r.snapshot.Signed.Expires = past },
		"targets":   func(r *repo) { r.targets.Signed.Expires = past },
		"pump":      func(r *repo) { r.products["pump"].Signed.Expires = past },
	} {
		t.Run(role, func(t *testing.T) {
			r := newRepo()
			expire(r)
			r.publish()
			trust := r.open(t)
			refused(t, refresh(trust, r.files, known), release.IndefiniteFreeze, role+" 1", "it expired on", "valid on")
			if role != "root" && trust.Version(role) != 0 {
				t.Error("it is held")
			}
		})
	}
}

// A file that must be there is not.
func TestIndefiniteFreezeByKeepingBack(t *testing.T) {
	r := newRepo()
	for _, name := range []string{"timestamp.json", "1.snapshot.json", "1.targets.json", "1.pump.json"} {
		files := r.copy()
		delete(files, name)
		trust := r.open(t)
		refused(t, refresh(trust, files, known), release.IndefiniteFreeze, "keeps back "+name)
		if installs(trust, "pump", "1.4.0", known) {
			t.Errorf("installs without %s", name)
		}
	}
	// Nor does a device install what it holds while something newer is announced.
	trust := r.opened(t)
	r.bump()
	files := r.copy()
	delete(files, "2.pump.json")
	refused(t, refresh(trust, files, known), release.IndefiniteFreeze, "keeps back 2.pump.json")
	_, err := trust.Find("pump", version("1.4.0"), known)
	refused(t, err, release.MixAndMatch, "pump 1", "version 2 is listed")
}

// Versions so high that no good one could follow.
func TestFastForward(t *testing.T) {
	limit := tuf.DefaultLimits().Version
	for name, forward := range map[string]func(*repo){
		"timestamp": func(r *repo) { r.timestamp.Signed.Version = limit + 1 },
		"snapshot":  func(r *repo) { r.timestamp.Signed.Meta["snapshot.json"].Version = math.MaxInt64 },
		"targets": func(r *repo) {
			r.snapshot.Signed.Version, r.timestamp.Signed.Version = 2, 2
			r.snapshot.Signed.Meta["targets.json"].Version = limit + 1
			r.publishSnapshot()
		},
		"pump": func(r *repo) {
			r.snapshot.Signed.Version, r.timestamp.Signed.Version = 2, 2
			r.snapshot.Signed.Meta["pump.json"].Version = limit + 1
			r.publishSnapshot()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo()
			trust := r.opened(t)
			forward(r)
			r.publishTimestamp()
			refused(t, refresh(trust, r.files, known), release.FastForward, fmt.Sprintf("want %d at most", limit))
		})
	}
	t.Run("root", func(t *testing.T) {
		r := newRepo()
		trust := r.opened(t)
		r.root.Signed.Version = 3
		refused(t, trust.UpdateRoot(r.publishRoot()), release.FastForward, "root 3", "version 2 follows")
	})
}

// Within the limit a thief of the hub's key can still push versions ahead: a new
// root with another key makes them be forgotten (section 5.3.11).
func TestFastForwardRecovery(t *testing.T) {
	r := newRepo()
	trust := r.opened(t)
	far := tuf.DefaultLimits().Version
	r.snapshot.Signed.Version, r.timestamp.Signed.Version = far, far
	r.snapshot.Signed.Meta["targets.json"].Version = far
	r.publishSnapshot()
	refused(t, refresh(trust, r.files, known), release.IndefiniteFreeze, "targets.json")
	if trust.Version(tuf.Snapshot) != far {
		t.Fatalf("snapshot %d: the attack did not come about", trust.Version(tuf.Snapshot))
	}

	// Honest again, with the same key: nothing is taken.
	r.snapshot.Signed.Version, r.timestamp.Signed.Version = 2, 2
	r.publish()
	refused(t, refresh(trust, r.files, known), release.Rollback)

	// With a new key all of it is, also after a restart in between.
	r.online = newEd25519()
	r.root.Signed.Version = 2
	r.setRootKeys()
	r.publishRoot()
	r.publish()
	if err := trust.UpdateRoot(r.files["2.root.json"]); err != nil {
		t.Fatal(err)
	}
	trust, err := tuf.OpenTrust(trust.State(), tuf.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if trust.Version(tuf.Timestamp) != 0 || trust.Version(tuf.Snapshot) != 0 || trust.Version(tuf.Targets) != 1 {
		t.Error("timestamp and snapshot should be forgotten, targets not")
	}
	if err := refresh(trust, r.files, known); err != nil {
		t.Fatal(err)
	}
	if !installs(trust, "pump", "1.4.0", known) {
		t.Error("the release is not there")
	}
}

// Recovery forgets what the hub said, not what the releasers signed.
func TestFastForwardRecoveryIsNoRollback(t *testing.T) {
	r := newRepo()
	old := r.copy()
	r.bump()
	trust := r.opened(t)
	r.online = newEd25519()
	r.root.Signed.Version = 2
	r.setRootKeys()
	r.publishRoot()
	r.snapshot.Signed.Meta["pump.json"] = listing(1, old["1.pump.json"])
	r.publishSnapshot()
	refused(t, refresh(trust, r.files, known), release.Rollback, "pump.json version 1", "version 2 has been seen")
}

// Files that never were together.
func TestMixAndMatch(t *testing.T) {
	r := newRepo()
	old := r.copy()
	r.addRelease("pump", "1.5.0")
	r.bump()
	for _, m := range r.snapshot.Signed.Meta {
		m.Length = 0 // or some are endless data
	}
	r.publishSnapshot()
	r.timestamp.Signed.Meta["snapshot.json"].Length = 0
	r.publishTimestamp()
	for name, other := range map[string]string{
		"2.snapshot.json": "1.snapshot.json", "2.targets.json": "1.targets.json", "2.pump.json": "1.pump.json",
	} {
		files := r.copy()
		files[name] = old[other]
		trust := r.open(t)
		refused(t, refresh(trust, files, known), release.MixAndMatch, "version 2 that is listed")
		if installs(trust, "pump", "1.4.0", known) {
			t.Errorf("installs with %s for %s", other, name)
		}
	}
	// Without hashes it is the version that shows it.
	r.snapshot.Signed.Meta["pump.json"] = &metadata.MetaFiles{Version: 2}
	r.snapshot.Signed.Version, r.timestamp.Signed.Version = 3, 3
	r.publishSnapshot()
	files := r.copy()
	files["2.pump.json"] = old["1.pump.json"]
	refused(t, refresh(r.open(t), files, known), release.MixAndMatch, "pump 1", "version 2 is listed")
}

// A role that speaks of what is not its own.
func TestWrongProduct(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*repo)
		text  string
	}{
		"path of another product": {func(r *repo) { r.addTarget("pump", "valve/valve-1.0.0.img", target("valve", "1.0.0")) }, "want pump/pump-VERSION.img"},
		"path that climbs":        {func(r *repo) { r.addTarget("pump", "pump/../pump-1.0.0.img", target("pump", "1.0.0")) }, "want pump/pump-VERSION.img"},
		"path of another form":    {func(r *repo) { r.addTarget("pump", "pump/pump-01.0.0.img", target("pump", "1.0.0")) }, "want pump/pump-VERSION.img"},
		"target in targets":       {func(r *repo) { r.targets.Signed.Targets = r.products["pump"].Signed.Targets }, "only a product's role may"},
		"delegation to all":       {func(r *repo) { r.targets.Signed.Delegations.Roles[0].Paths = []string{"*/*"} }, `want "pump/*"`},
		"delegation to two":       {func(r *repo) { r.targets.Signed.Delegations.Roles[0].Paths = []string{"pump/*", "valve/*"} }, `want "pump/*"`},
		"delegation to no path":   {func(r *repo) { r.targets.Signed.Delegations.Roles[0].Paths = nil }, `want "pump/*"`},
		"delegation that goes on": {func(r *repo) { r.targets.Signed.Delegations.Roles[0].Terminating = false }, "does not terminate"},
		"delegation by hash": {func(r *repo) {
			r.targets.Signed.Delegations.Roles[0].PathHashPrefixes, r.targets.Signed.Delegations.Roles[0].Paths = []string{"0"}, nil
		}, `want "pump/*"`},
		"delegation by a product": {func(r *repo) { r.products["pump"].Signed.Delegations = r.targets.Signed.Delegations }, "may not delegate"},
		"another product's role":  {func(r *repo) { r.products["pump"].Signed.Targets = r.products["valve"].Signed.Targets }, "want pump/pump-VERSION.img"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo()
			c.spoil(r)
			r.publish()
			trust := r.open(t)
			refused(t, refresh(trust, r.files, known), release.WrongProduct, c.text)
			if installs(trust, "pump", "1.4.0", known) {
				t.Error("installs")
			}
		})
	}
	// A product's keys sign for that product and no other.
	r := newRepo()
	d := r.targets.Signed.Delegations
	own := newEd25519()
	post := newMLDSA()
	d.Keys[id(own)] = own.key
	d.Roles[1].KeyIDs, d.Roles[1].Threshold = []string{id(own)}, 1
	x := r.mldsa("pump", "valve")
	x.Keys[id(post)] = post.PublicKey().Bytes()
	x.Roles["valve"] = tuf.MLDSARole{KeyIDs: []string{id(post)}, Threshold: 1}
	r.targets.Signed.UnrecognizedFields[tuf.MLDSAField] = x
	r.putTargets(r.release()...)
	r.putProduct("valve", own, post)
	r.publishSnapshot()
	if err := refresh(r.open(t), r.files, known); err != nil {
		t.Fatal(err)
	}
	r.putProduct("pump", own, post)
	r.publishSnapshot()
	refused(t, refresh(r.open(t), r.files, known), release.ArbitrarySoftware, "pump 1")
}

// More bytes than were announced.
func TestEndlessData(t *testing.T) {
	r := newRepo()
	l := tuf.DefaultLimits()
	endless := make([]byte, l.RootBytes+1)
	trust := r.opened(t)
	unchanged(t, trust, func() {
		refused(t, trust.UpdateRoot(endless), release.EndlessData, "root", fmt.Sprintf("want %d at most", l.RootBytes))
		refused(t, trust.UpdateTimestamp(endless[:l.TimestampBytes+1], known), release.EndlessData, "timestamp")
		refused(t, trust.UpdateSnapshot(append(r.files["1.snapshot.json"], ' '), known), release.EndlessData, "snapshot 1", "are listed")
		refused(t, trust.UpdateTargets(append(r.files["1.targets.json"], ' '), known), release.EndlessData, "targets 1", "are listed")
		refused(t, trust.UpdateProduct("pump", append(r.files["1.pump.json"], ' '), known), release.EndlessData, "pump 1", "are listed")
	})
	if _, err := tuf.NewTrust(endless, l); release.AttackOf(err) != release.EndlessData {
		t.Errorf("a root of %d bytes: %v", len(endless), err)
	}
	// A listing cannot raise the limit, nor an image be without end.
	r.timestamp.Signed.Meta["snapshot.json"].Length = 1 << 40
	r.timestamp.Signed.Version = 2
	r.publishTimestamp()
	f := trust.Refresh(known)
	for w, ok := f.Next(); ok; w, ok = f.Next() {
		if w.Max > l.RootBytes {
			t.Errorf("%s: %d bytes", w.Name, w.Max)
		}
		if b, ok := r.files[w.Name]; !ok || w.Role == tuf.Snapshot {
			_ = f.Absent()
		} else if err := f.Take(b); err != nil {
			t.Fatal(err)
		}
	}
	r = newRepo()
	r.products["pump"].Signed.Targets["pump/pump-1.4.0.img"].Length = release.MaxImage + 1
	r.publish()
	refused(t, refresh(r.open(t), r.files, known), release.EndlessData, "pump 1", "pump/pump-1.4.0.img")
}

// keysets are the signatures that a thief can make who holds fewer keys than the
// threshold, of one kind or of both.
func keysets(r *repo) map[string]struct {
	keys   []any
	attack release.Attack
} {
	type set = struct {
		keys   []any
		attack release.Attack
	}
	return map[string]set{
		"none":                     {nil, release.ArbitrarySoftware},
		"one of each":              {[]any{r.keys[0], r.post[0]}, release.KeyCompromise},
		"no ML-DSA":                {[]any{r.keys[0], r.keys[1], r.keys[2]}, release.ArbitrarySoftware},
		"one ML-DSA":               {[]any{r.keys[0], r.keys[1], r.keys[2], r.post[0]}, release.KeyCompromise},
		"no classical":             {[]any{r.post[0], r.post[1], r.post[2]}, release.ArbitrarySoftware},
		"one classical":            {[]any{r.keys[0], r.post[0], r.post[1], r.post[2]}, release.KeyCompromise},
		"the hub's and one each":   {[]any{r.online, r.keys[0], r.post[0]}, release.KeyCompromise},
		"the same classical twice": {[]any{r.keys[0], r.keys[0], r.post[0], r.post[1]}, release.KeyCompromise},
		"the same ML-DSA twice":    {[]any{r.keys[0], r.keys[1], r.post[0], r.post[0]}, release.KeyCompromise},
	}
}

func TestKeysStolenBelowThreshold(t *testing.T) {
	names := slices.Sorted(maps.Keys(keysets(newRepo())))
	for _, role := range []string{"root", "targets", "pump"} {
		for _, name := range names {
			t.Run(role+" "+name, func(t *testing.T) {
				r := newRepo()
				trust := r.opened(t)
				set := keysets(r)[name]
				r.root.Signed.Version, r.targets.Signed.Version, r.products["pump"].Signed.Version = 2, 2, 2
				r.snapshot.Signed.Version, r.timestamp.Signed.Version = 2, 2
				switch role {
				case "root":
					r.files["2.root.json"] = signed(r.root, set.keys...)
				case "targets":
					r.putTargets(set.keys...)
				case "pump":
					r.putProduct("pump", set.keys...)
				}
				r.publishSnapshot()
				refused(t, refresh(trust, r.files, known), set.attack, role)
				if trust.Version(role) != 1 {
					t.Error("it is held")
				}
			})
		}
	}
}

// The two thresholds of a root are those of the old root and of the new one.
func TestKeysStolenBelowThresholdOfOldOrNewRoot(t *testing.T) {
	r := newRepo()
	oldKeys, oldPost := r.keys, r.post
	trust := r.opened(t)
	r.keys = []signer{newEd25519(), newEd25519(), newECDSA()}
	r.root.Signed.Version = 2
	r.setRootKeys()
	halfNew := []any{r.keys[0], r.keys[1], oldKeys[0], oldKeys[1], oldPost[0], oldPost[1]}
	if err := trust.UpdateRoot(signed(r.root, halfNew...)); err != nil {
		t.Fatalf("new classical keys: %v", err)
	}

	r = newRepo()
	oldKeys, oldPost = r.keys, r.post
	r.keys = []signer{newEd25519(), newEd25519(), newECDSA()}
	r.post = []*mldsa.PrivateKey{newMLDSA(), newMLDSA(), newMLDSA()}
	trust = r.opened(t)
	r.root.Signed.Version = 2
	r.setRootKeys()
	new2 := []any{r.keys[0], r.post[0], r.keys[1], r.post[1]}
	old2 := []any{oldKeys[0], oldPost[0], oldKeys[1], oldPost[1]}
	both := append(append([]any{}, new2...), old2...)
	for name, c := range map[string]struct {
		keys   []any
		attack release.Attack
	}{
		"new alone":                 {new2, release.ArbitrarySoftware},
		"old alone":                 {old2, release.ArbitrarySoftware},
		"one old":                   {append(append([]any{}, new2...), old2[:2]...), release.KeyCompromise},
		"one new":                   {append(append([]any{}, old2...), new2[:2]...), release.KeyCompromise},
		"old without ML-DSA":        {append(append([]any{}, new2...), oldKeys[0], oldKeys[1]), release.ArbitrarySoftware},
		"new without ML-DSA":        {append(append([]any{}, old2...), r.keys[0], r.keys[1]), release.ArbitrarySoftware},
		"old with ML-DSA alone":     {append(append([]any{}, new2...), oldPost[0], oldPost[1]), release.ArbitrarySoftware},
		"new with one ML-DSA alone": {append(append([]any{}, old2...), r.keys[0], r.keys[1], r.post[2]), release.KeyCompromise},
	} {
		t.Run(name, func(t *testing.T) {
			unchanged(t, trust, func() { refused(t, trust.UpdateRoot(signed(r.root, c.keys...)), c.attack, "root 2") })
		})
	}
	if err := trust.UpdateRoot(signed(r.root, both...)); err != nil {
		t.Error(err)
	}
}

// Whoever holds the hub holds the keys of snapshot and timestamp, and can choose
// which signed files to show. That is all.
func TestMaliciousHub(t *testing.T) {
	fresh := func(r *repo) *tuf.Trust {
		trust := r.opened(t)
		r.snapshot.Signed.Version, r.timestamp.Signed.Version = 2, 2
		return trust
	}
	for name, c := range map[string]struct {
		attempt func(*repo)
		attack  release.Attack
	}{
		"a release of its own": {func(r *repo) {
			r.products["pump"].Signed.Version = 2
			r.addRelease("pump", "6.6.6")
			r.putProduct("pump", r.online)
		}, release.ArbitrarySoftware},
		"a withdrawn release again": {func(r *repo) {
			r.products["pump"].Signed.Version = 2
			r.putProduct("pump")
		}, release.ArbitrarySoftware},
		"delegations of its own": {func(r *repo) {
			r.targets.Signed.Version = 2
			for i := range r.targets.Signed.Delegations.Roles {
				r.targets.Signed.Delegations.Roles[i].KeyIDs = []string{id(r.online)}
			}
			r.targets.Signed.Delegations.Keys[id(r.online)] = r.online.key
			r.targets.Signed.Delegations.Roles[0].Threshold = 1
			r.targets.Signed.Delegations.Roles[1].Threshold = 1
			r.putTargets(r.online)
		}, release.ArbitrarySoftware},
		"a root of its own": {func(r *repo) {
			r.root.Signed.Version = 2
			r.files["2.root.json"] = signed(r.root, r.online)
		}, release.ArbitrarySoftware},
		"another product's role": {func(r *repo) {
			r.products["valve"].Signed.Version = 2
			r.put("pump", 2, signed(r.products["valve"], r.release()...))
		}, release.WrongProduct},
		"timestamp as snapshot": {func(r *repo) {
			b := signed(r.timestamp, r.online)
			r.files["3.snapshot.json"] = b
			r.timestamp.Signed.Version = 3
			r.timestamp.Signed.Meta["snapshot.json"] = listing(3, b)
			r.publishTimestamp()
		}, release.MalformedMetadata},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo()
			trust := fresh(r)
			c.attempt(r)
			if name != "timestamp as snapshot" {
				r.publishSnapshot()
			}
			refused(t, refresh(trust, r.files, known), c.attack)
			if installs(trust, "pump", "6.6.6", known) {
				t.Error("installs what no threshold has signed")
			}
		})
	}
	t.Run("a root whose release keys are the hub's", func(t *testing.T) {
		r := newRepo()
		r.keys[0] = r.online
		r.setRootKeys()
		_, err := tuf.NewTrust(r.publishRoot(), tuf.DefaultLimits())
		refused(t, err, release.MalformedMetadata, "whoever holds the hub")
	})
}

// A clock that is not known cannot judge expiry; one that was set back is not
// known.
func TestExpiredMetadataWrongClock(t *testing.T) {
	r := newRepo()
	built := now.AddDate(0, -1, 0)
	for name, at := range map[string]tuf.Clock{
		"never set":                 {},
		"never set, floor known":    {Floor: built},
		"before the build":          {Now: time.Unix(0, 0), Floor: built},
		"a second before the floor": {Now: now.Add(-time.Second), Floor: now},
	} {
		t.Run(name, func(t *testing.T) {
			trust := r.open(t)
			if err := refresh(trust, r.files, at); err != nil {
				t.Fatalf("versions are not learnt: %v", err)
			}
			_, err := trust.Find("pump", version("1.4.0"), at)
			refused(t, err, release.WrongClock, "pump 1", "clock is not known")
			_, err = trust.Releases("pump", at)
			refused(t, err, release.WrongClock)
			if len(trust.Listed("pump")) != 1 {
				t.Error("what was verified is not listed")
			}
			if !installs(trust, "pump", "1.4.0", tuf.Clock{Now: now, Floor: built}) {
				t.Error("refused with a good clock")
			}
		})
	}
	// What had expired by the floor has expired, whatever the clock says.
	for _, at := range []tuf.Clock{
		{Floor: now.AddDate(0, 0, 2)},
		{Now: now, Floor: now.AddDate(0, 0, 2)},
	} {
		refused(t, refresh(r.open(t), r.files, at), release.IndefiniteFreeze, "timestamp 1")
		trust := r.opened(t)
		_, err := trust.Find("pump", version("1.4.0"), at)
		refused(t, err, release.IndefiniteFreeze, "timestamp 1")
	}
	// Rollback is refused without any clock.
	old := r.copy()
	r.bump()
	trust := r.open(t)
	if err := refresh(trust, r.files, tuf.Clock{}); err != nil {
		t.Fatal(err)
	}
	refused(t, refresh(trust, old, tuf.Clock{}), release.Rollback)
}
