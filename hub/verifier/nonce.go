package verifier

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/identity"
)

// Limits of nonces.
const (
	NonceLifetime   = 60 * time.Second
	noncesPerDevice = 32      // within NonceLifetime, spent ones too
	noncesOverall   = 1 << 16 // the same; about 20 MB
)

type nonce [evidence.NonceSize]byte

// grant is a nonce's owner. It is kept until it expires, so that a second use
// is told from a nonce that never was.
type grant struct {
	peer    Peer
	expires time.Time
	spent   bool
}

// nonces are the nonces of the last NonceLifetime.
type nonces struct {
	mu        sync.Mutex
	grants    map[nonce]*grant
	order     []nonce // as given, hence as they expire
	perDevice map[identity.Device]int
}

func newNonces() *nonces {
	return &nonces{grants: make(map[nonce]*grant), perDevice: make(map[identity.Device]int)}
}

// give makes a nonce for a peer.
func (n *nonces) give(p Peer, now time.Time) (evidence.Nonce, error) {
	var v nonce
	rand.Read(v[:])
	p.Exporter = bytes.Clone(p.Exporter)
	g := &grant{peer: p, expires: now.Add(NonceLifetime)}

	n.mu.Lock()
	defer n.mu.Unlock()
	n.expire(now)
	if len(n.grants) >= noncesOverall {
		return evidence.Nonce{}, fault.New(fault.Unavailable, "too many devices attest at once")
	}
	if n.perDevice[p.Device] >= noncesPerDevice {
		return evidence.Nonce{}, fault.New(fault.Unavailable, "too many nonces were asked for within %s", NonceLifetime)
	}
	n.grants[v] = g
	n.order = append(n.order, v)
	n.perDevice[p.Device]++
	return evidence.Nonce{Nonce: v[:], Expires: g.expires.UTC()}, nil
}

// expire forgets what is past its time.
func (n *nonces) expire(now time.Time) {
	for len(n.order) > 0 {
		v := n.order[0]
		g := n.grants[v]
		if now.Before(g.expires) {
			return
		}
		n.order = n.order[1:]
		delete(n.grants, v)
		if n.perDevice[g.peer.Device]--; n.perDevice[g.peer.Device] == 0 {
			delete(n.perDevice, g.peer.Device)
		}
	}
}

// Why a nonce is not good.
var (
	errUnknownNonce = errors.New("nonce: not given by this hub since it started, or expired")
	errSpentNonce   = errors.New("nonce: used before")
)

// spend uses up a nonce of this very peer. Somebody else's stays good: whoever
// learns it cannot take it from its owner.
func (n *nonces) spend(p Peer, value []byte, now time.Time) error {
	if len(value) != evidence.NonceSize {
		return fmt.Errorf("nonce: %d bytes", len(value))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.expire(now)
	g, ok := n.grants[nonce(value)]
	switch {
	case !ok:
		return errUnknownNonce
	case g.peer.Device != p.Device:
		return fmt.Errorf("nonce: given to device %s", g.peer.Device)
	case g.peer.Session != p.Session || !bytes.Equal(g.peer.Exporter, p.Exporter):
		return errors.New("nonce: given to another session of the device")
	case g.spent:
		return errSpentNonce
	}
	g.spent = true
	return nil
}

// refusalsPerMinute is how many refusals of one device go to the ledger.
const refusalsPerMinute = 10

// budget counts refusals per device and minute.
type budget struct {
	mu     sync.Mutex
	minute time.Time
	spent  map[identity.Device]int
}

// spend reports whether the device has not used up its minute.
func (b *budget) spend(d identity.Device, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := now.Truncate(time.Minute); b.spent == nil || !m.Equal(b.minute) {
		b.minute, b.spent = m, make(map[identity.Device]int)
	}
	b.spent[d]++
	return b.spent[d] <= refusalsPerMinute
}
