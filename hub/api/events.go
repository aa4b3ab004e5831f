package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// writeTimeout is how long a client may take for one event.
const writeTimeout = 30 * time.Second

// registerEvents serves stored messages as NDJSON, one operator.Event a line.
func (a *api) registerEvents(h huma.API) {
	type query struct {
		Device string    `query:"device" doc:"only this device"`
		Kind   string    `query:"kind" enum:"telemetry,log,twin,feedback,lifecycle,security" doc:"only this kind"`
		Since  time.Time `query:"since" doc:"only messages taken at or after this time"`
		After  string    `query:"after" doc:"only what follows the message with this id"`
		Last   string    `header:"Last-Event-ID" doc:"the same as after, which it gives way to"`
		Follow bool      `query:"follow" doc:"go on with new messages until the client leaves"`
	}
	o := op("read-events", http.MethodGet, "/v1/events", "Read stored messages")
	o.Responses = map[string]*huma.Response{"200": {
		Description: "One Event a line.",
		Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[operator.Event](), true, "Event")}},
	}}
	huma.Register(h, o, func(ctx context.Context, in *query) (*huma.StreamResponse, error) {
		q := operator.EventQuery{Device: identity.Device(in.Device), Kind: in.Kind, Since: in.Since, After: cmp.Or(in.After, in.Last), Follow: in.Follow}
		if in.Device != "" {
			if _, err := identity.ParseDevice(in.Device); err != nil {
				return nil, a.refuse(fault.New(fault.Invalid, "%w", err))
			}
		}
		if err := a.Events.Check(ctx, q); err != nil {
			return nil, a.refuse(err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := humago.Unwrap(hc)
			w.Header().Set("Content-Type", "application/x-ndjson")
			a.stream(hc.Context(), w, q)
		}}, nil
	})
}

// stream writes events until there are no more, the client leaves or, without
// follow, the stored ones have been written. An error in the middle ends the
// connection, so that the client does not take a part for the whole.
func (a *api) stream(ctx context.Context, w http.ResponseWriter, q operator.EventQuery) {
	enc := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	if q.Follow {
		w.WriteHeader(http.StatusOK)
		_ = flush.Flush()
	}
	extend := func() { _ = flush.SetWriteDeadline(time.Now().Add(writeTimeout)) } // per message: a stream has no end
	err := a.Events.Read(ctx, q, func(id string, m iothub.Message) error {
		extend()
		if err := enc.Encode(event(id, m)); err != nil {
			return err
		}
		if q.Follow {
			return flush.Flush()
		}
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		a.Log.ErrorContext(ctx, "read events", "err", err)
		panic(http.ErrAbortHandler)
	}
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
