// Package fleet_test plays whole stories: real hub and device processes,
// software TPMs, and a client that we did not write.
package fleet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/testkit"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// build compiles the two programs as 'make build' does and returns their
// directory.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, program := range []string{"holdfast", "holdfast-device"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, program), "holdfast/cmd/"+program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	return dir
}

// story plays the demo once and returns its devices by id, and what it said.
func story(t *testing.T, bin, state string) (map[string]operator.Device, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "holdfast"), "demo", "--once", "--json", "--state", state, "--timeout", "10m")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("demo: %v\n%s\n%s%s", err, &stderr, &stdout, logs(state))
	}
	var report struct{ Devices []operator.Device }
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("output is not JSON: %v\n%s", err, &stdout)
	}
	byID := map[string]operator.Device{}
	for _, d := range report.Devices {
		byID[string(d.ID)] = d
	}
	t.Log(stderr.String())
	return byID, stderr.String()
}

// logs returns the ends of the processes' logs.
func logs(state string) string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(state, "logs", "*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		b.WriteString("\n--- " + filepath.Base(f) + "\n")
		b.Write(text[max(0, len(text)-4000):])
	}
	return b.String()
}

// real are the rows that must be real for a healthy board.
var real = []measure.ID{
	measure.IdentityHardwareRoot, measure.IdentityDeviceID, measure.IdentityCertificates, measure.IdentityAttestation,
	measure.CredentialsRenewable, measure.CryptoEntropy, measure.CryptoAlgorithms, measure.CryptoAcceleration,
	measure.FirmwareSecureBoot, measure.FirmwareUpdate, measure.FirmwareDowngrade, measure.FirmwareSigning, measure.ProtocolTLS,
	measure.MemoryStack, measure.MemoryBuffers, measure.MemoryNoExecRAM, measure.AppCompiler, measure.ProtocolX509, measure.ProtocolCipherSuites,
	measure.ProtocolMutualTLS, measure.ProtocolMQTTTLS, measure.AppDebug, measure.AppWatchdog, measure.AppErrorLogging,
}

func TestEveryDeviceOfTheDemoArrives(t *testing.T) {
	testkit.Need(t, "swtpm")
	testkit.Need(t, "swtpm_setup")
	testkit.Need(t, "mosquitto_pub")
	bin, state := build(t), t.TempDir()
	fleet, said := story(t, bin, state)
	checkStory(t, fleet)
	checkUpdates(t, said)
	if t.Failed() {
		t.Fatal(logs(state))
	}

	again, _ := story(t, bin, state)
	checkStory(t, again)
	for _, id := range []string{"pump-01", "pump-02"} {
		if !again[id].Born.Equal(fleet[id].Born) {
			t.Errorf("%s was born again by the second run", id)
		}
	}
}

func checkStory(t *testing.T, fleet map[string]operator.Device) {
	t.Helper()
	want := map[string]posture.Status{"pump-01": posture.Trusted, "pump-02": posture.Trusted, "pump-03": posture.Quarantined,
		"pump-04": posture.Trusted, "valve-01": posture.Refused, "sensor-01": posture.Connected}
	if len(fleet) != len(want) {
		t.Errorf("%d devices, want %d", len(fleet), len(want))
	}
	for id, status := range want {
		if fleet[id].Status != status {
			t.Errorf("%s is %s (%s), want %s", id, fleet[id].Status, fleet[id].Reason, status)
		}
	}
	for _, id := range []string{"pump-01", "pump-02", "pump-04"} {
		checkHealthy(t, fleet[id])
	}
	if r := rowOf(fleet["pump-01"], measure.IdentityHardwareRoot); !strings.Contains(r.Reason, "software TPM") {
		t.Errorf("identity.hardware-root does not say that the TPM is software: %q", r.Reason)
	}
	for _, id := range []string{"pump-01", "pump-02", "pump-04"} {
		if !strings.HasSuffix(fleet[id].Release, " 1.2.0") {
			t.Errorf("%s attests %q", id, fleet[id].Release)
		}
	}
	if r := rowOf(fleet["pump-03"], measure.IdentityAttestation); r.Verdict != measure.Fail {
		t.Errorf("pump-03: identity.attestation is %s: %s", r.Verdict, r.Reason)
	}
	if !strings.Contains(fleet["valve-01"].Reason, "file") {
		t.Errorf("valve-01 is refused without the reason: %q", fleet["valve-01"].Reason)
	}
	for _, id := range []measure.ID{measure.IdentityHardwareRoot, measure.IdentityAttestation, measure.FirmwareSecureBoot} {
		if r := rowOf(fleet["sensor-01"], id); r.Verdict != measure.Unknown {
			t.Errorf("sensor-01 cannot prove %s, which says %s", id, r.Verdict)
		}
	}
}

// checkUpdates demands that each pump told of what was to happen to it: a
// modified slot refused, a good release taken, a broken one left again, an older
// one refused.
func checkUpdates(t *testing.T, said string) {
	t.Helper()
	for _, want := range []string{
		"pump-04    boot ROM refused slot A: wrong hash", "pump-04    booted slot A, firmware 1.2.0",
		"pump-01    booted slot B, firmware 1.2.0", "pump 1.2.0 finished: ",
		"pump-02    booted slot A, firmware 1.3.0", "pump-02    reset: exited", "pump 1.3.0 halted: ",
		"pump-01    failed: rollback: pump/pump-1.1.0.img has security version 1, the least is 2", "pump 1.1.0 halted: ",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("nobody said %q", want)
		}
	}
}

// checkHealthy demands that exactly the rows that are real pass, and that the
// others say unknown, with a reason.
func checkHealthy(t *testing.T, d operator.Device) {
	t.Helper()
	if d.Certificate == nil || d.Certificate.Lifetime < 23*3600 {
		t.Errorf("%s: certificate %+v, want the full lifetime", d.ID, d.Certificate)
	}
	for _, r := range d.Posture {
		want := measure.Unknown
		if slices.Contains(real, r.Measure) {
			want = measure.Pass
		}
		if r.Verdict != want {
			t.Errorf("%s: %s is %s (%s), want %s", d.ID, r.Measure, r.Verdict, r.Reason, want)
		}
		if r.Time.IsZero() {
			t.Errorf("%s: %s has no time", d.ID, r.Measure)
		}
		if r.Reason == "" {
			t.Errorf("%s: %s gives no reason", d.ID, r.Measure)
		}
	}
	if len(d.Posture) != len(measure.Catalogue()) {
		t.Errorf("%s: %d rows, want one for each of %d measures", d.ID, len(d.Posture), len(measure.Catalogue()))
	}
}

func rowOf(d operator.Device, id measure.ID) measure.Row {
	i := slices.IndexFunc(d.Posture, func(r measure.Row) bool { return r.Measure == id })
	if i < 0 {
		return measure.Row{}
	}
	return d.Posture[i]
}
