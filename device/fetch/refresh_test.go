package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/device/fetch"
	"holdfast/device/hubtest"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/tuf"
)

// direct is a connection that asks a handler.
type direct struct {
	http.Handler
	change func(path string, resp *http.Response) // may be nil
}

func (d direct) Close() error { return nil }

func (d direct) Get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	r.Header = header
	d.ServeHTTP(w, r)
	resp := w.Result()
	if resp.StatusCode == http.StatusNotFound {
		return nil, fault.New(fault.NotFound, "the hub answers 404")
	}
	if d.change != nil {
		d.change(path, resp)
	}
	return resp, nil
}

// store is a device's trust in a repository, and what it fetches from.
type store struct {
	t    *testing.T
	repo *hubtest.Repository
	conn direct
	dir  string
	root []byte
	at   func() tuf.Clock
	down error
}

func newStore(t *testing.T) *store {
	t.Helper()
	r := hubtest.NewRepository(t, "pump")
	return &store{t: t, repo: r, conn: direct{Handler: r}, dir: filepath.Join(t.TempDir(), "trust"), root: r.Root(),
		at: func() tuf.Clock { return tuf.At(time.Now()) }}
}

// open opens the trust, as after a restart.
func (s *store) open() (*fetch.Metadata, error) {
	src, err := fetch.New(fetch.Config{Dial: func(context.Context) (fetch.Conn, error) { return s.conn, s.down }})
	if err != nil {
		return nil, err
	}
	return fetch.Open(fetch.Trust{Source: src, Dir: s.dir, Root: s.root, Product: "pump", Clock: func() tuf.Clock { return s.at() }})
}

func (s *store) metadata() *fetch.Metadata {
	s.t.Helper()
	m, err := s.open()
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func described(minor uint8) release.Release {
	v := mcuboot.Version{Major: 1, Minor: minor}
	return release.Release{Image: release.Blob{Length: 1000, SHA256: identity.Sum([]byte(v.String()))},
		Target: release.Target{Product: "pump", Version: v, SecurityVersion: 1, Measured: identity.Sum([]byte("m" + v.String())),
			Health: release.Health{Checks: []string{release.CheckHub}, Seconds: 60}}}
}

func TestRefreshFindsReleases(t *testing.T) {
	s := newStore(t)
	s.repo.Publish(described(3), described(4))
	m := s.metadata()
	if _, err := m.Find(mcuboot.Version{Major: 1, Minor: 4}); err == nil {
		t.Error("found without metadata")
	}
	if err := m.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := m.Find(mcuboot.Version{Major: 1, Minor: 4})
	if err != nil || r.Image != described(4).Image {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := m.Find(mcuboot.Version{Major: 1, Minor: 5}); release.AttackOf(err) != release.ArbitrarySoftware {
		t.Errorf("a release that nobody signed: %v", err)
	}
	if got := m.Listed(); len(got) != 2 {
		t.Errorf("listed %+v", got)
	}
	s.down = errors.New("no hub")
	again := s.metadata() // what was accepted is still there
	if _, err := again.Find(mcuboot.Version{Major: 1, Minor: 3}); err != nil {
		t.Error(err)
	}
	if err := again.Refresh(t.Context()); !errors.Is(err, s.down) {
		t.Errorf("refresh: %v", err)
	}
}

// TestRollback: what was seen is not forgotten over a restart.
func TestRollback(t *testing.T) {
	s := newStore(t)
	s.repo.Publish(described(3))
	old := s.repo.Files()
	s.repo.Publish(described(4))
	if err := s.metadata().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.repo.Restore(old)
	m := s.metadata()
	if err := m.Refresh(t.Context()); release.AttackOf(err) != release.Rollback {
		t.Errorf("refresh: %v", err)
	}
	if _, err := m.Find(mcuboot.Version{Major: 1, Minor: 4}); err != nil {
		t.Errorf("what was known is gone: %v", err)
	}
}

func TestKeyCompromise(t *testing.T) {
	s := newStore(t)
	s.repo.PublishBy(1, described(4))
	m := s.metadata()
	if err := m.Refresh(t.Context()); release.AttackOf(err) != release.KeyCompromise {
		t.Errorf("refresh: %v", err)
	}
	if _, err := m.Find(mcuboot.Version{Major: 1, Minor: 4}); err == nil {
		t.Error("found what one of two has signed")
	}
}

func TestForeignRepositoryIsRefused(t *testing.T) {
	s := newStore(t)
	stranger := hubtest.NewRepository(t, "pump")
	stranger.Publish(described(4))
	s.conn.Handler = stranger
	if err := s.metadata().Refresh(t.Context()); release.AttackOf(err) == "" {
		t.Errorf("refresh: %v", err)
	}
}

func TestIndefiniteFreeze(t *testing.T) {
	s := newStore(t)
	s.repo.Publish(described(4))
	m := s.metadata()
	if err := m.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.at = func() tuf.Clock { return tuf.At(time.Now().Add(48 * time.Hour)) }
	if err := m.Refresh(t.Context()); release.AttackOf(err) != release.IndefiniteFreeze {
		t.Errorf("refresh: %v", err)
	}
	if _, err := m.Find(mcuboot.Version{Major: 1, Minor: 4}); release.AttackOf(err) != release.IndefiniteFreeze {
		t.Errorf("find: %v", err)
	}
}

// TestWrongClock: a device that does not know the time installs nothing, and
// learns versions all the same.
func TestWrongClock(t *testing.T) {
	s := newStore(t)
	s.repo.Publish(described(4))
	s.at = func() tuf.Clock { return tuf.Clock{Floor: time.Now().AddDate(-1, 0, 0)} }
	m := s.metadata()
	if err := m.Refresh(t.Context()); err != nil && release.AttackOf(err) != release.WrongClock {
		t.Errorf("refresh: %v", err)
	}
	if _, err := m.Find(mcuboot.Version{Major: 1, Minor: 4}); release.AttackOf(err) != release.WrongClock {
		t.Errorf("find: %v", err)
	}
	s.at = func() tuf.Clock { return tuf.At(time.Now()) }
	if err := m.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := m.Find(mcuboot.Version{Major: 1, Minor: 4}); err != nil {
		t.Error(err)
	}
}

// TestMetadataWithoutEnd: more than a file may have is not read.
func TestMetadataWithoutEnd(t *testing.T) {
	for name, change := range map[string]func(resp *http.Response){
		"it says so":   func(resp *http.Response) { resp.ContentLength, resp.Body = 1<<40, io.NopCloser(trap{t}) },
		"it says less": func(resp *http.Response) { resp.Body = io.NopCloser(endless{}) },
		"no length":    func(resp *http.Response) { resp.ContentLength, resp.Body = -1, io.NopCloser(trap{t}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			s.conn.change = func(path string, resp *http.Response) {
				if strings.HasSuffix(path, "timestamp.json") {
					change(resp)
				}
			}
			if err := s.metadata().Refresh(t.Context()); release.AttackOf(err) != release.EndlessData {
				t.Errorf("refresh: %v", err)
			}
		})
	}
}

// endless never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestSlowMetadata(t *testing.T) {
	s := newStore(t)
	synctest.Test(t, func(t *testing.T) {
		s.conn.change = func(_ string, resp *http.Response) { resp.Body = io.NopCloser(&silence{t.Context()}) }
		begin := time.Now()
		if err := s.metadata().Refresh(t.Context()); release.AttackOf(err) != release.SlowRetrieval || time.Since(begin) > 2*time.Minute {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

func TestMalformedMetadata(t *testing.T) {
	s := newStore(t)
	for name, text := range map[string]string{
		"not JSON": "<html>", "empty": "", "deep": strings.Repeat("[", 4000), "truncated": `{"signed":{"_type":"timestamp"`,
		"twice": `{"signatures":[],"signatures":[],"signed":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s.conn.change = func(path string, resp *http.Response) {
				if strings.HasSuffix(path, "timestamp.json") {
					resp.ContentLength, resp.Body = int64(len(text)), io.NopCloser(strings.NewReader(text))
				}
			}
			if err := s.metadata().Refresh(t.Context()); release.AttackOf(err) == "" {
				t.Errorf("refresh: %v", err)
			}
		})
	}
}

// TestTrustThatIsDamagedIsNotBegunAnew: to begin anew would forget what is too
// old to be taken.
func TestTrustThatIsDamagedIsNotBegunAnew(t *testing.T) {
	s := newStore(t)
	s.repo.Publish(described(4))
	if err := s.metadata().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "*"))
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		spoiled := bytes.Clone(b)
		spoiled[len(spoiled)/2] ^= 0x20
		for name, content := range map[string][]byte{"changed": spoiled, "cut off": b[:len(b)-1], "long": make([]byte, 2<<20)} {
			if err := atomicfile.Write(f, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.open(); err == nil && !strings.Contains(f, "index") {
				t.Errorf("%s, %s: opened", filepath.Base(f), name)
			}
		}
		if !strings.Contains(f, "index") {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
			if _, err := s.open(); err == nil {
				t.Errorf("%s is missing: opened", filepath.Base(f))
			}
		}
		if err := atomicfile.Write(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.open(); err != nil {
		t.Error(err)
	}
	s.root = hubtest.NewRepository(t, "pump").Root()
	if _, err := s.open(); err == nil {
		t.Error("opened with another root than it began with")
	}
}

// TestEveryCutOfKeepingLeavesATrust: whatever of a refresh reached the disk,
// the device opens its trust, and nothing that was accepted is taken back.
func TestEveryCutOfKeepingLeavesATrust(t *testing.T) {
	s := newStore(t)
	s.repo.Publish(described(3))
	if err := s.metadata().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := files(t, s.dir)
	s.repo.Publish(described(4))
	if err := s.metadata().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := files(t, s.dir)
	// New files come first, the index after them, and what it no longer names
	// goes last: each mixture of that kind has to open.
	for name := range after {
		mixture := map[string][]byte{}
		for n, b := range before {
			mixture[n] = b
		}
		if !strings.Contains(name, "index") {
			mixture[name] = after[name]
		}
		refill(t, s.dir, mixture)
		if _, err := s.open(); err != nil {
			t.Errorf("with %s: %v", name, err)
		}
	}
	all := map[string][]byte{"." + "index.json.123": []byte("torn")}
	for n, b := range before {
		all[n] = b
	}
	for n, b := range after {
		all[n] = b
	}
	refill(t, s.dir, all)
	m := s.metadata()
	if _, err := m.Find(mcuboot.Version{Major: 1, Minor: 4}); err != nil {
		t.Error(err)
	}
	s.repo.Publish(described(5))
	if err := m.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := files(t, s.dir); len(left) != len(after) {
		t.Errorf("%d files are left, want %d", len(left), len(after))
	}
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func refill(t *testing.T, dir string, content map[string][]byte) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for n, b := range content {
		if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
