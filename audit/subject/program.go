package subject

import (
	"cmp"
	"iter"
	"slices"

	"holdfast/finding"
)

// Arch is an instruction set.
type Arch string

// The instruction sets that are read. Other ELF files are programs too, with
// everything but calls.
const (
	ARM     Arch = "arm" // A32 and Thumb-2
	AArch64 Arch = "aarch64"
	RISCV32 Arch = "riscv32"
	RISCV64 Arch = "riscv64"
	X86     Arch = "x86"
	X8664   Arch = "x86-64"
)

// Type is what an ELF file is for.
type Type string

// The types of ELF files.
const (
	Executable  Type = "exec" // at fixed addresses
	Shared      Type = "dyn"  // position independent: a PIE or a library
	Relocatable Type = "rel"  // an object file, not linked
	Core        Type = "core"
)

// Program is an ELF file.
type Program struct {
	File string
	Data []byte // the whole file
	Arch Arch
	Bits int  // 32 or 64
	Big  bool // big endian
	Type Type

	Entry    uint64
	Segments []Segment
	Sections []Section
	// Symbols of the symbol table, or where it is stripped of the dynamic one;
	// by address, then name.
	Symbols  []Symbol
	Stripped bool // no symbol table
	Debug    bool // debug information is in the file

	Interp  string   // the loader it asks for; empty: static or bare metal
	Needed  []string // libraries
	Dynamic Dynamic

	BuildID    string   // hexadecimal
	Comments   []string // of .comment: which compilers made it
	Properties []string // of GNU notes: "IBT", "SHSTK", "BTI", "PAC"
	// Attributes of .ARM.attributes or .riscv.attributes, by their names in the
	// ABI: "CPU_name", "CPU_arch", "CPU_unaligned_access", "arch", "stack_align".
	Attributes map[string]string

	Units     []Unit     // of the debug information
	Functions []Function // by address; empty without debug information
	Structs   []Struct   // structures and unions of the debug information
	Stacks    map[string]Frame

	Calls *Calls // never nil; empty for a machine whose code is not read

	names map[string]int // into Symbols
}

// Segment is a part of a program that is loaded, or says how.
type Segment struct {
	Type        string // "LOAD", "GNU_STACK", "GNU_RELRO", "TLS", ...
	Read        bool
	Write       bool
	Exec        bool
	Offset      uint64
	Address     uint64 // where it runs
	LoadAddress uint64 // where it is flashed (physical address)
	FileSize    uint64
	MemorySize  uint64
	Align       uint64
}

// Section is a named part of a program.
type Section struct {
	Name    string
	Type    string // "PROGBITS", "NOBITS", ...
	Alloc   bool   // in the device's memory
	Write   bool
	Exec    bool
	Address uint64
	Offset  uint64
	Size    uint64
	Align   uint64
}

// Dynamic is what the dynamic section says.
type Dynamic struct {
	Present bool
	Now     bool // all is bound at start: BIND_NOW
	PIE     bool // DF_1_PIE
	RPath   []string
	TextRel bool // relocations write into code
}

// SymbolKind is what a symbol names.
type SymbolKind string

// The kinds of symbols.
const (
	FuncSymbol   SymbolKind = "func"
	ObjectSymbol SymbolKind = "object"
	OtherSymbol  SymbolKind = "other"
	FileSymbol   SymbolKind = "file" // the name of a source
)

// Symbol is a name in a program.
type Symbol struct {
	Name      string
	Kind      SymbolKind
	Address   uint64 // of Thumb functions without the low bit
	Size      uint64
	Section   string
	Undefined bool // comes from elsewhere
	Dynamic   bool // in the dynamic symbol table
	Global    bool
	Weak      bool
	Thumb     bool
}

// Has reports whether a symbol of the name is in the program, defined or not.
func (p *Program) Has(name string) bool { _, ok := p.Symbol(name); return ok }

// Symbol returns the symbol of a name, a defined one first.
func (p *Program) Symbol(name string) (Symbol, bool) {
	i, ok := p.names[name]
	if !ok {
		return Symbol{}, false
	}
	return p.Symbols[i], true
}

// Index makes the symbols found by their names; who fills in Symbols calls it
// once they are in order.
func (p *Program) Index() {
	p.names = make(map[string]int, len(p.Symbols))
	for i, s := range p.Symbols {
		if before, ok := p.names[s.Name]; s.Kind != FileSymbol && (!ok || p.Symbols[before].Undefined && !s.Undefined) {
			p.names[s.Name] = i
		}
	}
}

// SymbolAt returns the function or object that an address is in.
func (p *Program) SymbolAt(address uint64) (Symbol, bool) {
	end, _ := slices.BinarySearchFunc(p.Symbols, address, func(s Symbol, a uint64) int {
		if s.Address <= a {
			return -1
		}
		return 1
	})
	for i := end - 1; i >= 0 && end-i < 64; i-- {
		s := p.Symbols[i]
		if s.Undefined || s.Kind == FileSymbol || s.Kind == OtherSymbol {
			continue
		}
		if address-s.Address < max(s.Size, 1) {
			return s, true
		}
	}
	return Symbol{}, false
}

// Section returns the section of a name.
func (p *Program) Section(name string) (Section, bool) {
	i := slices.IndexFunc(p.Sections, func(s Section) bool { return s.Name == name })
	if i < 0 {
		return Section{}, false
	}
	return p.Sections[i], true
}

// SectionData returns a section's bytes in the file: nil for none, for one
// that takes no room, and for one that lies outside the file. Compressed
// sections stay compressed.
func (p *Program) SectionData(s Section) []byte {
	if s.Type == "NOBITS" {
		return nil
	}
	return p.slice(s.Offset, s.Size)
}

// slice returns bytes of the file, or nil when they are not all there.
func (p *Program) slice(offset, size uint64) []byte {
	if offset > uint64(len(p.Data)) || size > uint64(len(p.Data))-offset {
		return nil
	}
	return p.Data[offset : offset+size : offset+size]
}

// Bytes returns n bytes of memory at an address as the file gives them, or nil
// when the file has not all of them (as of RAM that starts zero).
func (p *Program) Bytes(address uint64, n int) []byte {
	b := p.From(address)
	if n < 0 || n > len(b) {
		return nil
	}
	return b[:n:n]
}

// From returns the bytes of memory from an address to the end of what the file
// gives of it there.
func (p *Program) From(address uint64) []byte {
	for _, s := range p.Segments {
		if s.Type == "LOAD" && address >= s.Address && address-s.Address < s.FileSize {
			if b := p.slice(s.Offset, s.FileSize); b != nil {
				return b[address-s.Address:]
			}
		}
	}
	if len(p.Segments) > 0 {
		return nil
	}
	for _, s := range p.Sections { // an object file that was never linked
		if s.Alloc && s.Address != 0 && address >= s.Address && address-s.Address < s.Size {
			if b := p.SectionData(s); b != nil {
				return b[address-s.Address:]
			}
		}
	}
	return nil
}

// OffsetOf returns where in the file an address of memory is, or -1.
func (p *Program) OffsetOf(address uint64) int64 {
	for _, s := range p.Segments {
		if s.Type == "LOAD" && address >= s.Address && address-s.Address < s.FileSize {
			return int64(s.Offset + address - s.Address)
		}
	}
	return -1
}

// At returns the location of an address, with the symbol it is in and the line
// of the function where debug information has it.
func (p *Program) At(address uint64) finding.Location {
	l := finding.Location{File: p.File, Offset: p.OffsetOf(address), Address: int64(address)}
	if s, ok := p.SymbolAt(address); ok {
		l.Symbol = s.Name
	}
	return l
}

// Regions returns what the program loads, to be searched, each byte of the file
// once: its allocated sections, and what its loadable segments have between and
// beside them (headers, padding, and all of them when the sections were
// stripped).
func (p *Program) Regions() []Region {
	var sections, all []Region
	for _, s := range p.Sections {
		if b := p.SectionData(s); s.Alloc && len(b) > 0 {
			sections = append(sections, Region{File: p.File, Name: s.Name, Data: b, Offset: int64(s.Offset), Address: int64(s.Address), Exec: s.Exec, Write: s.Write})
		}
	}
	sections = disjoint(sections)
	for _, s := range p.Segments {
		if b := p.slice(s.Offset, s.FileSize); s.Type == "LOAD" && len(b) > 0 {
			all = append(all, Region{File: p.File, Data: b, Offset: int64(s.Offset), Address: int64(s.Address), Exec: s.Exec, Write: s.Write})
		}
	}
	gaps := uncovered(disjoint(all), sections)
	return append(sections, gaps...)
}

// disjoint sorts regions by their place in the file and cuts off what an
// earlier one has: files may be made to say the same bytes thousands of times.
func disjoint(regions []Region) []Region {
	slices.SortStableFunc(regions, func(a, b Region) int { return cmp.Compare(a.Offset, b.Offset) })
	var all []Region
	end := int64(0)
	for _, r := range regions {
		r = r.from(end)
		if len(r.Data) > 0 {
			all = append(all, r)
			end = r.Offset + int64(len(r.Data))
		}
	}
	return all
}

// from returns the part of a region from an offset of the file on.
func (r Region) from(offset int64) Region {
	skip := min(max(offset-r.Offset, 0), int64(len(r.Data)))
	r.Data, r.Offset = r.Data[skip:], r.Offset+skip
	if r.Address >= 0 {
		r.Address += skip
	}
	return r
}

// uncovered returns the parts of regions that no other covers; both are in
// order and disjoint.
func uncovered(regions, others []Region) []Region {
	var all []Region
	next := 0
	for _, r := range regions {
		end := r.Offset + int64(len(r.Data))
		for next < len(others) && others[next].Offset < end {
			o := others[next]
			if n := o.Offset - r.Offset; n > 0 {
				gap := r
				gap.Data = r.Data[:n]
				all = append(all, gap)
			}
			r = r.from(o.Offset + int64(len(o.Data)))
			if o.Offset+int64(len(o.Data)) > end {
				break // it covers some of the next region too
			}
			next++
		}
		if len(r.Data) > 0 {
			all = append(all, r)
		}
	}
	return all
}

// Text is a string in a program.
type Text struct {
	Value string
	finding.Location
}

// Strings yields the runs of at least least printable ASCII characters (tabs
// too) in what a program loads, in order.
func (p *Program) Strings(least int) iter.Seq[Text] {
	return func(yield func(Text) bool) {
		for _, r := range p.Regions() {
			for t := range r.Strings(least) {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// Strings yields the runs of at least least printable ASCII characters (tabs
// too) of a region, in order.
func (r Region) Strings(least int) iter.Seq[Text] {
	return func(yield func(Text) bool) {
		start := 0
		for i := 0; i <= len(r.Data); i++ {
			if i < len(r.Data) && (r.Data[i] >= ' ' && r.Data[i] < 0x7f || r.Data[i] == '\t') {
				continue
			}
			if i-start >= least && i > start && !yield(Text{string(r.Data[start:i]), r.At(start)}) {
				return
			}
			start = i + 1
		}
	}
}
