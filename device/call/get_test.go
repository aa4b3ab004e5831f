package call_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/device/call"
	"holdfast/device/hubtest"
	"holdfast/fault"
	"holdfast/pki"
)

func connect(t *testing.T, h *hubtest.Hub) *call.Conn {
	t.Helper()
	c, err := caller(t, h).Connect(t.Context(), h.Certificate(pki.Birth, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestGetReadsOneAfterTheOther(t *testing.T) {
	h := hubtest.New(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 10<<10)
	remotes := map[string]bool{}
	h.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		remotes[r.RemoteAddr] = true
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		return true
	}
	c := connect(t, h)
	for from := range 3 {
		header := http.Header{}
		if from > 0 {
			header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		}
		resp, err := c.Get(t.Context(), "/repository/blob", header)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, content[from:]) {
			t.Errorf("%d of %d bytes from %d on, %v", len(got), len(content), from, err)
		}
	}
	if len(remotes) != 1 {
		t.Errorf("%d connections, want 1", len(remotes))
	}
}

func TestGetRefuses(t *testing.T) {
	raw := func(head string) func(w http.ResponseWriter, _ *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = rw.WriteString(head)
			_ = rw.Flush()
			_ = conn.Close()
		}
	}
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		kind   fault.Kind
		says   string
	}{
		"no length":  {func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }, fault.Internal, "how long"},
		"compressed": {raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"), fault.Internal, "encoded"},
		"not found":  {http.NotFound, fault.NotFound, "404"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusFound)
		}, fault.Internal, "302"},
		"head without end": {raw("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 10<<10)), fault.Unavailable, ""},
		"hangs up":         {raw(""), fault.Unavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := hubtest.New(t)
			h.Intercept = func(w http.ResponseWriter, r *http.Request) bool { tc.answer(w, r); return true }
			_, err := connect(t, h).Get(t.Context(), "/repository/x", nil)
			if err == nil || fault.Of(err) != tc.kind || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("get: %v (%s), want %s and %q", err, fault.Of(err), tc.kind, tc.says)
			}
		})
	}
}

func TestGetSaysWhenToAskAgain(t *testing.T) {
	h := hubtest.New(t)
	h.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(503)
		return true
	}
	_, err := connect(t, h).Get(t.Context(), "/repository/x", nil)
	later, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err)
	if !ok || later.RetryAfter() != 7*time.Second || fault.Of(err) != fault.Unavailable {
		t.Errorf("get: %v", err)
	}
}

func TestGetEndsWithItsConnection(t *testing.T) {
	h := hubtest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	h.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", "100")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	c, err := caller(t, h).Connect(ctx, h.Certificate(pki.Birth, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := c.Get(ctx, "/repository/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("read after the end")
	}
}
