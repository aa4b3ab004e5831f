package virtual

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"holdfast/device/board/bus"
)

// openHost opens a bus without a board behind it.
func openHost(t *testing.T) (*host, chan string) {
	t.Helper()
	reset := make(chan string, 1)
	h := &host{watchdog: newWatchdog(), reset: reset}
	p := paths(t.TempDir())
	h.rtc = rtc{p, true}
	if err := os.MkdirAll(p.run(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := saveRTC(p, rtcFile{Stood: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	if err := h.listen(p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.close)
	return h, reset
}

func dial(t *testing.T, h *host) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", h.path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestBusRefuses(t *testing.T) {
	h, _ := openHost(t)
	conn := dial(t, h)
	lines := bufio.NewReader(conn)
	for _, req := range []bus.Request{
		{Op: "no-such"}, {},
		{Op: bus.OpEntropy}, {Op: bus.OpEntropy, Size: -1}, {Op: bus.OpEntropy, Size: bus.MaxEntropy + 1},
		{Op: bus.OpArm}, {Op: bus.OpArm, Timeout: time.Second - 1}, {Op: bus.OpArm, Timeout: -time.Hour},
		{Op: bus.OpFeed},
	} {
		if err := json.NewEncoder(conn).Encode(req); err != nil {
			t.Fatal(err)
		}
		line, err := bus.ReadLine(lines)
		if err != nil {
			t.Fatal(err)
		}
		var reply bus.Reply
		if err := json.Unmarshal(line, &reply); err != nil || reply.Error == "" {
			t.Errorf("%+v: %s, %v", req, line, err)
		}
	}
}

func TestBusHangsUpOnNonsense(t *testing.T) {
	h, _ := openHost(t)
	for name, text := range map[string][]byte{
		"not JSON":      []byte("hello\n"),
		"wrong type":    []byte(`{"op":1}` + "\n"),
		"endless line":  bytes.Repeat([]byte(" "), 2*bus.MaxLine),
		"no line's end": nil,
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, h)
			_, _ = conn.Write(text) // it may hang up before the end
			if text == nil {
				_ = conn.(*net.UnixConn).CloseWrite()
			}
			if got, _ := io.ReadAll(conn); len(got) != 0 {
				t.Errorf("answered %s", got)
			}
		})
	}
	// It still serves.
	conn := dial(t, h)
	if err := json.NewEncoder(conn).Encode(bus.Request{Op: bus.OpRTCNow}); err != nil {
		t.Fatal(err)
	}
	if line, err := bus.ReadLine(bufio.NewReader(conn)); err != nil {
		t.Errorf("%s, %v", line, err)
	}
}

func TestBusLimitsConnections(t *testing.T) {
	h, _ := openHost(t)
	for range maxConns {
		conn := dial(t, h)
		if err := json.NewEncoder(conn).Encode(bus.Request{Op: bus.OpRTCNow}); err != nil {
			t.Fatal(err)
		}
		if _, err := bus.ReadLine(bufio.NewReader(conn)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := dial(t, h).Read(make([]byte, 1)); err == nil {
		t.Errorf("one connection too many is served: %d bytes", n)
	}
}

func TestSecondResetChangesNothing(t *testing.T) {
	h, reset := openHost(t)
	h.request("first")
	h.request("second")
	if got := <-reset; got != "first" {
		t.Errorf("reset for %q", got)
	}
}

func FuzzBus(f *testing.F) {
	f.Add([]byte(`{"op":"entropy","size":32}`))
	f.Add([]byte(`{"op":"watchdog-arm","timeout":1000000000}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		h := &host{watchdog: newWatchdog(), rtc: rtc{paths(t.TempDir()), true}}
		defer h.watchdog.off()
		var req bus.Request
		if json.Unmarshal(line, &req) != nil {
			return
		}
		reply, _ := h.answer(req) // must not panic
		if len(reply.Noise) > bus.MaxEntropy {
			t.Errorf("%d bytes of noise", len(reply.Noise))
		}
	})
}
