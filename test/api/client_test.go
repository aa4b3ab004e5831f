package api_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/hub/api"
	"holdfast/operator"
)

// clientFiles are what is in the folder client of the program that is built
// around what the generator makes.
var clientFiles = []string{"go.mod", "go.sum", "main.go"}

// TestAGeneratedClient has oapi-codegen make a client of the description, builds
// it into a program, and lets that steer the hub with an API token.
func TestAGeneratedClient(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds a generator")
	}
	const gotool = "go" // what runs this test
	dir := t.TempDir()
	for _, name := range clientFiles {
		b, err := os.ReadFile(filepath.Join("client", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := api.OpenAPI30("test")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "openapi.json"), b, 0o600)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "api"), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(env []string, name string, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		var out, errs bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, &out, &errs, append(os.Environ(), env...)
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, &errs)
		}
		return out.Bytes()
	}
	if err := exec.CommandContext(t.Context(), gotool, "-C", dir, "mod", "download").Run(); err != nil && os.Getenv("HOLDFAST_REQUIRE") == "" {
		t.Skipf("the generator cannot be fetched: %v", err)
	}
	run(nil, gotool, "tool", "oapi-codegen", "-generate", "types,client", "-package", "api", "-o", "api/api.gen.go", "openapi.json")
	run(nil, gotool, "build", "-o", "client", ".")

	w := newWorld(t)
	token, err := w.api.AddToken(t.Context(), operator.AddToken{Name: "generated", Role: operator.RoleOperator, TTL: 600})
	if err != nil {
		t.Fatal(err)
	}
	out := run([]string{"HUB=https://" + w.at.Operator, "TOKEN=" + token.Secret, "SSL_CERT_FILE=" + w.root}, filepath.Join(dir, "client"))
	var said struct {
		Me, Role, Refused string
		Devices, Measures int
	}
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if said.Me != "admin" || said.Role != string(operator.RoleOperator) || said.Devices != len(devices)+1 || said.Measures < 30 {
		t.Errorf("the client says %s", out)
	}
	d, err := w.api.Device(t.Context(), "made-01")
	if err != nil || d.Group != "lab" {
		t.Errorf("the device that the client made: %+v, %v", d, err)
	}
}
