package durability_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"holdfast/hub"
	"holdfast/identity"
)

// TestBackupUnderLoad backs up a hub while devices publish and an operator
// registers and revokes, restores it elsewhere, and looks there for all that was
// acknowledged before the backup began.
func TestBackupUnderLoad(t *testing.T) {
	const before, senders = 200, 3
	s := newStation(t, t.TempDir(), build(t, "holdfast/cmd/holdfast", ""))
	s.start(t)
	api := s.operatorClient(t)
	m := newMaker(t, api)

	settled := newPublisher(t, m, "sensor-settled")
	clerk, busy := &clerk{}, &clerk{next: 5000}
	var load sync.WaitGroup
	for i := range senders {
		p := newPublisher(t, m, identity.Device(fmt.Sprintf("sensor-load-%d", i)))
		load.Go(func() { ended(t, p.run(t, s)) })
	}
	load.Go(func() { ended(t, busy.run(t, s, m)) })
	if err := settled.send(t, s, before); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		id := identity.Device(fmt.Sprintf("sensor-%04d", i))
		if err := clerk.issueAndRevoke(t, s, m, clerk.api(t, s), register(t, s, clerk, id)); err != nil {
			t.Fatal(err)
		}
	}

	archive, err := os.Create(filepath.Join(t.TempDir(), "hub.backup"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if err := api.Backup(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	s.proc.kill()
	load.Wait()

	again := &station{dir: filepath.Join(t.TempDir(), "again"), program: s.program, at: hub.Addresses{MQTT: "127.0.0.1:0", HTTPS: "127.0.0.1:0", Operator: "127.0.0.1:0"}}
	out := run(t, s.program, "hub", "restore", archive.Name(), "--state", again.dir, "--seal-file", filepath.Join(s.dir, "seal.key"))
	t.Logf("%s", out)
	if err := os.CopyFS(filepath.Join(again.dir, "operator"), os.DirFS(filepath.Join(s.dir, "operator"))); err != nil {
		t.Fatal(err)
	}
	again.start(t)
	settled.check(t, again.operatorClient(t))
	clerk.check(t, again)
	if len(settled.acked) != before {
		t.Errorf("%d messages were acknowledged before, want %d", len(settled.acked), before)
	}
	// It is the same hub: a device that had a session there has one here.
	if err := settled.send(t, again, 10); err != nil {
		t.Errorf("publish to the restored hub: %v", err)
	}
	settled.check(t, again.operatorClient(t))
}

// register registers a device and notes that.
func register(t testing.TB, s *station, k *clerk, id identity.Device) identity.Device {
	t.Helper()
	if err := k.add(context.Background(), k.api(t, s), id); err != nil {
		t.Fatal(err)
	}
	return id
}
