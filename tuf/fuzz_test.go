package tuf_test

import (
	"encoding/json"
	jsonv2 "encoding/json/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/release"
	"holdfast/tuf"
)

// named fails for an error that names no attack.
func named(t *testing.T, err error) {
	t.Helper()
	if err != nil && release.AttackOf(err) == "" {
		t.Errorf("no attack is named: %v", err)
	}
}

func FuzzCheckStrict(f *testing.F) {
	for _, b := range bare().files {
		f.Add(b)
	}
	f.Add([]byte(`{"a":[{"b":1,"\u0062":2}]}`))
	f.Add([]byte(`{"a":[[[[[[[[[[[[[[1]]]]]]]]]]]]]]} `))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := tuf.CheckStrict(b, 1<<20, 12); err != nil {
			named(t, err)
			return
		}
		// Two other readers agree about what is there.
		var old, strict map[string]any
		if err := json.Unmarshal(b, &old); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if err := jsonv2.Unmarshal(b, &strict); err != nil {
			t.Fatalf("encoding/json/v2 refuses it: %v", err)
		}
		if diff := cmp.Diff(old, strict); diff != "" {
			t.Errorf("two readings:\n%s", diff)
		}
		if n := depth(strict); n > 12 {
			t.Errorf("depth %d", n)
		}
	})
}

// depth returns how deep objects and arrays are nested.
func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			deepest = max(deepest, depth(x))
		}
	case []any:
		for _, x := range v {
			deepest = max(deepest, depth(x))
		}
	default:
		return 0
	}
	return deepest + 1
}

// bare returns files without signatures and with few keys: fuzzing shrinks what
// it finds, which takes long where most of it is key material.
func bare() *repo {
	r := newRepo()
	r.keys, r.post = r.keys[:2], r.post[:2]
	r.setRootKeys()
	r.delegate("pump")
	r.files["1.root.json"], r.files["1.targets.json"] = signed(r.root), signed(r.targets)
	r.files["1.pump.json"], r.files["1.snapshot.json"] = signed(r.products["pump"]), signed(r.snapshot)
	r.files["timestamp.json"] = signed(r.timestamp)
	return r
}

func FuzzReadRoot(f *testing.F) {
	f.Add(bare().files["1.root.json"])
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := tuf.ReadRoot(b)
		named(t, err)
		if err != nil {
			return
		}
		if root := must(metadata.Root().FromBytes(b)); root.Signed.Version != v || v < 1 || len(root.Signed.Roles) != 4 {
			t.Errorf("version %d, %d roles; go-tuf reads version %d", v, len(root.Signed.Roles), root.Signed.Version)
		}
	})
}

func FuzzReadTimestamp(f *testing.F) {
	f.Add(bare().files["timestamp.json"])
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := tuf.ReadTimestamp(b)
		if named(t, err); err == nil && v < 1 {
			t.Errorf("snapshot %d", v)
		}
	})
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add(bare().files["1.snapshot.json"])
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := tuf.ReadSnapshot(b)
		if named(t, err); err == nil && v < 1 {
			t.Errorf("targets %d", v)
		}
	})
}

func FuzzReadTargets(f *testing.F) {
	f.Add(bare().files["1.targets.json"])
	f.Fuzz(func(t *testing.T, b []byte) {
		products, err := tuf.ReadTargets(b)
		named(t, err)
		for _, p := range products {
			if _, err := release.ParseProduct(string(p)); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzReadProduct(f *testing.F) {
	f.Add(bare().files["1.pump.json"])
	f.Fuzz(func(t *testing.T, b []byte) {
		releases, err := tuf.ReadProduct("pump", b)
		named(t, err)
		var last release.Release
		for _, r := range releases {
			if err := r.Check(); err != nil || r.Product != "pump" || r.Version.Compare(last.Version) <= 0 {
				t.Errorf("%s after %s: %v", r.Path(), last.Path(), err)
			}
			last = r
		}
	})
}

// A state from a flash that rots opens as what was kept, or not at all.
func FuzzOpenTrust(f *testing.F) {
	b := model().files
	f.Add(b["1.root.json"], b["timestamp.json"], b["1.snapshot.json"], b["1.targets.json"], b["1.pump.json"])
	f.Add(b["1.root.json"], []byte{}, []byte{}, b["1.targets.json"], b["1.pump.json"])
	f.Fuzz(func(t *testing.T, root, timestamp, snapshot, targets, pump []byte) {
		s := tuf.State{Root: root, Timestamp: timestamp, Snapshot: snapshot, Targets: targets, Products: map[release.Product][]byte{"pump": pump}}
		trust, err := tuf.OpenTrust(s, tuf.DefaultLimits())
		if err != nil {
			named(t, err)
			return
		}
		for _, r := range trust.Listed("pump") {
			if r.Image.SHA256 != must(model().opened(t).Find("pump", r.Version, known)).Image.SHA256 {
				t.Error("an image that nobody has signed")
			}
		}
	})
}
