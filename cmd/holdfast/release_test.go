package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"golang.org/x/sys/unix"

	"holdfast/client/staging"
	"holdfast/internal/testkit"
	"holdfast/mcuboot"
	"holdfast/pki"
)

// Half of the key is in a token and never leaves it; the other is in the file.
func TestReleaseKeyInAToken(t *testing.T) {
	testkit.Need(t, "gcc")
	hsm := testkit.NewSoftHSM(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	helper := file("holdfast-pkcs11")
	build := exec.Command("go", "build", "-o", helper, "holdfast/cmd/holdfast-pkcs11")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, text := range map[string]string{"pin": hsm.PIN + "\n", "image": strings.Repeat("image ", 20),
		"hub.json": `{"snapshot_key":"` + strings.Repeat("a1", 32) + `","timestamp_key":"` + strings.Repeat("b2", 32) + `"}`} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	token := []string{"--pin-file", file("pin"), "--pkcs11-helper", helper}
	run := func(args ...string) string {
		t.Helper()
		out, err := call(t, append(append([]string{"release"}, args...), token...)...)
		if err != nil {
			t.Fatal(args, err)
		}
		return out
	}
	run("keygen", file("hsm.key"), "--pkcs11-module", hsm.Module, "--token", hsm.Token, "--token-key", hsm.Key, "--unencrypted-weak")
	run("init", "--threshold", "1", "--keys", file("hsm.key"), "--hub-keys", file("hub.json"), "--dir", file("releases"))
	out := run("sign", file("image"), "--product", "pump", "--version", "1.0.0", "--security-version", "1", "--measured", strings.Repeat("c3", 32), "--key", file("hsm.key"), "--dir", file("releases"), "--json")
	var got staging.Staged
	if err := json.Unmarshal([]byte(out), &got); err != nil || !got.Complete {
		t.Errorf("%s, %v", out, err)
	}
}

func TestSBOMOfAGoProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	image, err := mcuboot.Build(program, mcuboot.Version{Major: 1, Minor: 4}, 7, key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, out := filepath.Join(dir, "fw.img"), filepath.Join(dir, "fw.cdx.json")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, "release", "sbom", path, "--out", out); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(first), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.Metadata.Component.Version != "1.4.0" || len(*bom.Components) < 10 || !strings.Contains(string(first), `"pkg:golang/github.com/spf13/cobra@v`) {
		t.Errorf("%.1000s", first)
	}
	if _, err := call(t, "release", "sbom", path, "--out", out); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(out); err != nil || !bytes.Equal(first, second) {
		t.Errorf("another time another SBOM: %v", err)
	}
}

func TestExpiryEndsAtAMidnight(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"":           {},
		"1d":         time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC),
		"90d":        time.Date(2027, 2, 19, 0, 0, 0, 0, time.UTC),
		"2027-11-30": time.Date(2027, 11, 30, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := options(in, now); err != nil || !got.Expires.Equal(want) {
			t.Errorf("%q: %s, %v; want %s", in, got.Expires, err, want)
		}
	}
	for _, in := range []string{"0d", "-1d", "90", "1d2", "99999d", "2026-11-20", "2026-13-01", "tomorrow"} {
		if _, err := options(in, now); exitCode(err) != 2 {
			t.Errorf("%q: %v, want wrong usage", in, err)
		}
	}
}

func TestTypedSecrets(t *testing.T) {
	for in, want := range map[string]string{"horse\n": "horse", "hors\x7fe\r": "hore", "wrong\x15r\u00f6ss\x7f\n": "r\u00f6s", "\x7f\n": ""} {
		if got, err := typed(strings.NewReader(in)); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"hor\x03se\n", "\x04", "horse", strings.Repeat("x", 2000)} {
		if got, err := typed(strings.NewReader(in)); err == nil {
			t.Errorf("%.10q: took %q", in, got)
		}
	}
}

// A secret that is typed is not shown, and the terminal is as it was after it.
func TestTerminalStaysAsItWas(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	defer in.Close()
	before, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString("correct horse\n"); err != nil {
		t.Fatal(err)
	}
	k := keyFlags{io: stdio{In: in, Err: io.Discard}}
	if got, err := k.secret("passphrase", "", "--passphrase-file"); err != nil || got != "correct horse" {
		t.Errorf("%q, %v", got, err)
	}
	after, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal is another: %v", err)
	}
}
