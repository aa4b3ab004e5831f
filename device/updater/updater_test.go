package updater_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/device/updater"
	"holdfast/fault"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/update"
)

func TestUpdateIsTriedCommittedAndBurned(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.offered(w.offer(version(4)))
		if len(w.resets) != 1 || w.minimum != 1 {
			t.Fatalf("resets %v, minimum %d; %+v", w.resets, w.minimum, w.told())
		}
		d = w.boot(d, "requested")
		w.pass(time.Minute)
		if w.runs() != version(4) || w.minimum != 2 || w.record.Active != update.B || w.record.Trial != nil {
			t.Errorf("runs %s, minimum %d, record %+v", w.runs(), w.minimum, w.record)
		}
		var states []release.State
		for _, p := range w.told() {
			states = append(states, p.State)
		}
		want := []release.State{release.Downloading, release.Verifying, release.Staged, release.Trying, release.Confirming, release.Committed}
		states = slices.Compact(states)
		if len(states) < 4 || states[0] != release.Downloading || states[len(states)-1] != release.Committed {
			t.Errorf("states %v, want about %v", states, want)
		}
		p := w.last()
		if !p.Final || p.Rollout != "r1" || p.Version != version(4) || p.Reason != "" {
			t.Errorf("last report %+v", p)
		}
		if s := d.Status(); s.Minimum != 2 || s.Running != version(4) || s.Progress.State != release.Committed {
			t.Errorf("status %+v", s)
		}
	})
}

func TestUnhealthyTrialReverts(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.healthy[release.CheckHub] = errors.New("no session")
		w.offered(w.offer(version(4)))
		d = w.boot(d, "requested")
		w.pass(9 * time.Minute)
		if w.minimum != 1 || len(w.resets) != 1 {
			t.Fatalf("minimum %d, resets %v", w.minimum, w.resets)
		}
		w.pass(90 * time.Second) // its deadline is ten minutes after the boot
		if len(w.resets) != 2 {
			t.Fatalf("resets %v", w.resets)
		}
		d = w.boot(d, "requested")
		w.pass(time.Minute)
		p := w.last()
		if w.runs() != version(3) || !p.Final || p.State != release.Reverting || !strings.Contains(p.Reason, "hub: no session") || p.Reset != "requested" {
			t.Errorf("runs %s, %+v", w.runs(), p)
		}
		w.healthy[release.CheckHub] = nil
		n := len(w.asked)
		w.offered(w.offer(version(4)))
		if len(w.asked) != n || !w.last().Final || w.last().State != release.Reverting {
			t.Errorf("the same attempt was made again: %v, %+v", w.asked[n:], w.last())
		}
		w.offered(strings.Replace(w.offer(version(4)), `"unpaused"`, `"attempt":1,"unpaused"`, 1))
		w.boot(d, "requested")
		w.pass(time.Minute)
		if w.runs() != version(4) || w.minimum != 2 {
			t.Errorf("another attempt: runs %s, minimum %d", w.runs(), w.minimum)
		}
	})
}

func TestTrialThatHangsIsReportedAfterwards(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.offered(w.offer(version(4)))
		w.healthy[release.CheckHub] = errors.New("no session")
		d = w.boot(d, "requested")
		w.boot(d, "watchdog")
		w.pass(time.Minute)
		if p := w.last(); w.runs() != version(3) || !p.Final || p.State != release.Reverting || p.Reset != "watchdog" || p.Reason == "" {
			t.Errorf("runs %s, %+v", w.runs(), p)
		}
	})
}

func TestCutAfterTheCommitBurnsAtTheNextStart(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.offered(w.offer(version(4)))
		w.crash = func(a update.Action) error {
			if a == update.ClearTrial || a == update.BurnCounter {
				return errors.New("power is gone")
			}
			return nil
		}
		d = w.boot(d, "requested")
		w.pass(time.Minute)
		if w.minimum != 1 {
			t.Fatalf("minimum %d", w.minimum)
		}
		w.crash = nil
		w.boot(d, "power-on")
		w.pass(time.Minute)
		if w.runs() != version(4) || w.minimum != 2 || w.last().State != release.Committed {
			t.Errorf("runs %s, minimum %d, %+v", w.runs(), w.minimum, w.last())
		}
	})
}

func TestDownloadGoesOnAfterARestart(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.slow = make(chan struct{})
		w.publish(version(4), 2)
		w.offers <- []byte(w.offer(version(4)))
		synctest.Wait()
		d.stop()
		w.slow = nil
		// More than a megabyte has to be there for a restart to save anything.
		if got := len(w.slots[update.B]); got < 500<<10 {
			t.Fatalf("%d bytes came", got)
		}
		d = w.start()
		w.pass(20 * time.Second)
		w.boot(d, "requested")
		w.pass(time.Minute)
		if w.runs() != version(4) {
			t.Errorf("runs %s, %v", w.runs(), w.asked)
		}
	})
}

func TestSlotThatChangedOverARestartIsWrittenAnew(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		image := firmware(version(4), 2)
		w.slow = make(chan struct{})
		w.offers <- []byte(w.offer(version(4)))
		synctest.Wait()
		d.stop()
		w.slow = nil
		// The power went after more was noted than the slot has kept.
		damaged := slices.Clone(image[:1<<20])
		damaged[4711] ^= 1
		w.slots[update.B] = damaged
		w.state(t, `"bytes":1048576`)
		d = w.start()
		w.pass(20 * time.Second)
		w.boot(d, "requested")
		w.pass(time.Minute)
		if want := []string{"blob from 1048576", "write from 0", "blob from 0"}; w.runs() != version(4) || !cmp.Equal(want, w.asked[len(w.asked)-3:]) {
			t.Errorf("runs %s, %q", w.runs(), w.asked)
		}
	})
}

func TestDeltaIsTakenWhereItIsSmaller(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		patch := w.makeDelta(version(3), version(4))
		w.offered(w.offer(version(4)))
		if !cmp.Equal(w.asked, []string{"delta", "write from 0"}) || len(w.resets) != 1 {
			t.Errorf("asked for %q, resets %v", w.asked, w.resets)
		}
		w.boot(d, "requested")
		w.pass(time.Minute)
		if w.runs() != version(4) || len(patch) > 100<<10 {
			t.Errorf("runs %s after a delta of %d bytes", w.runs(), len(patch))
		}
	})
}

func TestDeltaThatFailsIsReplacedByTheImage(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"damaged":      func(b []byte) []byte { b = slices.Clone(b); b[len(b)/2] ^= 0x55; return b },
		"cut off":      func(b []byte) []byte { return b[:len(b)-3] },
		"goes on":      func(b []byte) []byte { return append(slices.Clone(b), 0) },
		"no delta":     func([]byte) []byte { return []byte("<html>") },
		"as the image": func([]byte) []byte { return firmware(version(4), 2) },
	} {
		t.Run(name, func(t *testing.T) {
			do(t, func(t *testing.T, w *world, d *device) {
				b := w.makeDelta(version(3), version(4))
				w.deltas[w.releases[version(4)].Image.SHA256] = spoil(b)
				w.offered(w.offer(version(4)))
				if !slices.Contains(w.asked, "blob from 0") || len(w.resets) != 1 {
					t.Errorf("asked for %q, resets %v, %+v", w.asked, w.resets, w.last())
				}
				w.boot(d, "requested")
				w.pass(time.Minute)
				if w.runs() != version(4) {
					t.Errorf("runs %s", w.runs())
				}
			})
		})
	}
}

func TestPauseAndResume(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		paused := strings.Replace(w.offer(version(4)), "true", "false", 1)
		w.offered(paused)
		if len(w.asked) != 0 {
			t.Fatalf("asked for %q while paused", w.asked)
		}
		w.slow = make(chan struct{})
		w.offered(w.offer(version(4)))
		w.offered(paused)
		close(w.slow)
		w.pass(time.Minute)
		if len(w.resets) != 0 {
			t.Fatalf("resets %v while paused", w.resets)
		}
		w.offered(w.offer(version(4)))
		if len(w.resets) != 1 {
			t.Errorf("resets %v, %+v", w.resets, w.last())
		}
	})
}

func TestWindow(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) { // a bubble begins at midnight UTC, 1 January 2000
		w.offered(strings.Replace(w.offer(version(4)), `"unpaused"`, `"windows":[{"from":"02:00","to":"04:00"}],"unpaused"`, 1))
		w.pass(time.Hour)
		if len(w.resets) != 0 || w.last().State != release.Staged {
			t.Fatalf("resets %v, %+v", w.resets, w.last())
		}
		w.pass(time.Hour)
		if len(w.resets) != 1 {
			t.Errorf("resets %v", w.resets)
		}
	})
}

// TestReleaseWithdrawnWhileItWaits: what has waited for its window is looked up
// once more before it is tried.
func TestReleaseWithdrawnWhileItWaits(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.offered(strings.Replace(w.offer(version(4)), `"unpaused"`, `"windows":[{"from":"02:00","to":"04:00"}],"unpaused"`, 1))
		w.mu.Lock()
		r := w.releases[version(4)]
		r.Withdrawn = "it leaks"
		w.releases[version(4)] = r
		w.mu.Unlock()
		w.pass(3 * time.Hour)
		if p := w.last(); len(w.resets) != 0 || p.Attack != release.WithdrawnRelease || !p.Final {
			t.Errorf("resets %v, %+v", w.resets, p)
		}
	})
}

func TestOfferIsTakenBack(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.slow = make(chan struct{})
		w.offered(w.offer(version(4)))
		w.offered("{}")
		close(w.slow)
		w.pass(time.Minute)
		if len(w.resets) != 0 {
			t.Errorf("resets %v", w.resets)
		}
	})
}

// TestReportsWaitForASession: what happened without a session is told in the
// next one, and what the hub does not take is not told for ever.
func TestReportsWaitForASession(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.mu.Lock()
		w.refuse = fault.New(fault.Unavailable, "disk full")
		w.mu.Unlock()
		w.offered(w.offer(version(9)))
		w.mu.Lock()
		w.refuse = nil
		w.mu.Unlock()
		w.pass(2 * time.Minute)
		if p := w.last(); !p.Final || p.Attack != release.ArbitrarySoftware {
			t.Errorf("%+v", p)
		}
		w.mu.Lock()
		w.refuse = fault.New(fault.Invalid, "no such rollout")
		w.mu.Unlock()
		w.offered(w.offer(version(8)))
		w.mu.Lock()
		w.refuse = nil
		w.mu.Unlock()
		w.offered(w.offer(version(7)))
		if p := w.last(); p.Version != version(7) || len(w.told()) != 2 {
			t.Errorf("%+v", w.told())
		}
	})
}

// TestHubWithoutGoodMetadata: the hub is told why, once, and asked again.
func TestHubWithoutGoodMetadata(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		asked := 0
		w.mu.Lock()
		w.refresh = func() error {
			asked++
			return release.Refuse(release.IndefiniteFreeze, errors.New("timestamp.json expired yesterday"))
		}
		w.mu.Unlock()
		w.offers <- []byte(w.offer(version(4)))
		w.pass(time.Hour)
		if p := w.last(); p.Attack != release.IndefiniteFreeze || p.Final || p.Version != version(4) || len(w.told()) != 1 || asked < 5 || asked > 60 {
			t.Errorf("asked %d times, told %+v", asked, w.told())
		}
		w.mu.Lock()
		w.refresh = nil
		w.mu.Unlock()
		w.pass(time.Hour)
		if len(w.resets) != 1 {
			t.Errorf("resets %v, %+v", w.resets, w.told())
		}
	})
}

func TestCounterMissingMeansNoUpdates(t *testing.T) {
	w := newWorld(t)
	w.counter = errors.New("the security counter is missing")
	_, err := updater.New(updater.Config{Path: w.path, Product: "pump", Slots: w, Metadata: catalogue{w}, Source: w, Clock: w.now,
		Started: time.Now(), Log: discard})
	if !errors.Is(err, w.counter) {
		t.Errorf("new: %v", err)
	}
}

func TestUnreadableStateBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.state(t, "")
		w.start()
		w.offered(w.offer(version(4)))
		if len(w.resets) != 1 {
			t.Errorf("resets %v", w.resets)
		}
	})
}

func TestClockThatIsNotKnownOpensNoWindow(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.mu.Lock()
		w.clock = tuf.Clock{Floor: time.Now()}
		w.mu.Unlock()
		w.offered(strings.Replace(w.offer(version(4)), `"unpaused"`, `"windows":[{"from":"00:00","to":"23:59"}],"unpaused"`, 1))
		w.pass(3 * time.Hour)
		if len(w.resets) != 0 || w.last().State != release.Staged {
			t.Errorf("resets %v, %+v", w.resets, w.last())
		}
	})
}

func ExampleParseOffer() {
	o, err := updater.ParseOffer([]byte(`{"rollout":"r1","product":"pump","version":"1.4.0","unpaused":true}`))
	fmt.Println(o.Product, o.Version, err)
	// Output: pump 1.4.0 <nil>
}
