package hub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	runtime "holdfast/device"
	"holdfast/internal/child"
	"holdfast/internal/swtpm/swtpmtest"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// programs are the two that build compiles.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

// build compiles the two programs once for all tests and returns their
// directory.
func build() (string, error) {
	programs.once.Do(func() {
		if programs.dir, programs.err = os.MkdirTemp("", "holdfast-programs"); programs.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", programs.dir, "holdfast/cmd/holdfast", "holdfast/cmd/holdfast-device")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			programs.err = errors.Join(err, errors.New(string(out)))
		}
	})
	return programs.dir, programs.err
}

func TestMain(m *testing.M) {
	code := m.Run()
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir) // only programs
	}
	os.Exit(code)
}

// box is a Linux machine and the hub it is to join, all real programs.
type box struct {
	t                 *testing.T
	bin, dir          string
	mqtt, https, oper string
	profile           string
}

// newBox makes a hub and runs it.
func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{t: t, bin: must(build())(t), dir: t.TempDir()}
	var held []net.Listener
	for _, at := range []*string{&b.mqtt, &b.https, &b.oper} {
		l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
		*at, held = l.Addr().String(), append(held, l)
	}
	for _, l := range held {
		l.Close()
	}
	state := filepath.Join(b.dir, "hub")
	b.profile = filepath.Join(state, "operator", "profile.json")
	b.holdfast("hub", "init", "--state", state, "--host", "127.0.0.1", "--root-out", filepath.Join(b.dir, "root.key"), "--operator", b.oper)
	b.start("holdfast", "hub", "run", "--state", state, "--mqtt", b.mqtt, "--https", b.https, "--operator", b.oper)
	b.await("the hub answers", func() bool { _, err := b.try("holdfast", "hub", "show"); return err == nil })
	return b
}

// start runs a program until the test ends.
func (b *box) start(program string, args ...string) {
	b.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(b.bin, program), args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	c := must(child.Start(cmd))(b.t)
	b.t.Cleanup(func() {
		if err := c.Stop(patience); err != nil {
			b.t.Error(err)
		}
		if b.t.Failed() {
			b.t.Logf("%s %s:\n%s", program, args[0], log.Bytes()[max(0, log.Len()-6000):])
		}
	})
}

// try runs a program to its end.
func (b *box) try(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, program), args...)
	cmd.Env = append(os.Environ(), "HOLDFAST_PROFILE="+b.profile)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), errors.Join(err, errors.New(errs.String()))
	}
	return out.String(), nil
}

func (b *box) holdfast(args ...string) string {
	b.t.Helper()
	return must(b.try("holdfast", args...))(b.t)
}

func (b *box) await(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited for: %s", what)
		}
	}
}

// enrolment is how a box is told of its hub.
func (b *box) enrolment(state, tpm string, more ...string) []string {
	_, port, _ := net.SplitHostPort(b.mqtt)
	return append([]string{"enroll", "--hub", b.https, "--mqtt-port", port, "--trust", filepath.Join(b.dir, "hub", "root.pem"),
		"--state", state, "--tpm", tpm, "--watchdog", "none", "--timeout", "20s"}, more...)
}

// status is what the box knows of itself.
func (b *box) status(state string) (s runtime.Status) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(must(b.try("holdfast-device", "status", "--json", "--state", state))(b.t)), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// shown is what the hub knows of it.
func (b *box) shown(id string) (d operator.Device) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.holdfast("fleet", "show", id, "--json")), &d); err != nil {
		b.t.Fatal(err)
	}
	return d
}

// TestOwnLinuxBoxWithATPM is the README's chapter of that name: the box shows
// its TPM, the operator registers it, the box enrols and runs.
func TestOwnLinuxBoxWithATPM(t *testing.T) {
	m := swtpmtest.New(t)
	b := newBox(t)
	policy := filepath.Join(b.dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"name":"boxes","version":1,"require":[
		{"measure":"identity.hardware-root","grade":"attested"},{"measure":"protocol.tls","grade":"observed"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.holdfast("group", "create", "boxes", "--policy", policy, "--simulation")
	b.holdfast("ca", "add", "swtpm", m.CA.RootFile(), "--endorsement", "software")

	state, tpm, ek := filepath.Join(b.dir, "box"), "unix:"+m.Socket(), filepath.Join(b.dir, "box.ek")
	must(b.try("holdfast-device", "ek", "--out", ek, "--state", state, "--tpm", tpm))(t)
	if _, err := b.try("holdfast-device", b.enrolment(state, tpm, "--timeout", "2s")...); err == nil {
		t.Error("it is born before it is registered")
	}
	if waiting := b.holdfast("fleet", "pending", "--json"); !strings.Contains(waiting, "software TPM") {
		t.Errorf("it does not wait for the operator: %s", waiting)
	}
	b.holdfast("fleet", "add", "box-01", "--group", "boxes", "--ek", ek)
	if out, err := b.try("holdfast-device", b.enrolment(state, tpm)...); err != nil || out != "box-01 in group boxes\n" {
		t.Fatalf("enroll: %q, %v", out, err)
	}
	b.start("holdfast-device", "run", "--state", state, "--tpm", tpm, "--watchdog", "none")
	b.await("the box to connect", func() bool { return b.status(state).Phase == "connected" })
	b.await("the hub to trust it", func() bool { return b.shown("box-01").Status == posture.Trusted })

	d := b.shown("box-01")
	for id, want := range map[measure.ID]measure.Verdict{
		measure.IdentityHardwareRoot: measure.Pass, measure.IdentityDeviceID: measure.Pass, measure.ProtocolMQTTTLS: measure.Pass,
	} {
		if r := row(d, id); r.Verdict != want {
			t.Errorf("%s is %+v, want %s", id, r, want)
		}
	}
	// This machine's boot was not measured into that TPM: nothing may say so.
	for _, id := range []measure.ID{measure.FirmwareSecureBoot, measure.AppDebug} {
		if r := row(d, id); r.Verdict == measure.Pass || r.Reason == "" {
			t.Errorf("%s is %+v", id, r)
		}
	}
	b.await("its telemetry", func() bool {
		return strings.Contains(b.holdfast("events", "--device", "box-01"), " telemetry ")
	})
	b.holdfast("fleet", "revoke", "box-01", "--reason", "sold")
	b.await("the box to be out", func() bool { return b.status(state).Phase != "connected" })
	if s := b.shown("box-01"); s.Status != posture.Revoked || s.Connected {
		t.Errorf("it is %s, connected %t", s.Status, s.Connected)
	}
}

// TestOwnLinuxBoxWithoutATPM: a claim token, and a key in a file, in a group
// that allows that; and not in one that does not.
func TestOwnLinuxBoxWithoutATPM(t *testing.T) {
	b := newBox(t)
	b.holdfast("group", "create", "lab", "--policy", "lenient", "--file-keys")
	b.holdfast("group", "create", "valves")
	token := func(id, group string) string {
		path := filepath.Join(b.dir, id+".token")
		if err := os.WriteFile(path, []byte(b.holdfast("fleet", "add", id, "--group", group, "--token")), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	refused := filepath.Join(b.dir, "valve")
	_, err := b.try("holdfast-device", b.enrolment(refused, "none", "--token-file", token("valve-01", "valves"))...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(err.Error(), "identity.hardware-root") {
		t.Errorf("in a group that demands hardware: %v", err)
	}
	if s := b.status(refused); s.Phase != "refused" || !strings.Contains(s.Reason, "identity.hardware-root") {
		t.Errorf("it knows of itself: %+v", s)
	}

	state := filepath.Join(b.dir, "box")
	if out, err := b.try("holdfast-device", b.enrolment(state, "none", "--token-file", token("box-02", "lab"))...); err != nil || out != "box-02 in group lab\n" {
		t.Fatalf("enroll: %q, %v", out, err)
	}
	b.start("holdfast-device", "run", "--state", state, "--tpm", "none", "--watchdog", "none")
	b.await("the box to connect", func() bool { return b.status(state).Phase == "connected" })
	b.await("the hub to know", func() bool { return b.shown("box-02").Status == posture.Connected })
	if r := row(b.shown("box-02"), measure.IdentityHardwareRoot); r.Verdict != measure.Fail {
		t.Errorf("identity.hardware-root is %+v", r)
	}
}
