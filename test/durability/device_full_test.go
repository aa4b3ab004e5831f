package durability_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/operator"
)

// A device whose disk is full stays up and connected, comes back to a hub that
// was restarted, and ships its log again once there is room.
func TestDeviceOnAFullDisk(t *testing.T) {
	s := newStation(t, t.TempDir(), build(t, "holdfast/cmd/holdfast", ""))
	s.start(t)
	admin := s.operatorClient(t)
	const id = identity.Device("valve-01")
	_, err := admin.SetGroup(t.Context(), "files", operator.SetGroup{PolicyName: "lenient", FileKeys: true})
	added, addErr := admin.AddDevice(t.Context(), operator.AddDevice{ID: id, Group: "files", Token: true})
	if err := errors.Join(err, addErr); err != nil {
		t.Fatal(err)
	}
	dir := smallDisk(t, 4<<20)
	state, token := filepath.Join(dir, "state"), filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(added.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	_, mqtt, _ := net.SplitHostPort(s.at.MQTT)
	program := build(t, "holdfast/cmd/holdfast-device", "")
	run(t, program, "enroll", "--hub", s.at.HTTPS, "--mqtt-port", mqtt, "--trust", filepath.Join(s.dir, "root.pem"),
		"--token-file", token, "--state", state, "--tpm", "none", "--watchdog", "none")
	device := start(t, program, "run", "--state", state, "--tpm", "none", "--watchdog", "none")
	connected(t, admin, id)

	ballast := filepath.Join(dir, "ballast")
	fillUp(t, ballast)
	s.proc.kill()
	device.await(t, "connection ") // lost, or failed where it was just renewing
	s.start(t)
	connected(t, s.operatorClient(t), id)
	select {
	case <-device.Done():
		t.Fatalf("the device ended: %v", device.Err())
	default:
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.proc.kill() // so that there is something to log
	device.await(t, "connection failed")
	s.start(t)
	eventually(t, time.Minute, "the log without a gap", func() error {
		return complete(t, s.operatorClient(t), id, "connection failed")
	})
}

func connected(t testing.TB, c *client.Client, id identity.Device) {
	t.Helper()
	eventually(t, time.Minute, "connected", func() error {
		d, err := c.Device(t.Context(), id)
		if err == nil && !d.Connected {
			err = fmt.Errorf("is %s: %s", d.Status, d.Reason)
		}
		return err
	})
}
