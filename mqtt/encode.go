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

// flagsRequired are the flag bits that SUBSCRIBE and UNSUBSCRIBE must carry.
const flagsRequired = 2

// Append implements Packet.
func (p *Connect) Append(dst []byte) ([]byte, error) {
	return frame(dst, p, 0, func(b []byte) []byte {
		b = text(b, "MQTT")
		b = append(b, byte(V311), p.flags())
		b = binary.BigEndian.AppendUint16(b, p.KeepAlive)
		b = text(b, p.ClientID)
		if p.Will != nil {
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
	})
}

func (p *Connect) flags() byte {
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

// Append implements Packet.
func (p *Connack) Append(dst []byte) ([]byte, error) {
	var present byte
	if p.SessionPresent {
		present = 1
	}
	return frame(dst, p, 0, func(b []byte) []byte { return append(b, present, byte(p.Code)) })
}

// Append implements Packet.
func (p *Publish) Append(dst []byte) ([]byte, error) {
	flags := byte(p.QoS) << shiftQoS
	if p.Retain {
		flags |= flagRetain
	}
	if p.Dup {
		flags |= flagDup
	}
	return frame(dst, p, flags, func(b []byte) []byte {
		b = text(b, p.Topic)
		if p.QoS != AtMostOnce {
			b = binary.BigEndian.AppendUint16(b, p.ID)
		}
		return append(b, p.Payload...)
	})
}

// Append implements Packet.
func (p *Puback) Append(dst []byte) ([]byte, error) {
	return frame(dst, p, 0, func(b []byte) []byte { return binary.BigEndian.AppendUint16(b, p.ID) })
}

// Append implements Packet.
func (p *Subscribe) Append(dst []byte) ([]byte, error) {
	return frame(dst, p, flagsRequired, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint16(b, p.ID)
		for _, f := range p.Filters {
			b = append(text(b, f.Filter), byte(f.QoS))
		}
		return b
	})
}

// Append implements Packet.
func (p *Suback) Append(dst []byte) ([]byte, error) {
	return frame(dst, p, 0, func(b []byte) []byte {
		return append(binary.BigEndian.AppendUint16(b, p.ID), p.Codes...)
	})
}

// Append implements Packet.
func (p *Unsubscribe) Append(dst []byte) ([]byte, error) {
	return frame(dst, p, flagsRequired, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint16(b, p.ID)
		for _, f := range p.Filters {
			b = text(b, f)
		}
		return b
	})
}

// Append implements Packet.
func (p *Unsuback) Append(dst []byte) ([]byte, error) {
	return frame(dst, p, 0, func(b []byte) []byte { return binary.BigEndian.AppendUint16(b, p.ID) })
}

// Append implements Packet.
func (p *Pingreq) Append(dst []byte) ([]byte, error) { return frame(dst, p, 0, nothing) }

// Append implements Packet.
func (p *Pingresp) Append(dst []byte) ([]byte, error) { return frame(dst, p, 0, nothing) }

// Append implements Packet.
func (p *Disconnect) Append(dst []byte) ([]byte, error) { return frame(dst, p, 0, nothing) }

func nothing(b []byte) []byte { return b }

// frame appends the fixed header and what body appends after it.
func frame(dst []byte, p checked, flags byte, body func([]byte) []byte) ([]byte, error) {
	if err := p.check(); err != nil {
		return dst, err
	}
	start := len(dst)
	out := body(append(dst, byte(p.Type())<<4|flags, 0))
	n := len(out) - start - 2
	if n > maxRemaining {
		return dst, ErrTooLarge
	}
	var length [binary.MaxVarintLen32]byte
	w := binary.PutUvarint(length[:], uint64(n)) // the same encoding as section 2.2.3
	out[start+1] = length[0]
	return slices.Insert(out, start+2, length[1:w]...), nil
}

// text appends a field with its two bytes of length, which check has bounded.
func text[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

type checked interface {
	Type() Type
	check() error
}
