package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/internal/backoff"
	"holdfast/release"
)

// Stream is content of the repository, read from where it begins to its end
// over as many connections as that takes. A connection that breaks, or that
// brings bytes more slowly than the Source allows, is given up, and after a
// delay the next one goes on where it ended. Only a refusal, the context and
// Close end it before.
//
// A Stream vouches for the length and for nothing else: whoever reads it
// checks the digest.
type Stream struct {
	c      *Source
	ctx    context.Context
	path   string
	max    int64 // the longest that the content may be
	length int64 // of the content; -1 until the hub or the signature has said so
	tag    string
	off    int64

	conn   Conn
	body   io.Reader
	end    context.CancelCauseFunc // of the connection
	pace   pace
	gained int64 // bytes of the connection

	told    func(error) // of each error after which it goes on
	trouble error       // that ended the connection before
	delays  *backoff.Backoff
}

// stream reads path. length is signed, or -1 until the hub is asked; max bounds
// what it says. tag is the ETag that the content has to have; "": the first one shown.
func (c *Source) stream(ctx context.Context, path string, length, max int64, tag string, told func(error)) *Stream {
	return &Stream{c: c, ctx: ctx, path: path, length: length, max: max, tag: tag, told: told,
		pace: pace{slow: c.cfg.Slow}, delays: backoff.New(c.cfg.Retry)}
}

// Blob reads content that its digest names, from byte from on. What is read is
// not verified yet. trouble is called with each error after which the Stream
// goes on.
func (c *Source) Blob(ctx context.Context, b release.Blob, from int64, trouble func(error)) *Stream {
	s := c.stream(ctx, "/repository/blobs/"+b.SHA256.String(), b.Length, b.Length, b.SHA256.String(), trouble)
	s.off = from
	return s
}

// ErrNoDelta says that there is no delta that is smaller than the whole image.
var ErrNoDelta = errors.New("the hub has no delta that is smaller")

// deltaPatience is how long a device waits for a delta that is being made.
const deltaPatience = 2 * time.Minute

// Delta reads what makes the image to of the image from. Nothing of it is
// signed: what it makes has to be verified. It returns ErrNoDelta when the hub
// has none, or none in time.
func (c *Source) Delta(ctx context.Context, from, to release.Blob, trouble func(error)) (*Stream, error) {
	s := c.stream(ctx, "/repository/deltas/"+from.SHA256.String()+"/"+to.SHA256.String(), -1, to.Length-1, "", trouble)
	for begin := time.Now(); time.Since(begin) < deltaPatience; {
		err := s.connect()
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if fault.Of(err) == fault.NotFound || release.AttackOf(err) != "" {
			return nil, fmt.Errorf("%w: %w", ErrNoDelta, err)
		}
		if err := wait(ctx, s.delay(err)); err != nil {
			return nil, err
		}
	}
	return nil, ErrNoDelta
}

// Length returns the content's length, once it is known.
func (s *Stream) Length() int64 { return s.length }

// Close gives up the connection.
func (s *Stream) Close() error {
	s.drop()
	return nil
}

// Read implements io.Reader.
func (s *Stream) Read(p []byte) (int, error) {
	for s.off < s.length {
		if err := s.recover(); err != nil {
			return 0, err
		}
		var n int
		if n, s.trouble = s.try(p); n > 0 {
			return n, nil
		}
	}
	s.drop()
	return 0, io.EOF
}

// recover tells of an error that passes, and waits for that.
func (s *Stream) recover() error {
	err := s.trouble
	s.trouble = nil
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if err == nil || final(err) {
		return err
	}
	s.told(err)
	return wait(s.ctx, s.delay(err))
}

// final reports whether another connection would change nothing.
func final(err error) bool {
	switch a := release.AttackOf(err); {
	case a == release.SlowRetrieval:
		return false
	case a != "":
		return true
	}
	return fault.Of(err) == fault.NotFound
}

// try reads once, from a connection that it opens where there is none. An
// error costs the connection.
func (s *Stream) try(p []byte) (int, error) {
	if s.body == nil {
		if err := s.connect(); err != nil {
			return 0, err
		}
	}
	n, err := s.pace.read(s.body, p[:min(int64(len(p)), s.length-s.off)], s.end)
	s.off += int64(n)
	if s.gained += int64(n); s.gained >= s.pace.slow.need() {
		s.delays.Reset() // the hub can, if it wants
	}
	switch {
	case s.off == s.length:
		return n, nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	case n == 0 && err == nil:
		err = io.ErrNoProgress
	}
	if err != nil {
		s.drop()
	}
	return n, err
}

// connect opens a connection and asks for what is still to be read.
func (s *Stream) connect() error {
	s.drop()
	ctx, cancel := context.WithCancelCause(s.ctx)
	s.end = cancel
	conn, err := s.c.cfg.Dial(ctx)
	if err != nil {
		s.drop()
		return err
	}
	s.conn = conn
	resp, err := conn.Get(ctx, s.path, s.header())
	if err == nil {
		err = s.check(resp)
	}
	if err != nil {
		s.drop()
		return err
	}
	s.body = resp.Body
	if resp.StatusCode == http.StatusOK && s.off > 0 { // the hub makes no ranges
		if err := s.skip(s.off); err != nil {
			s.drop()
			return err
		}
	}
	return nil
}

func (s *Stream) header() http.Header {
	h := http.Header{}
	if s.off > 0 {
		h.Set("Range", "bytes="+strconv.FormatInt(s.off, 10)+"-")
		if s.tag != "" {
			h.Set("If-Range", strconv.Quote(s.tag))
		}
	}
	return h
}

// check refuses an answer that is not of the content, or not as long.
func (s *Stream) check(resp *http.Response) error {
	if tag := strings.Trim(resp.Header.Get("ETag"), `"`); tag != "" {
		if s.tag != "" && tag != s.tag {
			return release.Refuse(release.ArbitrarySoftware, fmt.Errorf("%s is %.70q now, and was to be %q", s.path, tag, s.tag))
		}
		s.tag = tag
	}
	total := resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		begin, all, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || begin != s.off || all-begin != resp.ContentLength {
			return fault.New(fault.Internal, "%s: the hub answers %.100q with %d bytes, asked for those from %d on",
				s.path, resp.Header.Get("Content-Range"), resp.ContentLength, s.off)
		}
		total = all
	}
	return s.measure(total)
}

// measure takes the length that the hub says.
func (s *Stream) measure(total int64) error {
	switch {
	case total > s.max:
		return release.Refuse(release.EndlessData, fmt.Errorf("%s has %d bytes, more than the %d that are allowed", s.path, total, s.max))
	case s.length >= 0 && total != s.length:
		return release.Refuse(release.ArbitrarySoftware, fmt.Errorf("%s has %d bytes, and was to have %d", s.path, total, s.length))
	}
	s.length = total
	return nil
}

// contentRange reads "bytes 5-9/10" of a range that goes to the end.
func contentRange(text string) (begin, total int64, err error) {
	text, ok := strings.CutPrefix(text, "bytes ")
	span, all, cut := strings.Cut(text, "/")
	first, last, dash := strings.Cut(span, "-")
	if !ok || !cut || !dash {
		return 0, 0, errors.New("no range")
	}
	begin, err = strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	total, err3 := strconv.ParseInt(all, 10, 64)
	if err = errors.Join(err, err2, err3); err != nil {
		return 0, 0, err
	}
	if begin < 0 || end < begin || end != total-1 {
		return 0, 0, errors.New("a range that does not go to the end")
	}
	return begin, total, nil
}

// skip reads over bytes that were read before.
func (s *Stream) skip(n int64) error {
	buf := make([]byte, 4<<10)
	for n > 0 {
		k, err := s.pace.read(s.body, buf[:min(n, int64(len(buf)))], s.end)
		if n -= int64(k); err != nil && n > 0 {
			return err
		}
	}
	return nil
}

// drop gives up the connection.
func (s *Stream) drop() {
	if s.conn != nil {
		_ = s.conn.Close() // what it had to say was read
	}
	if s.end != nil {
		s.end(nil)
	}
	s.conn, s.body, s.end, s.gained = nil, nil, nil, 0
	s.pace.reset()
}

// delay is how long to wait after an error: as long as the hub wants, or
// longer each time.
func (s *Stream) delay(err error) time.Duration {
	d := s.delays.Next()
	if later, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		d = max(d, later.RetryAfter())
	}
	return d
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
