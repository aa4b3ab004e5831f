// Package elfread reads ELF files (System V ABI, chapter 4) into programs:
// headers, symbols, dynamic section, notes, compilers' attributes, debug
// information (DWARF 2 to 5), call frames and the calls in the code of ARM,
// AArch64, RISC-V and x86.
//
// Every offset and count is checked against the file before it is used, and
// every table has a limit. A part that cannot be read is a trouble, and the
// others are read on. debug/dwarf, which was not made for hostile input, sees
// sections whose sizes and units have been counted, and a panic in it becomes a
// trouble too.
package elfread

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
)

// Limits bound what is read of one file.
type Limits struct {
	Sections     int // sections and segments
	Symbols      int
	DebugEntries int   // entries (DIEs) of the debug information
	DebugSize    int64 // bytes of debug sections, unpacked
	Calls        int   // calls in the code
}

// Is reports whether data starts as an ELF file does.
func Is(data []byte) bool { return bytes.HasPrefix(data, []byte("\x7fELF")) }

// Read reads an ELF file. It returns nil when not even the header can be read.
func Read(file string, data []byte, l Limits) (*subject.Program, []finding.Trouble) {
	r := &reader{limits: l, p: &subject.Program{File: file, Data: data, Calls: subject.NewCalls(nil, nil, false)}}
	if !r.header() {
		return nil, r.troubles
	}
	for _, part := range []struct {
		name string
		read func()
	}{
		{"segments", r.segments}, {"sections", r.sections}, {"symbols", r.symbols}, {"dynamic section", r.dynamic},
		{"relocations", r.relocations}, {"notes", r.notes}, {"attributes", r.attributes}, {"debug information", r.debug},
		{"call frames", r.frames}, {"code", r.code},
	} {
		r.guard(part.name, part.read)
	}
	return r.p, r.troubles
}

// reader reads one file.
type reader struct {
	limits   Limits
	p        *subject.Program
	order    binary.ByteOrder
	troubles []finding.Trouble

	machine    uint16
	flags      uint32
	headers    []sectionHeader
	phoff      uint64
	phentsize  uint16
	phnum      uint32
	shoff      uint64
	shentsize  uint16
	shnum      uint32
	shstrndx   uint32
	marks      []mark            // where code and data start (ARM, RISC-V)
	slots      map[uint64]string // names that the loader binds to words of memory
	relatives  []uint64          // addresses that relocations put into memory
	frameSizes map[uint64]frame  // by a function's address, from call frames
}

// sectionHeader is a section with the numbers that only reading needs.
type sectionHeader struct {
	subject.Section
	kind    uint32
	flags   uint64
	link    uint32
	info    uint32
	entries uint64 // size of an entry
}

// guard runs the reading of a part; a panic in it is a trouble.
func (r *reader) guard(part string, read func()) {
	defer func() {
		if v := recover(); v != nil {
			r.trouble(-1, "%s: cannot be read: %v", part, v)
		}
	}()
	read()
}

// trouble notes a part of the file that could not be read.
func (r *reader) trouble(offset int64, format string, args ...any) {
	const enough = 100
	if len(r.troubles) >= enough {
		return
	}
	l := finding.InFile(r.p.File)
	l.Offset = offset
	r.troubles = append(r.troubles, finding.Trouble{Location: l, Message: fmt.Sprintf(format, args...)})
}

// slice returns bytes of the file, or nil when they are not all there.
func (r *reader) slice(offset, size uint64) []byte {
	n := uint64(len(r.p.Data))
	if offset > n || size > n-offset {
		return nil
	}
	return r.p.Data[offset : offset+size : offset+size]
}

// word reads an address-sized number.
func (r *reader) word(b []byte) uint64 {
	if r.p.Bits == 64 {
		return r.order.Uint64(b)
	}
	return uint64(r.order.Uint32(b))
}

// size returns the bytes of an address.
func (r *reader) size() int { return r.p.Bits / 8 }

// Machines of e_machine.
const (
	emX86     = 3
	emARM     = 40
	emX8664   = 62
	emAArch64 = 183
	emRISCV   = 243
)

// header reads the file header and reports whether there is one to go by.
func (r *reader) header() bool {
	b := r.p.Data
	if len(b) < 20 || !Is(b) {
		r.trouble(0, "not an ELF file")
		return false
	}
	switch b[4] {
	case 1:
		r.p.Bits = 32
	case 2:
		r.p.Bits = 64
	default:
		r.trouble(4, "class %d is neither 32 nor 64 bits", b[4])
		return false
	}
	switch b[5] {
	case 1:
		r.order = binary.LittleEndian
	case 2:
		r.order, r.p.Big = binary.BigEndian, true
	default:
		r.trouble(5, "byte order %d is neither little nor big", b[5])
		return false
	}
	if want := 40 + 3*r.size(); len(b) < want {
		r.trouble(0, "header of %d bytes, want %d", len(b), want)
		return false
	}
	r.fields(b)
	return true
}

// fields reads what follows the identification. The header has 52 or 64 bytes.
func (r *reader) fields(b []byte) {
	o, w := r.order, r.size()
	r.p.Type = map[uint16]subject.Type{1: subject.Relocatable, 2: subject.Executable, 3: subject.Shared, 4: subject.Core}[o.Uint16(b[16:])]
	r.machine = o.Uint16(b[18:])
	r.p.Arch = r.arch()
	b = b[24:]
	r.p.Entry = r.word(b)
	r.phoff, r.shoff = r.word(b[w:]), r.word(b[2*w:])
	b = b[3*w:]
	r.flags = o.Uint32(b)
	r.phentsize, r.phnum = o.Uint16(b[6:]), uint32(o.Uint16(b[8:]))
	r.shentsize, r.shnum, r.shstrndx = o.Uint16(b[10:]), uint32(o.Uint16(b[12:])), uint32(o.Uint16(b[14:]))
}

func (r *reader) arch() subject.Arch {
	switch {
	case r.machine == emARM:
		return subject.ARM
	case r.machine == emAArch64:
		return subject.AArch64
	case r.machine == emX86:
		return subject.X86
	case r.machine == emX8664:
		return subject.X8664
	case r.machine == emRISCV && r.p.Bits == 32:
		return subject.RISCV32
	case r.machine == emRISCV:
		return subject.RISCV64
	}
	return subject.Arch(fmt.Sprintf("machine-%d", r.machine))
}

var segmentTypes = map[uint32]string{
	0: "NULL", 1: "LOAD", 2: "DYNAMIC", 3: "INTERP", 4: "NOTE", 5: "SHLIB", 6: "PHDR", 7: "TLS",
	0x6474e550: "GNU_EH_FRAME", 0x6474e551: "GNU_STACK", 0x6474e552: "GNU_RELRO", 0x6474e553: "GNU_PROPERTY",
	0x70000001: "ARM_EXIDX", 0x70000003: "RISCV_ATTRIBUTES",
}

var sectionTypes = map[uint32]string{
	0: "NULL", 1: "PROGBITS", 2: "SYMTAB", 3: "STRTAB", 4: "RELA", 5: "HASH", 6: "DYNAMIC", 7: "NOTE", 8: "NOBITS", 9: "REL", 10: "SHLIB", 11: "DYNSYM",
	14: "INIT_ARRAY", 15: "FINI_ARRAY", 16: "PREINIT_ARRAY", 17: "GROUP", 18: "SYMTAB_SHNDX", 0x6ffffff6: "GNU_HASH", 0x6fffffff: "VERSYM", 0x6ffffffe: "VERNEED",
	0x70000001: "ARM_EXIDX", 0x70000003: "ATTRIBUTES",
}

func typeName(names map[uint32]string, kind uint32) string {
	if name, ok := names[kind]; ok {
		return name
	}
	return fmt.Sprintf("%#x", kind)
}

// table checks a table of headers against the file and the limits and returns
// its entries.
func (r *reader) table(what string, offset uint64, entry uint16, count uint32, least int) [][]byte {
	if count == 0 {
		return nil
	}
	switch {
	case int(entry) < least:
		r.trouble(int64(offset), "%s headers of %d bytes, want %d", what, entry, least)
		return nil
	case int(count) > r.limits.Sections:
		r.trouble(int64(offset), "%d %ss are more than %d", count, what, r.limits.Sections)
		return nil
	}
	b := r.slice(offset, uint64(entry)*uint64(count))
	if b == nil {
		r.trouble(int64(offset), "%d %s headers at %#x do not fit into %d bytes", count, what, offset, len(r.p.Data))
		return nil
	}
	all := make([][]byte, count)
	for i := range all {
		all[i] = b[i*int(entry) : (i+1)*int(entry)]
	}
	return all
}

func (r *reader) segments() {
	const extended = 0xffff // PN_XNUM: the count is in the first section header
	if first := r.slice(r.shoff, uint64(16+6*r.size())); r.phnum == extended && first != nil {
		r.phnum = r.sectionHeader(first).info
	}
	for i, b := range r.table("segment", r.phoff, r.phentsize, r.phnum, 8+6*r.size()) {
		s := r.segment(b)
		if r.slice(s.Offset, s.FileSize) == nil && s.FileSize > 0 {
			r.trouble(int64(r.phoff)+int64(i)*int64(r.phentsize), "segment %d (%s) has %d bytes at %#x, the file ends at %#x", i, s.Type, s.FileSize, s.Offset, len(r.p.Data))
		}
		r.p.Segments = append(r.p.Segments, s)
	}
}

func (r *reader) segment(b []byte) subject.Segment {
	o := r.order
	s := subject.Segment{Type: typeName(segmentTypes, o.Uint32(b))}
	var flags uint32
	words := b[4:]
	if r.p.Bits == 64 {
		flags, words = o.Uint32(b[4:]), b[8:]
	}
	w := r.size()
	s.Offset, s.Address, s.LoadAddress, s.FileSize, s.MemorySize = r.word(words), r.word(words[w:]), r.word(words[2*w:]), r.word(words[3*w:]), r.word(words[4*w:])
	if r.p.Bits == 64 {
		s.Align = r.word(words[5*w:])
	} else {
		flags, s.Align = o.Uint32(words[5*w:]), r.word(words[5*w+4:])
	}
	s.Exec, s.Write, s.Read = flags&1 != 0, flags&2 != 0, flags&4 != 0
	return s
}

func (r *reader) sections() {
	least := 16 + 6*r.size()
	if r.shnum == 0 && r.shoff != 0 {
		if b := r.slice(r.shoff, uint64(least)); b != nil {
			r.shnum = uint32(min(r.sectionHeader(b).Size, 1<<32-1))
		}
	}
	for i, b := range r.table("section", r.shoff, r.shentsize, r.shnum, least) {
		h := r.sectionHeader(b)
		if h.kind != 0 && h.Type != "NOBITS" && r.slice(h.Offset, h.Size) == nil {
			r.trouble(int64(r.shoff)+int64(i)*int64(r.shentsize), "section %d has %d bytes at %#x, the file ends at %#x", i, h.Size, h.Offset, len(r.p.Data))
		}
		r.headers = append(r.headers, h)
	}
	if r.shstrndx == 0xffff && len(r.headers) > 0 {
		r.shstrndx = r.headers[0].link
	}
	names := r.names(r.shstrndx)
	for i := range r.headers {
		h := &r.headers[i]
		h.Name = text(names, uint64(r.order.Uint32(r.p.Data[r.shoff+uint64(i)*uint64(r.shentsize):])))
		if h.kind != 0 {
			r.p.Sections = append(r.p.Sections, h.Section)
		}
	}
}

func (r *reader) sectionHeader(b []byte) sectionHeader {
	o, w := r.order, r.size()
	h := sectionHeader{kind: o.Uint32(b[4:])}
	h.Type = typeName(sectionTypes, h.kind)
	b = b[8:]
	h.flags, h.Address, h.Offset, h.Size = r.word(b), r.word(b[w:]), r.word(b[2*w:]), r.word(b[3*w:])
	b = b[4*w:]
	h.link, h.info = o.Uint32(b), o.Uint32(b[4:])
	h.Align, h.entries = r.word(b[8:]), r.word(b[8+w:])
	h.Write, h.Alloc, h.Exec = h.flags&1 != 0, h.flags&2 != 0, h.flags&4 != 0
	return h
}

// data returns a section's bytes, or nil.
func (r *reader) data(h sectionHeader) []byte {
	if h.Type == "NOBITS" || h.kind == 0 {
		return nil
	}
	return r.slice(h.Offset, h.Size)
}

// section returns the first section of a name with its bytes.
func (r *reader) section(name string) (sectionHeader, []byte) {
	for _, h := range r.headers {
		if h.Name == name {
			return h, r.data(h)
		}
	}
	return sectionHeader{}, nil
}

// names returns a section that is a table of strings, as one string that the
// names are parts of: a file may name the same bytes a million times.
func (r *reader) names(section uint32) string {
	const longest = 128 << 20
	if uint64(section) >= uint64(len(r.headers)) {
		return ""
	}
	b := r.data(r.headers[section])
	if len(b) > longest {
		r.trouble(int64(r.headers[section].Offset), "a table of strings of %d bytes: only %d were read", len(b), longest)
	}
	return string(b[:min(len(b), longest)])
}

// text returns the string at an offset of a table of strings, or "". Of longer
// names the first 4096 bytes are enough to tell them apart.
func text(table string, offset uint64) string {
	const longest = 4096
	if offset >= uint64(len(table)) {
		return ""
	}
	rest := table[offset:]
	rest = rest[:min(len(rest), longest)]
	if i := strings.IndexByte(rest, 0); i >= 0 {
		return rest[:i]
	}
	return rest
}
