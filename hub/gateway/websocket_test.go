package gateway_test

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/hub/gateway"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// web is the client's half of a WebSocket, as a connection.
type web struct {
	net.Conn
	left int
}

func (w *web) Write(p []byte) (int, error) {
	b := binary.BigEndian.AppendUint16([]byte{0x82, 0x80 | 126}, uint16(len(p)))
	if len(p) <= 125 {
		b = []byte{0x82, 0x80 | byte(len(p))}
	}
	b = append(b, 0, 0, 0, 0) // a mask that changes nothing
	if _, err := w.Conn.Write(append(b, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *web) Read(p []byte) (int, error) {
	for w.left == 0 {
		var head [2]byte
		if _, err := io.ReadFull(w.Conn, head[:]); err != nil {
			return 0, err
		}
		if head[0] == 0x88 {
			return 0, io.EOF
		}
		if w.left = int(head[1]); w.left == 126 {
			if _, err := io.ReadFull(w.Conn, head[:]); err != nil {
				return 0, err
			}
			w.left = int(binary.BigEndian.Uint16(head[:]))
		}
	}
	n, err := w.Conn.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

// dialWeb opens a WebSocket; with the upgrade it sends what is given.
func dialWeb(t testing.TB, addr string, cfg *tls.Config, early string) (net.Conn, string) {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, "GET /$iothub/websocket?iothub-no-client-cert=false HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"+early)
	var answer []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(answer), "\r\n\r\n"); {
		if _, err := conn.Read(b); err != nil {
			t.Fatalf("%v after %q", err, answer)
		}
		answer = append(answer, b[0])
	}
	return &web{Conn: conn}, string(answer)
}

func (b *bench) serveWeb(t testing.TB, auth tls.ClientAuthType) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("GET /$iothub/websocket", b.Gateway)
	srv := httptest.NewUnstartedServer(mux)
	srv.TLS = b.serverTLS(t)
	srv.TLS.ClientAuth = auth
	srv.Config.ReadTimeout = time.Minute
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func TestWebSocket(t *testing.T) {
	b := start(t, &fakeHub{})
	addr := b.serveWeb(t, tls.RequireAndVerifyClientCert)
	conn, answer := dialWeb(t, addr, b.clientTLS(b.device(t, "pump-01")), "")
	if !strings.Contains(answer, "101") || !strings.Contains(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
		t.Fatalf("answer %q", answer)
	}
	hello, _ := (&mqtt.Connect{ClientID: "pump-01", Clean: true}).Append(nil)
	ping, _ := (&mqtt.Pingreq{}).Append(nil)
	exchange := func(send []byte, want string) {
		t.Helper()
		if _, err := conn.Write(send); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
			t.Fatalf("got %x, %v, want %x", got, err, want)
		}
	}
	exchange(hello, "\x20\x02\x00\x00")
	for _, c := range ping { // one byte a message
		conn.Write([]byte{c})
	}
	exchange(nil, "\xd0\x00")
	sub, _ := (&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: iothub.PostureFilter}}}).Append(nil)
	exchange(sub, "\x90\x03\x00\x01\x00")
	body := strings.Repeat("x", 300)
	b.Publish("pump-01", "$hub/posture/?$version=1", []byte(body))
	want, _ := (&mqtt.Publish{Topic: "$hub/posture/?$version=1", Payload: []byte(body)}).Append(nil)
	exchange(nil, string(want))
	if _, err := b.Sessions()[0].Exporter(); err != nil {
		t.Error(err)
	}
	if !b.Revoke("pump-01") {
		t.Fatal("no session")
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes after the end", n)
	}
	b.hub.awaitClosed(t, gateway.Revoked, "")
}

// CONNECT may come right behind the upgrade, before it is answered.
func TestWebSocketEarly(t *testing.T) {
	b := start(t, &fakeHub{})
	addr := b.serveWeb(t, tls.RequireAndVerifyClientCert)
	hello, _ := (&mqtt.Connect{ClientID: "pump-01", Clean: true}).Append(nil)
	early := "\x82" + string([]byte{0x80 | byte(len(hello)), 0, 0, 0, 0}) + string(hello)
	conn, _ := dialWeb(t, addr, b.clientTLS(b.device(t, "pump-01")), early)
	var ack [4]byte
	if _, err := io.ReadFull(conn, ack[:]); err != nil || ack != [4]byte{0x20, 2, 0, 0} {
		t.Fatalf("CONNACK %x, %v", ack, err)
	}
	b.stop()
	if _, err := conn.Read(ack[:]); err == nil {
		t.Error("open after the gateway's end")
	}
	if _, answer := dialWeb(t, addr, b.clientTLS(b.device(t, "pump-01")), ""); !strings.Contains(answer, "503") {
		t.Errorf("answer %q", answer)
	}
}

func TestWebSocketRefused(t *testing.T) {
	b := start(t, &fakeHub{})
	addr := b.serveWeb(t, tls.VerifyClientCertIfGiven)
	if _, answer := dialWeb(t, addr, b.clientTLS(tls.Certificate{}), ""); !strings.Contains(answer, "403") {
		t.Errorf("without a certificate: %q", answer)
	}
	conn, _ := dialWeb(t, addr, b.clientTLS(b.device(t, "pump-01")), "")
	hello, _ := (&mqtt.Connect{ClientID: "pump-02"}).Append(nil)
	conn.Write(hello)
	got, _ := io.ReadAll(conn)
	if string(got) != "\x20\x02\x00\x05" {
		t.Errorf("CONNACK %x", got)
	}
	b.hub.awaitRefused(t, "certificate is of pump-01")
}
