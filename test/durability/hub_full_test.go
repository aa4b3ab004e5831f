package durability_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// disk is a place for a hub's state that can be filled.
type disk struct {
	dir  string
	fill func(*station)
	free func(*station)
}

// A hub whose disk is full refuses what it cannot keep: publishers lose their
// session without an acknowledgement, operators get an error. It stays up,
// serves what it has, and takes everything again once there is room.
func TestHubOnAFullDisk(t *testing.T) {
	t.Run("no space left", func(t *testing.T) {
		dir := smallDisk(t, 112<<20)
		ballast := filepath.Join(dir, "ballast")
		fullDisk(t, disk{dir: dir, fill: func(*station) { fillUp(t, ballast) }, free: func(*station) { os.Remove(ballast) }})
	})
	t.Run("file size limit", func(t *testing.T) {
		var old unix.Rlimit
		limit := func(s *station, l unix.Rlimit) {
			if err := unix.Prlimit(s.proc.PID(), unix.RLIMIT_FSIZE, &l, &old); err != nil {
				t.Fatal(err)
			}
		}
		fullDisk(t, disk{dir: t.TempDir(),
			fill: func(s *station) { limit(s, unix.Rlimit{Cur: 0, Max: unix.RLIM_INFINITY}) },
			free: func(s *station) { limit(s, old) }})
	})
}

// A hub that is started on a full disk says so and ends, or serves; either way
// nothing of its state is damaged.
func TestHubStartsOnAFullDisk(t *testing.T) {
	dir := smallDisk(t, 112<<20)
	ballast := filepath.Join(dir, "ballast")
	s := newStation(t, dir, build(t, "holdfast/cmd/holdfast", ""))
	s.start(t)
	p := newPublisher(t, newMaker(t, s.operatorClient(t)), "sensor-load")
	if err := p.send(t, s, 20); err != nil {
		t.Fatal(err)
	}
	s.proc.kill()
	fillUp(t, ballast)
	full := start(t, s.program, s.args()...)
	select {
	case <-full.Done():
		if text := full.log.String(); !strings.Contains(text, "full") && !strings.Contains(text, "no space left") {
			t.Errorf("the hub ended without saying why: %s", text)
		}
	case <-time.After(5 * time.Second):
		t.Log("the hub serves")
		full.kill()
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	p.check(t, s.operatorClient(t))
}

// fillUp writes a file until there is no room for another block.
func fillUp(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for b := make([]byte, 1<<20); len(b) >= 4096; {
		if _, err := f.Write(b); errors.Is(err, syscall.ENOSPC) {
			b = b[:len(b)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func fullDisk(t *testing.T, d disk) {
	s := newStation(t, d.dir, build(t, "holdfast/cmd/holdfast", ""))
	s.start(t)
	admin := s.operatorClient(t)
	m := newMaker(t, admin)
	p := newPublisher(t, m, "sensor-load")
	p.pad = 100_000
	ended := make(chan error, 1)
	go func() { ended <- p.run(t, s) }()
	s.awaitMessage(t, admin, p.id)

	d.fill(s)
	select {
	case err := <-ended:
		t.Logf("the publisher was cut off after %d messages: %v", len(p.acked), err)
	case <-time.After(30 * time.Second):
		t.Fatal("the publisher was not cut off")
	}
	if len(p.acked) == 0 {
		t.Error("nothing was acknowledged before")
	}
	_, err := admin.AddDevice(t.Context(), operator.AddDevice{ID: "sensor-refused", Group: "sensors"})
	if k := fault.Of(err); err == nil || k != fault.Unavailable {
		t.Errorf("registered on a full disk: %s, %v", k, err)
	}
	if _, err := admin.Devices(t.Context(), "", ""); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	if err := p.send(t, s, 1); err == nil {
		t.Error("a message was acknowledged on a full disk")
	}
	select {
	case <-s.proc.Done():
		t.Fatalf("the hub ended: %v", s.proc.Err())
	default:
	}

	full := len(p.acked)
	d.free(s)
	began := time.Now()
	s.recovers(t, admin, p)
	t.Logf("everything is taken again %v after there is room: %d messages more", time.Since(began), len(p.acked)-full)
	p.check(t, admin)
	s.proc.kill()
	s.start(t)
	p.check(t, s.operatorClient(t))
	if _, err := s.operatorClient(t).Device(t.Context(), "sensor-later"); err != nil {
		t.Errorf("registered after the disk was full: %v", err)
	}
}

// awaitMessage waits until a message of a device is stored.
func (s *station) awaitMessage(t testing.TB, c *client.Client, id identity.Device) {
	t.Helper()
	arrived := errors.New("arrived")
	eventually(t, time.Minute, "first message", func() error {
		err := c.Events(t.Context(), operator.EventQuery{Device: id, Kind: string(iothub.Telemetry)}, func(operator.Event) error { return arrived })
		if errors.Is(err, arrived) {
			return nil
		}
		return fmt.Errorf("none is stored: %w", err)
	})
}

// recovers waits until operator and publisher are served again.
func (s *station) recovers(t testing.TB, c *client.Client, p *publisher) {
	t.Helper()
	eventually(t, time.Minute, "operator served again", func() error {
		_, err := c.AddDevice(t.Context(), operator.AddDevice{ID: "sensor-later", Group: "sensors"})
		if fault.Of(err) == fault.Conflict {
			return nil // an earlier try was kept, though its answer was an error
		}
		return err
	})
	eventually(t, time.Minute, "publisher served again", func() error { return p.send(t, s, 50) })
}
