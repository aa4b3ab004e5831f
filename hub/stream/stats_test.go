package stream_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/hub/stream"
	"holdfast/iothub"
)

func TestStatsCountByKindAndOutcome(t *testing.T) {
	s, _ := start(t, stream.Config{Dir: t.TempDir()})
	results := make(chan error, 8)
	for i, k := range []iothub.Kind{iothub.Telemetry, iothub.Telemetry, iothub.Log, "strange", ""} {
		s.Append(iothub.Message{Device: "d", Kind: k, Time: time.Now(), Body: []byte{byte(i)}}, func(err error) { results <- err })
	}
	for range 5 {
		<-results
	}
	got := map[string]float64{}
	s.Stats().Messages.Each(func(n float64, labels ...string) { got[strings.Join(labels, "/")] = n })
	for key, want := range map[string]float64{"telemetry/stored": 2, "log/stored": 1, "other/stored": 1, "other/refused": 1, "telemetry/refused": 0, "security/stored": 0} {
		if got[key] != want {
			t.Errorf("%s: %v, want %v", key, got[key], want)
		}
	}
	if b := s.Stats().Batch.Snapshot(); b.Sum != 4 || b.Count != s.Stats().Commits.Snapshot().Count || b.Count == 0 {
		t.Errorf("groups have %v messages, in %d of them", b.Sum, b.Count)
	}
	if bytes, refusing := s.Waiting(); bytes != 0 || refusing {
		t.Errorf("%d bytes wait, refusing: %v", bytes, refusing)
	}
	st, err := s.State(t.Context())
	if err != nil || st.Last == 0 || st.Bytes == 0 {
		t.Errorf("%+v, %v", st, err)
	}
}
