package checks

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"holdfast/audit/subject"
	"holdfast/finding"
)

// mostCallers bounds how many callers of one function are named: a kernel has
// thousands, and nobody reads them.
const mostCallers = 50

// eachProgram makes the judgement of a rule that looks at one program at a
// time.
func eachProgram(judge func(*subject.Program, *Ruling)) func(*subject.Subject, *Ruling) {
	return func(s *subject.Subject, r *Ruling) {
		some := false
		for _, p := range s.Programs {
			if p.Type != subject.Core {
				some = true
				judge(p, r)
			}
		}
		if !some {
			r.Idle("no program")
		}
	}
}

// linked reports whether a program is one that can be loaded, not an object.
func linked(p *subject.Program) bool {
	return p.Type == subject.Executable || p.Type == subject.Shared
}

// hosted reports whether a program runs on an operating system that loads it.
func hosted(p *subject.Program) bool {
	if p.Interp != "" || len(p.Needed) > 0 || goProgram(p) {
		return true
	}
	_, abi := p.Section(".note.ABI-tag")
	return abi || p.Has("__libc_start_main")
}

// bare reports whether a program runs without an operating system that loads
// it: firmware, or an object of which that cannot be told.
func bare(p *subject.Program) bool { return !hosted(p) }

// goProgram reports whether the Go toolchain made a program: it has stacks
// that grow, checked bounds and a linker of its own.
func goProgram(p *subject.Program) bool {
	for _, name := range []string{".note.go.buildid", ".go.buildinfo", ".gopclntab"} {
		if _, ok := p.Section(name); ok {
			return true
		}
	}
	return false
}

// rustProgram reports whether a program is of Rust alone.
func rustProgram(p *subject.Program) bool {
	rust, c := false, false
	for _, u := range p.Units {
		rust = rust || u.Language == "rust"
		c = c || u.Language == "c" || u.Language == "c++"
	}
	return rust && !c
}

// checked reports whether a program's language checks bounds itself, so that
// what guards C does not apply.
func checked(p *subject.Program) bool { return goProgram(p) || rustProgram(p) }

// mute reports why a program's calls cannot be told, or "".
func mute(p *subject.Program) string {
	switch {
	case p.Stripped && len(p.Symbols) == 0:
		return fmt.Sprintf("%s has no symbols: what it calls has no names", p.File)
	case !p.Calls.Decoded:
		return fmt.Sprintf("the code of %s is of a machine that is not read", p.File)
	}
	return ""
}

// nameless reports why the own functions of a program have no names, or "":
// what it imports may have them all the same.
func nameless(p *subject.Program) string {
	if p.Stripped {
		return p.File + " is stripped: its own functions have no names"
	}
	return mute(p)
}

// tell tells of each function that calls one of a name, and reports whether
// there was anything to tell. Calls from the function itself do not count, nor
// those that skip says.
func tell(p *subject.Program, name string, r *Ruling, skip func(caller string) bool) bool {
	sym, ok := p.Symbol(name)
	if !ok {
		return false
	}
	told := map[string]bool{}
	skipped := false
	for _, c := range p.Calls.To(name) {
		if skip != nil && skip(c.From) {
			skipped = true
			continue
		}
		if told[c.From] || c.From == name {
			continue
		}
		if told[c.From] = true; len(told) > mostCallers {
			continue
		}
		r.Found(p.At(c.Site), "%s calls %s", orUnnamed(c.From), name)
	}
	switch n := len(told); {
	case n > mostCallers:
		r.Found(finding.InFile(p.File), "%d more functions call %s", n-mostCallers, name)
	case n > 0 || skipped:
	case p.Calls.Taken[name]:
		r.Found(p.At(sym.Address), "the address of %s is taken", name)
	case sym.Undefined:
		r.Found(finding.InFile(p.File), "%s is linked against", name)
	case !p.Calls.Decoded:
		r.FoundAs(finding.Low, finding.Guess, p.At(sym.Address), "%s is linked in", name)
	default:
		return false
	}
	return len(told) > 0 || !skipped
}

// uses reports whether anything in a program uses one of the functions, and
// which: where code is not read, having it counts.
func uses(p *subject.Program, names ...string) (subject.Symbol, bool) {
	for _, name := range names {
		s, ok := p.Symbol(name)
		if ok && (p.Calls.Used(name) || s.Undefined || !p.Calls.Decoded || p.Type == subject.Relocatable) {
			return s, true
		}
	}
	return subject.Symbol{}, false
}

// netXNames returns the names that a function of NetX or ThreadX has in programs:
// applications write nx_name, and macros make it _nx_name or, with error
// checking, _nxe_name.
func netXNames(names ...string) []string {
	var all []string
	for _, n := range names {
		for _, prefix := range []string{"_nx_", "_nxe_", "nx_", "nxe_", "_nxd_", "_nxde_", "nxd_", "nxde_"} {
			all = append(all, prefix+n)
		}
	}
	return all
}

// order is the byte order of a program's data.
func order(p *subject.Program) binary.ByteOrder {
	if p.Big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// pointer reads an address from a program's memory.
func pointer(p *subject.Program, at uint64) (uint64, bool) {
	b := p.Bytes(at, p.Bits/8)
	switch {
	case b == nil:
		return 0, false
	case p.Bits == 64:
		return order(p).Uint64(b), true
	}
	return uint64(order(p).Uint32(b)), true
}

// text reads a string of C at an address, of at most 4096 printable bytes.
func text(p *subject.Program, at uint64) (string, bool) {
	const longest = 4096
	b := p.From(at)
	b = b[:min(len(b), longest)]
	end := slices.Index(b, 0)
	if end <= 0 {
		return "", false
	}
	for _, c := range b[:end] {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' || c >= 0x7f {
			return "", false
		}
	}
	return string(b[:end]), true
}

// contents returns the bytes of an object as the file gives them, or nil.
func contents(p *subject.Program, s subject.Symbol) []byte {
	const largest = 1 << 20
	if s.Undefined || s.Size == 0 || s.Size > largest {
		return nil
	}
	if p.Type != subject.Relocatable {
		return p.Bytes(s.Address, int(s.Size))
	}
	section, _ := p.Section(s.Section) // addresses count from its start
	b := p.SectionData(section)
	if s.Address > uint64(len(b)) || s.Size > uint64(len(b))-s.Address {
		return nil
	}
	return b[s.Address : s.Address+s.Size]
}

// objects yields the variables of a program that the file gives values to.
func objects(p *subject.Program, f func(subject.Symbol, []byte)) {
	for _, s := range p.Symbols {
		if s.Kind != subject.ObjectSymbol {
			continue
		}
		if b := contents(p, s); b != nil {
			f(s, b)
		}
	}
}

// atSymbol is the place of a variable or function.
func atSymbol(p *subject.Program, s subject.Symbol) finding.Location {
	l := finding.Location{File: p.File, Offset: p.OffsetOf(s.Address), Address: int64(s.Address), Symbol: s.Name}
	if s.Undefined {
		l = finding.InFile(p.File)
		l.Symbol = s.Name
	}
	return l
}

// area is a region, and the program that it is of, if any.
type area struct {
	subject.Region
	program *subject.Program
	text    bool // of sources and the like: places are lines
}

// areas calls f with everything that can be searched, and reports whether
// there was anything.
func areas(s *subject.Subject, f func(area)) bool {
	programs := map[string]*subject.Program{}
	for _, p := range s.Programs {
		programs[p.File] = p
	}
	some := false
	for r := range s.Regions() {
		if len(r.Data) == 0 {
			continue
		}
		some = true
		a := area{Region: r, program: programs[r.File]}
		a.text = r.Name == "" && r.Address < 0 && !slices.Contains(r.Data[:min(len(r.Data), 512)], 0)
		f(a)
	}
	return some
}

// at is the place of a byte of an area.
func (a area) at(i int) finding.Location {
	if a.text {
		return finding.AtLine(a.File, 1+bytes.Count(a.Data[:i], []byte{10}))
	}
	l := a.At(i)
	if a.program != nil && linked(a.program) && l.Address >= 0 {
		if s, ok := a.program.SymbolAt(uint64(l.Address)); ok {
			l.Symbol = s.Name
		}
	}
	return l
}
