package elfread

import (
	"cmp"
	"slices"

	"holdfast/audit/subject"
)

// objectSymbol is a function of an object file, where addresses count from the
// start of its section.
type objectSymbol struct {
	section  uint32
	from, to uint64
	name     string
}

// objectCalls reads the calls of an object file that was never linked out of
// its relocations: each one in code that names a function is a call, or takes
// the address.
func (c *coder) objectCalls() {
	symbols, functions := c.objectSymbols()
	if len(symbols) == 0 {
		return
	}
	var all []subject.Call
	for _, h := range c.headers {
		if (h.Type != "RELA" && h.Type != "REL") || uint64(h.info) >= uint64(len(c.headers)) {
			continue
		}
		target := c.headers[h.info]
		if !target.Alloc {
			continue
		}
		all = append(all, c.objectRelocations(h, target.Exec, symbols, functions)...)
	}
	c.p.Calls = subject.NewCalls(all, c.taken, !c.full)
}

// objectSymbols returns all symbols by index, and the functions in order.
func (c *coder) objectSymbols() (symbols []subject.Symbol, functions []objectSymbol) {
	entry := 16
	if c.p.Bits == 64 {
		entry = 24
	}
	for _, h := range c.headers {
		if h.Type != "SYMTAB" {
			continue
		}
		data, names := c.data(h), c.names(h.link)
		for i := range min(len(data)/entry, c.limits.Symbols) {
			s, section := c.symbol(data[i*entry:(i+1)*entry], names)
			symbols = append(symbols, s)
			if s.Kind == subject.FuncSymbol && !s.Undefined {
				functions = append(functions, objectSymbol{uint32(section), s.Address, s.Address + s.Size, s.Name})
			}
		}
		break
	}
	slices.SortFunc(functions, compareObject)
	return symbols, functions
}

func compareObject(a, b objectSymbol) int {
	return cmp.Or(cmp.Compare(a.section, b.section), cmp.Compare(a.from, b.from), cmp.Compare(a.name, b.name))
}

// objectFunction returns the function at an offset of a section, or "".
func objectFunction(functions []objectSymbol, section uint32, at uint64) string {
	i, found := slices.BinarySearchFunc(functions, at, func(f objectSymbol, a uint64) int {
		return cmp.Or(cmp.Compare(f.section, section), cmp.Compare(f.from, a))
	})
	if !found {
		i--
	}
	if i < 0 || functions[i].section != section || at >= functions[i].to {
		return ""
	}
	return functions[i].name
}

func (c *coder) objectRelocations(h sectionHeader, code bool, symbols []subject.Symbol, functions []objectSymbol) []subject.Call {
	w := c.size()
	entry := 2 * w
	if h.Type == "RELA" {
		entry = 3 * w
	}
	data := c.data(h)
	var all []subject.Call
	for i := range min(len(data)/entry, c.limits.Calls) {
		b := data[i*entry:]
		site, info := c.word(b), c.word(b[w:])
		symbol, kind := info>>32, info&(1<<32-1)
		if c.p.Bits == 32 {
			symbol, kind = info>>8, info&0xff
		}
		if symbol == 0 || symbol >= uint64(len(symbols)) {
			continue
		}
		s := symbols[symbol]
		called, tail := c.callRelocation(kind)
		switch {
		case s.Name == "" || s.Kind == subject.ObjectSymbol:
		case code && called && (s.Undefined || s.Kind == subject.FuncSymbol):
			all = append(all, subject.Call{From: objectFunction(functions, h.info, site), To: s.Name, Site: site, Tail: tail})
		case s.Kind == subject.FuncSymbol:
			c.taken[s.Name] = true
		}
	}
	return all
}

// callRelocation reports whether a kind of relocation belongs to a call, and
// whether to a jump.
func (c *coder) callRelocation(kind uint64) (call, tail bool) {
	switch c.p.Arch {
	case subject.ARM: // THM_CALL, CALL, PC24, PLT32; JUMP24, THM_JUMP24, THM_JUMP19
		tail = kind == 29 || kind == 30 || kind == 51
		return tail || kind == 10 || kind == 28 || kind == 1 || kind == 27, tail
	case subject.AArch64: // CALL26; JUMP26
		return kind == 283 || kind == 282, kind == 282
	case subject.RISCV32, subject.RISCV64: // JAL, CALL, CALL_PLT, RVC_JUMP
		return kind == 17 || kind == 18 || kind == 19 || kind == 45, false
	case subject.X8664: // PLT32, and PC32 of old assemblers; GOTPCRELX
		return kind == 4 || kind == 41, false
	case subject.X86: // PLT32, PC32
		return kind == 4 || kind == 2, false
	}
	return false, false
}
