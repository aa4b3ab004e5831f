package fleet

import (
	"context"
	"maps"

	"holdfast/operator"
)

// stamped is a Store in which each event of an operator's act says from where
// that one came, and via what. It is known only while the act is done: the
// ledger has the event later, perhaps when somebody else asks for something.
type stamped struct{ Store }

func (s stamped) SaveGroup(ctx context.Context, g operator.Group, es []Event) error {
	return s.Store.SaveGroup(ctx, g, stamp(ctx, es))
}

func (s stamped) SaveCA(ctx context.Context, ca operator.CA, es []Event) error {
	return s.Store.SaveCA(ctx, ca, stamp(ctx, es))
}

func (s stamped) AddDevice(ctx context.Context, r Record, es []Event) error {
	return s.Store.AddDevice(ctx, r, stamp(ctx, es))
}

func (s stamped) SaveDevice(ctx context.Context, r Record, es []Event) error {
	return s.Store.SaveDevice(ctx, r, stamp(ctx, es))
}

func (s stamped) SaveArrival(ctx context.Context, a Arrival, es []Event) error {
	return s.Store.SaveArrival(ctx, a, stamp(ctx, es))
}

func (s stamped) AcceptArrival(ctx context.Context, a Arrival, r Record, es []Event) error {
	return s.Store.AcceptArrival(ctx, a, r, stamp(ctx, es))
}

func (s stamped) SaveEvents(ctx context.Context, es []Event) error {
	return s.Store.SaveEvents(ctx, stamp(ctx, es))
}

// stamp adds to the events that are the act of whoever asks where it came from.
func stamp(ctx context.Context, es []Event) []Event {
	p := operator.From(ctx)
	if p.Name == "" {
		return es
	}
	out := make([]Event, len(es))
	for i, e := range es {
		if e.Details["by"] == p.Name {
			e.Details = maps.Clone(e.Details)
			e.Details["from"], e.Details["via"] = p.Remote, string(p.Via)
		}
		out[i] = e
	}
	return out
}
