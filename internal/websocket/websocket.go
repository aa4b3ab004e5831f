// Package websocket is the server's half of RFC 6455, as far as MQTT needs it:
// one subprotocol, binary messages whose borders mean nothing, no extensions.
// A connection holds no buffers of its own, for most of them are idle.
package websocket

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The opcodes of frames (section 5.2).
const (
	opContinue = 0
	opBinary   = 2
	opClose    = 8
	opPing     = 9
	opPong     = 10
)

const (
	flagFinal   = 0x80
	flagMasked  = 0x80
	maxControl  = 125 // bytes of a control frame
	replyWithin = 10 * time.Second
)

// The status codes of a close frame (section 7.4.1).
const (
	statusNormal      = 1000
	statusProtocol    = 1002
	statusUnsupported = 1003
)

// ErrProtocol is a frame that breaks RFC 6455 or is none that MQTT uses.
var ErrProtocol = errors.New("websocket protocol is broken")

// Conn is the connection under a WebSocket: *tls.Conn is one.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Stream is the bytes in the messages of a WebSocket. One goroutine may read
// while others write; deadlines are those of the connection under it.
type Stream struct {
	Conn
	early []byte // came with the handshake

	left    uint64 // bytes of the frame that is being read
	mask    [4]byte
	at      int // in mask
	within  bool
	closing bool
}

// Upgrade takes over the connection of a request that asks for a WebSocket with
// a subprotocol, or answers it with what is wrong and returns that. A page of
// another site may not ask: a browser would show it the user's certificate.
func Upgrade(w http.ResponseWriter, r *http.Request, protocol string) (*Stream, error) {
	key := r.Header.Get("Sec-WebSocket-Key")
	status, text := check(r, key, protocol)
	if text != "" {
		w.Header().Set("Sec-WebSocket-Version", "13")
		http.Error(w, text, status)
		return nil, errors.New(text)
	}
	raw, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no WebSocket here", http.StatusInternalServerError)
		return nil, fmt.Errorf("take over the connection: %w", err)
	}
	conn, ok := raw.(Conn)
	if !ok {
		raw.Close()
		return nil, errors.New("the connection is not TLS")
	}
	early, _ := buf.Reader.Peek(buf.Reader.Buffered()) // cannot fail: it is there
	s := &Stream{Conn: conn, early: bytes.Clone(early)}
	conn.SetDeadline(time.Now().Add(replyWithin))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n", accept(key), protocol)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("answer the upgrade: %w", err)
	}
	return s, nil
}

// check returns what is wrong with a handshake (section 4.2.1).
func check(r *http.Request, key, protocol string) (int, string) {
	nonce, err := base64.StdEncoding.DecodeString(key)
	switch {
	case r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1:
		return http.StatusBadRequest, "a WebSocket begins with GET over HTTP/1.1"
	case !has(r, "Connection", "upgrade") || !has(r, "Upgrade", "websocket"):
		return http.StatusUpgradeRequired, "this is a WebSocket"
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return http.StatusUpgradeRequired, "WebSocket version 13 is served"
	case err != nil || len(nonce) != 16:
		return http.StatusBadRequest, "Sec-WebSocket-Key is not 16 bytes"
	case !has(r, "Sec-WebSocket-Protocol", protocol):
		return http.StatusBadRequest, "subprotocol " + protocol + " is served"
	case !sameSite(r):
		return http.StatusForbidden, "not for pages of another site"
	}
	return 0, ""
}

// has reports whether a header has a token.
func has(r *http.Request, header, token string) bool {
	for _, v := range r.Header.Values(header) {
		if slices.ContainsFunc(strings.Split(v, ","), func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), token) }) {
			return true
		}
	}
	return false
}

// sameSite reports whether a request is of no page, or of one of this host: some
// clients that are no browsers send an Origin too.
func sameSite(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	here := &url.URL{Host: r.Host}
	return err == nil && strings.EqualFold(u.Hostname(), here.Hostname())
}

// accept answers a key (section 4.2.2). SHA-1 protects nothing here.
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Read reads bytes of binary messages; it answers pings on the way. A close
// frame ends it with io.EOF.
func (s *Stream) Read(p []byte) (int, error) {
	for s.left == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.under(p[:min(uint64(len(p)), s.left)])
	s.unmask(p[:n])
	s.left -= uint64(n)
	if n > 0 {
		err = nil // it will come again
	}
	return n, err
}

// under reads from the connection, what came with the handshake first.
func (s *Stream) under(p []byte) (int, error) {
	if len(s.early) == 0 {
		return s.Conn.Read(p)
	}
	n := copy(p, s.early)
	if s.early = s.early[n:]; len(s.early) == 0 {
		s.early = nil
	}
	return n, nil
}

func (s *Stream) full(p []byte) error {
	for n := 0; n < len(p); {
		m, err := s.under(p[n:])
		if n += m; err != nil && n < len(p) {
			return err
		}
	}
	return nil
}

func (s *Stream) unmask(p []byte) {
	for i := range p {
		p[i] ^= s.mask[s.at&3]
		s.at++
	}
	s.at &= 3
}

// next reads frames until one has bytes of a message.
func (s *Stream) next() error {
	if s.closing {
		return io.EOF
	}
	var head [2]byte
	if err := s.full(head[:]); err != nil {
		return err
	}
	op, final := head[0]&0x0f, head[0]&flagFinal != 0
	size, err := s.size(head[1] &^ flagMasked)
	switch {
	case err != nil:
		return err
	case head[0]&0x70 != 0 || head[1]&flagMasked == 0:
		return s.broken(statusProtocol, "reserved bits, or no mask")
	}
	if err := s.full(s.mask[:]); err != nil {
		return err
	}
	s.at = 0
	switch {
	case op >= opClose && (!final || size > maxControl):
		return s.broken(statusProtocol, "control frame in parts or too large")
	case op >= opClose:
		return s.control(op, int(size))
	case op == opBinary && !s.within, op == opContinue && s.within:
		s.within = !final
		s.left = size
		return nil
	case op == opBinary || op == opContinue:
		return s.broken(statusProtocol, "frames out of order")
	}
	return s.broken(statusUnsupported, "only binary messages are served")
}

// size reads the rest of a frame's length, which has to be in its shortest form.
func (s *Stream) size(short byte) (uint64, error) {
	var b [8]byte
	switch short {
	default:
		return uint64(short), nil
	case 126:
		if err := s.full(b[:2]); err != nil {
			return 0, err
		}
		n := uint64(binary.BigEndian.Uint16(b[:]))
		if n <= maxControl {
			return 0, s.broken(statusProtocol, "length is not in its shortest form")
		}
		return n, nil
	case 127:
		if err := s.full(b[:]); err != nil {
			return 0, err
		}
		n := binary.BigEndian.Uint64(b[:])
		if n < 1<<16 || n >= 1<<63 {
			return 0, s.broken(statusProtocol, "length is not in its shortest form")
		}
		return n, nil
	}
}

// control acts on a control frame.
func (s *Stream) control(op byte, size int) error {
	body := make([]byte, size)
	if err := s.full(body); err != nil {
		return err
	}
	s.unmask(body)
	switch op {
	case opPing:
		s.SetWriteDeadline(time.Now().Add(replyWithin))
		return s.frame(opPong, body)
	case opPong:
		return nil
	case opClose:
		s.closing = true
		if size >= 2 {
			body = body[:2]
		}
		s.SetWriteDeadline(time.Now().Add(replyWithin))
		if err := s.frame(opClose, body); err != nil {
			return err
		}
		return io.EOF
	}
	return s.broken(statusProtocol, "unknown control frame")
}

// broken tells the peer of an error and returns it.
func (s *Stream) broken(status uint16, what string) error {
	s.closing = true
	s.SetWriteDeadline(time.Now().Add(replyWithin))
	_ = s.frame(opClose, binary.BigEndian.AppendUint16(nil, status)) // what matters is the error
	return fmt.Errorf("%w: %s", ErrProtocol, what)
}

// Write sends p as one message.
func (s *Stream) Write(p []byte) (int, error) {
	if err := s.frame(opBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// frame sends a frame with one write, so that frames of several goroutines do
// not mix.
func (s *Stream) frame(op byte, p []byte) error {
	b := make([]byte, 0, 10+len(p))
	b = append(b, flagFinal|op)
	switch n := len(p); {
	case n <= maxControl:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	_, err := s.Conn.Write(append(b, p...))
	return err
}

// CloseWrite says goodbye.
func (s *Stream) CloseWrite() error {
	if err := s.frame(opClose, binary.BigEndian.AppendUint16(nil, statusNormal)); err != nil {
		return err
	}
	return s.Conn.CloseWrite()
}
