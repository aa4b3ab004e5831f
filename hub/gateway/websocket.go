package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"

	"holdfast/internal/websocket"
)

// running lets connections in from outside of Run, while it runs.
type running struct {
	mu  sync.Mutex
	ctx context.Context
}

func (r *running) set(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ctx = ctx
}

// stop lets no further connection in.
func (r *running) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ctx = nil
}

// enter counts one more that Run waits for, and returns what ends it.
func (r *running) enter(wg *sync.WaitGroup) (context.Context, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil || r.ctx.Err() != nil {
		return nil, false
	}
	wg.Add(1)
	return r.ctx, true
}

// ServeHTTP makes a request a session: MQTT over WebSocket (MQTT 3.1.1, section
// 6), subprotocol mqtt. The server has to be a TLS server of HTTP/1.1 whose
// config verified the client's certificate; a request without one is refused.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		http.Error(w, "a device's certificate is needed here", http.StatusForbidden)
		return
	}
	ctx, ok := g.running.enter(&g.wg)
	if !ok {
		http.Error(w, "the hub is not up", http.StatusServiceUnavailable)
		return
	}
	defer g.wg.Done()
	ws, err := websocket.Upgrade(w, r, "mqtt")
	if err != nil {
		g.log.InfoContext(ctx, "no WebSocket", slog.String("remote", r.RemoteAddr), slog.Any("err", err))
		return
	}
	conn, ok := ws.Conn.(*tls.Conn)
	if !ok {
		ws.Close()
		return
	}
	g.connectWeb(ctx, conn.NetConn(), conn, ws)
}

// connectWeb is connect for a connection whose handshake is done.
func (g *Gateway) connectWeb(ctx context.Context, raw net.Conn, conn *tls.Conn, ws *websocket.Stream) {
	defer func() {
		if p := recover(); p != nil {
			raw.Close()
			g.log.ErrorContext(ctx, "panic while connecting", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	if _, ok := g.pend.add(raw, g.cfg); !ok {
		raw.Close()
		return
	}
	defer g.pend.remove(raw)
	if ctx.Err() != nil { // and closeAll may not have seen it
		raw.Close()
		return
	}
	cert := conn.ConnectionState().PeerCertificates[0]
	if err := g.open(ctx, raw, conn, ws, cert, Door{}); err != nil {
		g.refused(ctx, raw, cert, true, err)
	}
}
