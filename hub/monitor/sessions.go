package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// historyTimeout bounds the search for sessions: what was found until then is
// the answer.
const historyTimeout = 5 * time.Second

// Sessions returns the sessions that a device had, the newest first, as far as
// the stream still has the events that tell of them. They are looked for in
// ever longer times, because the stream has everything that devices sent.
func (m *Monitor) Sessions(ctx context.Context, id identity.Device, limit int) ([]operator.Session, error) {
	d, err := m.cfg.Registry.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = 50
	}
	limit = min(limit, 500)
	bounded, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	var found []operator.Session
	for _, back := range []time.Duration{time.Hour, 24 * time.Hour, 0} {
		since := time.Time{}
		if back > 0 {
			since = m.cfg.Now().Add(-back)
		}
		h := history{}
		err := m.cfg.Events.Lifecycle(bounded, id, since, h.add)
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			break // what was found so far
		}
		if err != nil {
			return nil, err
		}
		if found = h.sessions(d, m.started); len(found) > limit {
			break // the oldest of them may have begun before since
		}
	}
	return found[:min(len(found), limit)], nil
}

// history joins the events of a device's sessions.
type history struct {
	all []operator.Session // in the order in which they began
}

// add takes in an event. One that cannot be read is not of this version.
func (h *history) add(msg iothub.Message) error {
	var c iothub.Connection
	if json.Unmarshal(msg.Body, &c) != nil || c.Session == "" {
		return nil
	}
	i := slices.IndexFunc(h.all, func(s operator.Session) bool { return s.ID == c.Session })
	if i < 0 {
		i = len(h.all)
		h.all = append(h.all, operator.Session{ID: c.Session})
	}
	s := &h.all[i]
	if s.Remote == "" {
		s.Remote = c.Remote
	}
	if c.Cause != "" {
		s.Ended, s.Reason = msg.Time, c.Cause
		return nil
	}
	s.Began, s.Mode = msg.Time, c.Mode
	s.TLS = strings.Join(slices.DeleteFunc([]string{c.TLS, c.Suite, c.Group}, func(t string) bool { return t == "" }), " ")
	return nil
}

// unrecorded is the reason of an end that no event tells of.
const unrecorded = "not recorded: the hub had stopped or could not store it"

// sessions returns the sessions, the newest first. One whose end was not stored
// is open only if it is the newest and the device is here; it had ended no
// later than the next began or the hub started.
func (h *history) sessions(d operator.Device, started time.Time) []operator.Session {
	out := slices.Clone(h.all)
	for i := range out {
		s := &out[i]
		newest := i == len(out)-1
		if !s.Ended.IsZero() || newest && d.Connected && !s.Began.Before(started) {
			continue
		}
		s.Reason = unrecorded
		switch {
		case !newest && !out[i+1].Began.IsZero():
			s.Ended = out[i+1].Began
		case s.Began.Before(started):
			s.Ended = started
		default:
			s.Ended = d.LastSeen
		}
	}
	slices.Reverse(out)
	return out
}
