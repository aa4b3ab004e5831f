package durability_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/internal/testkit"
	"holdfast/iothub"
	"holdfast/ledger"
	"holdfast/logs"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// board is a virtual board that a hub knows as pump-01.
type board struct {
	dir     string
	program string
	proc    *process
}

const pump = identity.Device("pump-01")

// newBoard makes a board, registers it and provisions it, as the demo does.
func newBoard(t testing.TB, s *station) *board {
	t.Helper()
	testkit.Need(t, "swtpm")
	testkit.Need(t, "swtpm_setup")
	dir := t.TempDir()
	b := &board{dir: filepath.Join(dir, "board"), program: s.program}
	firmware := build(t, "holdfast/cmd/holdfast-device", "")
	image := buildImage(t, s.program, firmware, dir)
	var sheet struct {
		EK      []byte          `json:"ek"`
		TPMRoot string          `json:"tpm_root"`
		BootROM identity.Digest `json:"boot_rom"`
	}
	out := run(t, s.program, "board", "create", b.dir, "--json", "--slot-a", image, "--key", filepath.Join(dir, "firmware.pub"),
		"--tpm-ca", filepath.Join(dir, "tpm-maker"))
	if err := json.Unmarshal(out, &sheet); err != nil {
		t.Fatal(err)
	}
	img, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := mcuboot.Parse(img)
	if err != nil {
		t.Fatal(err)
	}
	admin := s.operatorClient(t)
	_, caErr := admin.AddCA(t.Context(), operator.CA{Name: "tpm-maker", Kind: "endorsement", Class: "software", PEM: sheet.TPMRoot})
	_, groupErr := admin.SetGroup(t.Context(), "pumps", operator.SetGroup{PolicyName: "standard", Simulation: true})
	romErr := admin.AddReference(t.Context(), operator.Reference{Group: "pumps", Kind: "boot-rom", Digest: sheet.BootROM, Name: "boot ROM"})
	refErr := admin.AddReference(t.Context(), operator.Reference{Group: "pumps", Kind: "firmware", PCR: 4, Digest: parsed.Digest, Name: "firmware", Version: "1.0.0"})
	_, addErr := admin.AddDevice(t.Context(), operator.AddDevice{ID: pump, Group: "pumps", EK: sheet.EK})
	if err := errors.Join(caErr, groupErr, romErr, refErr, addErr); err != nil {
		t.Fatal(err)
	}
	_, https, _ := net.SplitHostPort(s.at.HTTPS)
	_, mqtt, _ := net.SplitHostPort(s.at.MQTT)
	run(t, firmware, "enroll", "--provision-only", "--state", filepath.Join(b.dir, "data"), "--hub", "127.0.0.1",
		"--https-port", https, "--mqtt-port", mqtt, "--trust", filepath.Join(s.dir, "root.pem"))
	return b
}

// buildImage signs a program as firmware and returns the image's path.
func buildImage(t testing.TB, program, firmware, dir string) string {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := pki.EncodeKey(key)
	der, derErr := x509.MarshalPKIXPublicKey(key.Public())
	if err := errors.Join(err, derErr); err != nil {
		t.Fatal(err)
	}
	private, public, image := filepath.Join(dir, "firmware.key"), filepath.Join(dir, "firmware.pub"), filepath.Join(dir, "firmware.img")
	err = errors.Join(os.WriteFile(private, text, 0o600),
		os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	run(t, program, "board", "image", "--program", firmware, "--version", "1.0.0", "--key", private, "--out", image)
	return image
}

func (b *board) power(t testing.TB) { b.proc = start(t, b.program, "board", "run", b.dir) }

// firmware returns the process id of the firmware.
func (b *board) firmware() (int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	const child = " (firmware) "
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, rest, ok := strings.Cut(string(text), child)
		if fields := strings.Fields(rest); ok && len(fields) > 1 && fields[1] == strconv.Itoa(b.proc.PID()) {
			return strconv.Atoi(pid)
		}
	}
	return 0, errors.New("the firmware does not run")
}

// trusted waits until the hub trusts the board's device for the full lifetime.
func trusted(t testing.TB, c *client.Client) operator.Device {
	t.Helper()
	var d operator.Device
	eventually(t, time.Minute, "trusted", func() (err error) {
		if d, err = c.Device(t.Context(), pump); err != nil {
			return err
		}
		if d.Status != posture.Trusted || !d.Connected || d.Certificate == nil || d.Certificate.Lifetime < 23*3600 {
			return fmt.Errorf("is %s: %s; connected: %v; certificate: %+v", d.Status, d.Reason, d.Connected, d.Certificate)
		}
		return nil
	})
	return d
}

// Killed at random moments of its first life, by power cuts and by kills of
// the firmware alone, a device gets where an undisturbed one gets: trusted,
// under one identity, and with a log that has no gap. The hub is killed on the
// way too; the device comes back to it by itself, and what it logged in
// between arrives.
func TestDeviceSurvivesKill(t *testing.T) {
	s := newStation(t, t.TempDir(), build(t, "holdfast/cmd/holdfast", ""))
	s.start(t)
	b := newBoard(t, s)
	b.power(t)
	for i := range 5 {
		<-time.After(time.Duration(100+rand.IntN(1500)) * time.Millisecond)
		if pid, err := b.firmware(); err == nil && i == 2 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // may have ended
			continue
		}
		b.proc.kill()
		b.power(t)
	}
	began := time.Now()
	born := trusted(t, s.operatorClient(t))
	t.Logf("trusted %v after the last kill", time.Since(began))
	checkMemory(t, b)

	s.proc.kill()
	before := spooled(t, b)
	eventually(t, time.Minute, "log records while the hub is down", func() error {
		if after := spooled(t, b); after < before+1 {
			return fmt.Errorf("%d bytes, %d before", after, before)
		}
		return nil
	})
	b.proc.kill() // with records that the hub has not got
	b.power(t)
	b.proc.await(t, "connection")
	s.start(t)
	began = time.Now()
	again := trusted(t, s.operatorClient(t))
	t.Logf("trusted %v after the hub is back", time.Since(began))
	if !again.Born.Equal(born.Born) {
		t.Errorf("born at %v and again at %v", born.Born, again.Born)
	}
	checkOneBirth(t, s.operatorClient(t))
	// It was lost, or failed where the kill came between two sessions.
	eventually(t, time.Minute, "the log without a gap", func() error { return complete(t, s.operatorClient(t), pump, "connection ") })
}

// checkOneBirth demands one birth certificate in the ledger.
func checkOneBirth(t testing.TB, c *client.Client) {
	t.Helper()
	rs, err := c.Ledger(t.Context(), 1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	births := 0
	for _, r := range rs {
		if r.Kind == ledger.Issue && r.Device == pump && bytes.Contains(r.Details, []byte(`"class":"birth"`)) {
			births++
		}
	}
	if births != 1 {
		t.Errorf("%d birth certificates were issued", births)
	}
}

// complete reads the device's log as the hub has it: each record up to the
// newest, one content each, and one of them with a message that begins so.
func complete(t testing.TB, c *client.Client, id identity.Device, message string) error {
	contents, newest, found := map[uint64]string{}, uint64(0), false
	err := c.Events(t.Context(), operator.EventQuery{Device: id, Kind: string(iothub.Log)}, func(e operator.Event) error {
		rs, err := logs.Parse([]byte(e.Body))
		if err != nil {
			return err
		}
		for _, r := range rs {
			text, err := json.Marshal(r)
			if err != nil {
				return err
			}
			if old, again := contents[r.Seq]; again && old != string(text) {
				return fmt.Errorf("record %d came as %s and as %s", r.Seq, old, text)
			}
			contents[r.Seq], newest, found = string(text), max(newest, r.Seq), found || strings.HasPrefix(r.Message, message)
		}
		return nil
	})
	if err == nil && uint64(len(contents)) != newest {
		err = fmt.Errorf("%d records, the newest is number %d", len(contents), newest)
	}
	if err == nil && !found {
		err = fmt.Errorf("no record begins with %q", message)
	}
	return err
}

// spooled is the size of the device's spool in bytes.
func spooled(t testing.TB, b *board) int64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "data", "spool", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			n += info.Size()
		}
	}
	return n
}

// maxMemory and maxSize bound the device program: resident while connected,
// and stripped on disk.
const (
	maxMemory = 30 << 20
	maxSize   = 15 << 20
)

func checkMemory(t testing.TB, b *board) {
	t.Helper()
	for name, size := range memory(t, b) {
		t.Logf("connected device: %s %d KiB", name, size>>10)
		if size >= maxMemory {
			t.Errorf("connected device: %s is %d KiB", name, size>>10)
		}
	}
}

// memory returns what the firmware has resident, in all and of its own, in
// bytes.
func memory(t testing.TB, b *board) map[string]int {
	t.Helper()
	pid, err := b.firmware()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "VmRSS" && name != "RssAnon" {
			continue
		}
		kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		if err != nil {
			t.Fatal(err)
		}
		sizes[name] = kib << 10
	}
	return sizes
}

func TestDeviceProgramIsSmall(t *testing.T) {
	info, err := os.Stat(build(t, "holdfast/cmd/holdfast-device", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("stripped: %d bytes", info.Size())
	if info.Size() >= maxSize {
		t.Errorf("stripped: %d bytes", info.Size())
	}
}

// BenchmarkDevice says what the device program keeps resident while it is
// connected with its full certificate.
func BenchmarkDevice(b *testing.B) {
	s := newStation(b, b.TempDir(), build(b, "holdfast/cmd/holdfast", ""))
	s.start(b)
	board := newBoard(b, s)
	board.power(b)
	trusted(b, s.operatorClient(b))
	for b.Loop() {
		sizes := memory(b, board)
		b.ReportMetric(float64(sizes["VmRSS"])/1e6, "MB-resident")
		b.ReportMetric(float64(sizes["RssAnon"])/1e6, "MB-anonymous")
	}
}
