package unpack_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/audit/csource"
	"holdfast/audit/subject"
	"holdfast/audit/unpack"
	"holdfast/identity"
)

// write makes files below a new directory.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t testing.TB, o unpack.Options, names ...string) *subject.Subject {
	t.Helper()
	s, err := unpack.Open(context.Background(), names, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// list returns "name kind" of the files, names below dir.
func list(s *subject.Subject, dir string) []string {
	var all []string
	for _, f := range s.Files {
		all = append(all, strings.TrimPrefix(f.Name, dir+"/")+" "+string(f.Kind))
	}
	return all
}

// troubled fails the test unless a trouble of the file says text.
func troubled(t *testing.T, s *subject.Subject, file, text string) {
	t.Helper()
	for _, trouble := range s.Troubles {
		if strings.HasSuffix(trouble.File, file) && strings.Contains(trouble.Message, text) {
			return
		}
	}
	t.Errorf("no trouble of %s says %q: %+v", file, text, s.Troubles)
}

func untroubled(t *testing.T, s *subject.Subject) {
	t.Helper()
	for _, trouble := range s.Troubles {
		t.Errorf("trouble: %s: %s", trouble.Location, trouble.Message)
	}
}

func TestKindsOfFiles(t *testing.T) {
	dir := write(t, map[string]string{
		"a.hex": ":0400000001020304F2\n:00000001FF\n", "b.s19": "S10500100102E7\nS9030000FC\n", "c.bin": "\x00\x01\x02", "d.dat": "\x00\x01",
		"inc/tx_user.h": "#define A", "inc/other.h": "", "src/main.c": "int x;", "src/start.S": "", ".config": "CONFIG_X=y\n", "prj.conf": "CONFIG_X=n\n",
		"compile_commands.json": "[]", "build.log": "gcc -c a.c\n", "fw.map": "Linker script and memory map\n", "geo.map": "a map of a country",
		"key.pem": "-----BEGIN", ".git/config": "", "lib/x.a": "!<arch>\n", "latin1.c": "char *s = \"\xe4\";",
	})
	s := open(t, unpack.Options{Ignore: []string{"lib"}}, dir)
	want := []string{
		".config kconfig", "a.hex hex", "b.s19 srec", "build.log log", "c.bin binary", "compile_commands.json commands", "d.dat other", "fw.map map", "geo.map other",
		"inc/other.h source", "inc/tx_user.h config", "key.pem other", "latin1.c source", "prj.conf kconfig", "src/main.c source", "src/start.S source",
	}
	if diff := cmp.Diff(want, list(s, dir)); diff != "" {
		t.Error(diff)
	}
	untroubled(t, s)
	if len(s.Sources) != 5 || len(s.Images) != 3 || len(s.Configs) != 3 || len(s.Maps) != 1 || len(s.Commands) != 1 || len(s.Logs) != 1 {
		t.Errorf("%d sources, %d images, %d configurations, %d maps, %d commands, %d logs", len(s.Sources), len(s.Images), len(s.Configs), len(s.Maps), len(s.Commands), len(s.Logs))
	}
	for _, f := range s.Files {
		if f.SHA256 != identity.Sum(f.Data()) || f.Size != int64(len(f.Data())) {
			t.Errorf("%s is not what was hashed", f.Name)
		}
	}
}

func TestGivenFiles(t *testing.T) {
	dir := write(t, map[string]string{"firmware": "\x01\x00\x02", "my_config.h": "#define A 1"})
	file := filepath.Join(dir, "firmware")
	s := open(t, unpack.Options{Base: 0x8000000, Based: true}, file, filepath.Join(dir, "my_config.h"), file)
	if len(s.Files) != 2 || len(s.Images) != 1 || s.Images[0].Chunks[0].Address != 0x8000000 || !s.Images[0].Based {
		t.Errorf("%v %+v", list(s, dir), s.Images)
	}
	if c := s.ConfigsOf("my_config.h"); len(c) != 1 || c[0].Macros.State("A") != csource.Defined {
		t.Errorf("%+v", s.Configs)
	}
	if _, err := unpack.Open(context.Background(), []string{filepath.Join(dir, "none")}, unpack.Options{}); err == nil {
		t.Error("a file that is not there is read")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := unpack.Open(ctx, []string{dir}, unpack.Options{}); err == nil {
		t.Error("reading goes on after it was cancelled")
	}
}

func TestChangedFilesAreNamed(t *testing.T) {
	dir := write(t, map[string]string{"a.c": "one", "b.c": "two"})
	s := open(t, unpack.Options{}, dir)
	if got := s.Changed(); got != nil {
		t.Errorf("changed: %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.c"), []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.Changed(); len(got) != 1 || !strings.HasSuffix(got[0], "b.c") {
		t.Errorf("changed: %q", got)
	}
}

func TestConfigurationsSeeCommandsAndIncludes(t *testing.T) {
	dir := write(t, map[string]string{
		"tx_user.h":             "#include \"port/extra.h\"\n#ifdef RELEASE\n#define X\n#endif\n#ifdef SOMETIMES\n#define Y\n#endif\n#ifdef NEVER\n#define Z\n#endif\n",
		"port/extra.h":          "#define EXTRA 3\n",
		"compile_commands.json": `[{"directory":"/","file":"a.c","command":"gcc -DRELEASE -DSOMETIMES -c a.c"},{"directory":"/","file":"b.c","command":"gcc -DRELEASE -c b.c"}]`,
	})
	s := open(t, unpack.Options{}, dir)
	m := s.ConfigsOf("tx_user.h")[0].Macros
	for name, want := range map[string]csource.State{"X": csource.Defined, "Y": csource.Unsure, "Z": csource.Undefined, "EXTRA": csource.Defined} {
		if got := m.State(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if !m.Complete {
		t.Error("the commands are not counted")
	}
}

func tarOf(t testing.TB, members ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range members {
		body := []byte("int x;")
		h.Mode, h.Size = 0o600, int64(len(body))
		if h.Typeflag == tar.TypeSymlink {
			h.Size, body = 0, nil
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipOf(t testing.TB, members map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, body := range members {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t testing.TB, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func arOf(members ...string) []byte {
	b := []byte("!<arch>\n")
	for _, m := range members {
		name, body, _ := strings.Cut(m, "=")
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8d%-10d`\n%s", name, 0, 0, 0, 0o644, len(body), body)
		if len(body)%2 != 0 {
			b = append(b, '\n')
		}
	}
	return b
}

func TestArchives(t *testing.T) {
	dir := write(t, map[string]string{
		"a.tar":    string(tarOf(t, tar.Header{Name: "src/main.c"}, tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, tar.Header{Name: "src/b.h"})),
		"b.tar.gz": string(gzipOf(t, tarOf(t, tar.Header{Name: "main.c"}))),
		"c.zip":    string(zipOf(t, map[string][]byte{"inner.tgz": gzipOf(t, tarOf(t, tar.Header{Name: "deep.c"}))})),
		"d.a":      string(arOf("//=a_very_long_name_of_an_object.c/\nb.c/\n", "/0=int a;", "short.c/=x", "#1/8=bsd.c\x00\x00\x00int")),
	})
	s := open(t, unpack.Options{}, dir)
	untroubled(t, s)
	want := []string{
		"a.tar archive", "a.tar!src/main.c source", "a.tar!src/b.h source",
		"b.tar.gz archive", "b.tar.gz!b.tar archive", "b.tar.gz!b.tar!main.c source",
		"c.zip archive", "c.zip!inner.tgz archive", "c.zip!inner.tgz!inner.tar archive", "c.zip!inner.tgz!inner.tar!deep.c source",
		"d.a archive", "d.a!a_very_long_name_of_an_object.c source", "d.a!short.c source", "d.a!bsd.c source",
	}
	if diff := cmp.Diff(want, list(s, dir)); diff != "" {
		t.Error(diff)
	}
	if got := s.Sources[0].Text(); got != "int x;" {
		t.Errorf("a member has %q", got)
	}
}

// TestHostileArchives finds bombs, names that lead out, and lies about sizes.
func TestHostileArchives(t *testing.T) {
	zeros := make([]byte, 32<<20)
	bomb := gzipOf(t, zeros)
	nested := []byte("int x;")
	for range 6 {
		nested = gzipOf(t, nested)
	}
	dir := write(t, map[string]string{
		"bomb.gz":      string(bomb),
		"bomb.zip":     string(zipOf(t, map[string][]byte{"zeros": zeros})),
		"nested.gz":    string(nested),
		"traverse.tar": string(tarOf(t, tar.Header{Name: "../../etc/evil.c"}, tar.Header{Name: "/abs.c"}, tar.Header{Name: "after.c"})),
		"traverse.zip": string(zipOf(t, map[string][]byte{`..\..\evil.c`: []byte("x")})),
		"cut.a":        string(arOf("a.c/=int x;")[:70]),
		"lie.a":        strings.Replace(string(arOf("a.c/=int x;")), "6         `", "9999999999`", 1),
		"thin.a":       "!<thin>\n",
		"cut.gz":       string(bomb[:100]),
		"cut.tar":      string(tarOf(t, tar.Header{Name: "a.c"})[:514]),
		"cut.zip":      string(zipOf(t, map[string][]byte{"a.c": []byte("x")})[:40]),
	})
	s := open(t, unpack.Options{Limits: unpack.Limits{ArchiveRatio: 20}}, dir)
	for file, text := range map[string]string{
		"bomb.gz": "unpacks to more than", "bomb.zip!zeros": "unpacks to more than", "nested.unpacked.unpacked.unpacked": "more than 4 archives",
		"traverse.tar!etc/evil.c": "leads out of it", "traverse.zip!evil.c": "leads out of it", "cut.a": "6 bytes, 2 left", "lie.a": "9999999999 bytes", "thin.a": "thin archive",
		"cut.gz": "EOF", "cut.tar": "cut off", "cut.zip": "zip",
	} {
		troubled(t, s, file, text)
	}
	names := list(s, dir)
	for _, want := range []string{"traverse.tar!etc/evil.c source", "traverse.tar!abs.c source", "traverse.tar!after.c source"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not read", want)
		}
	}
}

func TestLimitsOfTheWholeInput(t *testing.T) {
	files := map[string]string{"big.c": strings.Repeat("x", 2<<20)}
	for i := range 20 {
		files[fmt.Sprintf("%02d.c", i)] = "x"
	}
	files["more.zip"] = string(zipOf(t, map[string][]byte{"a": make([]byte, 3<<20), "b": make([]byte, 3<<20)}))
	dir := write(t, files)
	s := open(t, unpack.Options{Limits: unpack.Limits{FileSize: 1 << 20, ArchiveTotal: 4 << 20, ArchiveRatio: 1 << 20}}, dir)
	troubled(t, s, "big.c", "bytes are more than")
	troubled(t, s, "more.zip", "limits of archives")
	s = open(t, unpack.Options{Limits: unpack.Limits{Files: 10}}, dir)
	troubled(t, s, "10.c", "more than 10 files")
	if len(s.Files) > 10 {
		t.Errorf("%d files are read", len(s.Files))
	}
}

// TestStrangeDirectories reads nothing through links, and no pipes.
func TestStrangeDirectories(t *testing.T) {
	dir := write(t, map[string]string{"a/main.c": "int x;"})
	outside := write(t, map[string]string{"secret.c": "int secret;"})
	for link, to := range map[string]string{"a/loop": "../a", "a/out": outside, "a/gone": "nowhere", "a/same.c": "main.c", "a/secret.c": filepath.Join(outside, "secret.c")} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "a/pipe.c"), 0o600); err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sparse.Truncate(4 << 30); err != nil {
		t.Fatal(err)
	}
	if err := sparse.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, unpack.Options{}, dir)
	if diff := cmp.Diff([]string{"a/main.c source"}, list(s, dir)); diff != "" {
		t.Error(diff)
	}
	troubled(t, s, "sparse.bin", "4294967296 bytes are more than")
	troubled(t, s, "pipe.c", "not a regular file")
	for _, link := range []string{"a/out", "a/gone", "a/secret.c"} {
		troubled(t, s, link, "leads out of the directory")
	}
}

// TestCutFileIsATrouble cuts a mapped file while it is looked at.
func TestCutFileIsATrouble(t *testing.T) {
	dir := write(t, map[string]string{"big.c": strings.Repeat("x", 2<<20)})
	s := open(t, unpack.Options{}, dir)
	if err := os.Truncate(filepath.Join(dir, "big.c"), 0); err != nil {
		t.Fatal(err)
	}
	data := s.Files[0].Data()
	if err := subject.Guard(func() { _ = identity.Sum(data) }); err == nil {
		t.Error("bytes are read that are no longer there")
	}
	if got := s.Changed(); len(got) != 1 {
		t.Errorf("changed: %q", got)
	}
}

func TestTheOrderIsAlwaysTheSame(t *testing.T) {
	files := map[string]string{}
	for i := range 60 {
		files[fmt.Sprintf("%d/a.zip", i)] = string(zipOf(t, map[string][]byte{"a.c": []byte("x")}))
	}
	dir := write(t, files)
	first := list(open(t, unpack.Options{}, dir), dir)
	for range 5 {
		if diff := cmp.Diff(first, list(open(t, unpack.Options{}, dir), dir)); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestProgress(t *testing.T) {
	dir := write(t, map[string]string{"a.c": "12345", "b/c.c": "123"})
	var calls [][2]int64
	open(t, unpack.Options{Progress: func(done, total int64) { calls = append(calls, [2]int64{done, total}) }}, dir)
	if len(calls) != 2 || calls[1] != [2]int64{8, 8} {
		t.Errorf("%v", calls)
	}
}

// TestCorruptPrograms changes every word of a header to absurd numbers.
func TestCorruptPrograms(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	head := self[:min(len(self), 64<<10)]
	dir := t.TempDir()
	for i := 16; i < 64; i += 4 {
		bad := bytes.Clone(head)
		binary.LittleEndian.PutUint32(bad[i:], 0xfffffff0)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.elf", i)), bad, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, unpack.Options{}, dir)
	if len(s.Files) != 12 || len(s.Troubles) < 12 {
		t.Errorf("%d files, %d troubles", len(s.Files), len(s.Troubles))
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(":0400000001020304F2\n:00000001FF\n"), "a.hex")
	f.Add(arOf("a.c/=int x;"), "a.a")
	f.Add([]byte("#define X\n"), "tx_user.h")
	f.Add(tarOf(f, tar.Header{Name: "../a.c"}), "a.tar")
	f.Add(gzipOf(f, []byte("x")), "a.gz")
	f.Add(zipOf(f, map[string][]byte{"a.c": []byte("x")}), "a.zip")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		name = filepath.Base(filepath.Clean("/" + strings.ReplaceAll(name, "\x00", "")))
		file := filepath.Join(t.TempDir(), name)
		if name == "/" || os.WriteFile(file, data, 0o600) != nil {
			return
		}
		s, err := unpack.Open(context.Background(), []string{file}, unpack.Options{Limits: unpack.Limits{MemberSize: 1 << 20, ArchiveTotal: 4 << 20, Files: 100, DebugEntries: 10_000}})
		if err != nil {
			return
		}
		defer s.Close()
		for range s.Regions() {
		}
		for _, p := range s.Programs {
			for _, img := range s.Images {
				_ = unpack.Match(p, img)
			}
		}
	})
}
