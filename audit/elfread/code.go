package elfread

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/audit/subject"
)

// coder collects the calls in a program's code.
type coder struct {
	*reader
	functions []span            // by address
	starts    map[uint64]string // names of what begins at an address
	calls     []edge
	taken     map[string]bool
	literals  map[uint64]bool // words of code that instructions load
	exec      []span
	full      bool // the limit of calls is reached
}

// span is a run of code or data.
type span struct {
	from, to uint64
	name     string
	data     []byte
}

// edge is a call whose ends have no names yet.
type edge struct {
	site, target uint64
	to           string // where only a name is known
	tail         bool
}

// code reads the calls in the code.
func (r *reader) code() {
	c := &coder{reader: r, starts: map[uint64]string{}, taken: map[string]bool{}, literals: map[uint64]bool{}}
	if r.p.Type == subject.Relocatable {
		c.objectCalls()
		return
	}
	c.collect()
	sweep := map[subject.Arch]func(span){subject.ARM: c.arm, subject.AArch64: c.aarch64, subject.RISCV32: c.riscv, subject.RISCV64: c.riscv,
		subject.X86: c.x86, subject.X8664: c.x86}[r.p.Arch]
	if sweep == nil || len(c.exec) == 0 {
		return
	}
	for _, s := range c.exec {
		sweep(s)
	}
	c.pointers()
	r.p.Calls = subject.NewCalls(c.named(), c.taken, !c.full)
}

// collect finds where the code is and the functions in it.
func (c *coder) collect() {
	for _, h := range c.headers {
		if b := c.data(h); h.Exec && h.Alloc && len(b) > 0 {
			c.exec = append(c.exec, span{h.Address, h.Address + uint64(len(b)), h.Name, b})
		}
	}
	for _, s := range c.p.Segments {
		if b := c.slice(s.Offset, s.FileSize); len(c.headers) == 0 && s.Type == "LOAD" && s.Exec && len(b) > 0 {
			c.exec = append(c.exec, span{s.Address, s.Address + uint64(len(b)), "", b})
		}
	}
	for _, s := range c.p.Symbols {
		if s.Undefined || !c.inCode(s.Address) || s.Kind != subject.FuncSymbol && s.Kind != subject.OtherSymbol {
			continue
		}
		if s.Kind == subject.FuncSymbol {
			c.functions = append(c.functions, span{from: s.Address, to: s.Address + s.Size, name: s.Name})
			c.starts[s.Address] = better(c.starts[s.Address], s.Name)
		}
	}
	for _, s := range c.p.Symbols {
		if c.starts[s.Address] == "" && s.Kind == subject.OtherSymbol && !s.Undefined && s.Global && c.inCode(s.Address) {
			c.functions = append(c.functions, span{from: s.Address, to: s.Address, name: s.Name})
			c.starts[s.Address] = s.Name
		}
	}
	if c.p.Stripped {
		c.unnamed()
	}
	c.ends()
}

// unnamed adds the functions that only call frame information knows.
func (c *coder) unnamed() {
	for at, f := range c.frameSizes {
		s, ok := c.codeAt(at)
		if c.starts[at] == "" && ok && !c.plt(s) {
			c.starts[at] = fmt.Sprintf("sub_%x", at)
			c.functions = append(c.functions, span{from: at, to: at + min(f.code, s.to-at), name: c.starts[at]})
		}
	}
}

// better returns which of two names of one function it is called by: the
// shorter, and of those the first.
func better(a, b string) string {
	if a == "" || len(b) < len(a) || len(b) == len(a) && b < a {
		return b
	}
	return a
}

// ends sorts the functions, drops second names, and ends those without a size
// (of assembler) where the next begins.
func (c *coder) ends() {
	slices.SortFunc(c.functions, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
	})
	c.functions = slices.CompactFunc(c.functions, func(a, b span) bool { return a.from == b.from })
	for i := range c.functions {
		f := &c.functions[i]
		if f.to > f.from {
			continue
		}
		f.to = f.from
		if s, ok := c.codeAt(f.from); ok {
			f.to = s.to
		}
		if i+1 < len(c.functions) {
			f.to = min(f.to, c.functions[i+1].from)
		}
	}
}

func (c *coder) codeAt(address uint64) (span, bool) {
	for _, s := range c.exec {
		if address >= s.from && address < s.to {
			return s, true
		}
	}
	return span{}, false
}

func (c *coder) inCode(address uint64) bool { _, ok := c.codeAt(address); return ok }

// functionAt returns the function that an address is in, or "".
func (c *coder) functionAt(address uint64) span {
	i, found := slices.BinarySearchFunc(c.functions, address, func(s span, a uint64) int { return cmp.Compare(s.from, a) })
	if !found {
		i--
	}
	if i < 0 || address >= c.functions[i].to {
		return span{}
	}
	return c.functions[i]
}

// call notes a call or, when tail is set, a jump.
func (c *coder) call(site, target uint64, tail bool) {
	if c.p.Bits == 32 {
		target &= 1<<32 - 1
	}
	_, start := c.starts[target]
	switch {
	case c.full || !start && !c.inCode(target):
	case start, !tail && len(c.functions) == 0, !tail && c.p.Arch != subject.X86 && c.p.Arch != subject.X8664, c.stub(target) != "":
		c.add(edge{site: site, target: target, tail: tail})
	}
}

// callName notes a call of a function that only its name tells.
func (c *coder) callName(site uint64, name string, tail bool) {
	if !c.full && name != "" {
		c.add(edge{site: site, to: name, tail: tail})
	}
}

func (c *coder) add(e edge) {
	if len(c.calls) >= c.limits.Calls {
		c.full = true
		c.trouble(-1, "more than %d calls: the rest was not read", c.limits.Calls)
		return
	}
	c.calls = append(c.calls, e)
}

// take notes that the address of a function is taken, if value is one.
func (c *coder) take(value uint64) {
	if c.p.Arch == subject.ARM {
		value &^= 1
	}
	if name := c.starts[value]; name != "" {
		c.taken[name] = true
	}
}

// takeSlot notes that the address of a function is taken out of a word that the
// loader fills.
func (c *coder) takeSlot(at uint64) {
	if name := c.slots[at]; name != "" {
		c.taken[name] = true
	}
}

// pointers looks for addresses of functions in data: tables, vectors, what
// relocations write. Words of code count too, where they are not loaded by an
// instruction: that one has told what it does with them.
func (c *coder) pointers() {
	for _, h := range c.headers {
		if h.Alloc && (h.Type == "PROGBITS" || strings.HasSuffix(h.Type, "_ARRAY")) && (!h.Exec || len(c.marks) > 0) {
			c.words(h)
		}
	}
	for _, v := range c.relatives {
		c.take(v)
	}
}

// words looks through the words of a section.
func (c *coder) words(h sectionHeader) {
	b, w := c.data(h), c.size()
	skip := int(-h.Address & uint64(w-1))
	for i := skip; i+w <= len(b); i += w {
		at := h.Address + uint64(i)
		v := c.word(b[i:])
		if c.p.Arch == subject.ARM && v&1 == 0 && c.thumbOnly() || h.Exec && (c.literals[at] || !c.isData(h, at)) {
			continue
		}
		c.take(v)
	}
}

// isData reports whether the mapping symbols say that an address holds data.
func (c *coder) isData(h sectionHeader, at uint64) bool {
	i, found := slices.BinarySearchFunc(c.marks, at, func(m mark, a uint64) int { return cmp.Compare(m.address, a) })
	if !found {
		i--
	}
	return i >= 0 && c.marks[i].kind == 'd' && c.marks[i].address >= h.Address
}

// thumbOnly reports whether the machine knows no other code than Thumb.
func (c *coder) thumbOnly() bool { return c.p.Attributes["CPU_arch_profile"] == "77" } // 'M'

// named gives the calls their names. Without any symbols, the targets of calls
// are where functions begin.
func (c *coder) named() []subject.Call {
	if len(c.functions) == 0 {
		c.guess()
	}
	all := make([]subject.Call, 0, len(c.calls))
	for _, e := range c.calls {
		from := c.functionAt(e.site)
		to := e.to
		if to == "" {
			to = c.nameOf(e.target)
		}
		inside := e.target > from.from && e.target < from.to && e.to == "" && c.starts[e.target] == ""
		if inside || e.tail && to == from.name {
			continue
		}
		all = append(all, subject.Call{From: from.name, To: to, Site: e.site, Addr: e.target, Tail: e.tail})
		if name, ok := strings.CutSuffix(from.name, "_veneer"); ok { // a linker's way to farther code
			all = append(all, subject.Call{From: from.name, To: strings.TrimPrefix(name, "__"), Site: e.site, Tail: true})
		}
	}
	return all
}

func (c *coder) guess() {
	for _, e := range c.calls {
		if e.to == "" && c.starts[e.target] == "" && c.stub(e.target) == "" {
			c.starts[e.target] = fmt.Sprintf("sub_%x", e.target)
			c.functions = append(c.functions, span{from: e.target, to: e.target, name: c.starts[e.target]})
		}
	}
	entry := c.p.Entry
	if c.p.Arch == subject.ARM {
		entry &^= 1
	}
	if c.starts[entry] == "" && c.inCode(entry) {
		c.starts[entry] = "entry"
		c.functions = append(c.functions, span{from: entry, to: entry, name: "entry"})
	}
	c.ends()
}

func (c *coder) nameOf(target uint64) string {
	if name := c.starts[target]; name != "" {
		return name
	}
	if name := c.stub(target); name != "" {
		return name
	}
	return fmt.Sprintf("sub_%x", target)
}

// stub returns the name of the function that a stub of the procedure linkage
// table at an address leads to, or "".
func (c *coder) stub(target uint64) string {
	if len(c.slots) == 0 {
		return ""
	}
	s, ok := c.codeAt(target)
	if !ok || s.name != "" && !strings.HasPrefix(s.name, ".plt") && s.name != ".iplt" {
		return ""
	}
	b := s.data[target-s.from:]
	var slot uint64
	switch c.p.Arch {
	case subject.X86, subject.X8664:
		slot, ok = c.x86Stub(b, target)
	case subject.AArch64:
		slot, ok = c.aarch64Stub(b, target)
	case subject.RISCV32, subject.RISCV64:
		slot, ok = c.riscvStub(b, target)
	case subject.ARM:
		slot, ok = c.armStub(b, target)
	default:
		return ""
	}
	if !ok {
		return ""
	}
	return c.slots[slot]
}
