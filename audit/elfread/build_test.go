package elfread_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/audit/elfread"
	"holdfast/audit/subject"
	"holdfast/internal/testkit"
)

var limits = elfread.Limits{Sections: 65536, Symbols: 4 << 20, DebugEntries: 8 << 20, DebugSize: 512 << 20, Calls: 8 << 20}

// firmware is a program with one of everything that is read of code and of
// debug information.
const firmware = `
typedef unsigned char UCHAR;
typedef void (*handler)(int);
typedef struct NX_PACKET_STRUCT { struct NX_PACKET_STRUCT *next; UCHAR data[64]; void (*release)(struct NX_PACKET_STRUCT *); handler table[2]; } NX_PACKET;
typedef struct { int a; UCHAR b; } plain;
volatile int sink;
int state = 7;
const char banner[] = "firmware 1.2.3";
__attribute__((noinline)) int leaf(int n) { sink = n; return n * 3; }
__attribute__((noinline)) int self(int n) { int r = n ? self(n - 1) + leaf(n) : 0; sink = r; return r; }
int pong(int n);
__attribute__((noinline)) int ping(int n) { int r = n ? pong(n - 1) + 1 : 0; sink = r; return r; }
__attribute__((noinline)) int pong(int n) { int r = n ? ping(n - 1) + 2 : 0; sink = r; return r; }
__attribute__((noinline)) void taken(int n) { sink = n; }
__attribute__((noinline)) void unused(int n) { sink = n + 1; }
handler handlers[2] = { taken, 0 };
__attribute__((noinline)) int big(UCHAR *from, int n) {
	volatile UCHAR buffer[300];
	for (int i = 0; i < n; i++) buffer[i] = from[i];
	return buffer[n / 2] + leaf(n);
}
__attribute__((noinline)) int packets(NX_PACKET *p) { volatile NX_PACKET local; local.data[1] = p->data[0]; leaf(1); return local.data[1]; }
__attribute__((noinline)) void through(handler h) { h(1); sink++; }
plain pair;
int start(void) {
	UCHAR bytes[4] = {1, 2, 3, 4};
	NX_PACKET p = {0};
	sink += self(3) + ping(2) + big(bytes, 4) + packets(&p) + banner[sink & 7] + pair.b;
	through(handlers[0]);
	return leaf(state);
}
void *memset(void *d, int c, unsigned long n) { volatile UCHAR *b = d; while (n--) *b++ = (UCHAR)c; return d; }
void _start(void) { for (;;) start(); }
`

// toolchain is a compiler and the machine it makes code for.
type toolchain struct {
	name, gcc string
	flags     []string
	arch      subject.Arch
	bits      int
	big       bool
}

// toolchains returns those of the names, or all.
func toolchains(t testing.TB, names ...string) []toolchain {
	return slices.DeleteFunc(allToolchains(t), func(tc toolchain) bool { return len(names) > 0 && !slices.Contains(names, tc.name) })
}

func allToolchains(t testing.TB) []toolchain {
	arm, host := testkit.Need(t, "arm-none-eabi-gcc"), testkit.Need(t, "gcc")
	return []toolchain{
		{"cortex-m4", arm, []string{"-mcpu=cortex-m4", "-mthumb"}, subject.ARM, 32, false},
		{"cortex-m0", arm, []string{"-mcpu=cortex-m0", "-mthumb"}, subject.ARM, 32, false},
		{"cortex-m4-pure", arm, []string{"-mcpu=cortex-m4", "-mthumb", "-mlong-calls", "-mslow-flash-data"}, subject.ARM, 32, false},
		{"cortex-m4-long", arm, []string{"-mcpu=cortex-m4", "-mthumb", "-mlong-calls"}, subject.ARM, 32, false},
		{"arm9", arm, []string{"-mcpu=arm926ej-s", "-marm"}, subject.ARM, 32, false},
		{"arm7-be", arm, []string{"-mcpu=cortex-r5", "-marm", "-mbig-endian", "-Wl,--be8"}, subject.ARM, 32, true},
		{"host", host, []string{"-no-pie", "-static"}, subject.X8664, 64, false},
		{"host-pie", host, []string{"-fPIE", "-static-pie", "-fcf-protection"}, subject.X8664, 64, false},
	}
}

// build compiles a source into an ELF without a C library.
func build(t testing.TB, tc toolchain, source string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "firmware.c"), filepath.Join(dir, "firmware.elf")
	if err := os.WriteFile(in, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-ffreestanding", "-nostdlib", "-nostartfiles", "-fno-asynchronous-unwind-tables", "-o", out, in}, tc.flags...)
	args = append(args, flags...)
	cmd := exec.Command(tc.gcc, args...)
	cmd.Dir = dir
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", tc.gcc, strings.Join(args, " "), err, b)
	}
	return out
}

// open reads a program that has to be in order.
func open(t testing.TB, file string) *subject.Program {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p, troubles := elfread.Read(file, data, limits)
	for _, trouble := range troubles {
		t.Errorf("trouble: %s: %s", trouble.Location, trouble.Message)
	}
	if p == nil {
		t.FailNow()
	}
	return p
}
