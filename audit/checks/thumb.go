package checks

import (
	"math/bits"

	"holdfast/audit/subject"
)

// halfwords calls f with the code of a program of ARM, two bytes at a time,
// until f says that it has seen enough. next is the halfword behind. Code is
// little endian on all cores that have it this way.
func halfwords(p *subject.Program, f func(at uint64, this, next uint16) bool) {
	for _, s := range p.Sections {
		b := p.SectionData(s)
		if !s.Alloc || !s.Exec || s.Address&1 != 0 {
			continue
		}
		for i := 0; i+1 < len(b); i += 2 {
			this, next := uint16(b[i])|uint16(b[i+1])<<8, uint16(0)
			if i+3 < len(b) {
				next = uint16(b[i+2]) | uint16(b[i+3])<<8
			}
			if !f(s.Address+uint64(i), this, next) {
				return
			}
		}
	}
}

// bytesOfCode reports whether any two halfwords of the code are what is tells.
func bytesOfCode(p *subject.Program, is func(first, second uint16) bool) bool {
	found := false
	halfwords(p, func(_ uint64, first, second uint16) bool {
		found = is(first, second)
		return !found
	})
	return found
}

// constant returns where the code of an ARM program has a number: as a word
// that an instruction loads, in one MOV, or in a pair of MOVW and MOVT
// (Thumb-2).
func constant(p *subject.Program, n uint32) (uint64, bool) {
	var found uint64
	var half [16]bool // registers whose lower half has been set to n's
	low, high := uint16(n), uint16(n>>16)
	ok := false
	halfwords(p, func(at uint64, this, next uint16) bool {
		if at&3 == 0 && this == low && next == high {
			found, ok = at, true
			return false
		}
		if value, _, is := moved(this, next); is && value == n {
			found, ok = at, true
			return false
		}
		if value, r, is := movw(this, next); is {
			half[r] = value == low
		}
		if value, r, is := movt(this, next); is && half[r] && value == high {
			found, ok = at, true
			return false
		}
		return true
	})
	return found, ok
}

// movw decodes MOVW (T3 of MOV immediate).
func movw(first, second uint16) (value uint16, register int, ok bool) {
	return wide(first, second, 0xf240)
}

// movt decodes MOVT.
func movt(first, second uint16) (value uint16, register int, ok bool) {
	return wide(first, second, 0xf2c0)
}

func wide(first, second, code uint16) (uint16, int, bool) {
	if first&0xfbf0 != code || second&0x8000 != 0 {
		return 0, 0, false
	}
	return first&0xf<<12 | first>>10&1<<11 | second>>12&7<<8 | second&0xff, int(second >> 8 & 0xf), true
}

// moved decodes MOV.W of a modified immediate (ARMv7-M, A5.3.2).
func moved(first, second uint16) (value uint32, register int, ok bool) {
	if first&0xfbef != 0xf04f || second&0x8000 != 0 {
		return 0, 0, false
	}
	imm := uint32(first>>10&1<<11 | second>>12&7<<8 | second&0xff)
	b := imm & 0xff
	switch imm >> 8 {
	case 0:
		value = b
	case 1:
		value = b<<16 | b
	case 2:
		value = b<<24 | b<<8
	case 3:
		value = b<<24 | b<<16 | b<<8 | b
	default:
		value = bits.RotateLeft32(0x80|b&0x7f, -int(imm>>7))
	}
	return value, int(second >> 8 & 0xf), true
}

// argument returns the number that a call has as an argument (0 to 3), where
// the instruction that sets it is among the few before it: Thumb, and x86-64
// for the first four.
func argument(p *subject.Program, c subject.Call, n int) (uint64, bool) {
	switch {
	case n < 0 || n > 3:
	case p.Arch == subject.ARM:
		return thumbArgument(p, c, n)
	case p.Arch == subject.X8664:
		return x86Argument(p, c, n)
	}
	return 0, false
}

func thumbArgument(p *subject.Program, c subject.Call, n int) (uint64, bool) {
	const window = 48
	sym, ok := p.SymbolAt(c.Site)
	if !ok || !sym.Thumb || c.Site < sym.Address {
		return 0, false
	}
	from := sym.Address
	b := p.Bytes(from, int(min(c.Site-from, 1<<16)))
	var value uint64
	at, known := 0, false
	for i := 0; i+1 < len(b); {
		this, next, size := uint16(b[i])|uint16(b[i+1])<<8, uint16(0), 2
		if this>>11 >= 0x1d && i+3 < len(b) {
			next, size = uint16(b[i+2])|uint16(b[i+3])<<8, 4
		}
		whole, into, set := moved(this, next)
		switch v, reg, is := movw(this, next); {
		case this&0xf800 == 0x2000 && int(this>>8&7) == n: // MOVS Rd, #imm8
			value, known, at = uint64(this&0xff), true, i
		case size == 4 && is && reg == n:
			value, known, at = uint64(v), true, i
		case size == 4 && set && into == n:
			value, known, at = uint64(whole), true, i
		case size == 4 && this>>11 == 0x1e && next&0xc000 == 0xc000: // BL, BLX
			known = false
		case writes(this, n):
			known = false
		}
		i += size
	}
	return value, known && len(b)-at <= window
}

// writes reports whether a 16-bit instruction sets a low register in a way
// that is not a number: LDR, MOV, ADD and the like.
func writes(this uint16, n int) bool {
	rd := int(this & 7)
	switch {
	case this>>11 == 9, this>>11 == 0x12, this>>11 == 0x13, this>>11 == 0x14, this>>11 == 0x15, this>>11 == 6, this>>11 == 7: // literal, from the stack, addresses, ADD and SUB
		return int(this>>8&7) == n
	case this>>13 == 0, this>>10 == 0x10, this>>9 == 0x2c, this>>9 == 0x2d, this>>9 == 0x2e, this>>11 == 0xd, this>>11 == 0xf, this>>11 == 0x11: // shifts, arithmetic, loads
		return rd == n
	case this&0xff00 == 0x4600: // MOV between registers
		return int(this&7|this>>4&8) == n
	}
	return false
}

// x86Argument reads MOV r32, imm32 and XOR r32, r32 for edi, esi, edx and ecx.
func x86Argument(p *subject.Program, c subject.Call, n int) (uint64, bool) {
	const window = 24
	number := []byte{7, 6, 2, 1}[n]
	b := p.Bytes(c.Site-window, window)
	for i := len(b) - 2; i >= 0; i-- {
		switch {
		case b[i] == 0xe8 && i+5 <= len(b):
			return 0, false // another call lies between
		case b[i] == 0x31 && b[i+1] == 0xc0|number<<3|number:
			return 0, true
		case b[i] == 0xb8+number && i+5 <= len(b):
			return uint64(b[i+1]) | uint64(b[i+2])<<8 | uint64(b[i+3])<<16 | uint64(b[i+4])<<24, true
		}
	}
	return 0, false
}
