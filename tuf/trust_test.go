package tuf_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/identity"
	"holdfast/release"
	"holdfast/tuf"
)

func TestRefreshBringsReleases(t *testing.T) {
	r := newRepo()
	r.addRelease("pump", "1.10.0")
	withdrawn := target("pump", "1.5.0")
	withdrawn.Withdrawn = "it leaks"
	r.addTarget("pump", withdrawn.Path(), withdrawn)
	r.bump()
	trust := r.opened(t)

	all, err := trust.Releases("pump", known)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pump/pump-1.4.0.img", "pump/pump-1.5.0.img", "pump/pump-1.10.0.img"}
	if diff := cmp.Diff(want, paths(all)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(all, trust.Listed("pump")); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	got, err := trust.Find("pump", version("1.10.0"), known)
	if err != nil {
		t.Fatal(err)
	}
	want1 := release.Release{Target: target("pump", "1.10.0"), Image: release.Blob{Length: 1000, SHA256: identity.Sum([]byte("image of pump/pump-1.10.0.img"))}}
	if diff := cmp.Diff(want1, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]release.Product{"pump", "valve"}, trust.Products()); diff != "" {
		t.Errorf("products (-want +got):\n%s", diff)
	}
	for role, want := range map[string]int64{tuf.Root: 1, tuf.Timestamp: 2, tuf.Snapshot: 2, tuf.Targets: 2, "pump": 2, "valve": 2, "boiler": 0} {
		if got := trust.Version(role); got != want {
			t.Errorf("%s: version %d, want %d", role, got, want)
		}
	}
	if got := trust.Expires(tuf.Timestamp); !got.Equal(now.AddDate(0, 0, 1)) {
		t.Errorf("timestamp expires %s", got)
	}
}

func TestRefreshAsksInOrderAndOnlyForWhatIsNew(t *testing.T) {
	r := newRepo()
	trust := r.open(t)
	asked := func() []string {
		var names []string
		f := trust.Refresh(known, "pump", "boiler")
		for w, ok := f.Next(); ok; w, ok = f.Next() {
			names = append(names, w.Name)
			b, ok := r.files[w.Name]
			if !ok {
				if err := f.Absent(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if w.Role != tuf.Root && w.Role != tuf.Timestamp && w.Max != int64(len(b)) {
				t.Errorf("%s: at most %d bytes, and it has %d", w.Name, w.Max, len(b))
			}
			if err := f.Take(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Take(r.files["timestamp.json"]); err == nil {
			t.Error("took a file that was not wanted")
		}
		return names
	}
	first := []string{"2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", "1.pump.json"}
	if diff := cmp.Diff(first, asked()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(first[:2], asked()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUpdatesKeepTheirOrder(t *testing.T) {
	r := newRepo()
	trust := r.open(t)
	for _, f := range []func() error{
		func() error { return trust.UpdateSnapshot(r.files["1.snapshot.json"], known) },
		func() error { return trust.UpdateTargets(r.files["1.targets.json"], known) },
		func() error { return trust.UpdateProduct("pump", r.files["1.pump.json"], known) },
		func() error { _, err := trust.Releases("pump", known); return err },
	} {
		refused(t, f(), release.MixAndMatch, "timestamp")
	}
	if err := trust.UpdateTimestamp(r.files["timestamp.json"], known); err != nil {
		t.Fatal(err)
	}
	refused(t, trust.UpdateTargets(r.files["1.targets.json"], known), release.MixAndMatch, "snapshot: none is held; version 1 is listed")
	if err := trust.UpdateSnapshot(r.files["1.snapshot.json"], known); err != nil {
		t.Fatal(err)
	}
	refused(t, trust.UpdateProduct("pump", r.files["1.pump.json"], known), release.MixAndMatch, "targets: none is held")
	if err := trust.UpdateTargets(r.files["1.targets.json"], known); err != nil {
		t.Fatal(err)
	}
	refused(t, trust.UpdateProduct("targets", r.files["1.targets.json"], known), release.WrongProduct)
	refused(t, trust.UpdateProduct("boiler", r.files["1.pump.json"], known), release.ArbitrarySoftware, "delegates nothing to the product boiler")
	_, err := trust.Releases("pump", known)
	refused(t, err, release.MixAndMatch, "pump: none is held; version 1 is listed")
	if err := trust.UpdateProduct("pump", r.files["1.pump.json"], known); err != nil {
		t.Fatal(err)
	}
	if !installs(trust, "pump", "1.4.0", known) {
		t.Error("the release is not there")
	}
}

func TestRootsFollowOneAnother(t *testing.T) {
	r := newRepo()
	trust := r.opened(t)
	old := r.release()
	r.keys[0], r.post[0] = newEd25519(), newMLDSA() // one releaser is replaced; the third and the second sign for the old root
	r.root.Signed.Version = 2
	r.setRootKeys()
	both := append(old, r.keys[0], r.post[0])
	r.files["2.root.json"] = signed(r.root, both...)
	r.root.Signed.Version = 3
	r.files["3.root.json"] = signed(r.root, r.release()...)
	if err := refresh(trust, r.files, known); err == nil {
		t.Error("targets of a releaser that was replaced are still taken")
	} else {
		refused(t, err, release.KeyCompromise, "targets 1", "1 keys, want 2")
	}
	if trust.Version(tuf.Root) != 3 || trust.Version(tuf.Targets) != 0 {
		t.Errorf("root %d, targets %d; want 3 and none", trust.Version(tuf.Root), trust.Version(tuf.Targets))
	}
	r.delegate("pump", "valve")
	r.bump()
	if err := refresh(trust, r.files, known); err != nil {
		t.Fatal(err)
	}
	if !installs(trust, "pump", "1.4.0", known) {
		t.Error("the release is not there")
	}
}

func TestRefreshTakesSoManyRootsAtOnce(t *testing.T) {
	r := newRepo()
	l := tuf.DefaultLimits()
	l.Roots = 2
	trust, err := tuf.NewTrust(r.files["1.root.json"], l)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		r.root.Signed.Version++
		r.publishRoot()
	}
	for _, want := range []int64{3, 5, 6} {
		if err := refresh(trust, r.files, known); err != nil {
			t.Fatal(err)
		}
		if got := trust.Version(tuf.Root); got != want {
			t.Fatalf("root %d, want %d", got, want)
		}
	}
}

func TestRootMayHaveExpiredOnTheWay(t *testing.T) {
	r := newRepo()
	r.root.Signed.Expires = now.Add(-time.Hour)
	r.publishRoot()
	trust := r.open(t)
	refused(t, refresh(trust, r.files, known), release.IndefiniteFreeze, "root 1", "expired")
	r.root.Signed.Version, r.root.Signed.Expires = 2, now.Add(time.Hour)
	r.publishRoot()
	if err := refresh(trust, r.files, known); err != nil {
		t.Error(err)
	}
}

func TestReadableReleasesStayBesideUnreadableOnes(t *testing.T) {
	r := newRepo()
	later := map[string]any{"product": "pump", "version": "9.0.0", "not_known_yet": true}
	r.addTarget("pump", "pump/pump-9.0.0.img", later)
	other := target("valve", "1.6.0")
	r.addTarget("pump", "pump/pump-1.6.0.img", other)
	r.addTarget("pump", "pump/pump-1.7.0.img", target("pump", "1.8.0"))
	unfit := target("pump", "1.9.0")
	unfit.SecurityVersion = 0
	r.addTarget("pump", unfit.Path(), unfit)
	r.addTarget("pump", "pump/pump-1.11.0.img", target("pump", "1.11.0")).Custom = nil
	cases := map[string]any{"pump": "pump", "PRODUCT": "pump"} // names are exact
	r.addTarget("pump", "pump/pump-1.12.0.img", cases)
	r.bump()
	trust := r.opened(t)
	all, err := trust.Releases("pump", known)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"pump/pump-1.4.0.img"}, paths(all)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for v, want := range map[string]release.Attack{
		"9.0.0": release.MalformedMetadata, "1.6.0": release.WrongProduct, "1.7.0": release.MixAndMatch,
		"1.9.0": release.MalformedMetadata, "1.11.0": release.MalformedMetadata, "1.12.0": release.MalformedMetadata,
		"3.0.0": release.ArbitrarySoftware,
	} {
		_, err := trust.Find("pump", version(v), known)
		refused(t, err, want, v)
	}
}

func TestWithdrawnReleaseIsNotFound(t *testing.T) {
	r := newRepo()
	trust := r.opened(t)
	d := target("pump", "1.4.0")
	d.Withdrawn = "it leaks"
	r.addTarget("pump", d.Path(), d)
	r.bump()
	if err := refresh(trust, r.files, known); err != nil {
		t.Fatal(err)
	}
	_, err := trust.Find("pump", version("1.4.0"), known)
	refused(t, err, release.WithdrawnRelease, "pump 2", "1.4.0", "it leaks")
	if got := trust.Listed("pump"); len(got) != 1 || got[0].Withdrawn == "" {
		t.Errorf("listed: %v", got)
	}
}

func TestRehearseRefusesWhatIsOlder(t *testing.T) {
	r := newRepo()
	old := r.copy()
	r.bump()
	trust := r.opened(t)
	products := func(files map[string][]byte, v string) map[release.Product][]byte {
		return map[release.Product][]byte{"pump": files[v+".pump.json"], "valve": files["2.valve.json"]}
	}
	unchanged(t, trust, func() {
		if err := trust.Rehearse(r.files["2.targets.json"], products(r.files, "2"), known); err != nil {
			t.Error(err)
		}
		refused(t, trust.Rehearse(old["1.targets.json"], products(r.files, "2"), known), release.Rollback, "targets 1")
		refused(t, trust.Rehearse(r.files["2.targets.json"], products(r.files, "1"), known), release.Rollback, "pump 1")
	})
}
