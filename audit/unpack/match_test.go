package unpack_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/audit/subject"
	"holdfast/audit/unpack"
	"holdfast/identity"
	"holdfast/internal/testkit"
	"holdfast/mcuboot"
)

// firmware has code and constants in flash, data that is copied from flash to
// RAM, a gap, and memory that is zero at start.
const firmware = `
int table[64] __attribute__((section(".far"))) = {1, 2, 3};
int initialised[40] = {5, 6};
static int zero[512];
const char banner[] = "firmware";
int _start(void) { zero[1] = table[initialised[0]]; return banner[zero[2]]; }
`

const script = `ENTRY(_start)
MEMORY { FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 64K  RAM (rw) : ORIGIN = 0x20000000, LENGTH = 16K }
SECTIONS {
 .text : { *(.text*) *(.rodata*) } > FLASH
 .data : { *(.data*) } > RAM AT > FLASH
.far 0x08000c00 : { *(.far) } > FLASH
 .bss (NOLOAD) : { *(.bss*) } > RAM
}
`

// run runs a program of the tests.
func run(t testing.TB, dir, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// built is a firmware in every form that it is flashed in.
func built(t *testing.T) string {
	t.Helper()
	gcc, objcopy := testkit.Need(t, "arm-none-eabi-gcc"), testkit.Need(t, "arm-none-eabi-objcopy")
	dir := write(t, map[string]string{"fw.c": firmware, "fw.ld": script})
	run(t, dir, gcc, "-mcpu=cortex-m4", "-mthumb", "-g", "-O1", "-nostdlib", "-Tfw.ld", "-Wl,-n", "fw.c", "-o", "fw.elf")
	for out, args := range map[string][]string{
		"fw.bin": {"-O", "binary"}, "ff.bin": {"-O", "binary", "--gap-fill", "0xff"}, "padded.bin": {"-O", "binary", "--gap-fill", "0xff", "--pad-to", "0x08002000"},
		"fw.hex": {"-O", "ihex"}, "fw.srec": {"-O", "srec"}, "moved.hex": {"-O", "ihex", "--change-addresses", "0x100"}, "stripped.elf": {"--strip-all"},
	} {
		run(t, dir, objcopy, append(args, "fw.elf", out)...)
	}
	payload, err := os.ReadFile(filepath.Join(dir, "fw.bin"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mcuboot.Build(payload, mcuboot.Version{Major: 1}, 7, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "fw.img"), image, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pair reads a program and an image.
func pair(t *testing.T, dir, program, image string, o unpack.Options) (*subject.Program, *subject.Image) {
	t.Helper()
	s := open(t, o, filepath.Join(dir, program), filepath.Join(dir, image))
	untroubled(t, s)
	if len(s.Programs) != 1 || len(s.Images) != 1 {
		t.Fatalf("%d programs, %d images", len(s.Programs), len(s.Images))
	}
	return s.Programs[0], s.Images[0]
}

func TestMatch(t *testing.T) {
	dir := built(t)
	for _, image := range []string{"fw.bin", "ff.bin", "padded.bin", "fw.hex", "fw.srec", "fw.img"} {
		for _, program := range []string{"fw.elf", "stripped.elf"} {
			if err := unpack.Match(pair(t, dir, program, image, unpack.Options{})); err != nil {
				t.Errorf("%s and %s: %v", program, image, err)
			}
		}
	}
	if err := unpack.Match(pair(t, dir, "fw.elf", "fw.bin", unpack.Options{Base: 0x8000000, Based: true})); err != nil {
		t.Error(err)
	}
	p, img := pair(t, dir, "fw.elf", "fw.img", unpack.Options{})
	data, err := os.ReadFile(filepath.Join(dir, "fw.img"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := mcuboot.Parse(data)
	if err != nil || img.Measured != parsed.Digest || img.MCUboot.SecurityCounter != 7 {
		t.Errorf("measured %s: %v", img.Measured, err)
	}
	if f, _ := p.Function("_start"); f.Size == 0 {
		t.Error("the program has no function")
	}
	_, raw := pair(t, dir, "fw.elf", "ff.bin", unpack.Options{})
	_, hex := pair(t, dir, "fw.elf", "fw.hex", unpack.Options{})
	whole, err := os.ReadFile(filepath.Join(dir, "ff.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if raw.Measured != identity.Sum(whole) || hex.Measured != raw.Measured {
		t.Errorf("the same flash is measured as %s and %s", raw.Measured, hex.Measured)
	}
}

func TestMatchRefuses(t *testing.T) {
	dir := built(t)
	file := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	change := func(from string, at int) []byte {
		data := file(from)
		if at < 0 {
			at += len(data)
		}
		data[at] ^= 1
		return data
	}
	whole := file("fw.bin")
	for name, c := range map[string]struct {
		data []byte
		o    unpack.Options
		want string
	}{
		"first byte":    {change("fw.bin", 0), unpack.Options{}, "section .text differs at 0x0"},
		"last byte":     {change("fw.bin", -1), unpack.Options{}, "section .far differs"},
		"initialised":   {change("fw.bin", 0x60), unpack.Options{}, "differs"},
		"in the gap":    {change("fw.bin", 0x400), unpack.Options{}, "bytes at 0x400 that the program does not load"},
		"cut":           {whole[:len(whole)-4], unpack.Options{}, "section .far is missing from"},
		"more":          {append(file("fw.bin"), 1, 2, 3), unpack.Options{}, "that the program does not load"},
		"mixed padding": {append(file("fw.bin"), 0xff, 0), unpack.Options{}, "that the program does not load"},
		"elsewhere":     {whole, unpack.Options{Base: 0x8000100, Based: true}, "section .text is missing from 0x8000000 on"},
		"nothing":       {[]byte{0, 0}, unpack.Options{}, "differs at 0x0"},
	} {
		t.Run(name, func(t *testing.T) {
			other := write(t, map[string]string{"other.bin": string(c.data)})
			s := open(t, c.o, filepath.Join(dir, "fw.elf"), filepath.Join(other, "other.bin"))
			if err := unpack.Match(s.Programs[0], s.Images[0]); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if err := unpack.Match(pair(t, dir, "fw.elf", "moved.hex", unpack.Options{})); err == nil {
		t.Error("a hex file with other addresses matches")
	}
}

// TestMatchKnowsWhatWasLinked refuses programs that say nothing of flash.
func TestMatchKnowsWhatWasLinked(t *testing.T) {
	img := &subject.Image{File: "x", Chunks: []subject.Chunk{{Data: []byte{1}}}}
	for want, p := range map[string]*subject.Program{
		"never linked":  {Type: subject.Relocatable},
		"loads nothing": {Type: subject.Executable},
		"no loadable segment": {Type: subject.Executable, Data: []byte{1},
			Sections: []subject.Section{{Name: ".text", Type: "PROGBITS", Alloc: true, Size: 1}}},
		"two things": {Type: subject.Executable, Data: []byte{1, 2}, Segments: []subject.Segment{
			{Type: "LOAD", Offset: 0, FileSize: 1, LoadAddress: 8}, {Type: "LOAD", Offset: 1, FileSize: 1, LoadAddress: 8}}},
	} {
		if err := unpack.Match(p, img); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := unpack.Match(&subject.Program{}, &subject.Image{File: "x"}); err == nil {
		t.Error("an empty image matches")
	}
}
