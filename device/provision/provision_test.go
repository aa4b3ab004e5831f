package provision_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/device/provision"
	"holdfast/pki"
)

func sound(t *testing.T) provision.Provision {
	t.Helper()
	root, err := pki.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return provision.Provision{Hub: "hub.example", HTTPSPort: 8443, MQTTPort: 8883,
		Root: string(pki.EncodeCerts(root.Cert)), Token: "secret"}
}

func TestProvisionIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "state")
	if _, err := provision.Load(dir); !errors.Is(err, provision.ErrNone) {
		t.Errorf("before: %v", err)
	}
	want := sound(t)
	if err := provision.Save(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := provision.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(filepath.Join(dir, "provision.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := got.Forget(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "provision.json"))
	if err != nil || strings.Contains(string(text), "secret") {
		t.Errorf("the token is still there: %v", err)
	}
}

func TestWhatIsNoProvision(t *testing.T) {
	for name, spoil := range map[string]func(*provision.Provision){
		"no hub":       func(p *provision.Provision) { p.Hub = "" },
		"a URL":        func(p *provision.Provision) { p.Hub = "https://hub.example" },
		"no port":      func(p *provision.Provision) { p.MQTTPort = 0 },
		"a large port": func(p *provision.Provision) { p.HTTPSPort = 65536 },
		"no root":      func(p *provision.Provision) { p.Root = "" },
		"half a root":  func(p *provision.Provision) { p.Root = p.Root[:100] },
	} {
		t.Run(name, func(t *testing.T) {
			p := sound(t)
			spoil(&p)
			dir := t.TempDir()
			if err := provision.Save(dir, p); err == nil {
				t.Error("kept")
			}
			if _, err := provision.Load(dir); !errors.Is(err, provision.ErrNone) {
				t.Errorf("something was written: %v", err)
			}
		})
	}
}

func TestDeviceDoesNotChangeHubs(t *testing.T) {
	dir, first := t.TempDir(), sound(t)
	if err := provision.Save(dir, first); err != nil {
		t.Fatal(err)
	}
	again := first
	again.Token = "another claim"
	if err := provision.Save(dir, again); err != nil {
		t.Errorf("the same hub with another claim: %v", err)
	}
	if err := provision.Save(dir, sound(t)); err == nil {
		t.Error("another root was taken")
	}
	again.Hub = "other.example"
	if err := provision.Save(dir, again); err == nil {
		t.Error("another hub was taken")
	}
}

func TestDamagedProvisionIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "provision.json"), []byte(`{"hub":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := provision.Load(dir); err == nil || errors.Is(err, provision.ErrNone) {
		t.Errorf("load: %v", err)
	}
	if err := provision.Save(dir, sound(t)); err == nil {
		t.Error("a damaged provision was replaced")
	}
}
