package elfread_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/audit/subject"
	"holdfast/internal/testkit"
)

func TestSymbolsAreThoseOfNM(t *testing.T) {
	nm := testkit.Need(t, "nm")
	for _, tc := range toolchains(t, "cortex-m4", "arm7-be", "host-pie") {
		t.Run(tc.name, func(t *testing.T) {
			file := build(t, tc, firmware)
			out, err := exec.Command(nm, file).Output()
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(out)) {
				f := strings.Fields(line)
				if len(f) == 3 && strings.ContainsAny(f[1], "TtDdBbRr") && !strings.HasPrefix(f[2], "$") {
					address, _ := strconv.ParseUint(f[0], 16, 64)
					want = append(want, fmt.Sprintf("%s %#x", f[2], address))
				}
			}
			p := open(t, file)
			var got []string
			for _, s := range p.Symbols {
				if s.Thumb {
					s.Address |= 1 // as it stands in the file
				}
				if !s.Undefined && s.Kind != subject.FileSymbol {
					got = append(got, fmt.Sprintf("%s %#x", s.Name, s.Address))
				}
			}
			for _, s := range want {
				if !slices.Contains(got, s) {
					t.Errorf("%s is missing", s)
				}
			}
			if len(want) < 15 {
				t.Errorf("nm knows %d symbols only", len(want))
			}
		})
	}
}

func TestHeadersAreThoseOfReadelf(t *testing.T) {
	readelf := testkit.Need(t, "readelf")
	for _, tc := range toolchains(t, "cortex-m4", "arm7-be", "host-pie") {
		t.Run(tc.name, func(t *testing.T) {
			file := build(t, tc, firmware, "-g")
			out, err := exec.Command(readelf, "-SlW", file).Output()
			if err != nil {
				t.Fatal(err)
			}
			p := open(t, file)
			n := 0
			for line := range strings.Lines(string(out)) {
				f := strings.Fields(line)
				if len(f) >= 8 && f[0] == "LOAD" {
					flags := strings.Join(f[6:len(f)-1], "")
					want := subject.Segment{Type: "LOAD", Offset: hex(f[1]), Address: hex(f[2]), LoadAddress: hex(f[3]), FileSize: hex(f[4]), MemorySize: hex(f[5]), Align: hex(f[len(f)-1]),
						Read: strings.Contains(flags, "R"), Write: strings.Contains(flags, "W"), Exec: strings.Contains(flags, "E")}
					if !slices.Contains(p.Segments, want) {
						t.Errorf("no segment %+v in %+v", want, p.Segments)
					}
					n++
				}
				if name := strings.TrimLeft(line[min(7, len(line)):], " "); strings.HasPrefix(name, ".text ") && strings.Contains(name, "PROGBITS") {
					s, _ := p.Section(".text")
					if f := strings.Fields(name); s.Address != hex(f[2]) || s.Offset != hex(f[3]) || s.Size != hex(f[4]) || !s.Exec || !s.Alloc {
						t.Errorf(".text is %+v, readelf says %s", s, name)
					}
					n++
				}
			}
			if n < 2 {
				t.Errorf("readelf told %d things only:\n%s", n, out)
			}
		})
	}
}

func hex(s string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 64)
	return n
}

func TestDebugInformation(t *testing.T) {
	for _, tc := range toolchains(t, "cortex-m4", "arm7-be", "host-pie") {
		for _, flags := range [][]string{{"-O0", "-gdwarf-5"}, {"-O2", "-gdwarf-4"}, {"-Os", "-gdwarf-3", "-gstrict-dwarf"}, {"-O1", "-g", "-gz=zlib"}} {
			t.Run(tc.name+flags[0]+flags[1], func(t *testing.T) {
				checkDebug(t, open(t, build(t, tc, firmware, append(flags, "-fwrapv")...)), flags[0])
			})
		}
	}
}

func checkDebug(t *testing.T, p *subject.Program, optimise string) {
	t.Helper()
	if len(p.Units) != 1 || p.Units[0].Language != "c" || !strings.HasSuffix(p.Units[0].Name, "firmware.c") {
		t.Fatalf("units %+v", p.Units)
	}
	if u := p.Units[0]; !u.FlagsKnown || !u.Flags.Has("-fwrapv") {
		t.Errorf("flags of %q: %q", u.Producer, u.Flags)
	}
	if o, _ := p.Units[0].Flags.Last("-O"); o != optimise[2:] {
		t.Errorf("optimised %q", o)
	}
	f, _ := p.Function("packets")
	if f.Line == 0 || !strings.HasSuffix(f.File, "firmware.c") || f.Size == 0 {
		t.Errorf("packets is %+v", f)
	}
	word := uint64(p.Bits / 8)
	local := slices.IndexFunc(f.Locals, func(l subject.Local) bool { return l.Name == "local" })
	if local < 0 || f.Locals[local].Struct != "NX_PACKET_STRUCT" || f.Locals[local].Type != "NX_PACKET" || f.Locals[local].Size != 64+4*word || !f.Locals[local].OnStack {
		t.Errorf("locals of packets: %+v", f.Locals)
	}
	big, _ := p.Function("big")
	if i := slices.IndexFunc(big.Locals, func(l subject.Local) bool { return l.Name == "buffer" }); i < 0 || big.Locals[i].Size != 300 || !big.Locals[i].Array || big.Locals[i].Type != "UCHAR[300]" {
		t.Errorf("locals of big: %+v", big.Locals)
	}
	want := []subject.Member{
		{Name: "next", Type: "struct NX_PACKET_STRUCT *", Size: word},
		{Name: "data", Type: "UCHAR[64]", Offset: word, Size: 64, Array: true},
		{Name: "release", Type: "function *", Offset: 64 + word, Size: word, FunctionPointer: true},
		{Name: "table", Type: "handler[2]", Offset: 64 + 2*word, Size: 2 * word, Array: true, FunctionPointer: true},
	}
	s, _ := p.Struct("NX_PACKET_STRUCT")
	if diff := cmp.Diff(want, s.Members); diff != "" {
		t.Error(diff)
	}
	if s, ok := p.Struct("plain"); !ok || len(s.Members) != 2 {
		t.Errorf("plain is %+v", s)
	}
}

// TestFramesAreThoseOfTheCompiler compares frames with what GCC says of them
// (-fstack-usage). Behind a frame pointer a frame is as deep as its locals reach
// at least.
func TestFramesAreThoseOfTheCompiler(t *testing.T) {
	for _, tc := range toolchains(t, "cortex-m4", "arm7-be", "host-pie") {
		for _, optimise := range []string{"-O0", "-O2"} {
			t.Run(tc.name+optimise, func(t *testing.T) {
				file := build(t, tc, firmware, "-g", optimise, "-fstack-usage", "-fno-omit-frame-pointer")
				p := open(t, file)
				found, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*.su"))
				if err != nil || len(found) != 1 {
					t.Fatalf("%q %v", found, err)
				}
				su, err := os.Open(found[0])
				if err != nil {
					t.Fatal(err)
				}
				defer su.Close()
				for lines := bufio.NewScanner(su); lines.Scan(); {
					f := strings.Fields(lines.Text())
					name := f[0][strings.LastIndex(f[0], ":")+1:]
					want, _ := strconv.ParseInt(f[1], 10, 64)
					got := p.Stacks[name]
					const slack, redZone = 8, 128 // the return address; what x86 functions use below the stack pointer
					if want >= 64 && (got.Bytes > want+slack || got.Bytes*4 < want*3) || want < 64 && got.Bytes > want+redZone {
						t.Errorf("%s takes %+v, GCC says %d", name, got, want)
					}
				}
			})
		}
	}
}
