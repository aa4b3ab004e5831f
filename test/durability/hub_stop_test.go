package durability_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/operator"
)

// stopTime is how long a hub may take to end under load when it is told to.
const stopTime = 30 * time.Second

// Told to stop under load, also with an operator who follows the events, the
// hub ends by itself within half a minute, with exit status 0, and has everything it
// acknowledged. While it runs no second one may work on its state.
func TestHubStopsInOrder(t *testing.T) {
	s := newStation(t, t.TempDir(), build(t, "holdfast/cmd/holdfast", ""))
	s.start(t)
	second := exec.CommandContext(t.Context(), s.program, "hub", "run", "--state", s.dir,
		"--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0", "--operator", "127.0.0.1:0")
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "lock state directory") {
		t.Errorf("a second hub on the same state: %v: %s", err, out)
	}
	m := newMaker(t, s.operatorClient(t))
	k := &clerk{}
	var ps []*publisher
	for i := range 4 {
		ps = append(ps, newPublisher(t, m, identity.Device(fmt.Sprintf("sensor-load-%d", i))))
	}
	for range 2 {
		var work sync.WaitGroup
		for _, p := range ps {
			work.Go(func() { ended(t, p.run(t, s)) })
		}
		work.Go(func() { ended(t, k.run(t, s, m)) })
		follower := s.operatorClient(t)
		work.Go(func() {
			_ = follower.Events(context.Background(), operator.EventQuery{Follow: true}, func(operator.Event) error { return nil }) // ends with the hub
		})
		s.awaitMessage(t, s.operatorClient(t), ps[3].id)
		<-time.After(500 * time.Millisecond)
		began := time.Now()
		if err := syscall.Kill(s.proc.PID(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.proc.Done():
		case <-time.After(stopTime):
			_ = syscall.Kill(s.proc.PID(), syscall.SIGQUIT) // it prints what it waits for
			<-s.proc.Done()
			t.Fatalf("the hub did not end within %v\n%s", stopTime, s.proc.log)
		}
		if err := s.proc.Err(); err != nil {
			t.Errorf("the hub ended with %v", err)
		}
		t.Logf("the hub ended after %v", time.Since(began))
		work.Wait()
		s.start(t)
		for _, p := range ps {
			p.check(t, s.operatorClient(t))
		}
		k.check(t, s)
	}
}
