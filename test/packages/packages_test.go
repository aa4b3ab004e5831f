// Package packages_test installs the Debian packages in a root directory of
// their own, runs what is in them, upgrades and removes them.
package packages_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/testkit"
)

// root is a root directory to install in.
type root struct {
	t   *testing.T
	dir string
}

func newRoot(t *testing.T) root {
	t.Helper()
	r := root{t, t.TempDir()}
	run(t, nil, "./chroot", r.dir)
	return r
}

// run runs a program and returns what it printed.
func run(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// do runs a command inside the root directory.
func (r root) do(args ...string) string {
	r.t.Helper()
	return run(r.t, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"}, "chroot", append([]string{r.dir}, args...)...)
}

// put copies a file to /tmp of the root directory and returns its path in there.
func (r root) put(path string) string {
	r.t.Helper()
	b := contents(r.t, path)
	name := "/tmp/" + filepath.Base(path)
	if err := os.WriteFile(r.dir+name, b, 0o644); err != nil {
		r.t.Fatal(err)
	}
	return name
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r root) has(path string) bool {
	_, err := os.Lstat(r.dir + path)
	return err == nil
}

// serve starts the hub as its unit would, waits until it is up, and stops it.
func (r root) serve() {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "chroot", "--userspec=holdfast:holdfast", r.dir, "/usr/bin/holdfast", "hub", "run",
		"--state", "/var/lib/holdfast", "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0", "--operator", "127.0.0.1:0")
	logs, err := cmd.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	var seen bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(logs, &seen))
	up := false
	for lines.Scan() {
		if !up && strings.Contains(lines.Text(), "hub is up") {
			up = true
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !up {
		r.t.Fatalf("the hub came up: %v; it ended with %v\n%s", up, err, &seen)
	}
}

// built makes the packages of a version and returns the directory they are in.
func built(t *testing.T, version string, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, append(env, "DIST="+dir), "../../scripts/package", version)
	return dir
}

func deb(dir, name, version string) string {
	arch, err := exec.Command("dpkg", "--print-architecture").Output()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, name+"_"+version+"_"+strings.TrimSpace(string(arch))+".deb")
}

func TestPackages(t *testing.T) {
	testkit.Need(t, "dpkg-deb")
	if os.Getuid() != 0 {
		t.Skip("installing takes root")
	}
	first, second := built(t, "1.0.0"), built(t, "1.1.0", "ONLY=holdfast")
	r := newRoot(t)

	out := r.do("dpkg", "-i", r.put(deb(first, "holdfast", "1.0.0")))
	if !strings.Contains(out, "holdfast hub init") {
		t.Errorf("installing does not say what to do next:\n%s", out)
	}
	if got := r.do("stat", "-c", "%U %a", "/var/lib/holdfast"); got != "holdfast 700\n" {
		t.Errorf("state directory: %s", got)
	}
	r.do("chroot", "--userspec=holdfast:holdfast", "/", "/usr/bin/holdfast", "hub", "init", "--host", "localhost", "--root-out", "/tmp/root.key")
	r.serve()

	keys := []string{"/var/lib/holdfast/hub.json", "/var/lib/holdfast/ledger.key", "/var/lib/holdfast/ca/birth.key"}
	before := map[string][]byte{}
	for _, k := range keys {
		before[k] = contents(t, r.dir+k)
	}
	r.do("dpkg", "-i", r.put(deb(second, "holdfast", "1.1.0")))
	if got := r.do("holdfast", "--version"); !strings.Contains(got, "1.1.0") {
		t.Errorf("after the upgrade: %s", got)
	}
	r.serve()
	for _, k := range keys {
		if !bytes.Equal(contents(t, r.dir+k), before[k]) {
			t.Errorf("the upgrade changed %s", k)
		}
	}

	r.do("dpkg", "--remove", "holdfast")
	if r.has("/usr/bin/holdfast") || r.has("/usr/lib/systemd/system/holdfast.service") || !r.has(keys[0]) {
		t.Error("removing left the program, or took the state")
	}
	if out := r.do("dpkg", "--purge", "holdfast"); !strings.Contains(out, "stays") || !r.has(keys[0]) {
		t.Errorf("purging took a hub's keys, or said nothing of them:\n%s", out)
	}

	again := built(t, "1.0.0", "ONLY=holdfast-device")
	if !bytes.Equal(contents(t, deb(first, "holdfast-device", "1.0.0")), contents(t, deb(again, "holdfast-device", "1.0.0"))) {
		t.Error("the same commit gave two packages that differ")
	}
	r.do("dpkg", "-i", r.put(deb(first, "holdfast-device", "1.0.0")))
	if got := r.do("holdfast-device", "version"); !strings.Contains(got, "1.0.0") {
		t.Errorf("device: %s", got)
	}
	r.do("dpkg", "--purge", "holdfast-device")
	if r.has("/usr/bin/holdfast-device") || r.has("/var/lib/holdfast-device") {
		t.Error("the device's package left something")
	}
}

func TestUnits(t *testing.T) {
	testkit.Need(t, "systemd-analyze")
	for unit, exposure := range map[string]string{"holdfast.service": "20", "holdfast-device.service": "30"} { // tenths
		out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+exposure, "../../deploy/systemd/"+unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s is more exposed than %s tenths: %v\n%s", unit, exposure, err, out)
		}
	}
}
