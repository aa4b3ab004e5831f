package device

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCountBoot(t *testing.T) {
	dir := t.TempDir()
	for i, tc := range []struct {
		kernel string
		n      uint64
		first  bool
	}{
		{"", 1, true}, {"", 2, true}, // a virtual board boots at every start
		{"k1", 3, true}, {"k1", 3, false}, // a machine, when its kernel does
		{"k2", 4, true},
	} {
		n, first, err := countBoot(dir, tc.kernel)
		if err != nil || n != tc.n || first != tc.first {
			t.Errorf("start %d: %d %t %v, want %d %t", i, n, first, err, tc.n, tc.first)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "boots.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, _, err := countBoot(dir, ""); err != nil || n != 1 {
		t.Errorf("after damage: %d, %v", n, err)
	}
	if _, _, err := countBoot(filepath.Join(dir, "gone"), ""); err == nil {
		t.Error("counted in a directory that does not exist")
	}
}
