package audit_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"holdfast/finding"
)

// hostile is an input that is made to harm: files by their names, or what make
// puts into a directory.
type hostile struct {
	name  string
	files map[string][]byte
	make  func(t *testing.T, dir string)
	// input is what is named to the program; "": the directory.
	input string
	// says is what the report's troubles have to name; "" for input that can be
	// read all the same.
	says string
	// at is the file that the trouble is about.
	at string
	// exit is the code that the program ends with: 0 when nothing grave was
	// found.
	exit int
	// megabytes is the most that it may hold; 0: 256.
	megabytes int64
}

// firmwareELF is a program with debug information.
func firmwareELF(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	b := bases(t)["m4"]
	if _, err := b.make(dir, delta{}); err != nil {
		t.Fatal(err)
	}
	elf, err := os.ReadFile(filepath.Join(dir, "app.elf"))
	if err != nil {
		t.Fatal(err)
	}
	return elf
}

// patched returns a copy with a number of 16 or 32 bits put in.
func patched(b []byte, at int, value any) []byte {
	var text bytes.Buffer
	if err := binary.Write(&text, binary.LittleEndian, value); err != nil {
		panic(err) // a bug of the test
	}
	b = bytes.Clone(b)
	copy(b[at:], text.Bytes())
	return b
}

// section returns where an ELF of 32 bits has the header of a section of a type.
func section(t *testing.T, elf []byte, name string) int {
	t.Helper()
	le := binary.LittleEndian
	headers, size, n := int(le.Uint32(elf[32:])), int(le.Uint16(elf[46:])), int(le.Uint16(elf[48:]))
	strings := int(le.Uint32(elf[headers+int(le.Uint16(elf[50:]))*size+16:]))
	for i := range n {
		h := headers + i*size
		text, _, _ := bytes.Cut(elf[strings+int(le.Uint32(elf[h:])):], []byte{0})
		if string(text) == name {
			return h
		}
	}
	t.Fatalf("no section %s", name)
	return 0
}

func hostiles(t *testing.T) []hostile {
	elf := firmwareELF(t)
	const shoff, shnum, phoff, phnum = 32, 48, 28, 44
	const offset, size, link = 16, 20, 24 // in the header of a section
	symtab, info, abbrev := section(t, elf, ".symtab"), section(t, elf, ".debug_info"), section(t, elf, ".debug_abbrev")
	infoAt := int(binary.LittleEndian.Uint32(elf[info+offset:]))
	one := func(name, says string, b []byte) hostile {
		return hostile{name: name, files: map[string][]byte{"app.elf": b}, input: "app.elf", says: says, at: "app.elf"}
	}
	garbage := bytes.Clone(elf)
	copy(garbage[infoAt+6:], bytes.Repeat([]byte{0xff}, 400))
	return []hostile{
		one("sections past the end", "section", patched(elf, shoff, uint32(0xfffffff0))),
		one("more sections than there is room for", "section", patched(elf, shnum, uint16(0xfeff))),
		one("segments past the end", "", patched(elf, phoff, uint32(0xfffffff0))),
		one("more segments than there is room for", "", patched(elf, phnum, uint16(0xfffe))),
		one("symbols past the end", "", patched(elf, symtab+offset, uint32(0xfffffff0))),
		one("an absurd number of symbols", "", patched(elf, symtab+size, uint32(0xfffffff0))),
		one("a table of symbols that is its own strings", "no table of strings", patched(elf, symtab+link, uint32(16))),
		one("debug information past the end", "", patched(elf, info+offset, uint32(0xfffffff0))),
		one("no abbreviations", "debug information", patched(elf, abbrev+size, uint32(0))),
		one("debug information of garbage", "debug information", garbage),
		one("half a program", "", elf[:len(elf)/2]),
		one("a head alone", "", elf[:20]),
		{name: "a bomb in gzip", make: func(t *testing.T, dir string) { zeros(t, filepath.Join(dir, "app.gz"), 96<<20) }, says: "more than", at: "app.gz"},
		{name: "a bomb in zip", files: map[string][]byte{"app.zip": zipped(t, map[string]int64{"a": 64 << 20, "b": 64 << 20})}, says: "more than", at: "app.zip!a"},
		{name: "archives in archives", files: map[string][]byte{"app.gz": nested(t, 12)}, says: "archive", at: "app.gz"},
		{name: "paths that leave the archive", files: map[string][]byte{"app.tar": leaving(t)}},
		{name: "links in a circle", make: circle},
		{name: "4 GB of nothing", make: func(t *testing.T, dir string) { sparse(t, filepath.Join(dir, "app.bin"), 4<<30) }, says: "more than", at: "app.bin"},
		{name: "128 MB of nothing", make: func(t *testing.T, dir string) { sparse(t, filepath.Join(dir, "app.bin"), 128<<20) }, megabytes: 256 + 128},
		{name: "what is not UTF-8", files: map[string][]byte{"\xff\xfe.c": []byte("int \xff\xfe(void) { return rand(); }\n/* \x80 */\n"), "nx_user.h": []byte("#define \xff\xfe\n#define NX_RAND \xf0\x28\x8c\x28\n")}, exit: 3},
		{name: "headers that include one another", files: map[string][]byte{"tx_user.h": []byte("#include \"a.h\"\n"), "a.h": []byte("#include \"tx_user.h\"\n#include \"a.h\"\n#include \"a.h\"\n")}, exit: 3},
		{name: "a macro that is itself", files: map[string][]byte{"tx_user.h": []byte("#define A B\n#define B A\n#if A\n#define TX_DISABLE_ERROR_CHECKING\n#endif\n")}, exit: 3},
		{name: "half a line of Intel HEX", files: map[string][]byte{"app.hex": []byte(":1000000000112233445566778899AABBCCDDEEFF08\n:10001000001122")}, says: "hex", at: "app.hex"},
		{name: "a wrong sum in S-records", files: map[string][]byte{"app.srec": []byte("S1130000285F245F2212226A000424290008237C2B\n")}, says: "srec", at: "app.srec"},
		{name: "commands that are no JSON", files: map[string][]byte{"compile_commands.json": []byte(`[{"file": "a.c", "command": `)}, says: "compile_commands", at: "compile_commands.json"},
		{name: "brackets as deep as the file is long", files: map[string][]byte{"a.c": bytes.Repeat([]byte("{("), 500_000), "tx_user.h": []byte("#if " + strings.Repeat("(", 200_000) + "\n#endif\n"), "compile_commands.json": bytes.Repeat([]byte("["), 500_000)}, exit: 3},
		{name: "a pipe", make: func(t *testing.T, dir string) { check(t, syscall.Mkfifo(filepath.Join(dir, "app.elf"), 0o600)) }, says: "regular file", at: "app.elf"},
	}
}

// zeros writes a gzip of zeros.
func zeros(t *testing.T, name string, n int64) {
	f, err := os.Create(name)
	check(t, err)
	z := gzip.NewWriter(f)
	_, err = io.CopyN(z, nothing{}, n)
	check(t, errors.Join(err, z.Close(), f.Close()))
}

// nothing is zeros without an end.
type nothing struct{}

func (nothing) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func zipped(t *testing.T, members map[string]int64) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, n := range members {
		w, err := z.Create(name)
		check(t, err)
		_, err = io.CopyN(w, nothing{}, n)
		check(t, err)
	}
	check(t, z.Close())
	return b.Bytes()
}

// nested is a gzip in a gzip, and so on.
func nested(t *testing.T, depth int) []byte {
	b := []byte("rand();")
	for range depth {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		_, err := z.Write(b)
		check(t, errors.Join(err, z.Close()))
		b = out.Bytes()
	}
	return b
}

// leaving is a tar whose members have names above it, and links.
func leaving(t *testing.T) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "../../escaped.c", Mode: 0o644, Size: 4}, {Name: "/tmp/holdfast-escaped.c", Mode: 0o644, Size: 4},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: "link/under.c", Mode: 0o644, Size: 4},
		{Name: "device", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5},
	} {
		check(t, w.WriteHeader(&h))
		if h.Size > 0 {
			_, err := io.WriteString(w, "int;")
			check(t, err)
		}
	}
	check(t, w.Close())
	return b.Bytes()
}

// circle is a directory with links to itself, to its parent and to nothing.
func circle(t *testing.T, dir string) {
	check(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	for name, to := range map[string]string{"a/self": ".", "a/parent": "..", "a/b": "../c", "c": "a/b", "root": "/"} {
		check(t, os.Symlink(to, filepath.Join(dir, name)))
	}
}

func sparse(t *testing.T, name string, size int64) {
	f, err := os.Create(name)
	check(t, err)
	check(t, errors.Join(f.Truncate(size), f.Close()))
}

// run is how the program ended.
type run struct {
	exit     int
	out, err []byte
	rss      int64         // bytes at most, with what is mapped of files
	own      int64         // without it, as far as it was seen
	cpu      time.Duration // of the processors
}

// holdfast runs the program in a directory.
func holdfast(t testing.TB, program, dir string, args ...string) run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	err := cmd.Start()
	check(t, err)
	ended, anon := make(chan struct{}), make(chan int64, 1)
	go func() { anon <- watch(cmd.Process.Pid, ended) }()
	err = cmd.Wait()
	close(ended)
	own := <-anon
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended || ctx.Err() != nil {
		t.Fatalf("%v, %v: %s", err, ctx.Err(), stderr.Bytes())
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		t.Fatal("no usage")
	}
	return run{cmd.ProcessState.ExitCode(), out.Bytes(), stderr.Bytes(), usage.Maxrss << 10, own, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
}

// watch returns the most memory that a process has of its own until it ends.
func watch(pid int, ended chan struct{}) (most int64) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return most
		case <-tick.C:
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(status)) {
			var n int64
			if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &n); err == nil {
				most = max(most, n<<10)
			}
		}
	}
}

// program builds holdfast.
func program(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdfast")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "holdfast/cmd/holdfast")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// listing names the files below a directory with their sizes and times.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		return err
	}))
	return all
}

// TestBadInput: whatever is given, the program ends as documented, says what it
// could not read and where, holds little memory, and writes nothing.
func TestBadInput(t *testing.T) {
	exe := program(t)
	for _, h := range hostiles(t) {
		t.Run(h.name, func(t *testing.T) {
			dir := t.TempDir()
			in := filepath.Join(dir, "in")
			check(t, os.Mkdir(in, 0o700))
			for name, b := range h.files {
				check(t, os.WriteFile(filepath.Join(in, name), b, 0o600))
			}
			if h.make != nil {
				h.make(t, in)
			}
			before := listing(t, dir)
			r := holdfast(t, exe, dir, "audit", filepath.Join("in", h.input), "--json")
			if after := listing(t, dir); !maps.Equal(before, after) {
				t.Errorf("it wrote: %v, before %v", after, before)
			}
			if r.exit != h.exit {
				t.Errorf("ended with %d, want %d: %s", r.exit, h.exit, r.err)
			}
			var report finding.Report
			if err := json.Unmarshal(r.out, &report); err != nil || !utf8.Valid(r.out) {
				t.Fatalf("%v\n%.2000s\n%.2000s", err, r.out, r.err)
			}
			h.troubles(t, report)
			most := h.megabytes
			if most == 0 {
				most = 256
			}
			t.Logf("%d MB, %v of processor time", r.rss>>20, r.cpu)
			if r.rss > most<<20 {
				t.Errorf("it held %d MB", r.rss>>20)
			}
		})
	}
}

// troubles looks for the trouble that has to be told.
func (h hostile) troubles(t *testing.T, report finding.Report) {
	t.Helper()
	if len(report.Inputs) == 0 && len(report.Troubles) == 0 {
		t.Error("neither inputs nor troubles")
	}
	told := h.says == ""
	for _, x := range report.Troubles {
		t.Logf("%s: %s", x.Location, x.Message)
		told = told || strings.Contains(x.Location.String()+" "+x.Message, h.says) && strings.Contains(x.File, h.at)
	}
	if !told {
		t.Errorf("nothing says %q of %q", h.says, h.at)
	}
}
