package stream_test

import (
	"testing"

	"holdfast/fault"
	"holdfast/hub/stream"
	"holdfast/iothub"
)

// A reader that was away for longer than messages are kept is told.
func TestCheckFindsGaps(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir(), MaxBytes: 16 << 20})
	store(t, s, message("pump-01", 1))
	_, at := read(t, s, stream.Query{})
	if err := s.Check(t.Context(), at[0]); err != nil {
		t.Fatal(err)
	}
	big := message("pump-01", 2)
	big.Body = make([]byte, 512<<10)
	for range 48 { // one group each: more than is kept
		store(t, s, big)
	}
	if err := s.Check(t.Context(), at[0]); fault.Of(err) != fault.NotFound {
		t.Errorf("after the first was dropped: %v", err)
	}
	_, now := read(t, s, stream.Query{})
	for name, tc := range map[string]struct {
		at   stream.Position
		want fault.Kind
	}{
		"the last":      {now[len(now)-1], ""},
		"from anew":     {stream.Position{}, ""},
		"not given out": {stream.Position{Group: now[len(now)-1].Group + 1}, fault.Invalid},
	} {
		if err := s.Check(t.Context(), tc.at); (err != nil) != (tc.want != "") || err != nil && fault.Of(err) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Only events of the hub itself are of no device.
func TestOnlyEventsOfTheHubMayBeOfNoDevice(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir()})
	m := message("pump-01", 1)
	m.Device = ""
	if err := added(s, m); fault.Of(err) != fault.Invalid {
		t.Errorf("telemetry: %v", err)
	}
	for _, kind := range []iothub.Kind{iothub.Security, iothub.Lifecycle} {
		m.Kind = kind
		store(t, s, m)
		if got, _ := read(t, s, stream.Query{Kind: kind}); len(got) != 1 || got[0].Device != "" {
			t.Errorf("%s: %+v", kind, got)
		}
	}
}
