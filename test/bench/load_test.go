package bench_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// window is how many messages a busy connection has in flight.
const window = 16

// session is a device's MQTT session.
type session struct {
	*tls.Conn
	id  string
	in  *mqtt.Decoder
	buf [4 << 10]byte
	bit []byte // of buf, not yet decoded
}

// open does a full handshake and CONNECT.
func (p *peer) open(d device, hello *mqtt.Connect) (*session, error) {
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 30 * time.Second}, Config: p.tls(d.cert)}).DialContext(context.Background(), "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	s := &session{Conn: conn.(*tls.Conn), id: d.id, in: mqtt.NewDecoder(mqtt.FromServer, mqtt.DefaultLimit)}
	s.in.Version = mqtt.V311
	if hello.ClientID == "" {
		hello.ClientID = d.id
	}
	ack, err := ask[*mqtt.Connack](s, hello)
	if err == nil && ack.Code != mqtt.Accepted {
		err = fmt.Errorf("CONNACK refuses %s: %d", d.id, ack.Code)
	}
	if err != nil {
		s.drop()
		return nil, err
	}
	return s, nil
}

// drop ends the session without a farewell.
func (s *session) drop() { s.NetConn().Close() }

func (s *session) send(p mqtt.Packet) error {
	b, err := p.Append(nil)
	if err != nil {
		return err
	}
	_, err = s.Write(b)
	return err
}

// receive returns the next packet.
func (s *session) receive() (mqtt.Packet, error) {
	for {
		p, rest, err := s.in.Next(s.bit)
		s.bit = rest
		if p != nil || err != nil {
			return p, err
		}
		n, err := s.Read(s.buf[:])
		if err != nil {
			return nil, err
		}
		s.bit = s.buf[:n]
	}
}

// ask sends a packet and returns the next one of a kind.
func ask[T mqtt.Packet](s *session, p mqtt.Packet) (want T, err error) {
	if err := s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return want, err
	}
	if err := s.send(p); err != nil {
		return want, err
	}
	for {
		got, err := s.receive()
		if err != nil {
			return want, fmt.Errorf("%s: %w", s.id, err)
		}
		if want, ok := got.(T); ok {
			return want, nil
		}
	}
}

func (s *session) subscribe(filter string, qos mqtt.QoS) error {
	ack, err := ask[*mqtt.Suback](s, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: filter, QoS: qos}}})
	if err == nil && ack.Codes[0] == mqtt.SubackFailure {
		err = fmt.Errorf("%s: subscription to %s is refused", s.id, filter)
	}
	return err
}

// openAll opens a session for each device, 32 at a time.
func (p *peer) openAll(b testing.TB, ds []device) []*session {
	b.Helper()
	ss := make([]*session, len(ds))
	slots := make(chan struct{}, 32)
	var group sync.WaitGroup
	for i, d := range ds {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			s, err := p.open(d, &mqtt.Connect{Clean: true})
			if err != nil {
				b.Errorf("%s: %v", p.name, err)
				return
			}
			ss[i] = s
		})
	}
	group.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return ss
}

// keep has NATS store what is published: without a session that is to get it,
// it acknowledges and forgets.
func keep(b testing.TB, a *authority, nats *peer) {
	b.Helper()
	s, err := nats.open(a.devices(b, "keeper", 1)[0], &mqtt.Connect{})
	if err == nil {
		err = s.subscribe("devices/#", mqtt.AtLeastOnce)
	}
	if err != nil {
		b.Fatal(err)
	}
	s.drop()
}

// count is what a load has done.
type count struct {
	mu   sync.Mutex
	took []time.Duration // of each message until its acknowledgement
}

func (c *count) add(took []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = append(c.took, took...)
}

// rate is the messages per second, and what half and all but a hundredth of
// them took at most.
func (c *count) rate(over time.Duration) (rate float64, p50, p99 time.Duration) {
	slices.Sort(c.took)
	n := len(c.took)
	if n == 0 {
		return 0, 0, 0
	}
	return float64(n) / over.Seconds(), c.took[n/2], c.took[n*99/100]
}

// publish has each session send for a while with so many messages in flight.
func publish(b testing.TB, ss []*session, flight int, d time.Duration) *count {
	b.Helper()
	c := &count{}
	var group sync.WaitGroup
	for _, s := range ss {
		group.Go(func() {
			took, err := s.publish(flight, d)
			if err != nil {
				b.Error(err)
			}
			c.add(took)
		})
	}
	group.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return c
}

func telemetry(id string, packet uint16) *mqtt.Publish {
	return &mqtt.Publish{Topic: iothub.Events{Device: identity.Device(id)}.String(), QoS: mqtt.AtLeastOnce, ID: packet, Payload: make([]byte, 128)}
}

// messages are n messages one after the other, packet ids 1 to n.
func (s *session) messages(n int) (all []byte, err error) {
	for i := range n {
		if all, err = telemetry(s.id, uint16(i+1)).Append(all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// publish sends for a while and takes the acknowledgements of all that it sent.
// Acknowledgements come in order, so only their number counts.
func (s *session) publish(flight int, d time.Duration) ([]time.Duration, error) {
	ring, err := s.messages(flight)
	if err != nil {
		return nil, err
	}
	size := len(ring) / flight
	ring = append(ring, ring...) // so that any run of them is in one piece
	sent := make([]time.Time, flight)
	var took []time.Duration
	began := time.Now()
	if err := s.SetReadDeadline(began.Add(d + patience)); err != nil {
		return nil, err
	}
	send := func(first, n int, now time.Time) error {
		for i := range n {
			sent[(first+i)%flight] = now
		}
		_, err := s.Write(ring[first*size : (first+n)*size])
		return err
	}
	if err := send(0, flight, began); err != nil {
		return nil, err
	}
	for open, rest := flight, 0; open > 0; {
		n, err := s.Read(s.buf[rest:])
		if err != nil {
			return nil, fmt.Errorf("%s after %d acknowledgements: %w", s.id, len(took), err)
		}
		n += rest
		first, now := len(took)%flight, time.Now()
		for i := 0; i+4 <= n; i += 4 {
			if s.buf[i] != 0x40 || s.buf[i+1] != 2 {
				return nil, fmt.Errorf("%s: %x is no PUBACK: %w", s.id, s.buf[i:i+4], io.ErrUnexpectedEOF)
			}
			took = append(took, now.Sub(sent[len(took)%flight]))
		}
		acked := n / 4
		rest = copy(s.buf[:], s.buf[4*acked:n])
		if now.Sub(began) >= d {
			open -= acked
		} else if err := send(first, acked, now); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// repeat has n workers do something again and again for a while, and returns
// how often a second it was done.
func repeat(b testing.TB, n int, d time.Duration, do func(worker int) error) float64 {
	b.Helper()
	var group sync.WaitGroup
	done := make([]int, n)
	began := time.Now()
	for w := range n {
		group.Go(func() {
			for time.Since(began) < d {
				if err := do(w); err != nil {
					b.Error(err)
					return
				}
				done[w]++
			}
		})
	}
	group.Wait()
	if b.Failed() {
		b.FailNow()
	}
	sum := 0
	for _, n := range done {
		sum += n
	}
	return float64(sum) / time.Since(began).Seconds()
}
