package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/device/board/virtual"
	"holdfast/internal/testkit"
	"holdfast/mcuboot"
	"holdfast/update"
)

// boardFiles writes a firmware key and an image, and returns what 'board
// create' takes of them.
func boardFiles(t *testing.T, security uint32) []string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mcuboot.Build(virtual.Payload([]byte("program")), mcuboot.Version{Major: 1}, security, key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"fw.img": image, "fw.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--slot-a", filepath.Join(dir, "fw.img"), "--key", filepath.Join(dir, "fw.pub"), "--json"}
}

func TestBoardIsMadeWithItsCounter(t *testing.T) {
	testkit.Need(t, "swtpm")
	testkit.Need(t, "swtpm_setup")
	for name, args := range map[string][]string{"TPM": {"--tpm-ca", t.TempDir()}, "fuses": {"--no-tpm"}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "b")
			args := append(append([]string{"board", "create", dir, "--hardware", "rev-b"}, boardFiles(t, 2)...), args...)
			made, err := call(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			shown, err := call(t, "board", "show", dir, "--json")
			if err != nil || shown != made {
				t.Errorf("%v; made\n%s\nshown\n%s", err, made, shown)
			}
			var sheet boardSheet
			if err := json.Unmarshal([]byte(made), &sheet); err != nil {
				t.Fatal(err)
			}
			if sheet.Hardware != "rev-b" || sheet.Record == nil || sheet.Record.Active != update.A || (sheet.EK == nil) != (name == "fuses") {
				t.Errorf("sheet %+v", sheet)
			}
			settings, err := virtual.LoadSettings(dir)
			if err != nil {
				t.Fatal(err)
			}
			f := settings.Fuses
			if name == "TPM" && (f.CounterIndex != counterIndex || f.CounterBase == 0 || len(settings.Counters) != 1) ||
				name == "fuses" && (f.CounterIndex != 0 || f.SecurityCounter != 2 || *sheet.Minimum != 2) {
				t.Errorf("settings %+v", settings)
			}
			text, err := call(t, "board", "show", dir)
			if err != nil || !strings.Contains(text, "slot A") {
				t.Errorf("%v: %s", err, text)
			}
		})
	}
}

func TestBoardCreateRefusesASecurityVersionThatNoCounterReaches(t *testing.T) {
	args := append([]string{"board", "create", filepath.Join(t.TempDir(), "b"), "--no-tpm"}, boardFiles(t, 1_000_000)...)
	if out, err := call(t, args...); err == nil || !strings.Contains(err.Error(), "security version 1000000") {
		t.Errorf("%v: %s", err, out)
	}
}
