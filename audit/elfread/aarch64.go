package elfread

import "encoding/binary"

// pages are addresses of pages that ADRP put into registers.
type pages struct {
	value [32]uint64
	at    [32]uint64
}

func (p *pages) set(n uint32, v, at uint64) { p.value[n&31], p.at[n&31] = v, at+1 }

// get returns a register's page when it was set in the last instructions.
func (p *pages) get(n uint32, at uint64) (uint64, bool) {
	set := p.at[n&31]
	return p.value[n&31], set != 0 && at+1 > set && at+1-set < window
}

// aarch64 reads A64 code: BL, B, and addresses made by ADRP with ADD or LDR, by
// ADR and by LDR of a literal. Code is little-endian on every machine.
func (c *coder) aarch64(s span) {
	var p pages
	skip := int(-s.from & 3)
	for i := skip; i+4 <= len(s.data); i += 4 {
		at := s.from + uint64(i)
		w := binary.LittleEndian.Uint32(s.data[i:])
		rd, rn := w&31, w>>5&31
		switch {
		case w>>26 == 0x25: // BL
			c.call(at, at+signed(uint64(w&0x3ffffff)<<2, 28), false)
		case w>>26 == 0x05: // B
			c.call(at, at+signed(uint64(w&0x3ffffff)<<2, 28), true)
		case w&0x9f000000 == 0x90000000: // ADRP
			p.set(rd, at&^0xfff+adrOffset(w)<<12, at)
		case w&0x9f000000 == 0x10000000: // ADR
			c.take(at + adrOffset(w))
		case w&0xff800000 == 0x91000000: // ADD Xd, Xn, #imm
			if page, ok := p.get(rn, at); ok {
				c.take(page + immediate12(w))
			}
		case w&0xffc00000 == 0xf9400000: // LDR Xt, [Xn, #imm*8]
			if page, ok := p.get(rn, at); ok {
				c.takeSlot(page + uint64(w>>10&0xfff)*8)
			}
		case w>>24 == 0x58: // LDR Xt, literal
			c.word64(at + signed(uint64(w>>5&0x7ffff)<<2, 21))
		}
	}
}

// word64 takes the address in a word of code.
func (c *coder) word64(at uint64) {
	c.literals[at] = true
	if b := c.p.Bytes(at, 8); b != nil {
		c.take(c.order.Uint64(b))
	}
}

func adrOffset(w uint32) uint64 {
	return signed(uint64(w>>5&0x7ffff)<<2|uint64(w>>29&3), 21)
}

func immediate12(w uint32) uint64 { return uint64(w>>10&0xfff) << (w >> 22 & 1 * 12) }

// aarch64Stub reads a stub of the procedure linkage table: perhaps BTI, then
// ADRP x16; LDR x17, [x16, #imm].
func (c *coder) aarch64Stub(b []byte, at uint64) (uint64, bool) {
	const bti = 0xd503245f
	if len(b) >= 4 && binary.LittleEndian.Uint32(b) == bti {
		b, at = b[4:], at+4
	}
	if len(b) < 8 {
		return 0, false
	}
	adrp, ldr := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if adrp&0x9f00001f != 0x90000010 || ldr&0xffc003ff != 0xf9400211 {
		return 0, false
	}
	return at&^0xfff + adrOffset(adrp)<<12 + uint64(ldr>>10&0xfff)*8, true
}
