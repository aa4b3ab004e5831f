package audit_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/finding"
	"holdfast/internal/testkit"
)

// manyFunctions is a source of some thousand functions, each with locals, a
// loop, a text, and calls of others.
func manyFunctions(n int) string {
	var b strings.Builder
	b.WriteString("typedef struct { int n; unsigned char data[40]; void (*then)(int); } record; volatile int sink; void use(const char *t) { while (*t) sink += *t++; }\n")
	for i := range n {
		fmt.Fprintf(&b, `typedef struct { record r; int m%[1]d; struct { char c[%[1]d %% 7 + 1]; } inner; } type%[1]d; int f%[2]d(int); const unsigned char table%[1]d[48] = {%[1]d & 255, 3, 7, 200, 17};
__attribute__((noinline)) int f%[1]d(int n) { type%[1]d local; record other = {0}; for (int i = 0; i < n; i++) { int k = i * %[1]d; local.r.data[i %% 40] = k; other.data[k & 31] = i; sink += k; }
 use("function %[1]d of the pump's firmware"); local.m%[1]d = n ? f%[2]d(n - 1) : 0; return local.m%[1]d + local.r.data[n & 7] + other.data[3] + table%[1]d[n & 31]; }
`, i, (i*7+1)%n)
	}
	b.WriteString("void *memset(void *d, int c, unsigned n) { volatile char *b = d; while (n--) *b++ = c; return d; } int _start(void) { return f0(3); }\n")
	return b.String()
}

// BenchmarkAudit judges a firmware of 5 MB with debug information by all rules,
// in a process of its own, beside sha256sum and readelf -a of the same file.
func BenchmarkAudit(b *testing.B) {
	gcc, exe, dir := testkit.Need(b, "arm-none-eabi-gcc"), program(b), b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.c"), []byte(manyFunctions(6200)), 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := command(dir, []string{gcc, "-mcpu=cortex-m4", "-mthumb", "-g", "-O0", "-ffreestanding", "-nostdlib", "-o", "app.elf", "app.c"}); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(filepath.Join(dir, "app.elf"))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	var cpu time.Duration
	var rss int64
	for b.Loop() {
		r := holdfast(b, exe, dir, "audit", "app.elf", "--json", "--fail-on", "critical")
		var report finding.Report
		if err := json.Unmarshal(r.out, &report); err != nil || len(report.Results) < 100 || len(report.Troubles) > 0 {
			b.Fatalf("%v, %d results, troubles %v: %s", err, len(report.Results), report.Troubles, r.err)
		}
		cpu, rss = cpu+r.cpu, max(rss, r.rss)
	}
	each := cpu.Seconds() / float64(b.N)
	b.ReportMetric(float64(info.Size())/1e6, "MB-firmware")
	b.ReportMetric(each, "cpu-s")
	b.ReportMetric(float64(rss)/1e6, "MB-peak")
	b.ReportMetric(beside(b, dir, "sha256sum", "app.elf").Seconds()/each, "of-sha256sum")
	b.ReportMetric(beside(b, dir, "readelf", "-aW", "app.elf").Seconds()/each, "of-readelf")
}

// beside is the processor time of another program.
func beside(b *testing.B, dir, name string, args ...string) time.Duration {
	cmd := exec.Command(testkit.Need(b, name), args...)
	cmd.Dir = dir
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// BenchmarkDirectory judges 500 MB by all rules: 2,000 sources of 50 kB and 100
// binaries of 4 MB. Memory must not grow with the directory: the most that the
// process has of its own is reported beside that of a tenth of it. What is
// mapped of files is not its own: the kernel takes it back when it wants to.
func BenchmarkDirectory(b *testing.B) {
	exe, dir := program(b), b.TempDir()
	whole, tenth := filepath.Join(dir, "whole"), filepath.Join(dir, "tenth")
	size := fill(b, whole, 2000, 100)
	fill(b, tenth, 200, 10)
	b.SetBytes(size)
	var cpu time.Duration
	var own, less int64
	for b.Loop() {
		r := holdfast(b, exe, dir, "audit", "whole", "--json", "--fail-on", "critical")
		small := holdfast(b, exe, dir, "audit", "tenth", "--json", "--fail-on", "critical")
		if r.exit != 0 || small.exit != 0 {
			b.Fatalf("%d %s, %d %s", r.exit, r.err, small.exit, small.err)
		}
		cpu, own, less = cpu+r.cpu, max(own, r.own), max(less, small.own)
	}
	b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s")
	b.ReportMetric(float64(own)/1e6, "MB-own")
	b.ReportMetric(float64(own)/float64(less), "of-a-tenth")
}

func fill(b *testing.B, dir string, sources, binaries int) (size int64) {
	text := []byte(manyFunctions(1000)[:50_000])
	bytes := noise("binary", 4<<20)
	for i := range sources + binaries {
		name, data := fmt.Sprintf("%d/%d.c", i%40, i), text
		if i >= sources {
			name, data = fmt.Sprintf("%d/%d.bin", i%40, i), bytes
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			b.Fatal(err)
		}
		size += int64(len(data))
	}
	return size
}
