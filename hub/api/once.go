package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/operator"
)

// againHeader names a request, so that it may be sent twice and done once.
const againHeader = "Idempotency-Key"

// The bounds of what is remembered of requests that were answered. An answer
// that is larger than maxAgainAnswer is not remembered: no operation that
// changes something has one.
const (
	againFor       = 10 * time.Minute
	maxAgain       = 4096
	maxAgainKey    = 128
	maxAgainAnswer = 256 << 10
	maxAgainBytes  = 16 << 20
)

// memory remembers answers for againFor, and forgets the oldest first.
type memory struct {
	mu      sync.Mutex
	answers map[askedAs]*answered
	order   []*answered // by the time they were asked
	bytes   int         // in the bodies of all
}

// askedAs is who asked, with what, and under which name: an answer may hold a
// secret that is not for a lesser credential of the same account.
type askedAs struct {
	who        string
	via        operator.Via
	credential string
	key        string
}

// answered is a request that was asked, and once done is closed its answer.
type answered struct {
	as     askedAs
	what   [sha256.Size]byte // method, path and body
	at     time.Time
	done   chan struct{}
	kept   bool // it has an answer; otherwise whoever waits asks again
	status int
	header http.Header
	body   []byte
}

func newMemory() *memory { return &memory{answers: map[askedAs]*answered{}} }

// once answers a POST that says its name and was answered before as it was
// answered then. While the first is on its way the second waits for it.
func (a *api) once(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys := r.Header.Values(againHeader)
		if r.Method != http.MethodPost || len(keys) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if len(keys) != 1 || !goodKey(keys[0]) {
			a.problem(r.Context(), w, huma.Error400BadRequest(againHeader+": want one of 1 to 128 letters, digits and signs"))
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			a.problem(r.Context(), w, huma.NewError(http.StatusRequestEntityTooLarge, "the body is too large or broken"))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		what := sha256.Sum256(append([]byte(r.Method+" "+r.URL.RequestURI()+"\n"), body...))
		p := operator.From(r.Context())
		a.replay(w, r, next, askedAs{p.Name, p.Via, p.Credential, keys[0]}, what)
	})
}

func goodKey(s string) bool {
	return s != "" && len(s) <= maxAgainKey && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// replay answers r as before, or as the first of its name.
func (a *api) replay(w http.ResponseWriter, r *http.Request, next http.Handler, as askedAs, what [sha256.Size]byte) {
	for {
		e, first := a.again.enter(as, what, time.Now())
		switch {
		case e.what != what:
			a.problem(r.Context(), w, huma.Error422UnprocessableEntity("another request had this name", &huma.ErrorDetail{Location: "header." + againHeader, Message: "names one request alone"}))
			return
		case first:
			rec := &recorder{ResponseWriter: w, status: http.StatusOK}
			defer func() { a.again.leave(e, rec) }() // also when the handler panics
			next.ServeHTTP(rec, r)
			rec.complete = true
			return
		}
		if !e.wait(r.Context()) {
			return
		}
		if e.kept {
			for k, vs := range e.header {
				w.Header()[k] = vs
			}
			w.WriteHeader(e.status)
			_, _ = w.Write(e.body) // who asked may be gone
			return
		}
	}
}

func (e *answered) wait(ctx context.Context) bool {
	select {
	case <-e.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// enter returns what is remembered under a name, or a new entry, which the
// caller has to leave.
func (m *memory) enter(as askedAs, what [sha256.Size]byte, now time.Time) (e *answered, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(now)
	if e, ok := m.answers[as]; ok {
		return e, false
	}
	e = &answered{as: as, what: what, at: now, done: make(chan struct{})}
	m.answers[as] = e
	m.order = append(m.order, e)
	return e, true
}

// forget drops what is too old, and the oldest of what is too much.
func (m *memory) forget(now time.Time) {
	n := 0
	for n < len(m.order) && (now.Sub(m.order[n].at) > againFor || len(m.order)-n >= maxAgain || m.bytes > maxAgainBytes) {
		m.drop(m.order[n])
		n++
	}
	m.order = append(m.order[:0:0], m.order[n:]...)
}

func (m *memory) drop(e *answered) {
	if m.answers[e.as] == e {
		delete(m.answers, e.as)
	}
	m.bytes -= len(e.body)
}

// leave keeps the answer that rec saw. A failure of the hub's own, or an answer
// that was not finished, is not kept: it is worth another try.
func (m *memory) leave(e *answered, rec *recorder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer close(e.done)
	remembered := m.answers[e.as] == e // it may have been forgotten meanwhile
	if !rec.complete || rec.status >= 500 || rec.body.Len() > maxAgainAnswer {
		if remembered {
			delete(m.answers, e.as)
		}
		return
	}
	e.kept, e.status, e.header = true, rec.status, rec.Header().Clone()
	e.header.Del(operator.HeadHeader) // each answer has its own
	e.body = rec.body.Bytes()
	if remembered {
		m.bytes += len(e.body)
	}
}

// recorder remembers what it passes on.
type recorder struct {
	http.ResponseWriter
	status   int
	body     bytes.Buffer
	complete bool
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.body.Len() <= maxAgainAnswer {
		r.body.Write(b)
	}
	return r.ResponseWriter.Write(b)
}
