package arch_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// linked returns the packages outside the standard library that a program
// links, sorted. It skips the test while there is no such program.
func linked(t *testing.T, program string) []string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, "cmd", program)); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("there is no cmd/%s", program)
	}
	var all []string
	for _, p := range goList(t, "-deps", "./cmd/"+program) {
		if !p.Standard {
			all = append(all, p.ImportPath)
		}
	}
	slices.Sort(all)
	return all
}

// notOnDevices are the beginnings of what the device program does not link.
var notOnDevices = []string{
	module + "/hub", module + "/client", module + "/operator", module + "/demo", module + "/audit",
	"github.com/nats-io/", "github.com/danielgtaylor/huma/", "modernc.org/", "github.com/jackc/",
}

func TestDeviceProgramIsSmall(t *testing.T) {
	for _, p := range linked(t, "holdfast-device") {
		for _, heavy := range notOnDevices {
			if strings.HasPrefix(p, heavy) {
				t.Errorf("cmd/holdfast-device links %s", p)
			}
		}
	}
	for _, p := range goList(t, "-deps", "./cmd/holdfast-device") {
		if p.ImportPath == "database/sql" {
			t.Error("cmd/holdfast-device links database/sql")
		}
	}
}

// TestDependencyLists keeps deps.txt beside each program, so that a new
// dependency is a line in a review.
func TestDependencyLists(t *testing.T) {
	for _, program := range []string{"holdfast", "holdfast-device"} {
		t.Run(program, func(t *testing.T) {
			want := linked(t, program)
			file := filepath.Join(root, "cmd", program, "deps.txt")
			if *rewrite {
				if err := os.WriteFile(file, []byte(strings.Join(want, "\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(file)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, strings.Fields(string(got))); diff != "" {
				t.Errorf("%s is stale; run \"make gen\" and look at the difference (-want +got):\n%s", file, diff)
			}
		})
	}
}
