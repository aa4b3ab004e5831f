package mqtt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
)

// DefaultLimit is the largest packet that a decoder should take: a message of
// 256 KiB and its topic with properties.
const DefaultLimit = 256<<10 + 16<<10

// MaxFilters is the most topic filters of one packet: decoded they take far
// more memory than the bytes that asked for them.
const MaxFilters = 256

// Side says whose packets a Decoder reads.
type Side byte

// The sides of a connection.
const (
	FromClient Side = iota
	FromServer
)

// Decoder turns the bytes of one direction of one connection into packets.
// It holds only what arrived of an unfinished packet, never more than its
// limit, and refuses everything after the first error.
type Decoder struct {
	// Version is what the connection speaks. Reading from a client, CONNECT
	// sets it; reading from a server, the caller does.
	Version Version

	side  Side
	limit int
	part  []byte // the beginning of a packet, nil between packets
	err   error
}

// NewDecoder returns a decoder of what one side sends, which refuses packets
// of more than limit bytes, header included.
func NewDecoder(from Side, limit int) *Decoder {
	return &Decoder{side: from, limit: limit}
}

// SetLimit changes the largest packet, from the next one on.
func (d *Decoder) SetLimit(limit int) { d.limit = limit }

// Partial reports whether the beginning of a packet is waiting for its end.
func (d *Decoder) Partial() bool { return d.part != nil }

// Feed yields the packets that b completes. An error is the last thing it ever
// yields. A consumer that stops early gives up the rest of b. A packet's byte
// slices are valid only until the next step, except those of CONNECT.
func (d *Decoder) Feed(b []byte) iter.Seq2[Packet, error] {
	return func(yield func(Packet, error) bool) {
		for {
			p, rest, err := d.Next(b)
			if p == nil && err == nil || !yield(p, err) || err != nil {
				return
			}
			b = rest
		}
	}
}

// Next is Feed for one packet: it takes bytes from b until a packet is
// complete, and returns it with the bytes it did not take. Without an error
// the packet is nil when b has been used up.
func (d *Decoder) Next(b []byte) (Packet, []byte, error) {
	for len(b) > 0 && d.err == nil {
		var p Packet
		if p, b, d.err = d.step(b); p != nil {
			return p, b, nil
		}
	}
	if d.err != nil {
		d.part = nil
	}
	return nil, nil, d.err
}

// step takes bytes from b until a packet is complete or b is used up.
func (d *Decoder) step(b []byte) (Packet, []byte, error) {
	if d.part == nil {
		size, err := d.size(b)
		if err != nil || size > 0 && size <= len(b) {
			return d.finish(b, size, err)
		}
		d.part = bytes.Clone(b)
		return nil, nil, nil
	}
	want := 1 // a header grows byte by byte, until it says how much there is
	if size, _ := d.size(d.part); size > 0 {
		want = min(size-len(d.part), len(b))
	}
	d.part, b = append(d.part, b[:want]...), b[want:]
	size, err := d.size(d.part)
	if err == nil && size != len(d.part) {
		return nil, b, nil
	}
	whole := d.part
	d.part = nil
	p, _, err := d.finish(whole, size, err)
	return p, b, err
}

func (d *Decoder) finish(b []byte, size int, err error) (Packet, []byte, error) {
	if err != nil {
		return nil, nil, err
	}
	p, err := d.decode(b[:size])
	return p, b[size:], err
}

// size returns the size of the packet that b begins, or zero while its header
// is incomplete. It refuses a packet by its header alone where it can.
func (d *Decoder) size(b []byte) (int, error) {
	if err := d.header(b[0]); err != nil {
		return 0, err
	}
	for i, c := range b[1:] {
		switch {
		case i == 3 && c >= 0x80:
			return 0, ErrLength
		case i > 0 && c == 0:
			return 0, ErrOverlong
		case c >= 0x80:
			continue
		}
		n, w := binary.Uvarint(b[1 : i+2])
		if int(n)+1+w > d.limit {
			return 0, ErrTooLarge
		}
		return int(n) + 1 + w, nil
	}
	return 0, nil
}

// header checks the first byte of a packet.
func (d *Decoder) header(first byte) error {
	t, flags := Type(first>>4), first&0x0f
	from := FromClient
	var want byte
	switch t {
	case PUBLISH, PUBACK:
		from = d.side
	case SUBSCRIBE, UNSUBSCRIBE:
		want = flagsRequired
	case CONNACK, SUBACK, UNSUBACK, PINGRESP:
		from = FromServer
	case DISCONNECT:
		if d.Version == V5 {
			from = d.side
		}
	case CONNECT, PINGREQ:
	default:
		return ErrType
	}
	switch {
	case from != d.side:
		return ErrType
	case t != PUBLISH && flags != want:
		return ErrFlags
	}
	return nil
}

// decode reads one whole packet whose header has been checked.
func (d *Decoder) decode(b []byte) (Packet, error) {
	_, w := binary.Uvarint(b[1:])
	r := &reader{b: b[1+w:]}
	v := cmp.Or(d.Version, V311)
	p := d.body(Type(b[0]>>4), b[0]&0x0f, r, v)
	switch {
	case r.err != nil:
		return nil, r.err
	case len(r.b) > 0:
		return nil, ErrTrailing
	}
	if c, ok := p.(*Connect); ok {
		v = c.Version
	}
	if err := p.check(v); err != nil {
		return nil, err
	}
	if p.Type() == CONNECT {
		d.Version = v
	}
	return p, nil
}

func (d *Decoder) body(t Type, flags byte, r *reader, v Version) Packet {
	switch t {
	case CONNECT:
		return readConnect(r)
	case CONNACK:
		return readConnack(r, v)
	case PUBLISH:
		return readPublish(r, flags, v)
	case PUBACK:
		p := &Puback{ID: r.uint16()}
		p.Code, p.Properties = r.reason(v)
		return p
	case SUBSCRIBE:
		return readSubscribe(r, v)
	case SUBACK:
		return &Suback{ID: r.uint16(), Properties: r.properties(v), Codes: r.rest()}
	case UNSUBSCRIBE:
		return readUnsubscribe(r, v)
	case UNSUBACK:
		return readUnsuback(r, v)
	case PINGREQ:
		return &Pingreq{}
	case PINGRESP:
		return &Pingresp{}
	}
	p := &Disconnect{} // header lets nothing else through
	p.Code, p.Properties = r.reason(v)
	return p
}

// reason reads a reason code and properties, which MQTT 5 lets a packet leave
// out at its end.
func (r *reader) reason(v Version) (Code, Properties) {
	if v != V5 || len(r.b) == 0 {
		return Success, nil
	}
	c := Code(r.uint8())
	if len(r.b) == 0 {
		return c, nil
	}
	return c, r.properties(v)
}

func readConnect(r *reader) *Connect {
	name, level, flags := r.text(), Version(r.uint8()), r.uint8()
	switch {
	case r.err != nil:
		return nil
	case name != "MQTT" && name != "MQIsdp": // MQIsdp: 3.1, which is told its level is not served
		return fail[Connect](r, ErrProtocol)
	case level != V311 && level != V5 || name != "MQTT":
		return fail[Connect](r, ErrVersion)
	case flags&1 != 0:
		return fail[Connect](r, ErrConnectFlags)
	case flags&flagWill == 0 && flags&(flagWillRetain|3<<shiftWillQoS) != 0:
		return fail[Connect](r, ErrWillFlags)
	case level == V311 && flags&flagUsername == 0 && flags&flagPassword != 0:
		return fail[Connect](r, ErrPassword)
	}
	c := &Connect{Version: level, Clean: flags&flagClean != 0, KeepAlive: r.uint16()}
	c.Properties = r.properties(level).own()
	c.ClientID = r.text()
	if flags&flagWill != 0 {
		c.Will = &Will{Properties: r.properties(level).own(), Topic: r.text(), Payload: bytes.Clone(r.bytes())}
		c.Will.QoS, c.Will.Retain = QoS(flags>>shiftWillQoS&3), flags&flagWillRetain != 0
	}
	if flags&flagUsername != 0 {
		user := r.text()
		c.Username = &user
	}
	if flags&flagPassword != 0 {
		c.Password = append([]byte{}, r.bytes()...)
	}
	return c
}

// own gives the properties of a CONNECT their own bytes.
func (ps Properties) own() Properties {
	for i := range ps {
		ps[i].Data = bytes.Clone(ps[i].Data)
	}
	return ps
}

func readConnack(r *reader, v Version) *Connack {
	flags, code := r.uint8(), Code(r.uint8())
	if flags > 1 {
		return fail[Connack](r, ErrConnack)
	}
	return &Connack{SessionPresent: flags == 1, Code: code, Properties: r.properties(v)}
}

func readPublish(r *reader, flags byte, v Version) *Publish {
	p := &Publish{Retain: flags&flagRetain != 0, QoS: QoS(flags >> shiftQoS & 3), Dup: flags&flagDup != 0}
	if p.QoS > ExactlyOnce {
		return fail[Publish](r, ErrQoS)
	}
	p.Topic = r.text()
	if p.QoS != AtMostOnce {
		p.ID = r.uint16()
	}
	p.Properties = r.properties(v)
	p.Payload = r.rest()
	return p
}

func readSubscribe(r *reader, v Version) *Subscribe {
	p := &Subscribe{ID: r.uint16(), Properties: r.properties(v)}
	for len(r.b) > 0 && r.err == nil && len(p.Filters) <= MaxFilters {
		p.Filters = append(p.Filters, readFilter(r, v))
	}
	if len(p.Filters) > MaxFilters {
		return fail[Subscribe](r, ErrTooManyFilters)
	}
	return p
}

func readFilter(r *reader, v Version) Filter {
	f := Filter{Filter: r.text()}
	o := r.uint8()
	if v != V5 {
		f.QoS = QoS(o)
		return f
	}
	f.QoS, f.RetainHandling = QoS(o&maskQoS), o>>shiftRetainHandling
	f.NoLocal, f.RetainAsPublished = o&flagNoLocal != 0, o&flagRetainAsPublished != 0
	return f
}

func readUnsubscribe(r *reader, v Version) *Unsubscribe {
	p := &Unsubscribe{ID: r.uint16(), Properties: r.properties(v)}
	for len(r.b) > 0 && r.err == nil && len(p.Filters) <= MaxFilters {
		p.Filters = append(p.Filters, r.text())
	}
	if len(p.Filters) > MaxFilters {
		return fail[Unsubscribe](r, ErrTooManyFilters)
	}
	return p
}

func readUnsuback(r *reader, v Version) *Unsuback {
	p := &Unsuback{ID: r.uint16(), Properties: r.properties(v)}
	if v == V5 {
		p.Codes = r.rest()
	}
	return p
}

// reader takes fields from a packet's body; its first error sticks.
type reader struct {
	b   []byte
	err error
}

func fail[T any](r *reader, err error) *T {
	if r.err == nil {
		r.err = err
	}
	return nil
}

func (r *reader) take(n int) []byte {
	if r.err == nil && n > len(r.b) {
		r.err = ErrTruncated
	}
	if r.err != nil {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) uint8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) bytes() []byte { return r.take(int(r.uint16())) }
func (r *reader) text() string  { return string(r.bytes()) }
func (r *reader) rest() []byte  { return r.take(len(r.b)) }
