package mqtt

import (
	"encoding/binary"
	"slices"
)

// maxField is the most bytes of a text or binary field; maxRemaining is the
// largest remaining length (section 2.2.3).
const (
	maxField     = 1<<16 - 1
	maxRemaining = 1<<28 - 1
)

// The flag bits of CONNECT (section 3.1.2.3) and of PUBLISH (section 3.3.1).
const (
	flagClean      = 1 << 1
	flagWill       = 1 << 2
	shiftWillQoS   = 3
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUsername   = 1 << 7

	flagRetain = 1 << 0
	shiftQoS   = 1
	flagDup    = 1 << 3
)

// The options of a filter in SUBSCRIBE (MQTT 5, section 3.8.3.1).
const (
	maskQoS               = 3
	flagNoLocal           = 1 << 2
	flagRetainAsPublished = 1 << 3
	shiftRetainHandling   = 4
)

// flagsRequired are the flag bits that SUBSCRIBE and UNSUBSCRIBE must carry.
const flagsRequired = 2

// AppendTo appends a packet as a version encodes it to dst. A packet that breaks
// a rule, or has what the version does not, is refused with its *Error, and dst
// is returned as it was.
func AppendTo(dst []byte, v Version, p Packet) ([]byte, error) {
	if v == 0 {
		v = V311
	}
	if err := p.check(v); err != nil {
		return dst, err
	}
	start := len(dst)
	out := p.body(append(dst, byte(p.Type())<<4|p.flags(), 0), v)
	n := len(out) - start - 2
	if n > maxRemaining {
		return dst, ErrTooLarge
	}
	var length [binary.MaxVarintLen32]byte
	w := binary.PutUvarint(length[:], uint64(n)) // the same encoding as section 2.2.3
	out[start+1] = length[0]
	return slices.Insert(out, start+2, length[1:w]...), nil
}

// Append implements Packet.
func (p *Connect) Append(dst []byte) ([]byte, error) { return AppendTo(dst, p.Version, p) }

// Append implements Packet.
func (p *Connack) Append(dst []byte) ([]byte, error) { return AppendTo(dst, V311, p) }

// Append implements Packet.
func (p *Publish) Append(dst []byte) ([]byte, error) { return AppendTo(dst, V311, p) }

// Append implements Packet.
func (p *Puback) Append(dst []byte) ([]byte, error) { return AppendTo(dst, V311, p) }

// Append implements Packet.
func (p *Subscribe) Append(dst []byte) ([]byte, error) { return AppendTo(dst, V311, p) }

// Append implements Packet.
func (p *Suback) Append(dst []byte) ([]byte, error) { return AppendTo(dst, V311, p) }

// Append implements Packet.
func (p *Unsubscribe) Append(dst []byte) ([]byte, error) { return AppendTo(dst, V311, p) }

// Append implements Packet.
func (p *Unsuback) Append(dst []byte) ([]byte, error) { return AppendTo(dst, V311, p) }

// Append implements Packet.
func (p *Pingreq) Append(dst []byte) ([]byte, error) { return AppendTo(dst, V311, p) }

// Append implements Packet.
func (p *Pingresp) Append(dst []byte) ([]byte, error) { return AppendTo(dst, V311, p) }

// Append implements Packet.
func (p *Disconnect) Append(dst []byte) ([]byte, error) { return AppendTo(dst, V311, p) }

func (p *Connect) body(b []byte, v Version) []byte {
	b = text(b, "MQTT")
	b = append(b, byte(v), p.connectFlags())
	b = binary.BigEndian.AppendUint16(b, p.KeepAlive)
	b = p.Properties.append(b, v)
	b = text(b, p.ClientID)
	if p.Will != nil {
		b = p.Will.Properties.append(b, v)
		b = text(b, p.Will.Topic)
		b = text(b, p.Will.Payload)
	}
	if p.Username != nil {
		b = text(b, *p.Username)
	}
	if p.Password != nil {
		b = text(b, p.Password)
	}
	return b
}

func (p *Connect) connectFlags() byte {
	var f byte
	if p.Clean {
		f |= flagClean
	}
	if w := p.Will; w != nil {
		f |= flagWill | byte(w.QoS)<<shiftWillQoS
		if w.Retain {
			f |= flagWillRetain
		}
	}
	if p.Username != nil {
		f |= flagUsername
	}
	if p.Password != nil {
		f |= flagPassword
	}
	return f
}

func (p *Connack) body(b []byte, v Version) []byte {
	var present byte
	if p.SessionPresent {
		present = 1
	}
	return p.Properties.append(append(b, present, byte(p.Code)), v)
}

func (p *Publish) body(b []byte, v Version) []byte {
	b = text(b, p.Topic)
	if p.QoS != AtMostOnce {
		b = binary.BigEndian.AppendUint16(b, p.ID)
	}
	return append(p.Properties.append(b, v), p.Payload...)
}

func (p *Puback) body(b []byte, v Version) []byte {
	b = binary.BigEndian.AppendUint16(b, p.ID)
	if p.Code == Success && len(p.Properties) == 0 {
		return b // section 3.4.2.1
	}
	return p.Properties.append(append(b, byte(p.Code)), v)
}

func (p *Subscribe) body(b []byte, v Version) []byte {
	b = p.Properties.append(binary.BigEndian.AppendUint16(b, p.ID), v)
	for _, f := range p.Filters {
		b = append(text(b, f.Filter), f.options())
	}
	return b
}

func (f Filter) options() byte {
	o := byte(f.QoS) | f.RetainHandling<<shiftRetainHandling
	if f.NoLocal {
		o |= flagNoLocal
	}
	if f.RetainAsPublished {
		o |= flagRetainAsPublished
	}
	return o
}

func (p *Suback) body(b []byte, v Version) []byte {
	b = p.Properties.append(binary.BigEndian.AppendUint16(b, p.ID), v)
	return append(b, p.Codes...)
}

func (p *Unsubscribe) body(b []byte, v Version) []byte {
	b = p.Properties.append(binary.BigEndian.AppendUint16(b, p.ID), v)
	for _, f := range p.Filters {
		b = text(b, f)
	}
	return b
}

func (p *Unsuback) body(b []byte, v Version) []byte {
	b = p.Properties.append(binary.BigEndian.AppendUint16(b, p.ID), v)
	return append(b, p.Codes...)
}

func (p *Pingreq) body(b []byte, _ Version) []byte  { return b }
func (p *Pingresp) body(b []byte, _ Version) []byte { return b }

func (p *Disconnect) body(b []byte, v Version) []byte {
	if p.Code == Success && len(p.Properties) == 0 {
		return b // section 3.14.2.1
	}
	return p.Properties.append(append(b, byte(p.Code)), v)
}

func (p *Publish) flags() byte {
	flags := byte(p.QoS) << shiftQoS
	if p.Retain {
		flags |= flagRetain
	}
	if p.Dup {
		flags |= flagDup
	}
	return flags
}

func (*Connect) flags() byte     { return 0 }
func (*Connack) flags() byte     { return 0 }
func (*Puback) flags() byte      { return 0 }
func (*Subscribe) flags() byte   { return flagsRequired }
func (*Suback) flags() byte      { return 0 }
func (*Unsubscribe) flags() byte { return flagsRequired }
func (*Unsuback) flags() byte    { return 0 }
func (*Pingreq) flags() byte     { return 0 }
func (*Pingresp) flags() byte    { return 0 }
func (*Disconnect) flags() byte  { return 0 }

// text appends a field with its two bytes of length, which check has bounded.
func text[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}
