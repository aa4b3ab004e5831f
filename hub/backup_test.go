package hub_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/fault"
	"holdfast/hub"
	"holdfast/pki"
)

// made returns the state directory of a new hub whose seal file is beside it.
func made(t *testing.T) (state, seal string) {
	t.Helper()
	dir := t.TempDir()
	state, seal = filepath.Join(dir, "state"), filepath.Join(dir, "seal.key")
	if err := os.WriteFile(seal, pki.NewSecret(), 0o600); err != nil {
		t.Fatal(err)
	}
	in := hub.InitConfig{State: state, Hosts: []string{"localhost"}, RootOut: filepath.Join(dir, "root.key"), SealFile: seal, Admin: "admin"}
	if err := hub.Init(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return state, seal
}

func TestARestoredHubIsTheOneThatWasBackedUp(t *testing.T) {
	state, seal := made(t)
	var archive bytes.Buffer
	if err := hub.Backup(t.Context(), state, "1.2", &archive); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again")
	m, err := hub.Restore(t.Context(), hub.RestoreConfig{State: again, SealFile: seal, Admin: "admin"}, &archive)
	if err != nil {
		t.Fatal(err)
	}
	if m.Version != "1.2" || m.Head.Seq == 0 || !m.Messages {
		t.Errorf("manifest %+v", m)
	}
	for _, name := range []string{"root.pem", "ledger.key", "ca/birth.key", "ca/birth.pem"} {
		was, err := os.ReadFile(filepath.Join(state, name))
		is, againErr := os.ReadFile(filepath.Join(again, name))
		if err != nil || againErr != nil || !bytes.Equal(was, is) {
			t.Errorf("%s differs: %v %v", name, err, againErr)
		}
	}
	b, err := os.ReadFile(filepath.Join(again, "hub.json"))
	var cfg struct {
		SealFile string `json:"seal_file"`
	}
	if err != nil || json.Unmarshal(b, &cfg) != nil || cfg.SealFile != seal {
		t.Errorf("configuration: %s, %v", b, err)
	}
	for _, name := range []string{"messages", "manifest.json", "lock", ".backup.db"} {
		if _, err := os.Stat(filepath.Join(again, name)); err == nil {
			t.Errorf("%s is left over", name)
		}
	}
	// It is a hub: another backup can be made of it.
	if err := hub.Backup(t.Context(), again, "1.2", &archive); err != nil {
		t.Error(err)
	}
}

func TestABackupHasNoSecretAndNoOperatorsKey(t *testing.T) {
	state, seal := made(t)
	var archive bytes.Buffer
	if err := hub.Backup(t.Context(), state, "1", &archive); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again")
	if _, err := hub.Restore(t.Context(), hub.RestoreConfig{State: again, SealFile: seal}, &archive); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"seal.key", "operator"} {
		if _, err := os.Stat(filepath.Join(again, name)); err == nil {
			t.Errorf("%s was in the backup", name)
		}
	}
}

func TestRestoreLeavesNothingBehindWhenItRefuses(t *testing.T) {
	state, seal := made(t)
	var archive bytes.Buffer
	if err := hub.Backup(t.Context(), state, "1", &archive); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.key")
	if err := os.WriteFile(other, pki.NewSecret(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		seal string
		in   []byte
	}{
		"a part":             {seal, archive.Bytes()[:archive.Len()-100]},
		"another hub's seal": {other, archive.Bytes()},
		"no archive":         {seal, []byte("hello")},
	} {
		parent := t.TempDir()
		_, err := hub.Restore(t.Context(), hub.RestoreConfig{State: filepath.Join(parent, "s"), SealFile: tt.seal}, bytes.NewReader(tt.in))
		if fault.Of(err) != fault.Integrity {
			t.Errorf("%s: %v", name, err)
		}
		if es, _ := os.ReadDir(parent); len(es) > 0 {
			t.Errorf("%s: %v is left", name, es)
		}
	}
	_, err := hub.Restore(t.Context(), hub.RestoreConfig{State: state, SealFile: seal}, &archive)
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restored over a hub: %v", err)
	}
}
