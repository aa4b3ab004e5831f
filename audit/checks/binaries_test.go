package checks_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/audit/checks"
	"holdfast/audit/elfread"
	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/internal/testkit"
	"holdfast/measure"
)

// firmwareFor compiles C for a Cortex-M without a C library.
func firmwareFor(t *testing.T, source string, flags ...string) *subject.Program {
	t.Helper()
	gcc := testkit.Need(t, "arm-none-eabi-gcc")
	args := []string{"-mcpu=cortex-m4", "-mthumb", "-O1", "-ffreestanding", "-nostdlib", "-nostartfiles", "-fno-asynchronous-unwind-tables", "-Wl,-e,start", "-Wl,--no-warn-rwx-segments"}
	return compile(t, gcc, prelude+source, append(args, flags...)...)
}

// prelude has what every firmware of the tests needs.
const prelude = `
typedef unsigned char u8;
typedef unsigned int u32;
volatile int sink;
void *memset(void *d, int c, unsigned n) { volatile u8 *b = d; while (n--) *b++ = (u8)c; return d; }
void *memcpy(void *d, const void *s, unsigned n) { volatile u8 *b = d; const u8 *f = s; while (n--) *b++ = *f++; return d; }
#define KEEP __attribute__((noinline, noclone, noipa, used))
`

// hostProgram compiles C for this machine.
func hostProgram(t *testing.T, source string, flags ...string) *subject.Program {
	t.Helper()
	return compile(t, testkit.Need(t, "gcc"), source, append([]string{"-O2"}, flags...)...)
}

func compile(t *testing.T, gcc, source string, flags ...string) *subject.Program {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "app.c"), filepath.Join(dir, "app.elf")
	if err := os.WriteFile(in, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(gcc, append([]string{"-w", "-o", out, in}, flags...)...)
	cmd.Dir = dir
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", gcc, strings.Join(flags, " "), err, b)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	p, troubles := elfread.Read("app.elf", data, elfread.Limits{Sections: 65536, Symbols: 1 << 20, DebugEntries: 1 << 20, DebugSize: 64 << 20, Calls: 1 << 20})
	for _, trouble := range troubles {
		t.Errorf("trouble: %s", trouble.Message)
	}
	return p
}

// turned returns the rules that fail on one subject and not on the other.
func turned(t *testing.T, bad, good *subject.Subject) []string {
	t.Helper()
	failing := func(s *subject.Subject) []string {
		_, results, err := checks.Judge(t.Context(), s, checks.All(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, r := range results {
			if r.Verdict == measure.Fail {
				all = append(all, r.Rule)
			}
		}
		return all
	}
	before, after := failing(bad), failing(good)
	var all []string
	for _, id := range before {
		if !slices.Contains(after, id) {
			all = append(all, id)
		}
	}
	for _, id := range after {
		if !slices.Contains(before, id) {
			all = append(all, "not "+id)
		}
	}
	return all
}

// pair judges two subjects that differ in one choice: the rule fails on the
// first and passes on the second, and no other rule turns but those named.
func pair(t *testing.T, id string, bad, good *subject.Subject, others ...string) {
	t.Helper()
	if res, found := run(t, bad, id); res.Verdict != measure.Fail {
		t.Errorf("%s: the wrong one: %s (%s) %v", id, res.Verdict, res.Reason, found)
	}
	if res, found := run(t, good, id); res.Verdict != measure.Pass {
		t.Errorf("%s: the right one: %s (%s, applies %v) %v", id, res.Verdict, res.Reason, res.Applies, found)
	}
	want := append([]string{id}, others...)
	got := turned(t, bad, good)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q turned, want %q", id, got, want)
	}
}

// messages returns what findings say.
func messages(all []finding.Finding) []string {
	var out []string
	for _, f := range all {
		out = append(out, f.Message)
	}
	return out
}

func replace(text, old, with string) string { return strings.ReplaceAll(text, old, with) }

// ecKey is a new key on P-256.
func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// variable is a variable of a program that a test makes.
type variable struct {
	name string
	data []byte
}

// holds is a program for ARM that has the variables, one behind the other with
// room between, and no code.
func holds(all ...variable) *subject.Subject {
	const base = 0x8000
	p := &subject.Program{File: "app.elf", Arch: subject.ARM, Bits: 32, Type: subject.Executable, Calls: subject.NewCalls(nil, nil, true)}
	for _, v := range all {
		p.Data = append(p.Data, make([]byte, 16-len(p.Data)%4)...)
		p.Symbols = append(p.Symbols, subject.Symbol{Name: v.name, Kind: subject.ObjectSymbol, Address: base + uint64(len(p.Data)), Size: uint64(len(v.data)), Section: ".rodata"})
		p.Data = append(p.Data, v.data...)
	}
	p.Data = append(p.Data, make([]byte, 16)...)
	n := uint64(len(p.Data))
	p.Segments = []subject.Segment{{Type: "LOAD", Read: true, Address: base, FileSize: n, MemorySize: n}}
	p.Sections = []subject.Section{{Name: ".rodata", Type: "PROGBITS", Alloc: true, Address: base, Size: n}}
	p.Index()
	return withPrograms(p)
}

// words writes numbers as a little-endian machine holds them.
func words(all ...uint32) []byte {
	var b []byte
	for _, w := range all {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}
