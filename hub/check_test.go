package hub_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/hub"
	"holdfast/operator"
)

// finding returns what a check of state found under a name: the worst of it.
func finding(t *testing.T, state, name string, deep bool) operator.Finding {
	t.Helper()
	var worst operator.Finding
	for _, f := range hub.Check(t.Context(), state, hub.CheckOptions{Deep: deep}) {
		bad := f.State == operator.FindingFail || f.State == operator.FindingWarn && worst.State != operator.FindingFail
		if f.Check == name && (bad || worst.State == "") {
			worst = f
		}
	}
	return worst
}

func TestCheckOfAHubThatIsWell(t *testing.T) {
	state, _ := made(t)
	for _, name := range []string{"configuration", "permissions", "seal file", "authorities", "ledger key", "database", "ledger", "names"} {
		if f := finding(t, state, name, true); f.State != operator.FindingOK {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	edit := func(old, new string) func(state, seal string) error {
		return func(state, _ string) error {
			path := filepath.Join(state, "hub.json")
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, []byte(strings.Replace(string(b), old, new, 1)), 0o600)
		}
	}
	for _, tt := range []struct {
		what, check, want string
		breakIt           func(state, seal string) error
	}{
		{"an unknown key", "configuration", `"hosst"`, edit(`"hosts"`, `"hosst"`)},
		{"no JSON", "configuration", "invalid character", edit(`{`, `x`)},
		{"no seal file", "seal file", "no such file", func(_, seal string) error { return os.Remove(seal) }},
		{"another seal file", "authorities", "wrong secret", func(_, seal string) error { return os.WriteFile(seal, []byte(strings.Repeat("ab1", 20)), 0o600) }},
		{"a readable key", "permissions", "ledger.key", func(state, _ string) error { return os.Chmod(filepath.Join(state, "ledger.key"), 0o644) }},
		{"no ledger key", "ledger key", "no such file", func(state, _ string) error { return os.Remove(filepath.Join(state, "ledger.key")) }},
		{"a broken database", "database", "", func(state, _ string) error {
			return os.WriteFile(filepath.Join(state, "holdfast.db"), []byte(strings.Repeat("x", 8192)), 0o600)
		}},
		{"an address that is taken", "listeners", "MQTT", edit(`"mqtt": ""`, `"mqtt": "192.0.2.1:1"`)},
		{"nobody's name", "names", "is not found", edit(`"localhost"`, `"hub.invalid"`)},
	} {
		state, seal := made(t)
		if err := tt.breakIt(state, seal); err != nil {
			t.Fatal(err)
		}
		f := finding(t, state, tt.check, true)
		if f.State == operator.FindingOK || f.State == "" || !strings.Contains(f.Text, tt.want) {
			t.Errorf("%s: %+v", tt.what, f)
		}
	}
}

func TestCheckChangesNothing(t *testing.T) {
	state, _ := made(t)
	before := files(t, state)
	hub.Check(t.Context(), state, hub.CheckOptions{})
	for name, text := range files(t, state) {
		if string(before[name]) != string(text) {
			t.Errorf("%s changed", name)
		}
	}
}
