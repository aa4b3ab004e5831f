package virtual

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"holdfast/device/board/bus"
	"holdfast/internal/sockdir"
)

// host is the board's side of the bus, for one boot.
type host struct {
	hello    bus.Hello
	rtc      rtc
	watchdog *watchdog
	fuses    fuses
	bad      bool          // the noise source is
	reset    chan<- string // takes the reason of a reset that the firmware asked for
	listener net.Listener
	remove   func() // what the socket's directory needs
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	off   bool
}

const busName = "board.sock"

// listen opens the bus.
func (h *host) listen(p paths) error {
	dir, remove, err := sockdir.Choose(p.run(), busName)
	if err != nil {
		return err
	}
	h.remove = remove
	path := filepath.Join(dir, busName)
	_ = os.Remove(path) // of a host that was killed
	if h.listener, err = net.Listen("unix", path); err != nil {
		remove()
		return fmt.Errorf("open bus: %w", err)
	}
	h.conns = map[net.Conn]bool{}
	h.wg.Go(h.accept)
	return nil
}

func (h *host) path() string { return h.listener.Addr().String() }

func (h *host) accept() {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return // closed
		}
		if h.admit(conn) {
			h.wg.Go(func() { h.serve(conn) })
		}
	}
}

// maxConns is how many connections the firmware may hold.
const maxConns = 8

func (h *host) admit(conn net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off || len(h.conns) == maxConns {
		_ = conn.Close() // nothing was said on it
		return false
	}
	h.conns[conn] = true
	return true
}

// close cuts the bus and waits for its goroutines.
func (h *host) close() {
	_ = h.listener.Close() // with it goes the socket
	h.mu.Lock()
	h.off = true
	for conn := range h.conns {
		_ = conn.Close() // the firmware is gone
	}
	h.mu.Unlock()
	h.wg.Wait()
	h.remove()
}

func (h *host) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close() // the other end closed it or spoke nonsense
		h.mu.Lock()
		delete(h.conns, conn)
		h.mu.Unlock()
	}()
	lines := bufio.NewReader(conn)
	for {
		line, err := bus.ReadLine(lines)
		if err != nil {
			return
		}
		var req bus.Request
		if err := json.Unmarshal(line, &req); err != nil {
			return
		}
		reply, err := h.answer(req)
		if err != nil {
			reply = bus.Reply{Error: err.Error()}
		}
		if err := json.NewEncoder(conn).Encode(reply); err != nil {
			return
		}
		if req.Op == bus.OpReset {
			h.request(req.Reason)
		}
	}
}

// request hands a reset on; a second one changes nothing.
func (h *host) request(reason string) {
	select {
	case h.reset <- reason:
	default:
	}
}

func (h *host) answer(req bus.Request) (bus.Reply, error) {
	switch req.Op {
	case bus.OpHello:
		return bus.Reply{Hello: &h.hello}, nil
	case bus.OpRTCNow:
		now, err := h.rtc.Now()
		return bus.Reply{Time: now}, err
	case bus.OpRTCSet:
		return bus.Reply{}, h.rtc.Set(req.Time)
	case bus.OpArm:
		return bus.Reply{}, h.watchdog.Arm(req.Timeout)
	case bus.OpFeed:
		return bus.Reply{}, h.watchdog.Feed()
	case bus.OpEntropy:
		if req.Size < 1 || req.Size > bus.MaxEntropy {
			return bus.Reply{}, fmt.Errorf("entropy: %d bytes, want 1 to %d", req.Size, bus.MaxEntropy)
		}
		return bus.Reply{Noise: noise(req.Size, h.bad)}, nil
	case bus.OpReset:
		return bus.Reply{}, nil
	case bus.OpFuses:
		minimum, err := h.fuses.Minimum()
		return bus.Reply{SecurityVersion: minimum}, err
	case bus.OpBurn:
		return bus.Reply{}, h.fuses.Burn()
	}
	return bus.Reply{}, errors.New("no such operation")
}
