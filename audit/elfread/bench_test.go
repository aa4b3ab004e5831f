package elfread_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"testing"

	"holdfast/audit/elfread"
	"holdfast/internal/testkit"
)

// BenchmarkRead reads a program with debug information, this test itself,
// beside what sha256sum and readelf -a take for the same file.
func BenchmarkRead(b *testing.B) {
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		b.Skip(err)
	}
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
