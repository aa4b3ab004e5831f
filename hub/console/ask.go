package console

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// problem is a refusal of the API (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
	} `json:"errors"`
}

// Error returns what a person should read.
func (p *problem) Error() string {
	text := p.Detail
	if text == "" {
		text = http.StatusText(p.Status)
	}
	for _, e := range p.Errors {
		text += "; " + strings.TrimSpace(strings.TrimPrefix(e.Location, "body.")+" "+e.Message)
	}
	return text
}

// stepUp reports whether a fresh proof of who asks is all that is missing.
func (p *problem) stepUp() bool { return strings.HasSuffix(p.Type, "/problems/step-up") }

// mistyped is a problem with what was typed, found before the API is asked.
func mistyped(format string, args ...any) error {
	return &problem{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf(format, args...)}
}

// answer is an http.ResponseWriter in memory.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// request is one to the API, in the name of whoever asked for the page.
type request struct {
	method string
	path   string // with its query
	body   any    // JSON; nil: none
	etag   string // If-Match
	accept string // empty: JSON
}

// ask asks the API and reads its answer into out, which may be nil.
func (c *console) ask(r *http.Request, q request, out any) error {
	a, err := c.do(r, q)
	if err != nil {
		return err
	}
	if out == nil || a.body.Len() == 0 {
		return nil
	}
	if err := json.Unmarshal(a.body.Bytes(), out); err != nil {
		return fmt.Errorf("answer of %s %s: %w", q.method, q.path, err)
	}
	return nil
}

// do asks the API; a refusal is a *problem.
func (c *console) do(r *http.Request, q request) (*answer, error) {
	in, err := c.request(r, q)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", q.method, q.path, err)
	}
	a := &answer{header: http.Header{}}
	c.API.ServeHTTP(a, in)
	if a.status < 300 {
		return a, nil
	}
	return nil, a.problem()
}

// problem reads a refusal.
func (a *answer) problem() *problem {
	p := &problem{}
	if json.Unmarshal(a.body.Bytes(), p) != nil || p.Detail == "" && p.Title == "" {
		p = &problem{Detail: http.StatusText(a.status)}
	}
	p.Status = a.status
	return p
}

// request makes the API's request: it comes from where the browser's came from,
// and has its context, which says who asks.
func (c *console) request(r *http.Request, q request) (*http.Request, error) {
	var body bytes.Buffer
	if q.body != nil {
		if err := json.NewEncoder(&body).Encode(q.body); err != nil {
			return nil, err
		}
	}
	in, err := http.NewRequestWithContext(r.Context(), q.method, q.path, &body)
	if err != nil {
		return nil, err
	}
	in.Host, in.RemoteAddr, in.TLS, in.RequestURI = r.Host, r.RemoteAddr, r.TLS, q.path
	in.Header.Set("Accept", cmp.Or(q.accept, "application/json"))
	if once := r.PostFormValue("once"); once != "" && q.method == http.MethodPost {
		in.Header.Set("Idempotency-Key", once) // a form that is sent twice acts once
	}
	if q.body != nil {
		in.Header.Set("Content-Type", "application/json")
	}
	if q.etag != "" {
		in.Header.Set("If-Match", `"`+strings.Trim(q.etag, `"`)+`"`)
	}
	return in, nil
}

// get asks the API for something.
func get[T any](c *console, r *http.Request, path string, query ...string) (T, error) {
	var out T
	return out, c.ask(r, request{method: http.MethodGet, path: path + encode(query)}, &out)
}

// encode makes a query of names and values by turns; empty values are left out.
func encode(pairs []string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// asProblem says how an error is shown: a refusal of the API as it is, anything
// else without its text, which is for the log.
func (c *console) asProblem(ctx context.Context, err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{Status: http.StatusRequestEntityTooLarge, Detail: "The form is too large."}
	}
	c.Log.ErrorContext(ctx, "make a page", "err", err)
	return &problem{Status: http.StatusInternalServerError, Detail: "The hub could not do this; its log says why."}
}
