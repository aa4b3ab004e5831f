package backoff_test

import (
	"testing"
	"time"

	"holdfast/internal/backoff"
)

var policy = backoff.Policy{Base: time.Second, Cap: time.Minute}

func TestCeilingDoublesUpToTheCap(t *testing.T) {
	want := map[int]time.Duration{-1: time.Second, 0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second,
		6: time.Minute, 63: time.Minute, 5000: time.Minute}
	for attempt, w := range want {
		if got := policy.Ceiling(attempt); got != w {
			t.Errorf("attempt %d: ceiling %v, want %v", attempt, got, w)
		}
	}
}

func TestDelayIsDrawnFromZeroToTheCeiling(t *testing.T) {
	if got := policy.Delay(3, 0); got != 0 {
		t.Errorf("draw 0: %v, want 0", got)
	}
	if got := policy.Delay(3, 0.5); got != 4*time.Second {
		t.Errorf("draw 0.5: %v, want 4s", got)
	}
	for range 1000 {
		b := backoff.New(policy)
		for attempt := range 10 {
			if d := b.Next(); d < 0 || d > policy.Ceiling(attempt) {
				t.Fatalf("attempt %d: delay %v is outside [0, %v]", attempt, d, policy.Ceiling(attempt))
			}
		}
	}
}

func TestResetForgetsFailures(t *testing.T) {
	b := backoff.New(policy)
	for range 20 {
		b.Next()
	}
	b.Reset()
	if d := b.Next(); d > time.Second {
		t.Errorf("first delay after a reset is %v", d)
	}
}
