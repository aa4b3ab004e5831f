package elfread

import (
	"bytes"

	"holdfast/audit/subject"
)

// frame is what call frame information tells of the code from an address on.
type frame struct {
	code  uint64 // bytes of code
	stack int64  // bytes of stack
}

// frames reads the call frame information (DWARF 5 section 6.4): how far each
// function moves the stack pointer, as far as it tells. Functions with a frame
// pointer tell less on x86: there the locals' places say the rest.
func (r *reader) frames() {
	r.frameSizes = map[uint64]frame{}
	if r.p.Type == subject.Relocatable {
		return // addresses are not known
	}
	for _, h := range r.headers {
		if name := h.Name; name == ".eh_frame" || name == ".debug_frame" {
			b, err := r.unpacked(h, r.limits.DebugSize)
			if err != nil {
				r.trouble(int64(h.Offset), "%s: %v", name, err)
				continue
			}
			f := frameSection{reader: r, data: b, address: h.Address, exception: name == ".eh_frame", cies: map[uint64]cie{}}
			f.read()
		}
	}
	r.nameFrames()
}

// nameFrames moves the sizes to the functions' names.
func (r *reader) nameFrames() {
	if r.p.Stacks == nil {
		r.p.Stacks = map[string]subject.Frame{}
	}
	for _, s := range r.p.Symbols {
		f, ok := r.frameSizes[s.Address]
		if !ok || s.Kind != subject.FuncSymbol || s.Undefined {
			continue
		}
		before := r.p.Stacks[s.Name]
		if f.stack >= before.Bytes {
			r.p.Stacks[s.Name] = subject.Frame{Bytes: f.stack, Dynamic: before.Dynamic, From: "cfi"}
		}
	}
}

// cie is a common information entry.
type cie struct {
	valid     bool
	augmented bool // "z": entries say how long their augmentation is
	encoding  byte // of addresses
	codeAlign uint64
	dataAlign int64
	initial   []byte
}

type frameSection struct {
	*reader
	data      []byte
	address   uint64
	exception bool // .eh_frame: ids and pointers are relative
	cies      map[uint64]cie
}

func (f *frameSection) read() {
	for at := uint64(0); at+8 <= uint64(len(f.data)); {
		size := uint64(f.order.Uint32(f.data[at:]))
		if size == 0 && f.exception {
			return
		}
		if size < 4 || size > uint64(len(f.data))-at-4 { // the 64-bit form too: no linker writes it
			return
		}
		f.entry(at+4, f.data[at+8:at+4+size])
		at += 4 + size
	}
}

// entry reads one entry; its id is at at, body follows the id.
func (f *frameSection) entry(at uint64, body []byte) {
	id := f.order.Uint32(f.data[at:])
	if id == 0 && f.exception || id == 1<<32-1 && !f.exception {
		return // read when an entry asks for it
	}
	from := uint64(id)
	if f.exception {
		if from > at {
			return
		}
		from = at - from
	}
	c := f.common(from)
	if !c.valid {
		return
	}
	start, rest, ok := f.pointer(body, c.encoding, f.address+at+4)
	if !ok {
		return
	}
	length, rest, ok := f.pointer(rest, c.encoding&0x0f, 0)
	if !ok {
		return
	}
	if c.augmented {
		n, after, ok := uleb(rest)
		if !ok || n > uint64(len(after)) {
			return
		}
		rest = after[n:]
	}
	if f.machine == emARM {
		start &^= 1
	}
	before := f.frameSizes[start]
	f.frameSizes[start] = frame{max(before.code, length), max(before.stack, frameSize(c, rest))}
}

// common returns the common information entry whose length is at an offset.
func (f *frameSection) common(at uint64) cie {
	if c, ok := f.cies[at]; ok {
		return c
	}
	var c cie
	if at+8 <= uint64(len(f.data)) {
		if size := uint64(f.order.Uint32(f.data[at:])); size >= 4 && size <= uint64(len(f.data))-at-4 {
			c = f.parseCommon(f.data[at+8 : at+4+size])
		}
	}
	f.cies[at] = c
	return c
}

func (f *frameSection) parseCommon(b []byte) cie {
	if len(b) < 2 {
		return cie{}
	}
	version := b[0]
	augmentation, b, ok := bytes.Cut(b[1:], []byte{0})
	if !ok || version < 1 || version > 4 || version == 4 && len(b) < 2 {
		return cie{}
	}
	if version == 4 {
		b = b[2:]
	}
	var c cie
	var ok1, ok2, ok3 bool
	c.codeAlign, b, ok1 = uleb(b)
	c.dataAlign, b, ok2 = sleb(b)
	_, b, ok3 = uleb(b) // the return address's register, in one byte or as LEB128
	if !ok1 || !ok2 || !ok3 {
		return cie{}
	}
	if len(augmentation) == 0 {
		c.initial, c.valid = b, true
		return c
	}
	if augmentation[0] != 'z' {
		return cie{}
	}
	n, b, ok := uleb(b)
	if !ok || n > uint64(len(b)) {
		return cie{}
	}
	c.augmented, c.initial = true, b[n:]
	c.valid = f.augment(&c, augmentation[1:], b[:n])
	return c
}

// augment reads the data of an augmentation string.
func (f *frameSection) augment(c *cie, letters, b []byte) bool {
	for _, l := range letters {
		switch {
		case l == 'S' || l == 'B' || l == 'G':
		case len(b) == 0:
			return false
		case l == 'R':
			c.encoding, b = b[0], b[1:]
		case l == 'L':
			b = b[1:]
		case l == 'P':
			_, rest, ok := f.pointer(b[1:], b[0], 0)
			if !ok {
				return false
			}
			b = rest
		default:
			return false
		}
	}
	return true
}

// pointer reads an address in one of the encodings of .eh_frame. at is where
// it is in memory.
func (f *frameSection) pointer(b []byte, encoding byte, at uint64) (v uint64, rest []byte, ok bool) {
	size := map[byte]int{0: f.size(), 2: 2, 3: 4, 4: 8, 0x0a: 2, 0x0b: 4, 0x0c: 8}[encoding&0x0f]
	if size == 0 || len(b) < size {
		return 0, nil, false
	}
	switch size {
	case 2:
		v = uint64(int64(int16(f.order.Uint16(b))))
	case 4:
		v = uint64(f.order.Uint32(b))
		if encoding&0x08 != 0 {
			v = uint64(int64(int32(v)))
		}
	case 8:
		v = f.order.Uint64(b)
	}
	if encoding&0x70 == 0x10 {
		v += at
	}
	if f.p.Bits == 32 {
		v &= 1<<32 - 1
	}
	return v, b[size:], true
}

// frameSize runs the instructions of an entry and returns how far from the
// stack pointer the frame's address (CFA) gets.
func frameSize(c cie, program []byte) int64 {
	m := cfa{align: c.dataAlign}
	m.run(c.initial)
	m.run(program)
	return m.most
}

// cfa is the machine of call frame instructions, as far as the frame's size
// asks for it.
type cfa struct {
	align     int64
	now, most int64
}

func (m *cfa) set(n int64) {
	const absurd = 1 << 40
	if n >= 0 && n < absurd {
		m.now, m.most = n, max(m.most, n)
	}
}

// operands of the instructions without bits of their own: u is a LEB128 number,
// 1, 2, 4 that many bytes, b a block, o the offset of the frame's address, O
// one that the data alignment multiplies.
var operands = map[byte]string{
	0x02: "1", 0x03: "2", 0x04: "4", 0x05: "uu", 0x06: "u", 0x07: "u", 0x08: "u", 0x09: "uu", 0x0c: "uo", 0x0d: "u", 0x0e: "o", 0x0f: "b",
	0x10: "ub", 0x11: "uu", 0x12: "uO", 0x13: "O", 0x14: "uu", 0x15: "uu", 0x16: "ub", 0x2e: "u", 0x2f: "uu",
}

// run runs instructions until the end or the first that is not known.
func (m *cfa) run(b []byte) {
	for len(b) > 0 {
		op := b[0]
		b = b[1:]
		takes := ""
		switch op >> 6 {
		case 0:
			known := op == 0 || op == 0x0a || op == 0x0b || op == 0x2d // nop, remember, restore, GNU_window_save
			if takes = operands[op]; takes == "" && !known {
				return
			}
		case 2:
			takes = "u"
		}
		for _, kind := range []byte(takes) {
			var ok bool
			if b, ok = m.operand(kind, b); !ok {
				return
			}
		}
	}
}

func (m *cfa) operand(kind byte, b []byte) ([]byte, bool) {
	switch kind {
	case '1', '2', '4':
		n := int(kind - '0')
		if len(b) < n {
			return nil, false
		}
		return b[n:], true
	case 'O':
		n, rest, ok := sleb(b)
		if ok {
			m.set(n * m.align)
		}
		return rest, ok
	}
	n, rest, ok := uleb(b)
	switch {
	case !ok || kind == 'b' && n > uint64(len(rest)):
		return nil, false
	case kind == 'b':
		return rest[n:], true
	case kind == 'o':
		m.set(int64(n))
	}
	return rest, true
}
