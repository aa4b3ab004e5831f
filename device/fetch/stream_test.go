package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/device/fetch"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/release"
)

// hub serves content by path, and misbehaves as it is told to.
type hub struct {
	t       *testing.T
	content map[string][]byte
	tag     string // of everything; "": the digest
	plain   bool   // makes no ranges
	rate    int    // bytes per second; 0: as fast as they are read
	cut     int    // bytes after which each connection breaks; 0: never
	dial    func() error
	answer  func(path string, h http.Header) (*http.Response, error) // if set and not nil, nil

	mu       sync.Mutex
	requests []string
	open     int
}

func (h *hub) asked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.requests...)
}

type conn struct {
	h   *hub
	ctx context.Context
}

func (h *hub) connect(ctx context.Context) (fetch.Conn, error) {
	if h.dial != nil {
		if err := h.dial(); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open++
	return &conn{h, ctx}, nil
}

func (c *conn) Close() error {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.open--
	return nil
}

// Get answers as net/http's file server does.
func (c *conn) Get(_ context.Context, path string, header http.Header) (*http.Response, error) {
	h := c.h
	h.mu.Lock()
	h.requests = append(h.requests, strings.TrimSpace(path+" "+header.Get("Range")))
	h.mu.Unlock()
	if h.answer != nil {
		if resp, err := h.answer(path, header); resp != nil || err != nil {
			return resp, err
		}
	}
	content, ok := h.content[path]
	if !ok {
		return nil, fault.New(fault.NotFound, "the hub answers 404")
	}
	tag := h.tag
	if tag == "" {
		tag = identity.Sum(content).String()
	}
	from, whole := 0, len(content)
	resp := &http.Response{StatusCode: 200, Header: http.Header{"Etag": {strconv.Quote(tag)}}}
	if span := header.Get("Range"); span != "" && !h.plain && header.Get("If-Range") == strconv.Quote(tag) {
		if _, err := fmt.Sscanf(span, "bytes=%d-", &from); err != nil {
			h.t.Errorf("range %q: %v", span, err)
		}
		resp.StatusCode = 206
		resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, whole-1, whole))
	}
	resp.ContentLength = int64(whole - from)
	resp.Body = io.NopCloser(&wire{conn: c, left: content[from:], cut: h.cut})
	return resp, nil
}

// wire brings bytes as slowly as its hub is told, and breaks where it is.
type wire struct {
	*conn
	left []byte
	sent int
	cut  int
}

func (w *wire) Read(p []byte) (int, error) {
	if w.cut > 0 && w.sent >= w.cut {
		return 0, io.ErrUnexpectedEOF
	}
	n := min(len(p), len(w.left))
	if w.cut > 0 {
		n = min(n, w.cut-w.sent)
	}
	if w.h.rate > 0 {
		n = min(n, max(1, w.h.rate/10))
		select {
		case <-time.After(time.Duration(n) * time.Second / time.Duration(w.h.rate)):
		case <-w.ctx.Done():
			return 0, errors.New("use of closed connection")
		}
	}
	copy(p, w.left[:n])
	w.left, w.sent = w.left[n:], w.sent+n
	if len(w.left) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// source reads from a hub, and keeps the troubles.
type source struct {
	*fetch.Source
	troubles *[]error
}

func (s source) trouble(err error) { *s.troubles = append(*s.troubles, err) }

func (s source) Blob(ctx context.Context, b release.Blob, from int64) *fetch.Stream {
	return s.Source.Blob(ctx, b, from, s.trouble)
}

func (s source) Delta(ctx context.Context, from, to release.Blob) (*fetch.Stream, error) {
	return s.Source.Delta(ctx, from, to, s.trouble)
}

func client(t *testing.T, h *hub) (source, *[]error) {
	t.Helper()
	h.t = t
	c, err := fetch.New(fetch.Config{Dial: h.connect})
	if err != nil {
		t.Fatal(err)
	}
	s := source{c, new([]error)}
	return s, s.troubles
}

func blob(content []byte) release.Blob {
	return release.Blob{Length: int64(len(content)), SHA256: identity.Sum(content)}
}

func at(b release.Blob) string { return "/repository/blobs/" + b.SHA256.String() }

var image = bytes.Repeat([]byte("firmware"), 30<<10)

// finish reads a stream to its end and closes it.
func finish(t *testing.T, h *hub, s *fetch.Stream) ([]byte, error) {
	t.Helper()
	got, err := io.ReadAll(s)
	_ = s.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open != 0 {
		t.Errorf("%d connections are still open", h.open)
	}
	return got, err
}

func TestBlobArrives(t *testing.T) {
	for name, h := range map[string]*hub{
		"at once": {}, "in pieces": {cut: 100_000}, "in small pieces": {cut: 31 << 10},
		"in pieces without ranges":   {cut: 200_000, plain: true},
		"as slowly as it is allowed": {rate: 1100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if h.plain { // it has to come further each time
					h.answer = func(string, http.Header) (*http.Response, error) { h.cut += 50_000; return nil, nil }
				}
				h.content = map[string][]byte{at(blob(image)): image}
				c, _ := client(t, h)
				got, err := finish(t, h, c.Blob(t.Context(), blob(image), 0))
				if err != nil || !bytes.Equal(got, image) {
					t.Errorf("%d of %d bytes, %v", len(got), len(image), err)
				}
			})
		})
	}
}

func TestBlobGoesOnWhereItEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{content: map[string][]byte{at(blob(image)): image}, cut: 200_000}
		c, troubles := client(t, h)
		got, err := finish(t, h, c.Blob(t.Context(), blob(image), 1000))
		if err != nil || !bytes.Equal(got, image[1000:]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		want := []string{at(blob(image)) + " bytes=1000-", at(blob(image)) + " bytes=201000-"}
		if asked := h.asked(); len(asked) != 2 || asked[0] != want[0] || asked[1] != want[1] {
			t.Errorf("asked for %q, want %q", asked, want)
		}
		if len(*troubles) != 1 {
			t.Errorf("troubles %v", *troubles)
		}
	})
}

// TestEndlessData: not a byte is read of an answer that is longer than what
// was signed, however it says so.
func TestEndlessData(t *testing.T) {
	b := blob(image)
	for name, resp := range map[string]*http.Response{
		"a longer answer": {StatusCode: 200, ContentLength: b.Length + 1},
		"a longer range": {StatusCode: 206, ContentLength: b.Length + 1,
			Header: http.Header{"Content-Range": {fmt.Sprintf("bytes 0-%d/%d", b.Length, b.Length+1)}}},
	} {
		t.Run(name, func(t *testing.T) {
			resp.Body = io.NopCloser(trap{t})
			h := &hub{answer: func(string, http.Header) (*http.Response, error) { return resp, nil }}
			c, _ := client(t, h)
			got, err := finish(t, h, c.Blob(t.Context(), b, 0))
			if release.AttackOf(err) != release.EndlessData || len(got) != 0 {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	t.Run("a delta as long as the image", func(t *testing.T) {
		h := &hub{answer: func(string, http.Header) (*http.Response, error) {
			return &http.Response{StatusCode: 200, ContentLength: b.Length, Body: io.NopCloser(trap{t})}, nil
		}}
		c, _ := client(t, h)
		if _, err := c.Delta(t.Context(), blob([]byte("old")), b); release.AttackOf(err) != release.EndlessData || !errors.Is(err, fetch.ErrNoDelta) {
			t.Errorf("delta: %v", err)
		}
	})
}

// trap is not to be read.
type trap struct{ t *testing.T }

func (r trap) Read([]byte) (int, error) {
	r.t.Error("read what was to be refused")
	return 0, io.EOF
}

func TestShorterContentIsRefused(t *testing.T) {
	h := &hub{content: map[string][]byte{at(blob(image)): image[1:]}, tag: blob(image).SHA256.String()}
	c, _ := client(t, h)
	if _, err := finish(t, h, c.Blob(t.Context(), blob(image), 0)); release.AttackOf(err) != release.ArbitrarySoftware {
		t.Error(err)
	}
}

// TestSlowRetrieval: a hub that hardly sends anything is left, and asked again
// after longer and longer delays, until whoever waits has enough.
func TestSlowRetrieval(t *testing.T) {
	for name, rate := range map[string]int{"drips": 500, "a byte now and then": 1, "hangs": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &hub{content: map[string][]byte{at(blob(image)): image}, rate: rate}
				if rate == 0 {
					h.answer = func(string, http.Header) (*http.Response, error) {
						ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
						t.Cleanup(cancel)
						return &http.Response{StatusCode: 200, ContentLength: int64(len(image)), Body: io.NopCloser(&silence{ctx})}, nil
					}
				}
				c, troubles := client(t, h)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if rate == 0 {
					h.dial = func() error { return nil }
				}
				_, err := finish(t, h, c.Blob(ctx, blob(image), 0))
				if rate != 500 && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("ended with %v", err)
				}
				if n := len(h.asked()); n < 5 || n > 120 {
					t.Errorf("asked %d times in an hour", n)
				}
				for _, err := range *troubles {
					if release.AttackOf(err) != release.SlowRetrieval {
						t.Errorf("trouble: %v", err)
					}
				}
				if len(*troubles) < 4 {
					t.Errorf("%d troubles", len(*troubles))
				}
			})
		})
	}
}

// silence says nothing until a window is over.
type silence struct{ ctx context.Context }

func (s *silence) Read([]byte) (int, error) {
	select {
	case <-s.ctx.Done():
	case <-time.After(31 * time.Second):
	}
	return 0, errors.New("use of closed connection")
}

// TestBlobChangesBetweenReads: content under another tag is refused when it
// shows, without a byte of it. Content that changes under its tag is found by
// its digest; see package updater.
func TestBlobChangesBetweenReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{content: map[string][]byte{at(blob(image)): image}, cut: 100_000}
		h.answer = func(_ string, header http.Header) (*http.Response, error) {
			if header.Get("Range") == "" {
				return nil, nil
			}
			return &http.Response{StatusCode: 200, ContentLength: int64(len(image)), Header: http.Header{"Etag": {`"other"`}},
				Body: io.NopCloser(trap{t})}, nil
		}
		c, _ := client(t, h)
		got, err := finish(t, h, c.Blob(t.Context(), blob(image), 0))
		if release.AttackOf(err) != release.ArbitrarySoftware || len(got) != 100_000 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func TestRangesThatWereNotAskedForAreNotTaken(t *testing.T) {
	n := len(image)
	for _, text := range []string{"", "bytes", "bytes 0-", fmt.Sprintf("bytes 1-%d/%d", n-1, n), fmt.Sprintf("bytes 0-%d/%d", n-2, n),
		fmt.Sprintf("bytes 0-%d/*", n-1), fmt.Sprintf("bytes -0-%d/%d", n-1, n), fmt.Sprintf("octets 0-%d/%d", n-1, n)} {
		synctest.Test(t, func(t *testing.T) {
			h := &hub{answer: func(string, http.Header) (*http.Response, error) {
				return &http.Response{StatusCode: 206, ContentLength: int64(n), Header: http.Header{"Content-Range": {text}}, Body: io.NopCloser(trap{t})}, nil
			}}
			c, troubles := client(t, h)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if got, err := finish(t, h, c.Blob(ctx, blob(image), 0)); err == nil || len(got) != 0 || len(*troubles) == 0 {
				t.Errorf("%q: %d bytes, %v", text, len(got), err)
			}
		})
	}
}

func TestBlobThatIsGone(t *testing.T) {
	h := &hub{}
	c, troubles := client(t, h)
	if _, err := finish(t, h, c.Blob(t.Context(), blob(image), 0)); fault.Of(err) != fault.NotFound || len(*troubles) != 0 {
		t.Error(err)
	}
}

func TestDelta(t *testing.T) {
	old, patch := blob([]byte("old image")), bytes.Repeat([]byte("patch"), 20<<10)
	path := "/repository/deltas/" + old.SHA256.String() + "/" + blob(image).SHA256.String()
	synctest.Test(t, func(t *testing.T) {
		h := &hub{content: map[string][]byte{path: patch}, cut: 50_000}
		c, _ := client(t, h)
		s, err := c.Delta(t.Context(), old, blob(image))
		if err != nil || s.Length() != int64(len(patch)) {
			t.Fatal(err)
		}
		if got, err := finish(t, h, s); err != nil || !bytes.Equal(got, patch) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := &hub{content: map[string][]byte{path: patch}}
		busy := 0
		h.answer = func(string, http.Header) (*http.Response, error) {
			if busy++; busy < 3 {
				return nil, &later{fault.New(fault.Unavailable, "it is being made")}
			}
			return nil, nil
		}
		c, _ := client(t, h)
		begin := time.Now()
		s, err := c.Delta(t.Context(), old, blob(image))
		if err != nil || time.Since(begin) < 20*time.Second {
			t.Fatalf("after %v: %v", time.Since(begin), err)
		}
		_ = s.Close()
		busy = -1000
		if _, err := c.Delta(t.Context(), old, blob(image)); !errors.Is(err, fetch.ErrNoDelta) {
			t.Error(err)
		}
	})
	h := &hub{}
	c, _ := client(t, h)
	if _, err := c.Delta(t.Context(), old, blob(image)); !errors.Is(err, fetch.ErrNoDelta) {
		t.Error(err)
	}
}

type later struct{ error }

func (later) RetryAfter() time.Duration { return 10 * time.Second }

// FuzzContentRange reads what a hub says of a range.
func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes 0-0/1")
	f.Add("bytes -1--1/-1")
	f.Fuzz(func(t *testing.T, text string) {
		begin, total, err := fetch.ContentRange(text)
		if err == nil && (begin < 0 || total <= begin) {
			t.Errorf("%q became %d of %d", text, begin, total)
		}
	})
}
