package ratelimit_test

import (
	"strconv"
	"testing"
	"time"

	"holdfast/internal/ratelimit"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestTakeAllowsTheBurstAndThenTheRate(t *testing.T) {
	l := ratelimit.New(ratelimit.Config{Every: time.Second, Burst: 3, Keys: 10})
	for i := range 3 {
		if wait := l.Take("a", start); wait != 0 {
			t.Fatalf("attempt %d waits %s", i, wait)
		}
	}
	if wait := l.Take("a", start); wait != time.Second {
		t.Errorf("beyond the burst: wait %s, want 1s", wait)
	}
	if wait := l.Take("b", start); wait != 0 {
		t.Errorf("another key waits %s", wait)
	}
	if wait := l.Take("a", start.Add(time.Second)); wait != 0 {
		t.Errorf("a second later: wait %s", wait)
	}
	if wait := l.Take("a", start.Add(time.Second)); wait == 0 {
		t.Error("the rate allows two a second")
	}
	l.Return("a")
	if wait := l.Take("a", start.Add(time.Second)); wait != 0 {
		t.Errorf("what was returned cannot be taken: wait %s", wait)
	}
}

// TestStrangersCannotFillTheTable: keys beyond the table share a bucket, and do
// not touch those in it.
func TestStrangersCannotFillTheTable(t *testing.T) {
	l := ratelimit.New(ratelimit.Config{Every: time.Second, Burst: 2, Keys: 3})
	l.Take("known", start)
	for i := range 2 {
		l.Take("early"+strconv.Itoa(i), start)
	}
	var refused int
	for i := range 100 {
		if l.Take("stranger"+strconv.Itoa(i), start) > 0 {
			refused++
		}
	}
	if refused != 98 {
		t.Errorf("%d of 100 strangers were refused, want all but the 2 of the shared bucket", refused)
	}
	if wait := l.Take("known", start); wait != 0 {
		t.Errorf("who was known waits %s", wait)
	}
	if wait := l.Take("stranger", start.Add(time.Minute)); wait != 0 {
		t.Errorf("full buckets still take room: wait %s", wait)
	}
}

func TestOriginOfIPv6IsANetwork(t *testing.T) {
	for _, tt := range []struct{ addr, want string }{
		{"192.0.2.7:1234", "192.0.2.7/32"},
		{"[::ffff:192.0.2.7]:1234", "192.0.2.7/32"},
		{"[2001:db8:1:2:3::4%eth0]:1234", "2001:db8:1:2::/64"},
		{"nowhere", "invalid Prefix"},
	} {
		if got := ratelimit.Origin(tt.addr).String(); got != tt.want {
			t.Errorf("%s is %s, want %s", tt.addr, got, tt.want)
		}
	}
}
