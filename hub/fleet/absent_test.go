package fleet_test

import (
	"testing"
	"time"

	"holdfast/identity"
)

// TestAbsentIsWhoWasHereAndIsNot holds what Absent says against what Device says
// of each.
func TestAbsentIsWhoWasHereAndIsNot(t *testing.T) {
	c := newCrowd(t, 11)
	for range 400 {
		c.happen()
	}
	got := map[identity.Device]time.Time{}
	c.must(c.Absent(t.Context(), func(id identity.Device, seen time.Time) { got[id] = seen }))
	absent := 0
	for _, id := range c.ids {
		d, err := c.Device(t.Context(), id)
		c.must(err)
		seen, is := got[id]
		if is != (!d.Connected && !d.LastSeen.IsZero()) || is && !seen.Equal(d.LastSeen) {
			t.Errorf("%s: connected %v, last seen %s; absent %v since %s", id, d.Connected, d.LastSeen, is, seen)
		}
		if is {
			absent++
		}
	}
	if absent == 0 || absent == len(c.ids) {
		t.Fatalf("%d of %d are absent: this shows nothing", absent, len(c.ids))
	}
}
