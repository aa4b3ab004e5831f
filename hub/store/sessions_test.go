package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/hub/gateway"
	"holdfast/hub/store"
)

func TestSessions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	v := s.Sessions()
	if _, ok, err := v.Load(t.Context(), "pump-01"); ok || err != nil {
		t.Fatalf("something is kept: %v", err)
	}
	first := gateway.Kept{Subscriptions: []gateway.Subscription{{Filter: "a/#", QoS: 1}}, Expiry: 1<<32 - 1}
	second := gateway.Kept{Subscriptions: []gateway.Subscription{{Filter: "b/#"}}, Expiry: 60, Ended: time.Date(2026, 11, 3, 12, 0, 0, 5, time.UTC)}
	for _, k := range []gateway.Kept{first, second} {
		if err := v.Save(t.Context(), "pump-01", k); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Save(t.Context(), "pump-02", first); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if s, err = store.Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v = s.Sessions()
	got, ok, err := v.Load(t.Context(), "pump-01")
	if diff := cmp.Diff(second, got); diff != "" || !ok || err != nil {
		t.Errorf("%v, %v\n%s", ok, err, diff)
	}
	if err := v.Drop(t.Context(), "pump-01"); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := v.Load(t.Context(), "pump-01"); ok || err != nil {
		t.Errorf("still kept: %v", err)
	}
	if _, ok, _ := v.Load(t.Context(), "pump-02"); !ok {
		t.Error("another device's session was dropped too")
	}
}
