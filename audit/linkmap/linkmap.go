// Package linkmap reads the maps that linkers write: GNU ld's whole, and of
// lld, Arm's armlink and IAR's ilink what was linked from where. Maps are made
// for people: a line that is not understood is passed over.
package linkmap

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"holdfast/audit/subject"
)

// maxEntries bounds each list of a map.
const maxEntries = 1 << 20

// Parse reads a map.
func Parse(file, text string) *subject.Map {
	m := &subject.Map{File: file, Linker: linker(text), Symbols: map[string]uint64{}}
	p := parser{m: m}
	read := map[string]func(string){"gnu-ld": p.gnu, "lld": p.lld, "armlink": p.armlink, "iar": p.iar}[m.Linker]
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		const longest = 1 << 16
		if len(line) < longest {
			read(line)
		}
	}
	slices.SortStableFunc(m.Sections, func(a, b subject.MapSection) int { return cmp.Compare(a.Address, b.Address) })
	return m
}

// linker says which linker wrote a map.
func linker(text string) string {
	switch {
	case strings.Contains(text, "Memory Map of the image"), strings.Contains(text, "Image Symbol Table"):
		return "armlink"
	case strings.Contains(text, "IAR ELF Linker"):
		return "iar"
	case strings.Contains(text[:min(len(text), 4096)], " VMA "):
		return "lld"
	}
	return "gnu-ld"
}

// parser is where in a map the reading stands.
type parser struct {
	m       *subject.Map
	part    string // heading of the part
	pending string // what the last line left to the next
	output  string // the section of the program that is being listed
}

func (p *parser) section(s subject.MapSection) {
	into := &p.m.Sections
	if p.part == "discarded" {
		into = &p.m.Dropped
	}
	if len(*into) < maxEntries {
		*into = append(*into, s)
	}
}

func (p *parser) symbol(name string, address uint64) {
	if len(p.m.Symbols) < maxEntries {
		p.m.Symbols[name] = address
	}
}

// gnuParts are the headings of GNU ld's maps.
var gnuParts = map[string]string{
	"Archive member included":      "members",
	"Discarded input sections":     "discarded",
	"Memory Configuration":         "memory",
	"Linker script and memory map": "map",
	"Cross Reference Table":        "cross",
	"Allocating common symbols":    "common",
	"Merging program properties":   "properties",
	"As-needed library included":   "needed",
}

func (p *parser) gnu(line string) {
	for heading, part := range gnuParts {
		if strings.HasPrefix(line, heading) {
			p.part, p.pending = part, ""
			return
		}
	}
	switch p.part {
	case "members":
		p.gnuMember(line)
	case "memory":
		p.gnuMemory(line)
	case "map", "discarded":
		p.gnuSection(line)
	}
}

// gnuMember reads "libc.a(rand.o)" and, on that line or the next, "main.o
// (rand)".
func (p *parser) gnuMember(line string) {
	what, rest := p.pending, line
	if line != "" && line[0] != ' ' {
		var ok bool
		what, rest, ok = strings.Cut(line, ") ")
		if ok {
			what += ")"
		}
	}
	p.pending = what
	by, symbol, ok := strings.Cut(strings.TrimSpace(rest), " (")
	if !ok || rest == what || len(p.m.Members) >= maxEntries {
		return
	}
	archive, object, _ := strings.Cut(strings.TrimSuffix(what, ")"), "(")
	p.m.Members = append(p.m.Members, subject.MapMember{Archive: archive, Object: object, For: by, Symbol: strings.TrimSuffix(symbol, ")")})
	p.pending = ""
}

func (p *parser) gnuMemory(line string) {
	f := strings.Fields(line)
	if len(f) < 3 || f[0] == "Name" || f[0] == "*default*" || len(p.m.Memory) >= maxEntries {
		return
	}
	origin, ok1 := number(f[1])
	length, ok2 := number(f[2])
	if ok1 && ok2 {
		p.m.Memory = append(p.m.Memory, subject.MapMemory{Name: f[0], Origin: origin, Length: length, Attributes: strings.Join(f[3:], "")})
	}
}

// gnuSection reads " .text.main 0x8000 0x24 main.o", whose name may stand alone
// on the line before, and "0x8000 main" of symbols. A name at the start of a
// line is of the program's section.
func (p *parser) gnuSection(line string) {
	f := strings.Fields(line)
	if len(f) == 0 {
		return
	}
	if line[0] != ' ' {
		p.output, p.pending = f[0], ""
		return
	}
	if len(f) == 1 && strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "  ") {
		p.pending = f[0]
		return
	}
	name := p.pending
	p.pending = ""
	if _, isNumber := number(f[0]); !isNumber {
		name, f = f[0], f[1:]
	}
	if len(f) < 2 {
		return
	}
	address, ok := number(f[0])
	if !ok {
		return
	}
	size, ok := number(f[1])
	switch {
	case ok && len(f) >= 3 && name != "" && !strings.HasPrefix(name, "*"):
		p.section(subject.MapSection{Output: p.output, Name: name, Address: address, Size: size, Object: strings.Join(f[2:], " ")})
	case !ok && name == "" && symbolic(f[1]) && (len(f) == 2 || f[2] == "="):
		p.symbol(f[1], address)
	}
}

// symbolic reports whether a word may be the name of a symbol.
func symbolic(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || strings.ContainsRune("()=+*", r) }) < 0
}

// lld reads "VMA LMA Size Align Out In Symbol": numbers in hexadecimal, and the
// last by how far it is indented.
func (p *parser) lld(line string) {
	f := strings.Fields(line)
	if len(f) < 5 || f[0] == "VMA" {
		return
	}
	address, err1 := strconv.ParseUint(f[0], 16, 64)
	size, err2 := strconv.ParseUint(f[2], 16, 64)
	if err1 != nil || err2 != nil {
		return
	}
	what := strings.Join(f[4:], " ")
	object, section, in := strings.Cut(what, ":(")
	switch indent := len(line) - len(what); {
	case in:
		p.section(subject.MapSection{Output: p.output, Name: strings.TrimSuffix(section, ")"), Address: address, Size: size, Object: object})
	case strings.HasPrefix(line[max(indent-9, 0):], strings.Repeat(" ", 9)):
		p.symbol(what, address)
	default:
		p.output = what
	}
}

// armlink reads the rows of execution regions, "Removing x.o(.text)" and the
// table of symbols.
func (p *parser) armlink(line string) {
	f := strings.Fields(line)
	switch {
	case strings.Contains(line, "Image Symbol Table"):
		p.part = "symbols"
	case strings.Contains(line, "Memory Map of the image"):
		p.part = "map"
	case len(f) >= 2 && f[0] == "Removing":
		object, section, ok := strings.Cut(strings.TrimSuffix(f[1], ","), "(")
		if ok {
			part := p.part
			p.part = "discarded"
			p.section(subject.MapSection{Name: strings.TrimSuffix(section, ")"), Object: object})
			p.part = part
		}
	case strings.HasPrefix(strings.TrimSpace(line), "Execution Region ") && len(f) > 2:
		p.output = f[2]
	case p.part == "map" && len(f) >= 7:
		p.armlinkRow(f)
	case p.part == "symbols" && len(f) >= 4:
		if address, ok := number(f[1]); ok {
			p.symbol(f[0], address)
		}
	}
}

// armlinkRow reads "Exec Load Size Type Attr Idx [*] Section Object"; older
// versions have no load address.
func (p *parser) armlinkRow(f []string) {
	address, ok1 := number(f[0])
	i := 1
	if _, ok := number(f[2]); ok {
		i = 2
	}
	size, ok2 := number(f[i])
	if ok1 && ok2 && len(f) > i+4 {
		p.section(subject.MapSection{Output: p.output, Name: f[len(f)-2], Address: address, Size: size, Object: f[len(f)-1]})
	}
}

// iar reads the placement summary and the entry list.
func (p *parser) iar(line string) {
	switch {
	case strings.Contains(line, "*** PLACEMENT SUMMARY"):
		p.part = "map"
	case strings.Contains(line, "*** ENTRY LIST"):
		p.part = "symbols"
	case strings.HasPrefix(strings.TrimSpace(line), "*** "):
		p.part = ""
	}
	f := strings.Fields(line)
	if len(f) < 4 {
		return
	}
	i := slices.IndexFunc(f, func(s string) bool { _, ok := number(s); return ok })
	if i < 1 || i+1 >= len(f) {
		return
	}
	address, _ := number(f[i])
	switch p.part {
	case "map":
		if size, ok := number(f[i+1]); ok && i+2 < len(f) {
			p.section(subject.MapSection{Name: f[0], Address: address, Size: size, Object: f[i+2]})
		}
	case "symbols":
		p.symbol(f[0], address)
	}
}

// number reads 0x80, which IAR writes as 0x800'0200.
func number(s string) (uint64, bool) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.ReplaceAll(digits, "'", ""), 16, 64)
	return n, err == nil
}
