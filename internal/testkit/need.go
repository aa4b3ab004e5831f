// Package testkit has what tests of several packages share: finding the
// programs they need and starting software TPMs.
package testkit

import (
	"os"
	"os/exec"
	"testing"
)

// Need returns the path of a program that a test drives. Without it the test
// is skipped; where HOLDFAST_REQUIRE is set, as in CI, it fails instead.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("HOLDFAST_REQUIRE") != "" {
		t.Fatalf("%s is required here and missing: %v", program, err)
	}
	t.Skipf("%s is not installed", program)
	return ""
}
