package unpack_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"holdfast/audit/unpack"
)

// BenchmarkDirectory reads 500 MB: 2,000 sources of 50 kB and 100 binaries of
// 4 MB. Memory is what is live when all is read; it must not grow with the
// directory.
func BenchmarkDirectory(b *testing.B) {
	dir := b.TempDir()
	line := []byte("static const int number_of_the_line = 12345; /* nothing of note */\n")
	source, binary := bytes.Repeat(line, 50_000/len(line)), bytes.Repeat([]byte{0, 1, 2, 3}, 1<<20)
	size := int64(0)
	for i := range 2100 {
		name, data := fmt.Sprintf("%d/%d.c", i%40, i), source
		if i >= 2000 {
			name, data = fmt.Sprintf("%d/%d.bin", i%40, i), binary
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			b.Fatal(err)
		}
		size += int64(len(data))
	}
	b.SetBytes(size)
	b.ReportAllocs()
	live := uint64(0)
	for b.Loop() {
		s := open(b, unpack.Options{}, dir)
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		live = m.HeapAlloc
		if len(s.Files) != 2100 {
			b.Fatalf("%d files", len(s.Files))
		}
	}
	b.ReportMetric(float64(live)/1e6, "MB-live")
}
