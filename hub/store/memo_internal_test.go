package store

import "testing"

// What was read before something was written is not kept: it may be old.
func TestMemoDropsWhatMayBeOld(t *testing.T) {
	var m memo[int, string]
	_, ok, before := m.recall(1)
	if ok {
		t.Fatal("an empty memo knows something")
	}
	m.forget(1)
	m.remember(1, "old", before)
	if v, ok, _ := m.recall(1); ok {
		t.Errorf("it knows %q", v)
	}
	_, _, now := m.recall(1)
	m.remember(1, "new", now)
	if v, ok, _ := m.recall(1); !ok || v != "new" {
		t.Errorf("it knows %q, %v", v, ok)
	}
}

func TestMemoIsBounded(t *testing.T) {
	var m memo[int, int]
	for i := range 3 * maxMemo {
		m.remember(i, i, 0)
	}
	if len(m.known) > maxMemo {
		t.Errorf("%d are remembered", len(m.known))
	}
}
