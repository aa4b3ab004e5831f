package guard_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/device/guard"
	"holdfast/identity"
)

type dog struct {
	armed time.Duration
	fed   atomic.Int64
	err   error
}

func (d *dog) Arm(t time.Duration) error {
	if d.err != nil {
		return d.err
	}
	d.armed = t
	return nil
}

func (d *dog) Feed() error {
	d.fed.Add(1)
	return nil
}

type toggle struct{ broken atomic.Bool }

func (*toggle) Name() string { return "toggle" }

func (t *toggle) Check() error {
	if t.broken.Load() {
		return errors.New("broken")
	}
	return nil
}

// watch runs a guard in a bubble beside f.
func watch(t *testing.T, d *dog, c *toggle, f func(g *guard.Guard)) {
	synctest.Test(t, func(t *testing.T) {
		g, err := guard.New(guard.Config{Watchdog: d, Timeout: 30 * time.Second, Checks: []guard.Check{c},
			Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		f(g)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func pass(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}

func TestFedEveryThirdOfTheTimeout(t *testing.T) {
	d, c := &dog{}, &toggle{}
	watch(t, d, c, func(g *guard.Guard) {
		pass(time.Minute)
		if d.armed != 30*time.Second || d.fed.Load() != 6 {
			t.Errorf("armed for %v, fed %d times in a minute", d.armed, d.fed.Load())
		}
		r := g.Report()
		if !r.Armed || r.Timeout != 30 {
			t.Errorf("report %+v", r)
		}
		if diff := cmp.Diff(map[string]bool{"toggle": true}, r.Checks); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNotFedWhileACheckFails(t *testing.T) {
	d, c := &dog{}, &toggle{}
	watch(t, d, c, func(g *guard.Guard) {
		pass(15 * time.Second)
		fed := d.fed.Load()
		c.broken.Store(true)
		pass(time.Minute)
		if fed == 0 || d.fed.Load() != fed {
			t.Errorf("fed %d times, then %d", fed, d.fed.Load())
		}
		if g.Report().Checks["toggle"] {
			t.Error("the failed check is reported as passed")
		}
		c.broken.Store(false)
		pass(15 * time.Second)
		if d.fed.Load() == fed {
			t.Error("not fed after the check passes again")
		}
	})
}

func TestWatchdogThatCannotBeArmedIsReported(t *testing.T) {
	d := &dog{err: errors.New("busy")}
	watch(t, d, &toggle{}, func(g *guard.Guard) {
		pass(time.Minute)
		if r := g.Report(); r.Armed || r.Timeout != 0 || d.fed.Load() != 0 {
			t.Errorf("report %+v, fed %d", r, d.fed.Load())
		}
	})
}

func TestTimeoutMustLeaveTimeToFeed(t *testing.T) {
	if _, err := guard.New(guard.Config{Timeout: time.Second}); err == nil {
		t.Error("a timeout of a second is accepted")
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProgramThatChanges(t *testing.T) {
	path := file(t, "code")
	c, err := guard.Program(path)
	if err != nil || c.Check() != nil {
		t.Fatalf("%v, %v", err, c.Check())
	}
	if err := os.WriteFile(path, []byte("kode"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c.Check() == nil {
		t.Error("a changed program passes")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if c.Check() == nil {
		t.Error("a program that is gone passes")
	}
	if _, err := guard.Program(path); err == nil {
		t.Error("a check of a program that is not there")
	}
}

func TestMemory(t *testing.T) {
	const sound = "00400000-00500000 r-xp 00000000 08:01 1 /bin/x\nc000000000-c000400000 rw-p 00000000 00:00 0\n"
	if err := guard.Memory(file(t, sound)).Check(); err != nil {
		t.Error(err)
	}
	if guard.Memory(file(t, sound+"7f0000-7f1000 rwxp 00000000 00:00 0\n")).Check() == nil {
		t.Error("memory that is writable and executable passes")
	}
	if guard.Memory("/nonexistent").Check() == nil {
		t.Error("unreadable maps pass")
	}
	if err := guard.Memory("/proc/self/maps").Check(); err != nil {
		t.Errorf("this test: %v", err)
	}
}

func TestBoot(t *testing.T) {
	image := identity.Sum([]byte("image"))
	if err := guard.Boot(image, append([]byte("log"), image[:]...)).Check(); err != nil {
		t.Error(err)
	}
	if guard.Boot(image, []byte("log")).Check() == nil {
		t.Error("an image that was not measured passes")
	}
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := guard.NewPulse("link", time.Minute)
		pass(59 * time.Second)
		if err := p.Check(); err != nil {
			t.Error(err)
		}
		p.Beat()
		pass(59 * time.Second)
		if err := p.Check(); err != nil {
			t.Error(err)
		}
		pass(2 * time.Second)
		if p.Check() == nil {
			t.Error("a silent link passes")
		}
	})
}

func TestTraced(t *testing.T) {
	if guard.Traced(file(t, "Name:\tx\nTracerPid:\t0\n")) || !guard.Traced(file(t, "TracerPid:\t77\n")) || guard.Traced("/nonexistent") {
		t.Error("tracer")
	}
}
