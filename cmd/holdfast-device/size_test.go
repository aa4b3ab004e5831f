package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast/device/agent"
	"holdfast/device/hubtest"
	"holdfast/internal/swtpm/swtpmtest"
)

// The limits of the device program: a small trusted computing base, and room
// for it on a small gateway.
const (
	maxProgram  = 15e6 // bytes, stripped
	maxResident = 30e6 // bytes, connected and publishing
)

func TestProgramStaysSmall(t *testing.T) {
	m := swtpmtest.New(t)
	h, dir := hubtest.New(t), t.TempDir()
	file, state := filepath.Join(dir, "holdfast-device"), filepath.Join(dir, "state")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if r := enroll(t, h, state, "--provision-only"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	cmd := exec.CommandContext(t.Context(), file, "run", "--state", state, "--tpm", "unix:"+m.Socket(), "--watchdog", "none")
	start(t, cmd)
	eventually(t, "connected", func() bool { return phase(state) == agent.Connected })
	eventually(t, "telemetry at the hub", func() bool {
		for _, msg := range h.Messages() {
			if strings.HasPrefix(msg.Topic, "devices/") {
				return true
			}
		}
		return false
	})
	resident := memory(t, cmd.Process.Pid)
	t.Logf("program %.1f MB stripped, %.1f MB resident", float64(info.Size())/1e6, float64(resident)/1e6)
	if info.Size() > maxProgram || resident > maxResident {
		t.Errorf("the limits are %.0f MB and %.0f MB", maxProgram/1e6, maxResident/1e6)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// memory returns the greatest resident size that a process had, in bytes.
func memory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb * 1024
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
