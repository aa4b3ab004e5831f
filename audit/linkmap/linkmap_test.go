package linkmap_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/audit/linkmap"
	"holdfast/audit/subject"
	"holdfast/internal/testkit"
)

// TestMapOfGNULd reads what the linker writes of a program with an archive and
// a script with regions of memory.
func TestMapOfGNULd(t *testing.T) {
	gcc, ar := testkit.Need(t, "arm-none-eabi-gcc"), testkit.Need(t, "ar")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.c": "int my_random_number_function(void); int unused_function(void) { return 2; } int _start(void) { return my_random_number_function(); }\n",
		"rand.c": "int my_random_number_function(void) { return 4; }\n",
		"fw.ld":  "ENTRY(_start)\nMEMORY { FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 64K\n RAM (rw) : ORIGIN = 0x20000000, LENGTH = 16K }\nSECTIONS { .text : { *(.text*) } > FLASH _etext = .; .data : { *(.data*) *(.bss*) } > RAM AT > FLASH }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(program string, args ...string) {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
	}
	run(gcc, "-mcpu=cortex-m4", "-c", "-ffunction-sections", "main.c", "rand.c")
	run(ar, "rc", "libr.a", "rand.o")
	run(gcc, "-mcpu=cortex-m4", "-nostdlib", "-Wl,--gc-sections,-Map=fw.map", "-Tfw.ld", "main.o", "libr.a", "-o", "fw.elf")
	text, err := os.ReadFile(filepath.Join(dir, "fw.map"))
	if err != nil {
		t.Fatal(err)
	}
	m := linkmap.Parse("fw.map", string(text))
	if m.Linker != "gnu-ld" {
		t.Errorf("linker %s", m.Linker)
	}
	if diff := cmp.Diff([]subject.MapMember{{Archive: "libr.a", Object: "rand.o", For: "main.o", Symbol: "my_random_number_function"}}, m.Members); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]subject.MapMemory{{Name: "FLASH", Origin: 0x8000000, Length: 0x10000, Attributes: "xr"}, {Name: "RAM", Origin: 0x20000000, Length: 0x4000, Attributes: "rw"}}, m.Memory); diff != "" {
		t.Error(diff)
	}
	has := func(all []subject.MapSection, name, object string) bool {
		return slices.ContainsFunc(all, func(s subject.MapSection) bool { return s.Name == name && s.Object == object })
	}
	if !has(m.Sections, ".text.my_random_number_function", "libr.a(rand.o)") || !has(m.Sections, ".text._start", "main.o") || !has(m.Dropped, ".text.unused_function", "main.o") {
		t.Errorf("sections %+v, dropped %+v\n%s", m.Sections, m.Dropped, text)
	}
	if m.Symbols["my_random_number_function"] < 0x8000000 || m.Symbols["_start"] == 0 || m.Symbols["_etext"] < 0x8000000 {
		t.Errorf("symbols %v", m.Symbols)
	}
	if !slices.Contains(m.Objects(), "libr.a(rand.o)") {
		t.Errorf("objects %q", m.Objects())
	}
}

func TestMapsOfOthers(t *testing.T) {
	for _, c := range []struct {
		linker, text  string
		section       subject.MapSection
		symbol        string
		address       uint64
		droppedObject string
	}{
		{"armlink", `
    Removing rand.o(.text.rand), (12 bytes).
Image Symbol Table
    main                                     0x080001d9   Thumb Code    36  main.o(.text.main)
Memory Map of the image
  Load Region LR_IROM1 (Base: 0x08000000, Size: 0x00000400, Max: 0x00010000, ABSOLUTE)
    Execution Region ER_IROM1 (Exec base: 0x08000000, Load base: 0x08000000, Size: 0x000003e0, Max: 0x00010000, ABSOLUTE)
    Exec Addr    Load Addr    Size         Type   Attr      Idx    E Section Name        Object
    0x080001d8   0x080001d8   0x00000024   Code   RO           12    .text.main          main.o
`, subject.MapSection{Output: "ER_IROM1", Name: ".text.main", Address: 0x80001d8, Size: 0x24, Object: "main.o"}, "main", 0x80001d9, "rand.o"},
		{"iar", `
# IAR ELF Linker V9.10.1/W64 for ARM
*** PLACEMENT SUMMARY
  .text              ro code  0x800'0200    0x24  main.o [1]
*** MODULE SUMMARY
*** ENTRY LIST
main                    0x800'0201    0x24  Code  Gb  main.o [1]
`, subject.MapSection{Name: ".text", Address: 0x8000200, Size: 0x24, Object: "main.o"}, "main", 0x8000201, ""},
		{"lld", `             VMA              LMA     Size Align Out     In      Symbol
         8000000          8000000       24     4 .text
         8000000          8000000       24     4         main.o:(.text.main)
         8000000          8000000       24     1                 main
`, subject.MapSection{Output: ".text", Name: ".text.main", Address: 0x8000000, Size: 0x24, Object: "main.o"}, "main", 0x8000000, ""},
	} {
		t.Run(c.linker, func(t *testing.T) {
			m := linkmap.Parse("m", c.text)
			if m.Linker != c.linker {
				t.Errorf("linker %s", m.Linker)
			}
			if diff := cmp.Diff([]subject.MapSection{c.section}, m.Sections); diff != "" {
				t.Error(diff)
			}
			if m.Symbols[c.symbol] != c.address {
				t.Errorf("symbols %v", m.Symbols)
			}
			if c.droppedObject != "" && (len(m.Dropped) != 1 || m.Dropped[0].Object != c.droppedObject) {
				t.Errorf("dropped %+v", m.Dropped)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("Archive member included\nlibc.a(rand.o)\n  main.o (rand)\nMemory Configuration\nFLASH 0x0 0x10 xr\nLinker script and memory map\n.text\n .text.a\n  0x8 0x4 a.o\n")
	f.Add("Image Symbol Table\n a 0x1 b c\nMemory Map of the image\n 0x1 0x2 0x3 a b c d e\n")
	f.Add("IAR ELF Linker\n*** PLACEMENT SUMMARY\n.text 0x8'0 0x1 a.o\n")
	f.Add(" VMA LMA\n1 2 3 4 a.o:(.b)\n1 2 3 4         a\n")
	f.Fuzz(func(t *testing.T, text string) {
		m := linkmap.Parse("m", text)
		if len(m.Objects()) > strings.Count(text, "\n")+1 {
			t.Error("more objects than lines")
		}
	})
}
