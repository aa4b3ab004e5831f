package azure_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/testkit"
	"holdfast/operator"
)

// mbedtlsHeader is what libmbedtls-dev brings; scripts/setup looks for it.
const mbedtlsHeader = "/usr/include/mbedtls/ssl.h"

// buildMbedTLS compiles test/clients/mbedtls and returns the program.
func buildMbedTLS(t testing.TB) string {
	t.Helper()
	gcc := testkit.Need(t, "gcc")
	if _, err := os.Stat(mbedtlsHeader); err != nil {
		if os.Getenv("HOLDFAST_REQUIRE") != "" {
			t.Fatalf("libmbedtls-dev is required here and missing: %v", err)
		}
		t.Skip("libmbedtls-dev is not installed")
	}
	program := filepath.Join(t.TempDir(), "device")
	out, err := exec.CommandContext(t.Context(), gcc, "-Wall", "-Wextra", "-Werror", "-O1", "-o", program, "../clients/mbedtls/device.c",
		"-lmbedtls", "-lmbedx509", "-lmbedcrypto").CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return program
}

// TestMbedTLS has the TLS library of FreeRTOS, Zephyr and ESP-IDF connect, as it
// is. It refuses what X.509 extension it does not know where that is critical.
func TestMbedTLS(t *testing.T) {
	program := buildMbedTLS(t)
	w := newWorld(t)
	const id = "meter-7"
	cert, key := writePEM(t, t.TempDir(), w.certificate(id))
	_, port, _ := net.SplitHostPort(w.at.MQTT)
	publish := func(host, id, body string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, program, host, port, id, filepath.Join(w.state, "root.pem"), cert, key, body).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	old := func(allowed bool) {
		t.Helper()
		g := operator.SetGroup{PolicyName: "lenient", MakerCAs: []string{"maker"}, IDs: []string{"meter-*"}, TLS12: allowed}
		if _, err := w.operator.SetGroup(t.Context(), "meters", g); err != nil {
			t.Fatal(err)
		}
	}
	old(true)
	out, err := publish("localhost", id, "from a small device")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(out, "ECDHE-ECDSA") || !strings.Contains(out, "GCM") && !strings.Contains(out, "CHACHA20") {
		t.Errorf("it speaks %s", out)
	}
	t.Log(out)
	w.last(1, "from a small device", nil, nil)

	for what, try := range map[string]func() (string, error){
		"another's id":         func() (string, error) { return publish("localhost", "meter-8", "x") },
		"another name of ours": func() (string, error) { return publish("127.0.0.1", id, "x") },
	} {
		if out, err := try(); err == nil {
			t.Errorf("%s: %s", what, out)
		}
	}
	if !strings.Contains(out, "TLSv1.2") {
		return
	}
	old(false)
	if out, err := publish("localhost", id, "x"); err == nil {
		t.Errorf("TLS 1.2 where the group demands 1.3: %s", out)
	}
}
