package tuf_test

import (
	"maps"
	"net/http"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

// shelf is a go-tuf fetcher over files in memory.
type shelf map[string][]byte

func (s shelf) DownloadFile(url string, max int64, _ time.Duration) ([]byte, error) {
	b, ok := s[path.Base(url)]
	switch {
	case !ok:
		return nil, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: url}
	case int64(len(b)) > max:
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: url}
	}
	return b, nil
}

// goTUF refreshes go-tuf's own updater, which keeps its state in dir, and finds a
// target.
func goTUF(t *testing.T, dir string, root []byte, files shelf) error {
	t.Helper()
	c, err := config.New("https://hub.example/repository", root)
	if err != nil {
		t.Fatal(err)
	}
	c.LocalMetadataDir, c.LocalTargetsDir, c.Fetcher = dir, dir, files
	u, err := updater.New(c)
	if err != nil {
		t.Fatal(err)
	}
	u.UnsafeSetRefTime(now)
	if err := u.Refresh(); err != nil {
		return err
	}
	_, err = u.GetTargetInfo("pump/pump-1.4.0.img")
	return err
}

// next gives every file of the hub its next version, without publishing.
func (r *repo) next() {
	r.snapshot.Signed.Version++
	r.timestamp.Signed.Version++
}

// changes are what may happen to a repository after a client has seen it. All but
// "keys" leave the ML-DSA half in order: what go-tuf says of the classical half is
// what this package says of the whole.
var changes = map[string]struct {
	change func(*repo)
	taken  bool
}{
	"nothing":          {func(*repo) {}, true},
	"everything newer": {func(r *repo) { r.bump() }, true},
	"a release more":   {func(r *repo) { r.addRelease("pump", "1.5.0"); r.bump() }, true},
	"timestamp alone":  {func(r *repo) { r.timestamp.Signed.Version++; r.publishTimestamp() }, true},
	"versions that leap": {func(r *repo) {
		r.products["pump"].Signed.Version, r.targets.Signed.Version = 70, 80
		r.snapshot.Signed.Version, r.timestamp.Signed.Version = 90, 100
		r.publish()
	}, true},
	"roots": {func(r *repo) {
		for range 3 {
			r.root.Signed.Version++
			r.publishRoot()
		}
	}, true},
	"hub's key replaced": {func(r *repo) {
		r.online = newEd25519()
		r.root.Signed.Version = 2
		r.setRootKeys()
		r.publishRoot()
		r.publish()
	}, true},
	"hub's key replaced, targets too": {func(r *repo) {
		r.online = newEd25519()
		r.root.Signed.Version = 2
		r.setRootKeys()
		r.publishRoot()
		r.bump()
	}, true},
	"more signatures": {func(r *repo) {
		r.next()
		r.putProduct("pump", append(r.release(), r.keys[1])...)
		r.publishSnapshot()
	}, true},
	"root left out": {func(r *repo) {
		r.root.Signed.Version = 3
		r.files["2.root.json"] = r.publishRoot()
	}, false},
	"root below the threshold": {func(r *repo) {
		r.root.Signed.Version = 2
		r.files["2.root.json"] = signed(r.root, r.keys[0], r.post[0], r.post[1])
	}, false},
	"root of new keys alone": {func(r *repo) {
		r.keys = []signer{newEd25519(), newEd25519(), newEd25519()}
		r.root.Signed.Version = 2
		r.setRootKeys()
		r.publishRoot()
	}, false},
	"root expired": {func(r *repo) {
		r.root.Signed.Version, r.root.Signed.Expires = 2, now.Add(-time.Second)
		r.publishRoot()
	}, false},
	"timestamp older": {func(r *repo) {
		r.timestamp.Signed.Version = 0
		r.publishTimestamp()
	}, false},
	"timestamp expired": {func(r *repo) {
		r.timestamp.Signed.Version, r.timestamp.Signed.Expires = 5, now.Add(-time.Second)
		r.publishTimestamp()
	}, false},
	"timestamp by a stranger": {func(r *repo) {
		r.timestamp.Signed.Version = 5
		r.files["timestamp.json"] = signed(r.timestamp, newEd25519())
	}, false},
	"snapshot older": {func(r *repo) {
		r.bump()
		r.snapshot.Signed.Version, r.timestamp.Signed.Version = 0, 9
		r.timestamp.Signed.Meta["snapshot.json"].Version = 0
		r.publishTimestamp()
	}, false},
	"snapshot expired": {func(r *repo) {
		r.snapshot.Signed.Expires = now.Add(-time.Second)
		r.bump()
	}, false},
	"snapshot by releasers": {func(r *repo) {
		r.next()
		b := signed(r.snapshot, r.keys[0], r.keys[1], r.keys[2])
		r.files["2.snapshot.json"] = b
		r.timestamp.Signed.Meta["snapshot.json"] = listing(2, b)
		r.publishTimestamp()
	}, false},
	"snapshot of other bytes": {func(r *repo) {
		r.bump()
		r.files["2.snapshot.json"] = append(slices.Clone(r.files["2.snapshot.json"]), '\n')
	}, false},
	"snapshot without a product": {func(r *repo) {
		r.next()
		delete(r.snapshot.Signed.Meta, "valve.json")
		r.publishSnapshot()
	}, false},
	"targets older": {func(r *repo) {
		r.next()
		r.snapshot.Signed.Meta["targets.json"].Version = 0
		r.publishSnapshot()
	}, false},
	"targets expired": {func(r *repo) {
		r.targets.Signed.Expires = now.Add(-time.Second)
		r.bump()
	}, false},
	"targets below the threshold": {func(r *repo) {
		r.next()
		r.targets.Signed.Version = 2
		r.putTargets(r.keys[1], r.post[0], r.post[1])
		r.publishSnapshot()
	}, false},
	"targets of another version": {func(r *repo) {
		r.next()
		r.targets.Signed.Version = 3
		r.put("targets", 2, signed(r.targets, r.release()...))
		r.publishSnapshot()
	}, false},
	"product expired": {func(r *repo) {
		r.products["pump"].Signed.Expires = now.Add(-time.Second)
		r.bump()
	}, false},
	"product below the threshold": {func(r *repo) {
		r.next()
		r.products["pump"].Signed.Version = 2
		r.putProduct("pump", r.keys[2], r.post[0], r.post[1])
		r.publishSnapshot()
	}, false},
	"product by the hub": {func(r *repo) {
		r.next()
		r.products["pump"].Signed.Version = 2
		r.putProduct("pump", r.online, r.post[0], r.post[1])
		r.publishSnapshot()
	}, false},
	"product kept back": {func(r *repo) {
		r.bump()
		delete(r.files, "2.pump.json")
	}, false},
	"product of other bytes": {func(r *repo) {
		r.bump()
		r.files["2.pump.json"] = r.files["1.pump.json"]
	}, false},
	"no longer delegated": {func(r *repo) {
		r.delegate("valve")
		r.bump()
	}, false},
}

// go-tuf's own client and this package say the same of the same repository.
func TestInteropWithGoTUFUpdater(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		c := changes[name]
		t.Run(name, func(t *testing.T) {
			r := newRepo()
			root, dir := r.files["1.root.json"], t.TempDir()
			trust := r.opened(t)
			if err := goTUF(t, dir, root, r.files); err != nil {
				t.Fatalf("go-tuf refuses the first state: %v", err)
			}
			c.change(r)
			theirs := goTUF(t, dir, root, r.files)
			ours := refresh(trust, r.files, known)
			if ours == nil {
				_, ours = trust.Find("pump", version("1.4.0"), known)
			}
			if (theirs == nil) != c.taken || (ours == nil) != c.taken {
				t.Errorf("want taken %v\n go-tuf: %v\n we: %v", c.taken, theirs, ours)
			}
		})
	}
}
