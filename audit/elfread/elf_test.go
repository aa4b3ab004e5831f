package elfread_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/audit/subject"
	"holdfast/internal/testkit"
)

func TestCallsOfEveryMachine(t *testing.T) {
	for _, tc := range toolchains(t) {
		for _, optimise := range []string{"-O0", "-O2"} {
			t.Run(tc.name+optimise, func(t *testing.T) {
				p := open(t, build(t, tc, firmware, "-g", optimise))
				if p.Arch != tc.arch || p.Bits != tc.bits || p.Big != tc.big {
					t.Errorf("%s, %d bits, big %v", p.Arch, p.Bits, p.Big)
				}
				checkCalls(t, p, optimise == "-O2")
			})
		}
	}
}

// TestCallsOfOtherMachines reads programs that were built before.
func TestCallsOfOtherMachines(t *testing.T) {
	for file, arch := range map[string]subject.Arch{"aarch64.elf": subject.AArch64, "riscv32.elf": subject.RISCV32, "riscv64.elf": subject.RISCV64, "riscv64.o": subject.RISCV64} {
		t.Run(file, func(t *testing.T) {
			p := open(t, filepath.Join("testdata", file))
			if p.Arch != arch {
				t.Errorf("arch %s", p.Arch)
			}
			checkCalls(t, p, true)
			if f, _ := p.Function("packets"); f.Line == 0 || len(f.Locals) == 0 {
				t.Errorf("packets is %+v", f)
			}
			if s, _ := p.Struct("NX_PACKET_STRUCT"); len(s.Members) != 4 {
				t.Errorf("NX_PACKET_STRUCT is %+v", s)
			}
			if arch != subject.AArch64 && (p.Attributes["stack_align"] != "16" || !strings.HasPrefix(p.Attributes["arch"], "rv")) {
				t.Errorf("attributes %v", p.Attributes)
			}
		})
	}
}

func TestCallsOfObjects(t *testing.T) {
	for _, tc := range toolchains(t, "cortex-m4", "arm9", "host-pie") {
		t.Run(tc.name, func(t *testing.T) {
			tc.flags = slices.DeleteFunc(tc.flags, func(f string) bool { return f == "-static-pie" })
			checkCalls(t, open(t, build(t, tc, firmware, "-g", "-O2", "-r", "-ffunction-sections")), true)
		})
	}
}

func TestAttributesOfARM(t *testing.T) {
	p := open(t, build(t, toolchains(t, "cortex-m4")[0], firmware, "-mno-unaligned-access"))
	if p.Attributes["CPU_name"] != "7E-M" || p.Attributes["CPU_arch_profile"] != "77" || p.Attributes["CPU_unaligned_access"] != "" {
		t.Errorf("%v", p.Attributes)
	}
	p = open(t, build(t, toolchains(t, "cortex-m4")[0], firmware))
	if p.Attributes["CPU_unaligned_access"] != "1" || len(p.Comments) != 1 || !strings.Contains(p.Comments[0], "GCC") {
		t.Errorf("%v %q", p.Attributes, p.Comments)
	}
}

// TestCallsOfLibraries follows stubs of the procedure linkage table and words
// that the loader fills.
func TestCallsOfLibraries(t *testing.T) {
	gcc := testkit.Need(t, "gcc")
	const lib = "extern int imported(int); extern int also(int); int (*held)(int); int exported(int n) { held = also; return imported(n) + 1; }"
	files := map[string]string{"aarch64": filepath.Join("testdata", "aarch64.so")}
	for _, flags := range [][]string{{"-fcf-protection"}, {"-fno-plt"}, {"-fcf-protection=none", "-Wl,-z,lazy"}} {
		tc := toolchain{name: "host", gcc: gcc, flags: append(flags, "-shared", "-fPIC", "-O2")}
		files[strings.Join(flags, "")] = build(t, tc, lib)
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			p := open(t, file)
			if got := p.Calls.From("exported"); len(got) != 1 || got[0].To != "imported" {
				t.Errorf("calls %+v", got)
			}
			if !p.Calls.Taken["also"] {
				t.Errorf("taken %v", p.Calls.Taken)
			}
		})
	}
}

// TestDynamicSection compares with what the linker was told.
func TestDynamicSection(t *testing.T) {
	gcc := testkit.Need(t, "gcc")
	for _, c := range []struct {
		flags     []string
		now, pie  bool
		interp    bool
		execStack bool
	}{
		{[]string{"-pie", "-fPIE", "-Wl,-z,now"}, true, true, true, false},
		{[]string{"-pie", "-fPIE", "-Wl,-z,lazy", "-Wl,-z,execstack"}, false, true, true, true},
		{[]string{"-shared", "-fPIC", "-Wl,-z,lazy", "-Wl,-rpath,/opt/lib"}, false, false, false, false},
		{[]string{"-static", "-no-pie"}, false, false, false, false},
	} {
		t.Run(strings.Join(c.flags, " "), func(t *testing.T) {
			p := open(t, build(t, toolchain{gcc: gcc, flags: c.flags}, firmware))
			if p.Dynamic.Now != c.now || p.Dynamic.PIE != c.pie || (p.Interp != "") != c.interp {
				t.Errorf("%+v, interp %q", p.Dynamic, p.Interp)
			}
			for _, s := range p.Segments {
				if s.Type == "GNU_STACK" && s.Exec != c.execStack {
					t.Errorf("stack %+v", s)
				}
			}
			if c.flags[0] == "-shared" && !slices.Equal(p.Dynamic.RPath, []string{"/opt/lib"}) {
				t.Errorf("paths %q", p.Dynamic.RPath)
			}
			if len(p.BuildID) != 40 {
				t.Errorf("build id %q", p.BuildID)
			}
		})
	}
}

func checkCalls(t *testing.T, p *subject.Program, optimised bool) {
	t.Helper()
	for _, c := range [][2]string{{"self", "self"}, {"self", "leaf"}, {"ping", "pong"}, {"pong", "ping"}, {"big", "leaf"}, {"packets", "leaf"}, {"start", "big"}, {"start", "through"}, {"start", "leaf"}, {"_start", "start"}} {
		var to []string
		for _, call := range p.Calls.From(c[0]) {
			to = append(to, call.To)
		}
		inlined := c[0] == "_start" && optimised
		if !slices.Contains(to, c[1]) && !inlined {
			t.Errorf("%s calls %q, not %s", c[0], to, c[1])
		}
	}
	if got := fmt.Sprint(p.Calls.Recursive()); got != "[[ping pong] [self]]" {
		t.Errorf("recursive: %s", got)
	}
	if !p.Calls.Taken["taken"] || p.Calls.Used("unused") || !p.Calls.Decoded {
		t.Errorf("taken: %v, unused is used: %v", p.Calls.Taken, p.Calls.Used("unused"))
	}
}

// TestCallsAreThoseOfObjdump holds the calls of ARM code against those that
// objdump finds: none missing, none invented.
func TestCallsAreThoseOfObjdump(t *testing.T) {
	objdump := testkit.Need(t, "arm-none-eabi-objdump")
	call := regexp.MustCompile(`^ *([0-9a-f]+):\t[0-9a-f ]+\t(?:bl|blx|b|b\.w|b\.n)\t[0-9a-f]+ <([^>+]+)>`)
	for _, tc := range toolchains(t, "cortex-m4", "cortex-m0", "arm9") {
		t.Run(tc.name, func(t *testing.T) {
			file := build(t, tc, firmware, "-O2")
			out, err := exec.Command(objdump, "-d", file).Output()
			if err != nil {
				t.Fatal(err)
			}
			var want, got []string
			for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
				if m := call.FindStringSubmatch(lines.Text()); m != nil {
					site, _ := strconv.ParseUint(m[1], 16, 64)
					want = append(want, fmt.Sprintf("%x %s", site, m[2]))
				}
			}
			for _, c := range open(t, file).Calls.All {
				got = append(got, fmt.Sprintf("%x %s", c.Site, c.To))
			}
			slices.Sort(want)
			slices.Sort(got)
			for _, w := range want {
				if !slices.Contains(got, w) {
					t.Errorf("%s is missing", w)
				}
			}
			for _, g := range got {
				if !slices.Contains(want, g) {
					t.Errorf("%s is invented", g)
				}
			}
			if len(want) < 10 {
				t.Errorf("objdump knows %d calls only", len(want))
			}
		})
	}
}

// What GCC is told not to note (-gno-record-gcc-switches) is not known: it is
// not that there were no flags.
func TestFlagsThatAreNotNoted(t *testing.T) {
	p := open(t, build(t, toolchains(t, "cortex-m4")[0], firmware, "-g", "-Os", "-gno-record-gcc-switches"))
	if len(p.Units) != 1 || p.Units[0].FlagsKnown || !strings.HasPrefix(p.Units[0].Producer, "GNU C") {
		t.Errorf("units: %+v", p.Units)
	}
}

// A program that was stripped of most of its symbols imports what it imports.
func TestImportsOfAStrippedTable(t *testing.T) {
	gcc, objcopy := testkit.Need(t, "gcc"), testkit.Need(t, "objcopy")
	dir := t.TempDir()
	source, program := filepath.Join(dir, "a.c"), filepath.Join(dir, "a")
	const text = "char *strcpy(char *, const char *); int main(int c, char **v) { strcpy(v[0], v[c]); return 0; }"
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{gcc, "-fno-builtin", "-o", program, source}, {objcopy, "--wildcard", "--strip-symbol=strcpy@*", program}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	p := open(t, program)
	if s, ok := p.Symbol("strcpy"); p.Stripped || !ok || !s.Undefined || !s.Dynamic {
		t.Errorf("strcpy is %+v, %v; the table is gone: %v", s, ok, p.Stripped)
	}
}
