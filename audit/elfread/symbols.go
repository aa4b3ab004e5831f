package elfread

import (
	"cmp"
	"slices"
	"strings"

	"holdfast/audit/subject"
)

// mark says what the bytes from an address on are, up to the next mark: the
// mapping symbols $a, $t, $d and $x of the ARM and RISC-V ABIs.
type mark struct {
	section int
	address uint64
	kind    byte // 'a', 't', 'd' or 'x'
}

func (r *reader) symbols() {
	var dynamic []subject.Symbol
	for _, h := range r.headers {
		switch h.Type {
		case "SYMTAB":
			r.p.Symbols = append(r.p.Symbols, r.symbolTable(h, false)...)
		case "DYNSYM":
			dynamic = append(dynamic, r.symbolTable(h, true)...)
		}
	}
	// A table that cannot be read, or has nothing in it, is none.
	if r.p.Stripped = len(r.p.Symbols) == 0; r.p.Stripped {
		r.p.Symbols = dynamic
	} else {
		r.markDynamic(dynamic)
	}
	slices.SortFunc(r.p.Symbols, func(a, b subject.Symbol) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Size, b.Size), cmp.Compare(a.Section, b.Section))
	})
	r.p.Index()
	slices.SortFunc(r.marks, func(a, b mark) int {
		return cmp.Or(cmp.Compare(a.section, b.section), cmp.Compare(a.address, b.address), cmp.Compare(b.kind, a.kind))
	})
}

// markDynamic notes which symbols are in the dynamic table too, and adds those
// that are there alone: a table that was stripped of some may lack imports.
func (r *reader) markDynamic(dynamic []subject.Symbol) {
	seen := make(map[string]bool, len(dynamic)) // in the other table too
	for _, s := range dynamic {
		seen[s.Name] = false
	}
	for i := range r.p.Symbols {
		s := &r.p.Symbols[i]
		if _, s.Dynamic = seen[s.Name]; s.Dynamic && s.Global {
			seen[s.Name] = true
		}
		s.Dynamic = s.Dynamic && s.Global
	}
	for _, s := range dynamic {
		if !seen[s.Name] {
			r.p.Symbols = append(r.p.Symbols, s)
		}
	}
}

// symbolTable reads a table of symbols. Mapping symbols go to marks; names
// lose the version that linkers put behind an "@".
func (r *reader) symbolTable(h sectionHeader, dynamic bool) []subject.Symbol {
	entry := 16
	if r.p.Bits == 64 {
		entry = 24
	}
	data := r.data(h)
	n := len(data) / entry
	if n > r.limits.Symbols {
		r.trouble(int64(h.Offset), "%d symbols: only %d were read", n, r.limits.Symbols)
		n = r.limits.Symbols
	}
	if h.link == 0 {
		return nil // the names were left out
	}
	if uint64(h.link) >= uint64(len(r.headers)) || r.headers[h.link].Type != "STRTAB" {
		r.trouble(int64(h.Offset), "symbols have their names in section %d, which is no table of strings", h.link)
		return nil
	}
	names := r.names(h.link)
	all := make([]subject.Symbol, 0, n)
	for i := 1; i < n; i++ {
		s, section := r.symbol(data[i*entry:(i+1)*entry], names)
		if k := mapping(s.Name); k != 0 && r.machine != emX86 && r.machine != emX8664 {
			r.marks = append(r.marks, mark{section, s.Address, k})
			continue
		}
		if s.Name == "" {
			continue
		}
		s.Dynamic = dynamic
		all = append(all, s)
	}
	return all
}

// mapping returns what a mapping symbol says, or 0.
func mapping(name string) byte {
	if len(name) < 2 || name[0] != '$' || len(name) > 2 && name[2] != '.' && name[1] != 'x' {
		return 0
	}
	if strings.IndexByte("atdx", name[1]) < 0 {
		return 0
	}
	return name[1]
}

// symbol reads one entry and the index of its section.
func (r *reader) symbol(b []byte, names string) (subject.Symbol, int) {
	o := r.order
	var s subject.Symbol
	var info byte
	var section uint16
	if r.p.Bits == 64 {
		info, section, s.Address, s.Size = b[4], o.Uint16(b[6:]), o.Uint64(b[8:]), o.Uint64(b[16:])
	} else {
		info, section, s.Address, s.Size = b[12], o.Uint16(b[14:]), uint64(o.Uint32(b[4:])), uint64(o.Uint32(b[8:]))
	}
	s.Name = text(names, uint64(o.Uint32(b)))
	if i := strings.IndexByte(s.Name, '@'); i > 0 {
		s.Name = s.Name[:i]
	}
	s.Kind = symbolKind(info & 15)
	s.Global, s.Weak = info>>4 == 1 || info>>4 == 2, info>>4 == 2
	s.Undefined = section == 0
	if int(section) < len(r.headers) && section != 0 {
		s.Section = r.headers[section].Name
	}
	if r.machine == emARM && s.Kind == subject.FuncSymbol && s.Address&1 != 0 {
		s.Thumb, s.Address = true, s.Address&^1
	}
	return s, int(section)
}

func symbolKind(t byte) subject.SymbolKind {
	switch t {
	case 2, 10: // 10: GNU_IFUNC
		return subject.FuncSymbol
	case 1, 5, 6: // data, common, thread-local
		return subject.ObjectSymbol
	case 4:
		return subject.FileSymbol
	}
	return subject.OtherSymbol
}
