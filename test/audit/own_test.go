package audit_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOwnPrograms: our own two programs, linked as releases are (make build),
// pass their own audit by the settings at the root of the repository.
func TestOwnPrograms(t *testing.T) {
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", dir, "holdfast/cmd/holdfast", "holdfast/cmd/holdfast-device")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	settings, err := filepath.Abs("../../.holdfast-audit.yaml")
	if err != nil {
		t.Fatal(err)
	}
	audit := exec.CommandContext(t.Context(), filepath.Join(dir, "holdfast"), "audit", "holdfast", "holdfast-device",
		"--settings", settings, "--fail-on", "high", "--all")
	audit.Dir = dir
	out, err := audit.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
