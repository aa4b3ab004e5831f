package powercut_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/internal/flash"
	"holdfast/internal/flash/flashtest"
	"holdfast/update"
)

// Make powercut sets them; see the Makefile.
var (
	full = flag.Bool("full", false, "cut every recovery everywhere, instead of a sample of them")
	seed = flag.Uint64("seed", 1, "of what is sampled")
	only = flag.String("cut", "", "replay one cut, by the id that its failure has printed")
)

// limits say how much is tried.
type limits struct {
	subsets int // unsynced writes of which all subsets are tried
	samples int // subsets of more than those
	second  int // one of how many recoveries is cut again, everywhere
	rot     int // one of how many cuts is tried with bit rot too
}

// Tests try each place for a cut, and of the rest a sample.
func chosen() limits {
	if *full {
		return limits{subsets: 6, samples: 32, second: 1, rot: 1}
	}
	return limits{subsets: 1, samples: 1, second: 300, rot: 100}
}

func pair(c *flashtest.Chip) update.Copies { return flash.Pair{Area: c.Areas()[areaRecord]} }

// scenarios are the updates whose power is cut.
func scenarios(t *testing.T) []*scenario {
	return []*scenario{
		newScenario(t, "update", good, 1, 3),
		newScenario(t, "same-counter", good, 2, 2),
		newScenario(t, "two-updates", good, 1, 2, 3),
		newScenario(t, "sick", sick, 1, 2, 3),
		newScenario(t, "hang", hangs, 1, 2, 3),
		newScenario(t, "exit", exits, 1, 1, 2),
	}
}

// explorer tries cuts.
type explorer struct {
	*scenario
	limits
	rand     *rand.Rand
	seen     map[identity.Digest]int // states, and how many more cuts were tried from there
	cuts     int
	lives    int
	failures []string
}

// explore lives from a state on and cuts the power everywhere on the way.
func (x *explorer) explore(from state, id string, depth int) {
	moments, err := x.live(from, depth > 0)
	x.lives++
	if err != nil {
		x.failures = append(x.failures, fmt.Sprintf("%s: %v", id, err))
		return
	}
	for i, m := range moments {
		for _, n := range m.op.Cuts(sector) {
			for _, mask := range x.masks(m.at.Pending()) {
				x.cuts++
				next, again := m.cut(n, mask), depth-1
				key := next.key()
				tried, seen := x.seen[key]
				if seen && tried >= again {
					continue
				}
				x.seen[key] = again
				at := strings.TrimPrefix(fmt.Sprintf("%s/%d.%d.%x", id, i, n, mask), "/")
				if x.rand.IntN(x.second) != 0 {
					again = 0
				}
				x.explore(next, at, again)
				if depth == 2 && x.rand.IntN(x.rot) == 0 {
					x.decay(next, at)
				}
			}
		}
	}
}

// masks are the subsets of n pending operations to try.
func (x *explorer) masks(n int) []uint64 {
	var all []uint64
	if n <= x.subsets {
		for mask := range uint64(1) << n {
			all = append(all, mask)
		}
		return all
	}
	all = append(all, 0, 1<<n-1)
	for range x.samples {
		all = append(all, x.rand.Uint64N(1<<n))
	}
	return all
}

// cut is the state after a cut at a moment.
func (m moment) cut(n int64, mask uint64) state {
	s := m.state
	s.chip = m.at.Cut(func(i int) bool { return mask>>i&1 == 1 }, m.op, n)
	return s
}

// decay lives from a state with a flipped bit in either slot.
func (x *explorer) decay(from state, id string) {
	for slot := range 2 {
		for _, at := range []int64{8, x.rand.Int64N(payload), int64(len(x.releases[0].image)) - 40, slotSize - 1} {
			next := from
			next.chip = from.chip.Snapshot().Cut(nil, flashtest.Op{}, 0)
			next.chip.Areas()[slot].Rot(at, uint(at))
			next.rotten[slot] = true
			x.cuts++
			x.explore(next, fmt.Sprintf("%s/rot.%d.%d", id, slot, at), 0)
		}
	}
}

// replay lives through one cut, by its id.
func (x *explorer) replay(t *testing.T, id string) {
	from := x.begin()
	for _, step := range strings.Split(id, "/") {
		var i, slot int
		var n int64
		var mask uint64
		if _, err := fmt.Sscanf(step, "rot.%d.%d", &slot, &n); err == nil {
			from.chip.Areas()[slot].Rot(n, uint(n))
			from.rotten[slot] = true
			continue
		}
		if _, err := fmt.Sscanf(step, "%d.%d.%x", &i, &n, &mask); err != nil {
			t.Fatalf("cut %q: %v", step, err)
		}
		moments, err := x.live(from, true)
		if err != nil || i >= len(moments) {
			t.Fatalf("before cut %q, which is one of %d: %v", step, len(moments), err)
		}
		for _, m := range moments[max(0, i-3) : i+1] {
			t.Logf("%s", m.what)
		}
		t.Logf("cut after %d bytes; kept of %d not synced: %b", n, moments[i].at.Pending(), mask)
		from = moments[i].cut(n, mask)
		t.Logf("record %+v, counter %d, file %s", update.Load(pair(from.chip)), from.counter, from.saved)
	}
	moments, err := x.live(from, true)
	for _, m := range moments {
		t.Logf("then: %s", m.what)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestPowerCuts cuts the power of whole updates everywhere. It tells how to
// replay what fails.
func TestPowerCuts(t *testing.T) {
	begin, cuts, lives := time.Now(), 0, 0
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			x := &explorer{scenario: s, limits: chosen(), rand: rand.New(rand.NewPCG(*seed, 0)), seen: map[identity.Digest]int{}}
			if *only != "" {
				x.replay(t, *only)
				return
			}
			x.explore(x.begin(), "", 2)
			for _, f := range x.failures[:min(len(x.failures), 10)] {
				id, _, _ := strings.Cut(f, ":")
				t.Errorf("%s\nreplay: make powercut ONLY=%s SEED=%d CUT=%s", f, s.name, *seed, id)
			}
			t.Logf("%d cuts, %d different, %d failed", x.cuts, x.lives, len(x.failures))
			cuts, lives = cuts+x.cuts, lives+x.lives
		})
	}
	if *only == "" {
		t.Logf("%d power cuts tried, %d of them different, seed %d, in %s", cuts, lives, *seed, time.Since(begin).Round(time.Millisecond))
	}
}
