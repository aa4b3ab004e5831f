package websocket_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/internal/websocket"
)

// pipe is a connection whose peer's bytes are all there and whose answers are
// kept.
type pipe struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (p *pipe) Read(b []byte) (int, error)       { return p.in.Read(b) }
func (p *pipe) Write(b []byte) (int, error)      { return p.out.Write(b) }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
func (p *pipe) CloseWrite() error                { return nil }

// frame is a client's frame.
func frame(head byte, body string) []byte {
	mask := [4]byte{1, 2, 3, 4}
	b := []byte{head}
	switch n := len(body); {
	case n <= 125:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, mask[:]...)
	for i := range len(body) {
		b = append(b, body[i]^mask[i&3])
	}
	return b
}

func join(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

func TestRead(t *testing.T) {
	long := strings.Repeat("abcdefg", 10000)
	for _, c := range []struct {
		name  string
		in    []byte
		want  string
		reply string
	}{
		{"message", frame(0x82, "hello"), "hello", ""},
		{"empty ones between", join(frame(0x82, ""), frame(0x82, "a"), frame(0x82, ""), frame(0x82, "b")), "ab", ""},
		{"parts", join(frame(0x02, "a"), frame(0x00, "b"), frame(0x89, "?"), frame(0x80, "c")), "abc", "\x8a\x01?"},
		{"long", join(frame(0x82, long[:300]), frame(0x82, long[300:])), long, ""},
		{"pong", join(frame(0x8a, "x"), frame(0x82, "a")), "a", ""},
		{"close", join(frame(0x82, "a"), frame(0x88, "\x03\xe9bye")), "a", "\x88\x02\x03\xe9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &pipe{in: bytes.NewReader(c.in)}
			s := &websocket.Stream{Conn: p}
			got, err := io.ReadAll(s)
			if string(got) != c.want || err != nil || p.out.String() != c.reply {
				t.Errorf("read %.50q, %v, answered %q", got, err, p.out.String())
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		in    []byte
		reply string
	}{
		{"no mask", []byte("\x82\x01a"), "\x88\x02\x03\xea"},
		{"reserved bits", frame(0xc2, "a"), "\x88\x02\x03\xea"},
		{"text", frame(0x81, "a"), "\x88\x02\x03\xeb"},
		{"unknown", frame(0x83, "a"), "\x88\x02\x03\xeb"},
		{"unknown control", frame(0x8b, "a"), "\x88\x02\x03\xea"},
		{"continuation of nothing", frame(0x80, "a"), "\x88\x02\x03\xea"},
		{"message inside another", join(frame(0x02, ""), frame(0x82, "")), "\x88\x02\x03\xea"},
		{"ping in parts", frame(0x09, "a"), "\x88\x02\x03\xea"},
		{"long ping", frame(0x89, strings.Repeat("a", 126)), "\x88\x02\x03\xea"},
		{"length in two bytes", []byte("\x82\xfe\x00\x7d1234"), "\x88\x02\x03\xea"},
		{"length in eight bytes", []byte("\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff1234"), "\x88\x02\x03\xea"},
		{"negative length", []byte("\x82\xff\xff\x00\x00\x00\x00\x00\x00\x001234"), "\x88\x02\x03\xea"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &pipe{in: bytes.NewReader(c.in)}
			s := &websocket.Stream{Conn: p}
			got, err := io.ReadAll(s)
			if len(got) > 0 || !errors.Is(err, websocket.ErrProtocol) || p.out.String() != c.reply {
				t.Errorf("read %q, %v, answered %q", got, err, p.out.String())
			}
			if _, err := s.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after that: %v", err)
			}
		})
	}
}

func TestWrite(t *testing.T) {
	for n, head := range map[int]string{
		0: "\x82\x00", 125: "\x82\x7d", 126: "\x82\x7e\x00\x7e", 65535: "\x82\x7e\xff\xff", 65536: "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
	} {
		p := &pipe{}
		body := strings.Repeat("x", n)
		if m, err := (&websocket.Stream{Conn: p}).Write([]byte(body)); m != n || err != nil || p.out.String() != head+body {
			t.Errorf("%d bytes: %d, %v, %.20q", n, m, err, p.out.String())
		}
	}
}

// FuzzRead checks that no frames make the reader panic or yield more than came.
func FuzzRead(f *testing.F) {
	f.Add(join(frame(0x02, "a"), frame(0x89, "?"), frame(0x80, "c"), frame(0x88, "\x03\xe8")), 3)
	f.Add([]byte("\x82\xff\xff\x00\x00\x00\x00\x00\x00\x001234"), 1)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		s := &websocket.Stream{Conn: &pipe{in: bytes.NewReader(b)}}
		buf := make([]byte, 1+piece&0xff)
		total := 0
		for err := error(nil); err == nil; {
			var n int
			n, err = s.Read(buf)
			if total += n; total > len(b) {
				t.Fatalf("%d bytes of %d", total, len(b))
			}
		}
	})
}

func TestUpgradeRefuses(t *testing.T) {
	good := map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "mqttv3.1, mqtt",
	}
	for _, c := range []struct {
		header, value string
		status        int
	}{
		{"Connection", "keep-alive", http.StatusUpgradeRequired},
		{"Upgrade", "h2c", http.StatusUpgradeRequired},
		{"Sec-WebSocket-Version", "8", http.StatusUpgradeRequired},
		{"Sec-WebSocket-Key", "", http.StatusBadRequest},
		{"Sec-WebSocket-Key", "c2hvcnQ=", http.StatusBadRequest},
		{"Sec-WebSocket-Protocol", "AMQPWSB10", http.StatusBadRequest},
		{"Origin", "https://evil.example", http.StatusForbidden},
		{"Origin", "null", http.StatusForbidden},
		{"Origin", "https://example.com:8443", http.StatusInternalServerError}, // the test's writer cannot be hijacked
	} {
		r := httptest.NewRequest(http.MethodGet, "https://example.com/mqtt", nil)
		for k, v := range good {
			r.Header.Set(k, v)
		}
		r.Header.Set(c.header, c.value)
		w := httptest.NewRecorder()
		if _, err := websocket.Upgrade(w, r, "mqtt"); err == nil || w.Code != c.status {
			t.Errorf("%s: %q: %d, %v", c.header, c.value, w.Code, err)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "https://example.com/mqtt", nil)
	if _, err := websocket.Upgrade(httptest.NewRecorder(), r, "mqtt"); err == nil {
		t.Error("POST was taken")
	}
}
