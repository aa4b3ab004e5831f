package update_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"holdfast/client"
	"holdfast/device/provision"
	"holdfast/internal/child"
	"holdfast/internal/testkit"
	"holdfast/operator"
)

// programs are those that were compiled, in a directory.
var programs struct {
	sync.Mutex
	dir  string
	errs map[string]error // by name
}

func TestMain(m *testing.M) {
	code := m.Run()
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir) // only programs
	}
	os.Exit(code)
}

// build compiles a program once for all tests and returns where it is.
func build(t *testing.T, name string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if programs.dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-programs")
		if err != nil {
			t.Fatal(err)
		}
		programs.dir, programs.errs = dir, map[string]error{}
	}
	err, tried := programs.errs[name]
	if !tried {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", programs.dir, "holdfast/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, failed := cmd.CombinedOutput()
		if err = failed; err != nil {
			err = fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
		programs.errs[name] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(programs.dir, name)
}

// headquarters is a hub and its operator at the command line.
type headquarters struct {
	t                 *testing.T
	dir               string
	mqtt, https, oper string
}

// newHeadquarters makes a hub and runs it until the test ends.
func newHeadquarters(t *testing.T) *headquarters {
	t.Helper()
	h := &headquarters{t: t, dir: t.TempDir()}
	var held []net.Listener
	for _, at := range []*string{&h.mqtt, &h.https, &h.oper} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		*at, held = l.Addr().String(), append(held, l)
	}
	for _, l := range held {
		_ = l.Close() // the hub is to have it
	}
	h.write("passphrase", "correct horse battery staple\n")
	h.holdfast("hub", "init", "--state", h.path("hub"), "--host", "127.0.0.1", "--root-out", h.path("root.key"), "--operator", h.oper)
	var log bytes.Buffer
	cmd := exec.Command(build(t, "holdfast"), "hub", "run", "--state", h.path("hub"), "--mqtt", h.mqtt, "--https", h.https, "--operator", h.oper)
	cmd.Stdout, cmd.Stderr = &log, &log
	c, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(patience); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("hub:\n%s", log.Bytes()[max(0, log.Len()-8000):])
		}
	})
	return h
}

func (h *headquarters) path(name string) string { return filepath.Join(h.dir, name) }

func (h *headquarters) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// try runs the command line.
func (h *headquarters) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(h.t, "holdfast"), args...)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "HOLDFAST_PROFILE="+h.path("hub/operator/profile.json"), "HOLDFAST_RELEASE_PASSPHRASE_FILE="+h.path("passphrase"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("holdfast %s: %w: %s", strings.Join(args, " "), err, &errs)
	}
	return out.String(), nil
}

func (h *headquarters) holdfast(args ...string) string {
	h.t.Helper()
	out, err := h.try(args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// publish signs an image as both releasers do, and publishes it.
func (h *headquarters) publish(image []byte, minor, security int) {
	h.t.Helper()
	name := fmt.Sprintf("pump-1.%d.0.img", minor)
	h.write(name, string(image))
	h.holdfast("release", "sign", name, "--product", "pump", "--version", fmt.Sprintf("1.%d.0", minor), "--security-version", strconv.Itoa(security),
		"--health", "hub,attested,watchdog", "--key", "release-1.key,release-2.key")
	h.holdfast("release", "publish")
}

// TestRolloutReachesABoard is the whole chain with our own programs: two
// releasers sign, the hub rolls out, the board's device takes it, and what it
// attests afterwards is what was signed.
func TestRolloutReachesABoard(t *testing.T) {
	testkit.Need(t, "swtpm")
	testkit.Need(t, "swtpm_setup")
	w, h := newWorld(t), newHeadquarters(t)
	firmware, err := os.ReadFile(build(t, "holdfast-device"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := w.image(firmware, 0, 1), w.image(firmware, 1, 2)
	w.create(first)

	w.eventually("the hub answers", func() bool { _, err := h.try("hub", "show"); return err == nil })
	h.write("policy.json", `{"name":"pumps","version":1,"require":[
		{"measure":"identity.attestation","grade":"attested"},{"measure":"firmware.signing","grade":"attested"}]}`)
	h.holdfast("group", "create", "pumps", "--policy", "policy.json", "--simulation", "--product", "pump")
	h.holdfast("ca", "add", "tpm-maker", w.ca.RootFile(), "--endorsement", "software")
	h.holdfast("reference", "add", "--group", "pumps", "--boot-rom", os.Args[0], "--name", "virtual boot ROM")
	h.write("pump-01.ek", string(w.ek))
	h.holdfast("fleet", "add", "pump-01", "--group", "pumps", "--ek", "pump-01.ek")
	h.holdfast("release", "keygen", "release-1.key", "release-2.key")
	h.holdfast("release", "init", "--threshold", "2", "--keys", "release-1.key,release-2.key")
	h.publish(first, 0, 1)
	w.provision(h.provision())
	w.power()
	shown := func() (d operator.Device) {
		text, err := h.try("fleet", "show", "pump-01", "--json")
		if err == nil {
			err = json.Unmarshal([]byte(text), &d)
		}
		if err != nil {
			t.Error(err)
		}
		return d
	}
	w.eventually("trusted", func() bool { return shown().Status == "trusted" })

	h.publish(second, 1, 2)
	var r operator.Rollout
	if err := json.Unmarshal([]byte(h.holdfast("rollout", "start", "pump", "1.1.0", "--group", "pumps", "--soak", "1s", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	w.eventually("finished", func() bool {
		if err := json.Unmarshal([]byte(h.holdfast("rollout", "show", r.ID, "--json")), &r); err != nil {
			t.Fatal(err)
		}
		if r.Stage == "halted" {
			t.Fatalf("%s: %s\n%s", r.Stage, r.Reason, h.holdfast("rollout", "devices", r.ID))
		}
		return r.Stage == "finished"
	})
	if r.Counts.Done != 1 {
		t.Errorf("%+v", r)
	}
	w.eventually("its counter burned", func() bool { return w.status().Update.Minimum == 2 })
	w.eventually("trusted with the new firmware", func() bool { return shown().Status == "trusted" })
}

// provision is what a device of this hub is provisioned with.
func (h *headquarters) provision() provision.Provision {
	h.t.Helper()
	root, err := os.ReadFile(h.path("hub/root.pem"))
	if err != nil {
		h.t.Fatal(err)
	}
	port := func(at string) int {
		_, text, err := net.SplitHostPort(at)
		n, err2 := strconv.Atoi(text)
		if err != nil || err2 != nil {
			h.t.Fatal(err, err2)
		}
		return n
	}
	api, err := client.OpenAt(h.path("hub/operator/profile.json"), "https://"+h.oper)
	if err != nil {
		h.t.Fatal(err)
	}
	published, err := api.Metadata(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return provision.Provision{Hub: "127.0.0.1", HTTPSPort: port(h.https), MQTTPort: port(h.mqtt), Root: string(root),
		ReleaseRoot: published.Files["1.root.json"], Product: "pump"}
}
