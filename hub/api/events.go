package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// writeTimeout is how long a client may take for one event.
const writeTimeout = 30 * time.Second

// What happens on a stream that goes on and on.
const (
	heartbeat = 15 * time.Second // a comment, so that nobody on the way takes it for dead
	resight   = 30 * time.Second // devices may have changed their group
)

// sse is the media type of server-sent events (HTML Living Standard, section 9.2).
const sse = "text/event-stream"

// registerEvents serves stored messages: as NDJSON, one operator.Event a line,
// or to browsers as server-sent events.
func (a *api) registerEvents(h huma.API) {
	type query struct {
		Device identity.Device `query:"device" doc:"only this device"`
		Kind   string          `query:"kind" enum:"telemetry,log,twin,feedback,lifecycle,security" doc:"only this kind"`
		Since  time.Time       `query:"since" doc:"only messages taken at or after this time"`
		After  string          `query:"after" maxLength:"128" doc:"only what follows the message with this id"`
		Last   string          `header:"Last-Event-ID" maxLength:"128" doc:"the same as after, which it gives way to"`
		Follow bool            `query:"follow" doc:"go on with new messages until the client leaves"`
		Accept string          `header:"Accept" doc:"with text/event-stream: server-sent events, which follow, and begin now where nothing says from when on"`
	}
	o := op("read-events", http.MethodGet, "/v1/events", "Read stored messages")
	one := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[operator.Event](), true, "Event")
	o.Responses = map[string]*huma.Response{"200": {
		Description: "One Event a line; or server-sent events, each with an Event as its data and that one's id as its own.",
		Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: one}, sse: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	register(a, h, o, func(ctx context.Context, in *query) (*huma.StreamResponse, error) {
		q := operator.EventQuery{Device: in.Device, Kind: in.Kind, Since: in.Since, After: cmp.Or(in.After, in.Last), Follow: in.Follow}
		live := strings.Contains(in.Accept, sse)
		if live {
			q.Follow = true
			if q.After == "" && q.Since.IsZero() {
				q.Since = time.Now()
			}
		}
		if err := a.Events.Check(ctx, q); err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := unwrap(hc)
			s := &stream{a: a, w: w, flush: http.NewResponseController(w), sight: a.sight(hc.Context()), live: live}
			s.run(hc.Context(), q)
		}}, nil
	})
}

// stream writes events until there are no more, the client leaves or, without
// follow, the stored ones have been written. An error in the middle ends the
// connection, so that the client does not take a part for the whole.
type stream struct {
	a     *api
	w     http.ResponseWriter
	flush *http.ResponseController
	live  bool // as server-sent events

	mu    sync.Mutex // one at a time writes
	sight *sight
}

func (s *stream) run(ctx context.Context, q operator.EventQuery) {
	s.w.Header().Set("Content-Type", "application/x-ndjson")
	if s.live {
		s.w.Header().Set("Content-Type", sse)
	}
	if q.Follow {
		s.w.WriteHeader(http.StatusOK)
		_ = s.flush.Flush()
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	if q.Follow {
		watching.Go(func() {
			defer cancel()
			s.watch(ctx)
		})
	}
	err := s.a.Events.Read(ctx, q, func(id string, m iothub.Message) error { return s.write(ctx, event(id, m), q.Follow) })
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		s.a.Log.ErrorContext(ctx, "read events", "err", err)
		panic(http.ErrAbortHandler)
	}
}

// watch keeps a stream alive until it ends: when whoever asked leaves, or may
// not ask any more, which ends ctx.
func (s *stream) watch(ctx context.Context) {
	beat, again := time.NewTicker(heartbeat), time.NewTicker(resight)
	defer beat.Stop()
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if s.live && s.beat() != nil {
				return
			}
		case <-again.C:
			s.mu.Lock()
			s.sight = s.a.sight(ctx)
			s.mu.Unlock()
		}
	}
}

func (s *stream) beat() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put([]byte(":\n\n"), true)
}

// write writes an event, if it is of a device that whoever asks sees.
func (s *stream) write(ctx context.Context, e operator.Event, now bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen, err := s.sight.device(ctx, e.Device); err != nil || !seen {
		return err
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if s.live {
		return s.put(fmt.Appendf(nil, "id: %s\ndata: %s\n\n", e.ID, line), now)
	}
	return s.put(append(line, '\n'), now)
}

// put writes; a client that does not take it in time is gone.
func (s *stream) put(b []byte, now bool) error {
	_ = s.flush.SetWriteDeadline(time.Now().Add(writeTimeout)) // per message: a stream has no end
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	if !now {
		return nil
	}
	return s.flush.Flush()
}

// event shows a message's body as text where it is text.
func event(id string, m iothub.Message) operator.Event {
	e := operator.Event{ID: id, Device: m.Device, Kind: string(m.Kind), Time: m.Time, Properties: m.Properties, System: m.System}
	if utf8.Valid(m.Body) {
		e.Body = string(m.Body)
	} else {
		e.Base64 = m.Body
	}
	return e
}
