package durability_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/testkit"
	"holdfast/operator"
)

// breakSync makes each sync of a file by a running hub fail, until mend.
func (s *station) breakSync(t testing.TB, file string) (mend func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may be sure to trace a program that runs already")
	}
	tracer := start(t, testkit.Need(t, "strace"), "-f", "-p", strconv.Itoa(s.proc.PID()), "-P", file, "-o", os.DevNull,
		"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO")
	tracer.await(t, "attached")
	return func() {
		if err := tracer.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	}
}

// An operator's write whose sync fails is no success. What was acknowledged
// before is there after a restart, and the hub goes on.
func TestHubDatabaseSyncFails(t *testing.T) {
	s := newStation(t, t.TempDir(), build(t, "holdfast/cmd/holdfast", ""))
	s.start(t)
	admin, k := s.operatorClient(t), &clerk{}
	newMaker(t, admin)
	add := func(c string) error {
		_, err := k.api(t, s).AddDevice(t.Context(), operator.AddDevice{ID: "sensor-" + identity.Device(c), Group: "sensors"})
		if err == nil {
			k.added = append(k.added, "sensor-"+identity.Device(c))
		}
		return err
	}
	if err := add("before"); err != nil {
		t.Fatal(err)
	}
	mend := s.breakSync(t, filepath.Join(s.dir, "holdfast.db-wal"))
	if err := add("during"); fault.Of(err) != fault.Unavailable {
		t.Errorf("registered without a sync: %v", err)
	}
	mend()
	eventually(t, time.Minute, "operator served again", func() error { return add("after") })
	s.proc.kill()
	s.start(t)
	k.check(t, s)
}

// A message whose sync fails is not acknowledged, and the hub ends: what the
// kernel could not write once it may never report again.
func TestHubStreamSyncFails(t *testing.T) {
	s := newStation(t, t.TempDir(), build(t, "holdfast/cmd/holdfast", ""))
	s.start(t)
	p := newPublisher(t, newMaker(t, s.operatorClient(t)), "sensor-load")
	if err := p.send(t, s, 10); err != nil {
		t.Fatal(err)
	}
	defer s.breakSync(t, filepath.Join(s.dir, "stream", "jetstream", "$G", "streams", "MESSAGES", "msgs", "1.blk"))()
	if err := p.send(t, s, 1); err == nil {
		t.Error("a message was acknowledged without a sync")
	}
	select {
	case <-s.proc.Done():
	case <-time.After(time.Minute):
		t.Fatal("the hub goes on")
	}
	if ee, ok := s.proc.Err().(*exec.ExitError); !ok || ee.ExitCode() != 1 {
		t.Errorf("the hub ended with %v", s.proc.Err())
	}
	s.start(t)
	p.check(t, s.operatorClient(t))
}
