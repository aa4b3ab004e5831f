package unpack_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/audit/subject"
	"holdfast/audit/unpack"
	"holdfast/internal/testkit"
	"holdfast/mcuboot"
)

// packed writes an MCUboot image whose payload is a program and something
// behind it.
func packed(t *testing.T, path string, program, behind []byte) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mcuboot.Build(slices.Concat(program, behind), mcuboot.Version{Major: 1}, 7, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPayloadThatIsAProgram: an image that carries an ELF file is audited by
// itself, and a program that is what it carries is shown to be.
func TestPayloadThatIsAProgram(t *testing.T) {
	gcc, dir := testkit.Need(t, "gcc"), t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("a.c", "int main(void) { return 7; }\n")
	run(t, dir, gcc, "-g", "-O1", "a.c", "-o", "a.elf")
	run(t, dir, gcc, "-g", "-O2", "-DX", "-Wl,--build-id=none", "a.c", "-o", "b.elf")
	program, err := os.ReadFile(filepath.Join(dir, "a.elf"))
	if err != nil {
		t.Fatal(err)
	}
	resources := bytes.Repeat([]byte("resources\n"), 400)
	img := packed(t, filepath.Join(dir, "a.img"), program, resources)

	s := open(t, unpack.Options{}, img)
	untroubled(t, s)
	if len(s.Programs) != 1 || s.Programs[0].File != img+"!payload" || !s.Programs[0].Has("main") || s.File(img+"!payload") == nil {
		t.Fatalf("programs %v", s.Programs)
	}
	if err := unpack.Match(s.Programs[0], s.Images[0]); err != nil {
		t.Error(err)
	}
	found := false
	for r := range s.Regions() {
		found = found || bytes.Contains(r.Data, resources)
	}
	if !found {
		t.Error("what is behind the program is in no region")
	}
	if changed := s.Changed(); len(changed) != 0 {
		t.Errorf("changed: %q", changed)
	}

	p, i := pair(t, dir, "a.elf", "a.img", unpack.Options{}) // and not twice
	if err := unpack.Match(p, i); err != nil {
		t.Error(err)
	}
	s = open(t, unpack.Options{}, filepath.Join(dir, "b.elf"), img)
	if len(s.Programs) != 2 {
		t.Fatalf("%d programs", len(s.Programs))
	}
	if err := unpack.Match(s.Programs[0], s.Images[0]); err == nil || !strings.Contains(err.Error(), "does not begin") {
		t.Errorf("another program: %v", err)
	}
}

// TestPayloadBehindAProgram: what a loader would make executable with the
// program is not passed over.
func TestPayloadBehindAProgram(t *testing.T) {
	gcc, dir := testkit.Need(t, "gcc"), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.c"), []byte("void _start(void) { for (;;) ; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, gcc, "-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-Wl,--build-id=none,-z,noseparate-code", "a.c", "-o", "a.elf")
	program, err := os.ReadFile(filepath.Join(dir, "a.elf"))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, unpack.Options{}, filepath.Join(dir, "a.elf"))
	code := s.Programs[0].Segments[slices.IndexFunc(s.Programs[0].Segments, func(x subject.Segment) bool { return x.Type == "LOAD" && x.Exec })]
	cut := program[:code.Offset+code.FileSize] // ends with its code, without section headers
	cut = slices.Clone(cut)
	clear(cut[40:48]) // e_shoff
	clear(cut[58:64]) // e_shentsize, e_shnum, e_shstrndx
	path := filepath.Join(dir, "cut.elf")
	if err := os.WriteFile(path, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	match := func(behind []byte) error {
		t.Helper()
		s := open(t, unpack.Options{}, path, packed(t, filepath.Join(dir, "cut.img"), cut, behind))
		return unpack.Match(s.Programs[0], s.Images[0])
	}
	if err := match(nil); err != nil {
		t.Errorf("nothing behind it: %v", err)
	}
	if err := match([]byte("\xcc\xcc\xcc\xcc")); err == nil || !strings.Contains(err.Error(), "on a page of its code") {
		t.Errorf("bytes on its page: %v", err)
	}
	img := packed(t, filepath.Join(dir, "alone.img"), cut, bytes.Repeat([]byte{0xcc}, 4096))
	s = open(t, unpack.Options{}, img)
	if len(s.Programs) != 1 {
		t.Fatalf("%d programs", len(s.Programs))
	}
	if err := unpack.Match(s.Programs[0], s.Images[0]); err == nil || !strings.Contains(err.Error(), "on a page of its code") {
		t.Errorf("bytes on its page, in the image alone: %v", err)
	}
}
