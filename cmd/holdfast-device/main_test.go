package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/device"
	"holdfast/device/agent"
	"holdfast/device/hubtest"
	"holdfast/device/updater"
	"holdfast/fault"
	"holdfast/internal/swtpm/swtpmtest"
	"holdfast/logs"
	"holdfast/mcuboot"
	"holdfast/release"
)

// TestMain is the program itself when a test starts this binary as a device.
func TestMain(m *testing.M) {
	if os.Getenv("HOLDFAST_DEVICE_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// program returns a command that runs the device program.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "HOLDFAST_DEVICE_MAIN=1", "HOLDFAST_BOARD=")
	return cmd
}

// result is how a run of the program ended.
type result struct {
	code     int
	out, err string
}

func execute(t *testing.T, args ...string) result {
	t.Helper()
	cmd := program(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the code says how it ended
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// flags provision a device for the hub.
func flags(t *testing.T, h *hubtest.Hub, state string) []string {
	t.Helper()
	p, dir := h.Provision(), t.TempDir()
	root, token := filepath.Join(dir, "root.pem"), filepath.Join(dir, "token")
	for file, text := range map[string]string{root: p.Root, token: p.Token + "\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--hub", fmt.Sprintf("%s:%d", p.Hub, p.HTTPSPort), "--mqtt-port", strconv.Itoa(p.MQTTPort),
		"--trust", root, "--token-file", token, "--state", state, "--watchdog", "none"}
}

func enroll(t *testing.T, h *hubtest.Hub, state string, more ...string) result {
	t.Helper()
	return execute(t, slices.Concat([]string{"enroll"}, flags(t, h, state), more)...)
}

func TestEnrollThenStatus(t *testing.T) {
	h, state := hubtest.New(t), filepath.Join(t.TempDir(), "state")
	r := enroll(t, h, state, "--tpm", "none")
	if r.code != 0 || r.out != "pump-01 in group pumps\n" || !strings.Contains(r.err, "msg=born") {
		t.Fatalf("%+v", r)
	}
	if r = execute(t, "status", "--state", state); r.code != 0 || !strings.Contains(r.out, "born") || r.err != "" {
		t.Errorf("%+v", r)
	}
	r = execute(t, "status", "--json", "--state", state)
	var s device.Status
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || s.Device != "pump-01" || s.Phase != agent.Born {
		t.Errorf("%+v, %v", r, err)
	}
	if steps := h.Steps(); slices.Contains(steps, "mqtt by operational") {
		t.Errorf("enroll went on: %v", steps)
	}
}

func TestExitCodes(t *testing.T) {
	h, other := hubtest.New(t), hubtest.New(t)
	h.Fail = func(step string) error {
		if step == "/enroll/begin" {
			return fault.New(fault.Denied, "valves demand a hardware root")
		}
		return nil
	}
	state := func() string { return filepath.Join(t.TempDir(), "state") }
	wrongRoot := flags(t, h, state())
	wrongRoot[5] = flags(t, other, state())[5]
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"nothing to trust":       {[]string{"enroll", "--hub", "hub"}, 2, "--trust"},
		"no such flag":           {[]string{"run", "--fast"}, 2, "--fast"},
		"no such command":        {[]string{"fly"}, 2, "fly"},
		"an argument too many":   {[]string{"status", "now"}, 2, "now"},
		"bad port":               {[]string{"enroll", "--hub", "hub:x", "--trust", "x"}, 2, "port"},
		"no such root file":      {[]string{"enroll", "--hub", "hub", "--trust", "/nonexistent"}, 1, "nonexistent"},
		"not provisioned":        {[]string{"run", "--state", state(), "--tpm", "none", "--watchdog", "none"}, 1, "not provisioned"},
		"status of nothing":      {[]string{"status", "--state", state()}, 1, "not provisioned"},
		"root without a product": {[]string{"enroll", "--hub", "hub", "--trust", os.Args[0], "--release-root", "x"}, 2, "--product"},
		"no such TPM":            {[]string{"ek", "--state", state(), "--tpm", "/nonexistent"}, 2, "no TPM"},
		"ek without a TPM":       {[]string{"ek", "--state", state(), "--tpm", "none"}, 1, "no TPM"},
		"refused":                {append([]string{"enroll", "--tpm", "none"}, flags(t, h, state())...), 3, "hardware root"},
		"hub not trusted":        {append([]string{"enroll", "--tpm", "none"}, wrongRoot...), 3, "does not verify"},
	} {
		t.Run(name, func(t *testing.T) {
			r := execute(t, tc.args...)
			if r.code != tc.code || !strings.Contains(r.err, tc.says) || r.out != "" {
				t.Errorf("%+v, want code %d and %q", r, tc.code, tc.says)
			}
		})
	}
}

func TestProvisionOnlyLeavesTheRestToRun(t *testing.T) {
	h, state := hubtest.New(t), filepath.Join(t.TempDir(), "state")
	if r := enroll(t, h, state, "--provision-only"); r.code != 0 || len(h.Steps()) != 0 {
		t.Fatalf("%+v, steps %v", r, h.Steps())
	}
	cmd := program(t, "run", "--state", state, "--tpm", "none", "--watchdog", "none")
	start(t, cmd)
	eventually(t, "connected", func() bool { return phase(state) == agent.Connected })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
}

func TestHelpHasExamples(t *testing.T) {
	root := rootCmd(stdio{})
	for _, c := range root.Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Example == "" || c.Short == "" {
			t.Errorf("%s has no example", c.Name())
		}
		if r := execute(t, c.Name(), "--help"); r.code != 0 || !strings.Contains(r.out, "Examples:") || r.err != "" {
			t.Errorf("%s --help: %+v", c.Name(), r)
		}
	}
	if r := execute(t, "version"); r.code != 0 || !strings.HasPrefix(r.out, "holdfast-device ") {
		t.Errorf("%+v", r)
	}
}

func TestEKOfASoftwareTPM(t *testing.T) {
	m := swtpmtest.New(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "a.ek")
	args := []string{"ek", "--state", filepath.Join(dir, "state"), "--tpm", "unix:" + m.Socket(), "--watchdog", "none"}
	if r := execute(t, append(args, "--out", file)...); r.code != 0 || r.out != "" {
		t.Fatalf("%+v", r)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r := execute(t, args...); r.code != 0 || r.out != string(written) || len(written) < 64 {
		t.Errorf("code %d, %s", r.code, r.err)
	}
}

func TestStatusShowsTheUpdate(t *testing.T) {
	h, state := hubtest.New(t), filepath.Join(t.TempDir(), "state")
	file := filepath.Join(t.TempDir(), "1.root.json")
	if err := os.WriteFile(file, hubtest.NewRepository(t, "pump").Root(), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := enroll(t, h, state, "--tpm", "none", "--release-root", file, "--product", "pump", "--hardware", "rev-b"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := execute(t, "status", "--state", state); r.code != 0 || !strings.Contains(r.out, "updates") || !strings.Contains(r.out, "no slots") {
		t.Errorf("%+v", r)
	}
	for want, s := range map[string]updater.Status{
		"firmware  pump 1.3.0, security version at least 2, hardware rev-b": {Product: "pump", Hardware: "rev-b", Minimum: 2, Running: mcuboot.Version{Major: 1, Minor: 3}},
		"update    1.4.0: downloading, 50% of 2 kB (delta)": {Product: "pump",
			Progress: &release.Progress{Version: mcuboot.Version{Major: 1, Minor: 4}, State: release.Downloading, Bytes: 1000, Length: 2000, Delta: true}},
		"update    1.4.0: reverting: the trial was not confirmed (reset: watchdog)": {Product: "pump",
			Progress: &release.Progress{Version: mcuboot.Version{Major: 1, Minor: 4}, State: release.Reverting, Reason: "the trial was not confirmed", Reset: "watchdog"}},
	} {
		var out bytes.Buffer
		if err := printStatus(&out, device.Status{Update: s}); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%q, %v, want %q", out.String(), err, want)
		}
	}
}

// TestKillAtAnyMomentIsResumed kills the device at random moments of its first
// minute of life, again and again. In the end it is the same device, and the
// hub has its log without a gap.
func TestKillAtAnyMomentIsResumed(t *testing.T) {
	m := swtpmtest.New(t)
	h, state := hubtest.New(t), filepath.Join(t.TempDir(), "state")
	hardware := []string{"--state", state, "--tpm", "unix:" + m.Socket(), "--watchdog", "none"}
	if r := enroll(t, h, state, "--provision-only"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for range 15 {
		cmd := program(t, append([]string{"run"}, hardware...)...)
		start(t, cmd)
		<-time.After(time.Duration(20+rand.IntN(400)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	cmd := program(t, append([]string{"run"}, hardware...)...)
	start(t, cmd)
	eventually(t, "connected", func() bool { return phase(state) == agent.Connected })
	eventually(t, "the last log line at the hub", func() bool { return strings.Contains(shipped(h), "connected") })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	noGap(t, h)
	if !slices.Contains(h.Steps(), "/enroll/finish") {
		t.Errorf("steps %v", h.Steps())
	}
}

// noGap checks that the hub has every record up to the newest, each with one
// content however often it was shipped.
func noGap(t *testing.T, h *hubtest.Hub) {
	t.Helper()
	seen, newest := map[uint64][32]byte{}, uint64(0)
	for _, msg := range h.Messages() {
		if !strings.HasPrefix(msg.Topic, "$hub/logs/") {
			continue
		}
		rs, err := logs.Parse(msg.Payload)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(text)
			if old, again := seen[r.Seq]; again && old != sum {
				t.Errorf("record %d came with two contents", r.Seq)
			}
			seen[r.Seq], newest = sum, max(newest, r.Seq)
		}
	}
	if len(seen) == 0 || uint64(len(seen)) != newest {
		t.Errorf("%d records, the newest is number %d", len(seen), newest)
	}
}

func shipped(h *hubtest.Hub) string {
	var all strings.Builder
	for _, msg := range h.Messages() {
		if strings.HasPrefix(msg.Topic, "$hub/logs/") {
			all.Write(msg.Payload)
		}
	}
	return all.String()
}

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func phase(state string) agent.Phase {
	s, err := device.LoadStatus(state)
	if err != nil {
		return ""
	}
	return s.Phase
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("never %s", what)
		case <-tick.C:
		}
	}
}
