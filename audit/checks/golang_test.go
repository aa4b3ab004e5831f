package checks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/audit/subject"
	"holdfast/audit/unpack"
	"holdfast/measure"
)

// goBuild builds a program of a few lines and reads it.
func goBuild(t *testing.T, args ...string) *subject.Subject {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module app\n\ngo 1.27.0\n", "main.go": "package main\n\nfunc main() { println(len(\"app\")) }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-o", "app"}, args...), ".")...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s, err := unpack.Open(t.Context(), []string{filepath.Join(dir, "app")}, unpack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestGoPrograms(t *testing.T) {
	good, bad := goBuild(t, "-ldflags=-s -w"), goBuild(t, "-gcflags=-B")
	for _, c := range []struct {
		s    *subject.Subject
		rule string
		want measure.Verdict
	}{
		{good, "GO-BOUNDS-01", measure.Pass}, {bad, "GO-BOUNDS-01", measure.Fail},
		{good, "GO-STACK-01", measure.Pass}, {bad, "GO-STACK-01", measure.Pass},
		{withPrograms(program([2]string{"main", "f"})), "GO-STACK-01", measure.Unknown},
	} {
		if res, _ := run(t, c.s, c.rule); res.Verdict != c.want {
			t.Errorf("%s: %s (%s), want %s", c.rule, res.Verdict, res.Reason, c.want)
		}
	}
	if res, _ := run(t, good, "BLD-CANARY-01"); res.Applies {
		t.Errorf("canaries of C are asked of Go: %+v", res)
	}
}
