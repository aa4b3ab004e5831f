package elfread

import "encoding/binary"

// riscv reads RISC-V code, with compressed instructions: JAL, C.JAL, C.J, and
// AUIPC or LUI with JALR, ADDI or a load.
func (c *coder) riscv(s span) {
	var p pages
	for i := 0; i+2 <= len(s.data); {
		at := s.from + uint64(i)
		h := uint32(binary.LittleEndian.Uint16(s.data[i:]))
		if h&3 != 3 {
			c.compressed(h, at)
			i += 2
			continue
		}
		if i+4 > len(s.data) {
			return
		}
		c.riscv32(binary.LittleEndian.Uint32(s.data[i:]), at, &p)
		i += 4
	}
}

func (c *coder) riscv32(w uint32, at uint64, p *pages) {
	rd, rs := w>>7&31, w>>15&31
	low := signed(uint64(w>>20), 12)
	base, known := p.get(rs, at)
	switch w & 0x7f {
	case 0x6f: // JAL
		c.call(at, at+jalOffset(w), rd == 0)
	case 0x17: // AUIPC
		p.set(rd, at+signed(uint64(w>>12)<<12, 32), at)
	case 0x37: // LUI
		p.set(rd, signed(uint64(w>>12)<<12, 32), at)
	case 0x67: // JALR
		if known {
			c.call(at, base+low, rd == 0)
		}
	case 0x13: // ADDI
		if known && w>>12&7 == 0 {
			c.take(c.narrow(base + low))
		}
	case 0x03: // loads
		if known {
			c.takeSlot(c.narrow(base + low))
		}
	}
}

// narrow cuts an address to the machine's size.
func (c *coder) narrow(v uint64) uint64 {
	if c.p.Bits == 32 {
		return v & (1<<32 - 1)
	}
	return v
}

func jalOffset(w uint32) uint64 {
	return signed(uint64(w>>31)<<20|uint64(w>>12&0xff)<<12|uint64(w>>20&1)<<11|uint64(w>>21&0x3ff)<<1, 21)
}

// compressed reads C.J and, on 32-bit machines, C.JAL.
func (c *coder) compressed(h uint32, at uint64) {
	jump, call := h&0xe003 == 0xa001, h&0xe003 == 0x2001 && c.p.Bits == 32
	if !jump && !call {
		return
	}
	offset := h>>12&1<<11 | h>>11&1<<4 | h>>9&3<<8 | h>>8&1<<10 | h>>7&1<<6 | h>>6&1<<7 | h>>3&7<<1 | h>>2&1<<5
	c.call(at, at+signed(uint64(offset), 12), jump)
}

// riscvStub reads a stub of the procedure linkage table: AUIPC t3; LW or LD t3,
// low(t3).
func (c *coder) riscvStub(b []byte, at uint64) (uint64, bool) {
	if len(b) < 8 {
		return 0, false
	}
	auipc, load := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if auipc&0xfff != 0xe17 || load&0xfffff&^0x1000 != 0xe2e03 {
		return 0, false
	}
	return c.narrow(at + signed(uint64(auipc>>12)<<12, 32) + signed(uint64(load>>20), 12)), true
}
