package call

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	maxHead  = 16 << 10 // bytes of an answer's head
	maxLater = time.Hour
)

// Conn is a connection to the hub on which one thing after the other is read.
// Use it from one goroutine.
type Conn struct {
	x      *exchange
	budget *budget
	stop   func() bool
}

// Connect opens a connection, which ends with ctx or Close.
func (c *Caller) Connect(ctx context.Context, cert *tls.Certificate) (*Conn, error) {
	conn, err := c.dial(ctx, cert)
	if err != nil {
		return nil, err
	}
	b := &budget{r: conn}
	return &Conn{
		x:      &exchange{host: c.host, conn: conn, answers: bufio.NewReaderSize(b, 16<<10)},
		budget: b,
		stop:   context.AfterFunc(ctx, func() { _ = conn.Close() }),
	}, nil
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.stop()
	return c.x.conn.Close()
}

// Get asks for a path. Its answer is 200 or 206 and says how long it is; the
// body has no deadline. Any other answer is an error of the kind that it
// tells, and one that says when to ask again has a method
// RetryAfter() time.Duration. What follows the body unasked is never read, and
// a body has to be read to its end before the next Get.
func (c *Conn) Get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	resp, err := c.get(ctx, path, header)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	return resp, nil
}

func (c *Conn) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+c.x.host+path, nil)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	c.budget.left = maxHead
	resp, err := c.x.send(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return nil, c.failure(resp)
	}
	if resp.ContentLength < 0 || resp.Uncompressed || resp.Header.Get("Content-Encoding") != "" {
		return nil, fmt.Errorf("the answer is encoded or does not say how long it is")
	}
	c.budget.left = resp.ContentLength
	return resp, c.x.conn.SetDeadline(time.Time{})
}

func (c *Conn) failure(resp *http.Response) error {
	c.budget.left = maxAnswer
	answer, err := content(resp)
	if err != nil {
		return err
	}
	err = failure(resp.StatusCode, answer)
	if s, no := strconv.Atoi(resp.Header.Get("Retry-After")); no == nil && s > 0 {
		return &later{error: err, after: min(time.Duration(s)*time.Second, maxLater)}
	}
	return err
}

// later is an error that passes after some time.
type later struct {
	error
	after time.Duration
}

// RetryAfter returns how long the hub wants not to be asked.
func (l *later) RetryAfter() time.Duration { return l.after }

// Unwrap returns the error.
func (l *later) Unwrap() error { return l.error }

// budget is a reader that ends after some bytes: a hub does not fill memory
// with heads.
type budget struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
