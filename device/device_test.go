package device_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/device"
	"holdfast/device/agent"
	"holdfast/device/board"
	"holdfast/device/hubtest"
	"holdfast/device/keys"
	"holdfast/device/provision"
	"holdfast/fault"
	"holdfast/internal/swtpm/swtpmtest"
	"holdfast/logs"
	"holdfast/mqtt"
	"holdfast/pki"
	"holdfast/posture"
)

const counter = 0x01500010

type rtc struct{}

func (rtc) Now() (time.Time, error) { return time.Now(), nil }
func (rtc) Set(time.Time) error     { return nil }

// bare is a board without a TPM.
func bare() *board.Board {
	return &board.Board{Name: "virtual", Entropy: rand.Reader, EntropySource: "test", RTC: rtc{},
		Boot: board.Boot{ResetCause: board.PowerOn}, Missing: map[string]string{"tpm": "none"},
		Close: func() error { return nil }}
}

// withTPM is a board with a software TPM.
func withTPM(t *testing.T) *board.Board {
	t.Helper()
	b := bare()
	tpm := swtpmtest.New(t).Connect()
	t.Cleanup(func() { _ = tpm.Close() })
	maker, err := keys.Open(keys.Config{TPM: tpm, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := maker.DefineCounter(counter); err != nil { // the board's maker does
		t.Fatal(err)
	}
	b.TPM, b.Counters, b.Boot.PCRs, b.Missing = tpm, []uint32{counter}, []int{0, 4, 7}, nil
	return b
}

// provisioned returns a state directory of a device of the hub.
func provisioned(t *testing.T, h *hubtest.Hub) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := provision.Save(dir, h.Provision()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, dir string, b *board.Board) *device.Device {
	t.Helper()
	d, err := device.Open(device.Config{Dir: dir, Board: b, Version: "1.2.3", Telemetry: 50 * time.Millisecond,
		Build: time.Now().Add(-time.Hour), Log: slog.NewTextHandler(t.Output(), nil)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// live runs a device until the function it returns is called.
func live(t *testing.T, dir string, b *board.Board) (d *device.Device, stop func()) {
	t.Helper()
	d = open(t, dir, b)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return d, func() {
		cancel()
		if err := errors.Join(<-done, d.Close()); err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-late:
			t.Fatalf("never %s", what)
		case <-tick.C:
		}
	}
}

// published counts messages whose topic begins so.
func published(h *hubtest.Hub, prefix string) (n int) {
	for _, m := range h.Messages() {
		if strings.HasPrefix(m.Topic, prefix) {
			n++
		}
	}
	return n
}

func TestDeviceWithATPM(t *testing.T) {
	h := hubtest.New(t)
	b, dir := withTPM(t), provisioned(t, h)
	_, stop := live(t, dir, b)
	eventually(t, "telemetry and logs at the hub", func() bool {
		return published(h, "devices/pump-01/messages/events/") > 2 && published(h, "$hub/logs/") > 0
	})
	stop()
	want := []string{"/enroll/begin", "/enroll/finish", "/attest/nonce", "/attest/evidence",
		"/.well-known/est/simpleenroll", "mqtt by operational"}
	if diff := cmp.Diff(want, h.Steps()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	ev := h.Evidence()[0]
	if len(ev.PCRs) != 3 || len(ev.Counters) != 1 || ev.NextKey == nil {
		t.Errorf("evidence has %d registers, %d counters, next key %t", len(ev.PCRs), len(ev.Counters), ev.NextKey != nil)
	}
	for _, part := range []string{`"runtime":"1.2.3"`, `"clock":"rtc"`, `"repetition_count":true`, `"link":true`, `"program":true`, `"memory_rwx":false`} {
		if !strings.Contains(string(ev.Claims), part) {
			t.Errorf("claims have no %s: %s", part, ev.Claims)
		}
	}
	var shipped []string
	for _, m := range h.Messages() {
		if !strings.HasPrefix(m.Topic, "$hub/logs/") {
			continue
		}
		rs, err := logs.Parse(m.Payload)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			shipped = append(shipped, r.Message)
		}
	}
	if !slices.Contains(shipped, "born") || !slices.Contains(shipped, "connected") {
		t.Errorf("logs %q", shipped)
	}
	p, err := provision.Load(dir)
	if err != nil || p.Token != "" {
		t.Errorf("the claim token is still there: %v", err)
	}
	s, err := device.LoadStatus(dir)
	if err != nil || s.Phase != agent.Connected || s.Device != hubtest.Device || s.Hub != "127.0.0.1" {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestDeviceComesBackAfterAReboot(t *testing.T) {
	h := hubtest.New(t)
	b, dir := withTPM(t), provisioned(t, h)
	d, stop := live(t, dir, b)
	eventually(t, "connected", func() bool { return d.Status().Phase == agent.Connected })
	stop()
	before := len(h.Steps())
	b.Boot.ResetCause = board.Expired
	d, stop = live(t, dir, b)
	eventually(t, "connected again", func() bool { return d.Status().Phase == agent.Connected })
	eventually(t, "the crash at the hub", func() bool {
		return slices.ContainsFunc(h.Messages(), func(m mqtt.Publish) bool {
			return strings.Contains(string(m.Payload), `"level":"crash"`)
		})
	})
	stop()
	want := []string{"/attest/nonce", "/attest/evidence", "mqtt by operational"}
	if diff := cmp.Diff(want, h.Steps()[before:]); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestDeviceWithAFileKey(t *testing.T) {
	h := hubtest.New(t)
	d, stop := live(t, provisioned(t, h), bare())
	eventually(t, "connected", func() bool { return d.Status().Phase == agent.Connected })
	stop()
	want := []string{"/enroll/begin", "/.well-known/est/simpleenroll", "mqtt by operational"}
	if diff := cmp.Diff(want, h.Steps()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestDeviceRenewsWhenTold(t *testing.T) {
	h := hubtest.New(t)
	sessions := 0
	h.Posture = func(pki.Class) posture.Report {
		sessions++
		return posture.Report{Version: int64(sessions), Status: posture.Trusted, Renew: sessions == 1}
	}
	_, stop := live(t, provisioned(t, h), withTPM(t))
	eventually(t, "a second session", func() bool {
		s := h.Steps()
		return len(s) > 9 && s[len(s)-1] == "mqtt by operational"
	})
	stop()
	want := []string{"/attest/nonce", "/attest/evidence", "/.well-known/est/simplereenroll", "mqtt by operational"}
	if diff := cmp.Diff(want, h.Steps()[6:]); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestRefusedCertificateMeansQuarantine(t *testing.T) {
	h := hubtest.New(t)
	h.Fail = func(step string) error {
		if step == "TLS by operational" {
			return errors.New("revoked")
		}
		return nil
	}
	h.Posture = func(pki.Class) posture.Report { return posture.Report{Status: posture.Quarantined} }
	d, stop := live(t, provisioned(t, h), withTPM(t))
	eventually(t, "a quarantine session with logs", func() bool {
		return slices.Contains(h.Steps(), "mqtt by birth") && published(h, "$hub/logs/") > 0
	})
	if s := d.Status(); s.Phase != agent.Quarantined {
		t.Errorf("status %+v", s)
	}
	stop()
	if n := published(h, "devices/"); n != 0 {
		t.Errorf("%d readings from quarantine", n)
	}
}

func TestEnrolmentRefusals(t *testing.T) {
	h, other := hubtest.New(t), hubtest.New(t)
	for name, tc := range map[string]struct {
		spoil func(*provision.Provision)
		fail  error
		kind  fault.Kind
		says  string
	}{
		"wrong root":   {func(p *provision.Provision) { p.Root = other.Provision().Root }, nil, fault.Integrity, "does not verify"},
		"wrong name":   {func(p *provision.Provision) { p.Hub = "localhost.example" }, nil, fault.Unavailable, ""},
		"wrong token":  {func(p *provision.Provision) { p.Token = "guess" }, nil, fault.Denied, "claim token is wrong"},
		"hub says no":  {func(*provision.Provision) {}, fault.New(fault.Denied, "valves demand a hardware root"), fault.Denied, "hardware root"},
		"hub is older": {func(*provision.Provision) {}, fault.New(fault.NotFound, "no such path"), fault.NotFound, "no such path"},
	} {
		t.Run(name, func(t *testing.T) {
			h.Fail = func(step string) error {
				if strings.HasPrefix(step, "/") {
					return tc.fail
				}
				return nil
			}
			p := h.Provision()
			tc.spoil(&p)
			dir := t.TempDir()
			if err := provision.Save(dir, p); err != nil {
				t.Fatal(err)
			}
			d := open(t, dir, bare())
			defer func() { _ = d.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err := d.Enroll(ctx)
			if tc.kind == fault.Unavailable {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("enrol: %v, want it to go on trying", err)
				}
				return
			}
			if fault.Of(err) != tc.kind || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("enrol: %v (%s), want %s", err, fault.Of(err), tc.kind)
			}
		})
	}
}

func TestStateDirectoryHasOneUser(t *testing.T) {
	h := hubtest.New(t)
	dir := provisioned(t, h)
	d := open(t, dir, bare())
	if _, err := device.Open(device.Config{Dir: dir, Board: bare(), Log: slog.DiscardHandler}); err == nil {
		t.Error("two runtimes share a state directory")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, bare()).Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenNeedsAProvision(t *testing.T) {
	if _, err := device.Open(device.Config{Dir: t.TempDir(), Board: bare(), Log: slog.DiscardHandler}); !errors.Is(err, provision.ErrNone) {
		t.Errorf("open: %v", err)
	}
}

func TestEK(t *testing.T) {
	if _, err := device.EK(bare(), t.TempDir()); err == nil {
		t.Error("a board without a TPM has an endorsement key")
	}
	b := withTPM(t)
	dir := t.TempDir()
	first, err := device.EK(b, dir)
	if err != nil || len(first) < 64 {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	if again, err := device.EK(b, dir); err != nil || string(again) != string(first) {
		t.Errorf("another key: %v", err)
	}
}
