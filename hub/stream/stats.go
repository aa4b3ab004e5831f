package stream

import (
	"context"
	"slices"
	"time"

	"holdfast/fault"
	"holdfast/internal/tally"
	"holdfast/iothub"
)

// kinds are the kinds of messages that are counted apart.
var kinds = []iothub.Kind{iothub.Telemetry, iothub.Log, iothub.TwinChange, iothub.Feedback, iothub.Lifecycle, iothub.Security}

// What becomes of a message.
const (
	outcomeStored  = "stored"
	outcomeRefused = "refused"
)

// Stats counts what a Stream does.
type Stats struct {
	Messages *tally.Vec       // by kind and outcome: stored or refused
	Commits  *tally.Histogram // how long a group takes to be on disk
	Batch    *tally.Histogram // messages of a group
	Failed   *tally.Vec       // commits that failed; no labels
}

func newStats() *Stats {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return &Stats{
		Messages: tally.NewVec(names, []string{outcomeStored, outcomeRefused}),
		Commits:  tally.NewDurations(tally.Latencies()...),
		Batch:    tally.NewSizes(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, maxGroupMessages),
		Failed:   tally.NewVec(),
	}
}

// Stats returns the counters; they go on counting.
func (s *Stream) Stats() *Stats { return s.stats }

// kindCounts has how many messages of each kind a group holds, and of others.
type kindCounts [7]uint32

func (c *kindCounts) add(k iothub.Kind) {
	i := slices.Index(kinds, k)
	if i < 0 {
		i = len(c) - 1
	}
	c[i]++
}

// committed takes in that a group was tried to be put on disk.
func (s *Stats) committed(g *group, took time.Duration, err error) {
	s.Commits.Took(took)
	s.Batch.Observe(int64(len(g.done)))
	if err != nil {
		s.Failed.Inc()
	}
	s.ended(g, err)
}

// ended counts the messages of a group by what became of them.
func (s *Stats) ended(g *group, err error) {
	outcome := outcomeStored
	if err != nil {
		outcome = outcomeRefused
	}
	for i, n := range g.kinds {
		if n == 0 {
			continue
		}
		kind := tally.Other
		if i < len(kinds) {
			kind = string(kinds[i])
		}
		s.Messages.Add(uint64(n), kind, outcome)
	}
}

// Waiting returns how many bytes of messages wait for the disk, and whether
// messages are refused at present.
func (s *Stream) Waiting() (bytes int, refusing bool) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.queue.bytes, s.queue.refused != nil
}

// State is what a Stream has stored.
type State struct {
	Groups uint64 // that one fsync each has covered
	Bytes  uint64
	First  uint64    // group that is the oldest
	Last   uint64    // and the newest
	Oldest time.Time // when First was stored
}

// State asks the server what is stored. An error of kind fault.Unavailable says
// that it does not answer.
func (s *Stream) State(ctx context.Context) (State, error) {
	js, err := s.reader.Stream(ctx, streamName)
	if err != nil {
		return State{}, fault.Hide(fault.Unavailable, "the hub cannot read messages now", err)
	}
	st := js.CachedInfo().State
	return State{Groups: st.Msgs, Bytes: st.Bytes, First: st.FirstSeq, Last: st.LastSeq, Oldest: st.FirstTime}, nil
}
