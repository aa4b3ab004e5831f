package backup_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"holdfast/fault"
	"holdfast/hub/backup"
	"holdfast/pki"
)

const limit = 64 << 20

func secret(t testing.TB) pki.Secret {
	t.Helper()
	s, err := pki.ParseSecret(pki.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(s pki.Secret) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) { return s.Seal("backup", b) }
}

func open(s pki.Secret) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) { return s.Open("backup", b) }
}

// archive makes a backup of two files and a stream of n bytes.
func archive(t testing.TB, s pki.Secret, n int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Manifest{Version: "1", Hosts: []string{"hub.example"}, Messages: true}, seal(s))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		w.File("hub.json", strings.NewReader("{}"), 2),
		w.File("ca/birth.key", strings.NewReader("sealed"), 6),
		w.Stream("messages", func(w io.Writer) error {
			_, err := io.CopyN(w, numbers{}, int64(n))
			return err
		}),
		w.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// numbers reads as 0, 1, 2 and so on, over and over.
type numbers struct{}

func (numbers) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i)
	}
	return len(b), nil
}

// files returns the sizes of what is under dir.
func files(t testing.TB, dir string) map[string]int64 {
	t.Helper()
	sizes := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		sizes[rel] = info.Size()
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", rel, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sizes
}

func TestExtractReturnsWhatWasBackedUp(t *testing.T) {
	for _, n := range []int{0, 1, 4 << 20, 10<<20 + 1} {
		s, dir := secret(t), t.TempDir()
		m, err := backup.Extract(bytes.NewReader(archive(t, s, n)), dir, limit, open(s))
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if m.Hosts[0] != "hub.example" || m.Format != backup.Format || !m.Messages {
			t.Errorf("manifest %+v", m)
		}
		want := map[string]int64{"hub.json": 2, "ca/birth.key": 6, "messages": int64(n)}
		if d := cmp.Diff(want, files(t, dir)); d != "" {
			t.Errorf("%d: %s", n, d)
		}
	}
}

func TestEveryCutAndEveryChangeIsRefused(t *testing.T) {
	s := secret(t)
	whole := archive(t, s, 1000)
	original := t.TempDir()
	into := func(dir string, b []byte) error {
		_, err := backup.Extract(bytes.NewReader(b), dir, limit, open(s))
		return err
	}
	try := func(b []byte) error { return into(t.TempDir(), b) }
	if err := into(original, whole); err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut < len(whole); cut += 7 {
		if err := try(whole[:cut]); fault.Of(err) != fault.Integrity {
			t.Fatalf("cut after %d of %d bytes: %v", cut, len(whole), err)
		}
	}
	for at := 0; at < len(whole); at += 5 {
		changed := bytes.Clone(whole)
		changed[at] ^= 0x10
		dir := t.TempDir()
		if err := into(dir, changed); err == nil && !same(t, original, dir) { // compression has bits that mean nothing
			t.Fatalf("a change at %d of %d bytes was taken", at, len(whole))
		}
	}
	if err := try(append(bytes.Clone(whole), whole...)); err == nil {
		t.Error("two archives after one another were taken")
	}
}

// same reports whether two directories have the same files.
func same(t testing.TB, a, b string) bool {
	t.Helper()
	names := files(t, a)
	if !cmp.Equal(names, files(t, b)) {
		return false
	}
	for name := range names {
		x, err := os.ReadFile(filepath.Join(a, name))
		y, yErr := os.ReadFile(filepath.Join(b, name))
		if err != nil || yErr != nil || !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}

func TestAnotherHubsSecretIsRefused(t *testing.T) {
	_, err := backup.Extract(bytes.NewReader(archive(t, secret(t), 10)), t.TempDir(), limit, open(secret(t)))
	if fault.Of(err) != fault.Integrity || !strings.Contains(err.Error(), "seal file") {
		t.Errorf("error %v", err)
	}
}

func TestMoreThanTheLimitIsRefused(t *testing.T) {
	s := secret(t)
	_, err := backup.Extract(bytes.NewReader(archive(t, s, 8<<20)), t.TempDir(), 1<<20, open(s))
	if fault.Of(err) != fault.Integrity {
		t.Errorf("error %v", err)
	}
}

// forge makes an archive of members as they are, without any check.
func forge(t testing.TB, members ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, h := range members {
		body := "x"
		if h.Name == "manifest.json" {
			body = `{"format":1}`
		}
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(body))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	first := tar.Header{Name: "manifest.json"}
	for name, members := range map[string][]tar.Header{
		"the parent":       {first, {Name: "../evil"}},
		"a deep parent":    {first, {Name: "ca/../../evil"}},
		"an absolute path": {first, {Name: "/tmp/evil"}},
		"a hidden file":    {first, {Name: ".ssh"}},
		"a backslash":      {first, {Name: `ca\evil`}},
		"too deep":         {first, {Name: "a/b/c/d"}},
		"a link":           {first, {Name: "hub.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
		"a hard link":      {first, {Name: "hub.json", Typeflag: tar.TypeLink, Linkname: "manifest.json"}},
		"a directory":      {first, {Name: "ca/", Typeflag: tar.TypeDir}},
		"a device":         {first, {Name: "hub.json", Typeflag: tar.TypeChar}},
		"twice":            {first, {Name: "hub.json"}, {Name: "hub.json"}},
		"two manifests":    {first, first},
		"no manifest":      {{Name: "hub.json"}},
		"a piece too many": {first, {Name: "m.part00000000"}, {Name: "m.part00000002"}},
		"a foreign piece":  {first, {Name: "m.part00000000"}, {Name: "n.part00000001"}},
		"no first piece":   {first, {Name: "m.part00000001"}},
	} {
		outer := t.TempDir()
		dir := filepath.Join(outer, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		b := forge(t, members...)
		if _, err := backup.Extract(bytes.NewReader(b), dir, limit, open(secret(t))); fault.Of(err) != fault.Integrity || strings.Contains(err.Error(), "cut off") {
			t.Errorf("%s: %v", name, err)
		}
		if es, _ := os.ReadDir(outer); len(es) != 1 {
			t.Errorf("%s: wrote beside the directory: %v", name, es)
		}
	}
}

func FuzzExtract(f *testing.F) {
	s := secret(f)
	f.Add(archive(f, s, 100))
	f.Add(forge(f, tar.Header{Name: "manifest.json"}, tar.Header{Name: "../x"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Extract(bytes.NewReader(b), dir, 1<<20, open(s)); err != nil {
			if es, _ := os.ReadDir(outer); len(es) != 1 {
				t.Fatalf("wrote beside the directory: %v", es)
			}
		}
	})
}
