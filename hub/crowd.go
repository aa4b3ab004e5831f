package hub

import (
	"net"
	"net/netip"
	"sync"

	"holdfast/internal/ratelimit"
)

// Connections that one HTTP listener holds at a time, and of those from one
// address (of IPv6, one /64 network). More are closed at once: a connection
// costs a file descriptor before anything is known of who made it, and the
// sessions of devices and the database need some too.
const (
	maxConns     = 4096
	maxPerOrigin = maxConns / 4
)

// crowd is a listener that holds no more than so many connections.
type crowd struct {
	net.Listener
	limit, each int

	mu    sync.Mutex
	total int
	from  map[netip.Prefix]int
}

func newCrowd(l net.Listener, limit, each int) *crowd {
	return &crowd{Listener: l, limit: limit, each: each, from: map[netip.Prefix]int{}}
}

// Accept implements net.Listener.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		origin := originOf(conn.RemoteAddr())
		if c.enter(origin) {
			return &guest{Conn: conn, leave: sync.OnceFunc(func() { c.leave(origin) })}, nil
		}
		_ = conn.Close() // nobody can be told
	}
}

func (c *crowd) enter(origin netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= c.limit || c.from[origin] >= c.each {
		return false
	}
	c.total++
	c.from[origin]++
	return true
}

func (c *crowd) leave(origin netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.from[origin]--; c.from[origin] == 0 {
		delete(c.from, origin)
	}
}

// guest is a connection of a crowd.
type guest struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (g *guest) Close() error {
	defer g.leave()
	return g.Conn.Close()
}

// originOf returns the network that counts as one peer.
func originOf(a net.Addr) netip.Prefix { return ratelimit.Origin(a.String()) }
