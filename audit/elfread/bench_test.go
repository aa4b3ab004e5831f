package elfread_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"holdfast/audit/elfread"
	"holdfast/internal/testkit"
)

// source is a C program of some thousand functions, each with locals, a loop,
// and calls of others.
func source(functions int) string {
	var b strings.Builder
	b.WriteString("typedef struct { int n; unsigned char data[40]; void (*then)(int); } record; volatile int sink;\n")
	for i := range functions {
		fmt.Fprintf(&b, `typedef struct { record r; int m%[1]d; struct { char c[%[1]d %% 7 + 1]; } inner; } type%[1]d; int f%[2]d(int);
__attribute__((noinline)) int f%[1]d(int n) { type%[1]d local; record other = {0}; for (int i = 0; i < n; i++) { int k = i * %[1]d; local.r.data[i %% 40] = k; other.data[k & 31] = i; sink += k; }
 local.m%[1]d = n ? f%[2]d(n - 1) : 0; return local.m%[1]d + local.r.data[n & 7] + other.data[3]; }
`, i, (i*7+1)%functions)
	}
	b.WriteString("void *memset(void *d, int c, unsigned n) { volatile char *b = d; while (n--) *b++ = c; return d; } int _start(void) { return f0(3); }\n")
	return b.String()
}

// BenchmarkRead reads a firmware of 5 MB with debug information, beside what
// sha256sum and readelf -a take for the same file.
func BenchmarkRead(b *testing.B) {
	tc := toolchains(b, "cortex-m4")[0]
	data, err := os.ReadFile(build(b, tc, source(6000), "-g", "-O0"))
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d bytes", len(data))
	b.Run("holdfast", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if p, _ := elfread.Read("self", data, limits); p == nil {
				b.Fatal("not read")
			}
		}
	})
	b.Run("sha256", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			sha256.Sum256(data)
		}
	})
	b.Run("readelf", func(b *testing.B) {
		readelf := testkit.Need(b, "readelf")
		file := b.TempDir() + "/self"
		if err := os.WriteFile(file, data, 0o600); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			cmd := exec.Command(readelf, "-aW", file)
			cmd.Stdout, cmd.Stderr = io.Discard, &bytes.Buffer{}
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
