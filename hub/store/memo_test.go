package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"holdfast/hub/gateway"
	"holdfast/hub/messages"
	"holdfast/hub/store"
	"holdfast/identity"
)

// What was not there when it was last looked for is found once it is.
func TestNothingIsRememberedForTooLong(t *testing.T) {
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	has := func(what string, want bool, look func() (bool, error)) {
		t.Helper()
		for range 2 { // the second one from memory
			if got, err := look(); got != want || err != nil {
				t.Errorf("%s: found %v, want %v: %v", what, got, want, err)
			}
		}
	}
	kept := func() (bool, error) { _, ok, err := s.Sessions().Load(t.Context(), "pump-01"); return ok, err }
	has("session", false, kept)
	if err := s.Sessions().Save(t.Context(), "pump-01", gateway.Kept{Expiry: 60}); err != nil {
		t.Fatal(err)
	}
	has("saved session", true, kept)
	if err := s.Sessions().Drop(t.Context(), "pump-01"); err != nil {
		t.Fatal(err)
	}
	has("dropped session", false, kept)

	waits := func(d identity.Device) func() (bool, error) {
		return func() (bool, error) { ms, err := s.Messages().Queue(t.Context(), d); return len(ms) > 0, err }
	}
	has("message", false, waits("pump-01"))
	has("message", false, waits("pump-02"))
	n, err := s.Messages().Add(t.Context(), messages.Message{Device: "pump-01", Expires: time.Now().Add(time.Hour)}, 3)
	if err != nil {
		t.Fatal(err)
	}
	has("queued message", true, waits("pump-01"))
	has("another's message", false, waits("pump-02"))
	if _, err := s.Messages().Remove(t.Context(), n, nil); err != nil {
		t.Fatal(err)
	}
	has("removed message", false, waits("pump-01"))
}
