package hub_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/hub"
)

// TestInitLosesNothing: a state directory whose configuration was lost still
// has the authorities of a hub, and the secret that opens them.
func TestInitLosesNothing(t *testing.T) {
	dir := t.TempDir()
	in := hub.InitConfig{State: filepath.Join(dir, "hub"), Hosts: []string{"localhost"}, RootOut: filepath.Join(dir, "root.key"), Admin: "admin"}
	if err := hub.Init(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	before := files(t, in.State)
	if err := hub.Init(t.Context(), in); err == nil || !strings.Contains(err.Error(), "holds a hub already") {
		t.Errorf("a hub's directory: %v", err)
	}
	if err := os.Remove(filepath.Join(in.State, "hub.json")); err != nil {
		t.Fatal(err)
	}
	in.RootOut = filepath.Join(dir, "other.key")
	if err := hub.Init(t.Context(), in); err == nil {
		t.Error("a hub was made over another")
	}
	after := files(t, in.State)
	for name, text := range before {
		if name != "hub.json" && !bytes.Equal(text, after[name]) {
			t.Errorf("%s changed", name)
		}
	}
}

// TestInitKeepsTheRootsKeyOffTheHub and everything else to its owner.
func TestInitKeepsTheRootsKeyOffTheHub(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "hub")
	if err := os.Mkdir(state, 0o755); err != nil { // somebody made it before
		t.Fatal(err)
	}
	in := hub.InitConfig{State: state, Hosts: []string{"localhost"}, Admin: "admin"}
	for _, out := range []string{"root.key", "operator/root.key", "x/../root.key"} {
		in.RootOut = state + "/" + out
		if err := hub.Init(t.Context(), in); err == nil {
			t.Fatalf("root key at %s", in.RootOut)
		}
	}
	in.RootOut = filepath.Join(dir, "root.key")
	if err := hub.Init(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{
		state: 0o700 | fs.ModeDir, state + "/seal.key": 0o600, state + "/ledger.key": 0o600, state + "/hub.json": 0o600,
		state + "/operator": 0o700 | fs.ModeDir, state + "/operator/operator.key": 0o600, state + "/ca/birth.key": 0o600, in.RootOut: 0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info, err, want)
		}
	}
	root, err := os.ReadFile(in.RootOut)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Split(root, []byte("\n"))[1]
	for name, text := range files(t, state) {
		if bytes.Contains(text, key) {
			t.Errorf("%s has the root's key", name)
		}
	}
}

// files reads everything below dir.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			all[name], err = os.ReadFile(filepath.Join(dir, name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
