package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"holdfast/logs"
	"holdfast/operator"
)

// Bounds of the events on a page: the newest, of a time before now, read for no
// longer than this.
const (
	maxEvents    = 100
	fewEvents    = 15      // within a device's page
	maxLine      = 1 << 20 // bytes of one event
	eventPatient = 3 * time.Second
)

// windows are the times before now that may be asked for.
var windows = map[string]time.Duration{"15m": 15 * time.Minute, "1h": time.Hour, "24h": 24 * time.Hour, "168h": 7 * 24 * time.Hour}

// eventsView is some events of a device, the newest first.
type eventsView struct {
	Device  string
	Kind    string
	Window  string
	Events  []shownEvent
	Partial bool // there was more than could be read in time
}

// shownEvent is an event, and the log records in it.
type shownEvent struct {
	operator.Event
	Records []logs.Record
}

func (c *console) events(r *http.Request) (page, error) {
	v := eventsView{Device: r.PathValue("id"), Kind: r.URL.Query().Get("kind"), Window: r.URL.Query().Get("window")}
	if windows[v.Window] == 0 {
		v.Window = "1h"
	}
	since := time.Now().Add(-windows[v.Window]).UTC().Format(time.RFC3339)
	ctx, cancel := context.WithTimeout(r.Context(), eventPatient)
	defer cancel()
	in, err := c.request(r.WithContext(ctx), request{method: http.MethodGet,
		path: "/v1/events" + encode([]string{"device", v.Device, "kind", v.Kind, "since", since}), accept: "application/x-ndjson"})
	if err != nil {
		return page{}, err
	}
	w := &newest{answer: answer{header: http.Header{}}, all: v.Kind == "", most: maxEvents}
	if r.URL.Query().Get("few") != "" {
		w.most = fewEvents
	}
	v.Partial = w.read(ctx, c.API, in)
	if w.status >= 300 {
		return page{}, w.problem()
	}
	v.Events = w.shown()
	return page{Data: v}, nil
}

// newest is an http.ResponseWriter that keeps the last lines of an answer.
type newest struct {
	answer
	lines [][]byte
	part  []byte // of the line that is being written
	most  int    // lines
	all   bool   // but for the ledger's records, which a device's page has anyway
}

// read has an API answer; it reports whether the answer was cut off, which the
// API does when the time is over.
func (n *newest) read(ctx context.Context, api http.Handler, r *http.Request) (cut bool) {
	defer func() {
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler {
				panic(v)
			}
			cut = true
		}
		cut = cut || ctx.Err() != nil
	}()
	api.ServeHTTP(n, r)
	return false
}

// Write keeps whole lines, the last of them.
func (n *newest) Write(b []byte) (int, error) {
	n.WriteHeader(http.StatusOK)
	if n.status >= 300 {
		return n.body.Write(b)
	}
	for rest := b; len(rest) > 0; {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		if len(n.part)+len(line) > maxLine {
			return 0, bufio.ErrTooLong
		}
		n.part = append(n.part, line...)
		if whole {
			n.keep(n.part)
			n.part = nil
		}
		rest = more
	}
	return len(b), nil
}

func (n *newest) keep(line []byte) {
	var e struct {
		Kind string `json:"kind"`
	}
	if n.all && json.Unmarshal(line, &e) == nil && e.Kind == "security" {
		return
	}
	if len(n.lines) == n.most {
		n.lines = append(n.lines[:0], n.lines[1:]...)
	}
	n.lines = append(n.lines, line)
}

// shown returns the events, the newest first; a line that is none is left out.
func (n *newest) shown() []shownEvent {
	out := make([]shownEvent, 0, len(n.lines))
	for i := len(n.lines) - 1; i >= 0; i-- {
		var e operator.Event
		if json.Unmarshal(n.lines[i], &e) != nil {
			continue
		}
		s := shownEvent{Event: e}
		if e.Kind == "log" {
			s.Records, _ = logs.Parse([]byte(e.Body)) // what is no shipment is shown as it came
		}
		out = append(out, s)
	}
	return out
}
