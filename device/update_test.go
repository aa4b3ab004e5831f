package device_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/device"
	"holdfast/device/board"
	"holdfast/device/board/virtual"
	"holdfast/device/hubtest"
	"holdfast/device/provision"
	"holdfast/identity"
	"holdfast/internal/flash/flashtest"
	"holdfast/mcuboot"
	"holdfast/pki"
	"holdfast/posture"
	"holdfast/release"
	"holdfast/update"
)

const (
	slotSize = 1 << 20
	sector   = 4 << 10
)

// machine is a board with two slots and fuses, its boot ROM, and the hub that
// its device has. A device runs on it after each boot.
type machine struct {
	t    *testing.T
	hub  *hubtest.Hub
	repo *hubtest.Repository
	key  *ecdsa.PrivateKey
	dir  string
	rom  virtual.ROM
	a, b *flashtest.Area

	old       []byte // the image that runs at first
	before    []byte // its slot
	clockless bool
	resets    chan string

	mu     sync.Mutex // guards burned
	burned uint32
}

// image makes firmware: bytes that nothing runs.
func image(t testing.TB, minor uint8, security uint32, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	payload := make([]byte, 600<<10)
	_, _ = mathrand.NewChaCha8([32]byte{1}).Read(payload) // never fails
	copy(payload[300<<10:], fmt.Sprintf("version 1.%d", minor))
	b, err := mcuboot.Build(payload, mcuboot.Version{Major: 1, Minor: minor}, security, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	chip := &flashtest.Chip{}
	m := &machine{t: t, hub: hubtest.New(t), repo: hubtest.NewRepository(t, "pump"), key: key, burned: 1, resets: make(chan string, 10),
		dir: filepath.Join(t.TempDir(), "state"), old: image(t, 3, 1, key)}
	m.a, m.b = chip.Area(slotSize, sector, m.old), chip.Area(slotSize, sector, nil)
	m.before = m.a.Bytes()
	m.rom = virtual.ROM{A: m.a, B: m.b, Record: chip.Area(2*sector, sector, nil), Fuses: virtual.Fuses{KeyHash: hash, Verify: true}}
	m.hub.Repository = m.repo
	p := m.hub.Provision()
	p.ReleaseRoot, p.Product, p.Hardware = m.repo.Root(), "pump", "rev-b"
	if err := provision.Save(m.dir, p); err != nil {
		t.Fatal(err)
	}
	return m
}

// Minimum and Burn are the fuses.
func (m *machine) Minimum() (uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.burned, nil
}

func (m *machine) Burn() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.burned++
	return nil
}

func (m *machine) minimum() uint32 { n, _ := m.Minimum(); return n }

// boot has the boot ROM choose, and runs the device until the function it
// returns is called.
func (m *machine) boot(cause string) (booted virtual.Booted, stop func()) {
	m.t.Helper()
	c := m.rom.Boot(m.minimum(), cause)
	if c.Parsed == nil {
		m.t.Fatalf("nothing boots: %v", c.Refused)
	}
	b := bare()
	b.Hardware, b.Boot = "rev-b", board.Boot{Slot: string(c.Image.Slot), Trial: c.Trial, Version: c.Image.Version.String(), Digest: c.Image.Measured, ResetCause: cause}
	b.Slots = &board.Slots{A: m.rom.A, B: m.rom.B, Record: m.rom.Record, KeyHash: m.rom.Fuses.KeyHash, Fuses: m}
	b.Reset = func(reason string) error { m.resets <- reason; return nil }
	if m.clockless {
		b.RTC = nil
	}
	_, end := live(m.t, m.dir, b)
	end = sync.OnceFunc(end)
	m.t.Cleanup(end)
	return c, end
}

// reset waits until the device wants to be reset.
func (m *machine) reset(stop func()) {
	m.t.Helper()
	select {
	case <-m.resets:
	case <-time.After(time.Minute):
		m.t.Fatalf("no reset; reports %+v", m.hub.Progress())
	}
	stop()
}

// told waits for a report.
func (m *machine) told(what string, ok func(p release.Progress) bool) (found release.Progress) {
	m.t.Helper()
	eventually(m.t, what, func() bool {
		for _, p := range m.hub.Progress() {
			if ok(p) {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

// refused waits until an attack was reported, and checks that nothing else came
// of it.
func (m *machine) refused(a release.Attack) {
	m.t.Helper()
	m.told("refused as "+string(a), func(p release.Progress) bool { return p.Attack == a })
	m.untouched()
}

func (m *machine) untouched() {
	m.t.Helper()
	if !bytes.Equal(m.a.Bytes(), m.before) || len(m.resets) != 0 {
		m.t.Errorf("the running image has changed, or %d resets", len(m.resets))
	}
	if c := m.rom.Boot(m.minimum(), board.PowerOn); c.Image.Slot != update.A || c.Trial || m.minimum() != 1 {
		m.t.Errorf("slot %s boots, trial %v, minimum %d", c.Image.Slot, c.Trial, m.minimum())
	}
}

func (m *machine) offer(minor int) string {
	return fmt.Sprintf(`{"rollout":"r%d","product":"pump","version":"1.%d.0","unpaused":true}`, minor, minor)
}

// healthy is what a release of these tests wants: their boards have no TPM.
var healthy = release.Health{Checks: []string{release.CheckHub}, Seconds: 600}

func TestUpdateFromOfferToBurnedCounter(t *testing.T) {
	m := newMachine(t)
	next := image(t, 4, 3, m.key)
	m.repo.Publish(m.repo.Image(next, healthy))
	patch := m.repo.Delta(m.old, next)
	_, stop := m.boot(board.PowerOn)
	m.hub.Offer(m.offer(4))
	m.reset(stop)
	c, stop := m.boot(board.Requested)
	if !c.Trial || c.Image.Slot != update.B {
		t.Fatalf("%+v", c.Choice)
	}
	m.told("committed", func(p release.Progress) bool { return p.State == release.Committed && p.Final })
	if m.minimum() != 3 {
		t.Errorf("minimum %d, want 3", m.minimum())
	}
	s, err := device.LoadStatus(m.dir)
	if err != nil || s.Update.Minimum != 3 || s.Update.Running.Minor != 4 || s.Update.Product != "pump" || s.Update.Progress.State != release.Committed {
		t.Errorf("status %+v, %v", s.Update, err)
	}
	stop()
	if len(patch) > 100<<10 {
		t.Errorf("a delta of %d bytes", len(patch))
	}
	for _, step := range m.hub.Steps() {
		if strings.HasPrefix(step, "/repository/blobs/") {
			t.Errorf("asked for %s beside the delta", step)
		}
	}
	m.hub.Offer(m.offer(3)) // what was replaced is older than the counter
	m.repo.Publish(m.repo.Image(m.old, healthy))
	c, _ = m.boot(board.PowerOn)
	m.told("refused as a rollback", func(p release.Progress) bool { return p.Attack == release.Rollback && p.Final })
	if c.Image.Slot != update.B || c.Trial {
		t.Errorf("%+v", c.Choice)
	}
}

// TestUpdateGoesOnInQuarantine: a device may be in quarantine for what an
// update mends.
func TestUpdateGoesOnInQuarantine(t *testing.T) {
	m := newMachine(t)
	m.hub.Posture = func(pki.Class) posture.Report { return posture.Report{Version: 1, Status: posture.Quarantined} }
	m.repo.Publish(m.repo.Image(image(t, 4, 1, m.key), healthy))
	_, stop := m.boot(board.PowerOn)
	m.hub.Offer(m.offer(4))
	m.reset(stop)
	m.boot(board.Requested)
	m.told("committed", func(p release.Progress) bool { return p.State == release.Committed })
}

func TestTrialThatDoesNotReachTheHubReverts(t *testing.T) {
	m := newMachine(t)
	m.repo.Publish(m.repo.Image(image(t, 4, 2, m.key), release.Health{Checks: []string{release.CheckHub}, Seconds: 3}))
	_, stop := m.boot(board.PowerOn)
	m.hub.Offer(m.offer(4))
	m.reset(stop)
	m.hub.Fail = func(string) error { return errors.New("the trial's network does not work") }
	_, stop = m.boot(board.Requested)
	m.reset(stop)
	m.hub.Fail = func(string) error { return nil }
	c, _ := m.boot(board.Requested)
	if c.Image.Slot != update.A || c.Trial || m.minimum() != 1 {
		t.Errorf("%+v, minimum %d", c.Choice, m.minimum())
	}
	p := m.told("reverted", func(p release.Progress) bool { return p.State == release.Reverting && p.Final })
	if !strings.Contains(p.Reason, "hub") {
		t.Errorf("%+v", p)
	}
}

// TestArbitrarySoftware: content that no threshold has signed, or that the key
// in the board's fuses has not.
func TestArbitrarySoftware(t *testing.T) {
	t.Run("another image", func(t *testing.T) {
		m := newMachine(t)
		rel := m.repo.Image(image(t, 4, 1, m.key), healthy)
		m.repo.Publish(rel)
		other := image(t, 5, 1, m.key)
		m.repo.Serve("blobs/"+rel.Image.SHA256.String(), append(other, make([]byte, int(rel.Image.Length)+16)...)[:rel.Image.Length])
		m.boot(board.PowerOn)
		m.hub.Offer(m.offer(4))
		m.refused(release.ArbitrarySoftware)
	})
	t.Run("another key", func(t *testing.T) {
		m := newMachine(t)
		stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		m.repo.Publish(m.repo.Image(image(t, 4, 1, stranger), healthy))
		m.boot(board.PowerOn)
		m.hub.Offer(m.offer(4))
		m.refused(release.ArbitrarySoftware)
	})
	t.Run("not listed", func(t *testing.T) {
		m := newMachine(t)
		m.boot(board.PowerOn)
		m.hub.Offer(m.offer(4))
		m.refused(release.ArbitrarySoftware)
	})
}

func TestEndlessImage(t *testing.T) {
	m := newMachine(t)
	rel := m.repo.Image(image(t, 4, 1, m.key), healthy)
	m.repo.Publish(rel)
	m.hub.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/repository/blobs/") {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(int64(math.MaxInt64)))
		for i := 0; i < 100; i++ {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return true
			}
		}
		return true
	}
	m.boot(board.PowerOn)
	m.hub.Offer(m.offer(4))
	m.refused(release.EndlessData)
}

func TestMixAndMatch(t *testing.T) {
	m := newMachine(t)
	rel := m.repo.Image(image(t, 4, 1, m.key), healthy)
	rel.SecurityVersion = 9 // the image says 1: its signers have made a mistake
	m.repo.Publish(rel)
	m.boot(board.PowerOn)
	m.hub.Offer(m.offer(4))
	m.refused(release.MixAndMatch)
}

// TestKeyCompromise: one of two releasers is not enough, whatever the hub signs.
func TestKeyCompromise(t *testing.T) {
	m := newMachine(t)
	m.repo.PublishBy(1, m.repo.Image(image(t, 4, 1, m.key), healthy))
	m.boot(board.PowerOn)
	m.hub.Offer(m.offer(4))
	m.refused(release.KeyCompromise)
}

func TestExpiredMetadataWithAWrongClock(t *testing.T) {
	t.Run("expired", func(t *testing.T) {
		m := newMachine(t)
		m.repo.Expires = time.Now().Add(-time.Minute)
		m.repo.Publish(m.repo.Image(image(t, 4, 1, m.key), healthy))
		m.boot(board.PowerOn)
		m.hub.Offer(m.offer(4))
		m.refused(release.IndefiniteFreeze)
	})
	t.Run("no clock", func(t *testing.T) {
		m := newMachine(t)
		m.clockless = true
		m.repo.Publish(m.repo.Image(image(t, 4, 1, m.key), healthy))
		m.boot(board.PowerOn)
		m.hub.Offer(m.offer(4))
		m.refused(release.WrongClock)
	})
}

// TestMaliciousHub: a hub that offers, answers and serves whatever it likes
// gets refusals and reports. Nothing is written but the slot that does not run,
// and what the device keeps does not grow.
func TestMaliciousHub(t *testing.T) {
	m := newMachine(t)
	m.repo.Publish(m.repo.Image(image(t, 4, 1, m.key), healthy))
	good := m.repo.Files()
	_, stop := m.boot(board.PowerOn)
	random := mathrand.New(mathrand.NewPCG(5, 5))
	junk := func() []byte {
		b := make([]byte, 1000+random.IntN(200<<10))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	for round := range 12 {
		lies := map[string][]byte{}
		for path, content := range good {
			switch random.IntN(4) {
			case 0:
				lies[path] = junk()
			case 1:
				lies[path] = append(bytes.Clone(content), content...)
			case 2:
				b := bytes.Clone(content)
				b[random.IntN(len(b))] ^= 0x11
				lies[path] = b
			case 3:
				lies[path] = good["timestamp.json"]
			}
		}
		m.repo.Restore(lies)
		before := len(m.hub.Progress())
		switch round % 3 {
		case 0:
			m.hub.Offer(string(junk()[:1000]))
		case 1:
			m.hub.Offer(fmt.Sprintf(`{"rollout":"r%d","product":"valve","version":"1.4.0","unpaused":true}`, round))
		case 2:
			m.hub.Offer(fmt.Sprintf(`{"rollout":"r%d","product":"pump","version":"1.4.0","unpaused":true}`, round))
		}
		if round < 3 {
			eventually(t, "reported", func() bool { return len(m.hub.Progress()) > before })
		}
	}
	m.untouched()
	for _, p := range m.hub.Progress() {
		if p.Reason == "" || len(p.Reason) > release.MaxText {
			t.Errorf("report %+v", p)
		}
	}
	size := int64(0)
	err := filepath.Walk(m.dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			size += info.Size()
		}
		return err
	})
	if err != nil || size > 1<<20 {
		t.Errorf("the device keeps %d bytes, %v", size, err)
	}
	m.repo.Restore(good) // and an honest one is served all the same
	m.hub.Offer(`{"rollout":"good","product":"pump","version":"1.4.0","unpaused":true}`)
	m.reset(stop)
}

// TestDeviceWithoutAReleaseRootTakesNoUpdates: it does not even ask for them,
// which is how the hub knows.
func TestDeviceWithoutAReleaseRootTakesNoUpdates(t *testing.T) {
	h := hubtest.New(t)
	h.Offer(`{"rollout":"r1","product":"pump","version":"1.4.0","unpaused":true}`)
	dir := provisioned(t, h)
	_, stop := live(t, dir, bare())
	defer stop()
	eventually(t, "telemetry at the hub", func() bool { return published(h, "devices/pump-01/messages/events/") > 2 })
	if s, err := device.LoadStatus(dir); err != nil || s.Update.Off != "no release root was provisioned" {
		t.Errorf("%+v, %v", s.Update, err)
	}
	if n := len(h.Progress()); n != 0 {
		t.Errorf("%d reports", n)
	}
}

// TestCounterThatIsGone: the hub is shown that it is missing, and nothing is
// installed.
func TestCounterThatIsGone(t *testing.T) {
	h := hubtest.New(t)
	b, dir := withTPM(t), provisioned(t, h)
	b.Counters = append(b.Counters, counter+1) // which nobody has made
	p, repo := h.Provision(), hubtest.NewRepository(t, "pump")
	p.ReleaseRoot, p.Product = repo.Root(), "pump"
	if err := provision.Save(dir, p); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	b.Boot.Slot = "A"
	b.Slots = &board.Slots{A: m.a, B: m.b, Record: m.rom.Record, KeyHash: m.rom.Fuses.KeyHash, CounterIndex: counter + 1}
	b.Reset = func(string) error { return nil }
	_, stop := live(t, dir, b)
	defer stop()
	eventually(t, "attested", func() bool { return len(h.Evidence()) > 0 })
	if n := len(h.Evidence()[0].Counters); n != 1 {
		t.Errorf("%d counters are certified, want 1", n)
	}
	if s, err := device.LoadStatus(dir); err != nil || !strings.Contains(s.Update.Off, "counter") {
		t.Errorf("%+v, %v", s.Update, err)
	}
}
