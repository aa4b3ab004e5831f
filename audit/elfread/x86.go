package elfread

import (
	"encoding/binary"

	"holdfast/audit/subject"
)

// x86 looks for calls in x86 code without decoding it: at every byte that could
// be CALL or JMP with a 32-bit distance, or one through a word of memory. Where
// there are symbols a target must be the start of a function or a stub, which
// bytes that are no instruction meet once in millions; where there are none, it
// must be in the code.
func (c *coder) x86(s span) {
	order := binary.LittleEndian
	for i := 0; i+5 <= len(s.data); i++ {
		at := s.from + uint64(i)
		switch b := s.data[i]; {
		case b == 0xe8 || b == 0xe9: // CALL, JMP
			if b == 0xe9 && len(c.functions) == 0 {
				continue
			}
			c.call(at, at+5+signed(uint64(order.Uint32(s.data[i+1:])), 32), b == 0xe9)
		case b == 0xff && i+6 <= len(s.data): // CALL and JMP through memory
			if m := s.data[i+1]; (m == 0x15 || m == 0x25) && !c.plt(s) {
				c.callName(at, c.slots[c.x86Operand(s.data[i+2:], at+6)], m == 0x25)
			}
		case b == 0x0f && i+6 <= len(s.data) && s.data[i+1]&0xf0 == 0x80: // Jcc
			if _, ok := c.starts[at+6+signed(uint64(order.Uint32(s.data[i+2:])), 32)]; ok {
				c.call(at, at+6+signed(uint64(order.Uint32(s.data[i+2:])), 32), true)
			}
		case b == 0x8d && i+6 <= len(s.data) && s.data[i+1]&0xc7 == 0x05: // LEA
			c.take(c.x86Operand(s.data[i+2:], at+6))
		case b == 0x8b && i+6 <= len(s.data) && s.data[i+1]&0xc7 == 0x05: // MOV from memory
			c.takeSlot(c.x86Operand(s.data[i+2:], at+6))
		case b&0xf8 == 0xb8, b == 0x68, b == 0xc7: // MOV r, imm32; PUSH imm32; MOV m, imm32
			c.immediates(s.data[i+1:min(len(s.data), i+11)], b == 0xc7)
		}
	}
}

// plt reports whether a section has the stubs of the procedure linkage table.
func (c *coder) plt(s span) bool { return len(s.name) >= 4 && s.name[:4] == ".plt" }

// x86Operand returns the address of a memory operand without registers: counted
// from the next instruction on 64-bit machines, absolute on others.
func (c *coder) x86Operand(b []byte, next uint64) uint64 {
	d := uint64(binary.LittleEndian.Uint32(b))
	if c.p.Arch == subject.X8664 {
		return next + signed(d, 32)
	}
	return d
}

// immediates takes the addresses of functions that a program at fixed addresses
// has as numbers in its code.
func (c *coder) immediates(b []byte, anywhere bool) {
	if c.p.Type != subject.Executable {
		return
	}
	for i := 0; i+4 <= len(b); i++ {
		c.take(uint64(binary.LittleEndian.Uint32(b[i:])))
		if !anywhere {
			return
		}
	}
}

// x86Stub reads a stub of the procedure linkage table: perhaps ENDBR, then JMP
// through a word: [rip+d], [d], or [ebx+d] with ebx at .got.plt.
func (c *coder) x86Stub(b []byte, at uint64) (uint64, bool) {
	if len(b) >= 4 && b[0] == 0xf3 && b[1] == 0x0f && b[2] == 0x1e {
		b, at = b[4:], at+4
	}
	if len(b) >= 1 && b[0] == 0xf2 {
		b, at = b[1:], at+1
	}
	switch {
	case len(b) < 6 || b[0] != 0xff:
		return 0, false
	case b[1] == 0x25:
		return c.x86Operand(b[2:], at+6), true
	case b[1] == 0xa3:
		h, _ := c.section(".got.plt")
		if h.Address == 0 {
			h, _ = c.section(".got")
		}
		return (h.Address + uint64(binary.LittleEndian.Uint32(b[2:]))) & (1<<32 - 1), h.Address != 0
	}
	return 0, false
}
