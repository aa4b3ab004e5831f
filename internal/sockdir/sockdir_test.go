package sockdir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/sockdir"
)

func TestChoose(t *testing.T) {
	fits := "/" + strings.Repeat("d", 107-len("/")-len("/s"))
	if got, remove, err := sockdir.Choose(fits, "s"); got != fits || err != nil {
		t.Errorf("%q, %v", got, err)
	} else {
		remove()
	}
	short, remove, err := sockdir.Choose(fits+"d", "s")
	if err != nil || len(filepath.Join(short, "s")) > 107 {
		t.Fatalf("%q, %v", short, err)
	}
	if info, err := os.Stat(short); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	remove()
	if _, err := os.Stat(short); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}
