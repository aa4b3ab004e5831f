package gateway

import (
	"net"
	"net/netip"
	"sync"
)

// slots bounds how much runs at a time: a send takes one, and blocked senders
// are served in the order in which they came.
type slots chan struct{}

// pending has the connections that are on their way to a session. Nothing is
// known of them but their address.
type pending struct {
	mu      sync.Mutex
	conns   map[net.Conn]*source
	sources map[netip.Prefix]*source
	total   uint64 // connections that ever came, for trim
}

// source is an address that connections come from.
type source struct {
	prefix netip.Prefix
	conns  int
	slots  slots // its share of the handshakes
}

// add takes a connection in, unless there are too many or too many from its
// address.
func (p *pending) add(raw net.Conn, cfg Config) (*source, bool) {
	prefix := prefixOf(raw.RemoteAddr())
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sources[prefix]
	if len(p.conns) >= cfg.MaxPending || s != nil && s.conns >= cfg.PerAddress {
		return nil, false
	}
	if s == nil {
		s = &source{prefix: prefix, slots: make(slots, max(1, cfg.Slots/4))}
		p.sources[prefix] = s
	}
	s.conns++
	p.conns[raw] = s
	p.total++
	return s, true
}

func (p *pending) remove(raw net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.conns[raw]
	delete(p.conns, raw)
	if s.conns--; s.conns == 0 {
		delete(p.sources, s.prefix)
	}
}

// close closes all connections but those, which have become sessions already
// and end as such.
func (p *pending) close(but map[net.Conn]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for raw := range p.conns {
		if !but[raw] {
			raw.Close()
		}
	}
}

func (p *pending) count() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

// prefixOf returns the network that counts as one peer: an IPv4 address, or
// the /64 of an IPv6 address. What is neither counts as one as well.
func prefixOf(a net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	addr := ap.Addr().Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(addr, bits).Masked()
}
