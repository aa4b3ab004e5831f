package slots_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"holdfast/device/slots"
	"holdfast/identity"
	"holdfast/internal/flash"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/update"
)

// files makes a board of files that runs an image of the size, and a release of
// the same size for it.
func files(tb testing.TB, size int) (*slots.Slots, release.Release, []byte) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		tb.Fatal(err)
	}
	payload := make([]byte, size)
	_, _ = rand.Read(payload)
	image, err := mcuboot.Build(payload, mcuboot.Version{Major: 1}, 1, key)
	if err != nil {
		tb.Fatal(err)
	}
	img, err := mcuboot.Parse(image)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	area := func(name string, size int64, content []byte) flash.Area {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			tb.Fatal(err)
		}
		f, err := flash.Open(path, size, 4096)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = f.Close() })
		return f
	}
	s, err := slots.Open(slots.Config{A: area("a", 64<<20, image), B: area("b", 64<<20, nil), Record: area("record", 8192, nil), Running: update.A,
		KeyHash: hash, Counter: &fuses{}, Reset: func(string) error { return nil }})
	if err != nil {
		tb.Fatal(err)
	}
	return s, release.Release{Target: release.Target{Product: "pump", Version: img.Version, SecurityVersion: 1, Measured: img.Digest},
		Image: release.Blob{Length: int64(len(image)), SHA256: img.Blob}}, image
}

const benchSize = 17 << 20

// install is verify and write: what an update does with an image that comes.
func install(s *slots.Slots, rel release.Release, from io.Reader) error {
	w, err := s.Begin(rel)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{from}, make([]byte, 32<<10)); err != nil {
		return err
	}
	if err := w.Finish(); err != nil {
		return err
	}
	return s.VerifyInactive(rel)
}

// plain is what cannot be done without: copy to stable storage, and SHA-256.
func plain(path string, from io.Reader) ([]byte, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, h)}, struct{ io.Reader }{from}, make([]byte, 32<<10)); err != nil {
		return nil, err
	}
	return h.Sum(nil), f.Sync()
}

// BenchmarkInstall measures both side by side, so that what else the machine
// does slows both: the ratio is of their speeds.
func BenchmarkInstall(b *testing.B) {
	s, rel, image := files(b, benchSize)
	path := filepath.Join(b.TempDir(), "copy")
	b.SetBytes(int64(len(image)))
	var ours, theirs float64
	for b.Loop() {
		theirs += seconds(func() error {
			_, err := plain(path, bytes.NewReader(image))
			return err
		}, b)
		ours += seconds(func() error { return install(s, rel, bytes.NewReader(image)) }, b)
	}
	mb := float64(b.N) * float64(len(image)) / 1e6
	b.ReportMetric(mb/ours, "install-MB/s")
	b.ReportMetric(mb/theirs, "copy+sha256-MB/s")
	b.ReportMetric(theirs/ours, "of-copy")
}

// seconds is how long f takes.
func seconds(f func() error, b *testing.B) float64 {
	begin := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return time.Since(begin).Seconds()
}

func TestInstallNeedsLittleMemory(t *testing.T) {
	s, rel, image := files(t, 24<<20)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := install(s, rel, bytes.NewReader(image)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	// All that was ever allocated, whether or not it was in use at once.
	if got := after.TotalAlloc - before.TotalAlloc; got > 2<<20 {
		t.Errorf("an image of %d bytes took %d bytes of memory", len(image), got)
	}
}
