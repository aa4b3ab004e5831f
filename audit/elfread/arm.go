package elfread

import (
	"encoding/binary"
	"math/bits"
)

// arm reads ARM and Thumb code between the mapping symbols; without any, as the
// entry point and the machine's profile say.
func (c *coder) arm(s span) {
	kind := byte('a')
	if c.p.Entry&1 != 0 || c.thumbOnly() {
		kind = 't'
	}
	at := s.from
	for _, m := range c.marks {
		if m.address < s.from || m.address >= s.to || m.kind == 'x' {
			continue
		}
		c.armRun(s, at, m.address, kind)
		at, kind = m.address, m.kind
	}
	c.armRun(s, at, s.to, kind)
}

func (c *coder) armRun(s span, from, to uint64, kind byte) {
	if from >= to {
		return
	}
	b := s.data[from-s.from : to-s.from]
	switch kind {
	case 't':
		c.thumb(b, from)
	case 'a':
		c.a32(b, from)
	}
}

// instructions returns the byte order of ARM code: little even on big-endian
// machines from ARMv6 on (BE8).
func (c *coder) instructions() binary.ByteOrder {
	const be8 = 0x00800000
	if c.p.Big && c.flags&be8 == 0 {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// registers are addresses that the last instructions put into registers.
type registers struct {
	value [16]uint64
	at    [16]uint64 // address of the instruction; 0: not known
}

// window is how many bytes of code a register's address is believed for.
const window = 48

func (r *registers) set(n uint32, value, at uint64) { r.value[n&15], r.at[n&15] = value, at+1 }

func (r *registers) forget(n uint32) { r.at[n&15] = 0 }

// get returns a register's address when it is still known.
func (r *registers) get(n uint32, at uint64) (uint64, bool) {
	set := r.at[n&15]
	return r.value[n&15], set != 0 && at+1 > set && at+1-set < window
}

// called forgets what a call may change.
func (r *registers) called() {
	for _, n := range []uint32{0, 1, 2, 3, 12, 14} {
		r.forget(n)
	}
}

// thumb reads Thumb-2 code (Arm Architecture Reference Manual, "Thumb
// instruction set encoding"): BL, BLX, B and B.W, loads of literals, MOVW with
// MOVT, and BLX and BX of a register that one of these filled.
func (c *coder) thumb(b []byte, base uint64) {
	order := c.instructions()
	var regs registers
	for i := 0; i+2 <= len(b); {
		at := base + uint64(i)
		hw := uint32(order.Uint16(b[i:]))
		if hw>>11 < 0x1d { // 16 bits
			c.thumb16(hw, at, &regs)
			i += 2
			continue
		}
		if i+4 > len(b) {
			return
		}
		c.thumb32(hw, uint32(order.Uint16(b[i+2:])), at, &regs)
		i += 4
	}
}

func (c *coder) thumb16(hw uint32, at uint64, regs *registers) {
	switch {
	case hw>>11 == 0x09: // LDR Rt, [PC, #imm8*4]
		c.literal(hw>>8&7, (at+4)&^3+uint64(hw&0xff)*4, at, regs)
	case hw>>8 == 0x47: // BX, BLX Rm
		c.branchRegister(hw>>3&15, hw&0x80 == 0, at, regs)
	case hw>>11 == 0x1c: // B
		c.call(at, at+4+signed(uint64(hw&0x7ff)<<1, 12), true)
	case hw>>12 == 0xb && hw>>8 != 0xbc && hw>>8 != 0xbd: // stack, hints, CBZ: no low register but by extension
		if hw>>8 == 0xb2 || hw>>8 == 0xba {
			regs.forget(hw & 7)
		}
	case hw>>12 == 0xb: // POP
		for n := range uint32(8) {
			if hw>>n&1 != 0 {
				regs.forget(n)
			}
		}
	case hw>>13 == 1 && hw>>11&3 != 1, hw>>12 == 0x9, hw>>12 == 0xa: // Rd in bits 8 to 10
		regs.forget(hw >> 8 & 7)
	case hw>>10 == 0x11: // MOV, ADD with high registers
		regs.forget(hw&7 | hw>>4&8)
	case hw>>12 < 9:
		regs.forget(hw & 7)
	}
}

func (c *coder) thumb32(hw, hw2 uint32, at uint64, regs *registers) {
	switch {
	case hw>>11 == 0x1e && hw2>>15 == 1:
		c.thumbBranch(hw, hw2, at, regs)
	case hw&0xff7f == 0xf85f: // LDR.W Rt, [PC, #imm12]
		offset := uint64(hw2 & 0xfff)
		if hw&0x80 == 0 {
			offset = -offset
		}
		c.literal(hw2>>12, (at+4)&^3+offset, at, regs)
	case hw&0xfbf0 == 0xf240 && hw2>>15 == 0: // MOVW
		regs.set(hw2>>8, uint64(wideImmediate(hw, hw2)), at)
	case hw&0xfbf0 == 0xf2c0 && hw2>>15 == 0: // MOVT
		c.top(hw2>>8, wideImmediate(hw, hw2), at, regs)
	default:
		regs.forget(hw2 >> 8)
		regs.forget(hw2 >> 12)
	}
}

func wideImmediate(hw, hw2 uint32) uint32 {
	return hw&15<<12 | hw>>10&1<<11 | hw2>>12&7<<8 | hw2&0xff
}

// top puts the upper half into a register whose lower half is known: the two
// make an address.
func (c *coder) top(register, upper uint32, at uint64, regs *registers) {
	low, ok := regs.get(register, at)
	regs.forget(register)
	if ok {
		v := low&0xffff | uint64(upper)<<16
		regs.set(register, v, at)
		c.take(v)
	}
}

// thumbBranch reads the 32-bit branches.
func (c *coder) thumbBranch(hw, hw2 uint32, at uint64, regs *registers) {
	s := uint64(hw >> 10 & 1)
	j1, j2 := uint64(hw2>>13&1), uint64(hw2>>11&1)
	i1, i2 := 1^j1^s, 1^j2^s
	offset := signed(s<<24|i1<<23|i2<<22|uint64(hw&0x3ff)<<12|uint64(hw2&0x7ff)<<1, 25)
	switch hw2 >> 12 & 5 {
	case 5: // BL
		c.call(at, at+4+offset, false)
		regs.called()
	case 4: // BLX, to ARM code
		c.call(at, (at+4+offset)&^3, false)
		regs.called()
	case 1: // B.W
		c.call(at, at+4+offset, true)
	case 0: // B<c>.W
		if hw>>6&14 != 14 {
			c.call(at, at+4+signed(s<<20|j2<<19|j1<<18|uint64(hw&0x3f)<<12|uint64(hw2&0x7ff)<<1, 21), true)
		}
	}
}

// literal notes a word that an instruction loads into a register: an address
// that is called, or of which only is known that it is taken.
func (c *coder) literal(register uint32, from, at uint64, regs *registers) {
	regs.forget(register)
	c.literals[from] = true
	b := c.p.Bytes(from, 4)
	if b == nil {
		return
	}
	v := uint64(c.order.Uint32(b))
	regs.set(register, v, at)
	if register&15 == 15 { // LDR PC: a jump
		c.call(at, v&^1, true)
	}
	c.take(v)
}

func (c *coder) branchRegister(register uint32, tail bool, at uint64, regs *registers) {
	if v, ok := regs.get(register, at); ok && v != 0 {
		c.call(at, v&^1, tail)
	}
	if !tail {
		regs.called()
	}
}

// a32 reads ARM code of 32-bit instructions.
func (c *coder) a32(b []byte, base uint64) {
	order := c.instructions()
	var regs registers
	skip := int(-base & 3)
	for i := skip; i+4 <= len(b); i += 4 {
		at := base + uint64(i)
		w := order.Uint32(b[i:])
		offset := signed(uint64(w&0xffffff)<<2, 26)
		switch {
		case w>>25 == 0x7d: // BLX, to Thumb code
			c.call(at, at+8+offset+uint64(w>>24&1)<<1, false)
			regs.called()
		case w>>28 == 15:
		case w>>24&15 == 11: // BL
			c.call(at, at+8+offset, false)
			regs.called()
		case w>>24&15 == 10: // B
			c.call(at, at+8+offset, true)
		case w&0x0f7f0000 == 0x051f0000: // LDR Rt, [PC, #imm12]
			from := uint64(w & 0xfff)
			if w>>23&1 == 0 {
				from = -from
			}
			c.literal(w>>12&15, at+8+from, at, &regs)
		case w&0x0ff00000 == 0x03000000: // MOVW
			regs.set(w>>12, uint64(w>>4&0xf000|w&0xfff), at)
		case w&0x0ff00000 == 0x03400000: // MOVT
			c.top(w>>12, w>>4&0xf000|w&0xfff, at, &regs)
		case w&0x0fffffd0 == 0x012fff10: // BX, BLX Rm
			c.branchRegister(w&15, w&0x20 == 0, at, &regs)
		default:
			regs.forget(w >> 12)
		}
	}
}

// armStub reads a stub of the procedure linkage table: ADD ip, pc, #a; ADD ip,
// ip, #b; LDR pc, [ip, #c]!; perhaps behind "BX PC; NOP" for Thumb.
func (c *coder) armStub(b []byte, at uint64) (uint64, bool) {
	order := c.instructions()
	if len(b) >= 4 && order.Uint16(b) == 0x4778 {
		b, at = b[4:], at+4
	}
	if len(b) < 12 {
		return 0, false
	}
	w0, w1, w2 := order.Uint32(b), order.Uint32(b[4:]), order.Uint32(b[8:])
	if w0&0xfffff000 != 0xe28fc000 || w1&0xfffff000 != 0xe28cc000 || w2&0xfffff000 != 0xe5bcf000 {
		return 0, false
	}
	return (at + 8 + armImmediate(w0) + armImmediate(w1) + uint64(w2&0xfff)) & (1<<32 - 1), true
}

// armImmediate returns the rotated immediate of a data-processing instruction.
func armImmediate(w uint32) uint64 {
	return uint64(bits.RotateLeft32(w&0xff, -int(w>>8&15*2)))
}

// signed extends the sign of a number of some bits.
func signed(v uint64, size uint) uint64 {
	return uint64(int64(v<<(64-size)) >> (64 - size))
}
