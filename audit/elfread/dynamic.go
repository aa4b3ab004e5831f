package elfread

import (
	"strings"
)

// Tags of the dynamic section.
const (
	dtNull    = 0
	dtNeeded  = 1
	dtStrtab  = 5
	dtStrsz   = 10
	dtRPath   = 15
	dtTextrel = 22
	dtBindNow = 24
	dtRunPath = 29
	dtFlags   = 30
	dtFlags1  = 0x6ffffffb
)

// dynamicEntry is an entry of the dynamic section.
type dynamicEntry struct{ tag, value uint64 }

// dynamic reads the segments INTERP and DYNAMIC.
func (r *reader) dynamic() {
	for _, s := range r.p.Segments {
		b := r.slice(s.Offset, s.FileSize)
		switch {
		case s.Type == "INTERP":
			r.p.Interp = text(string(b[:min(len(b), 4096)]), 0)
		case s.Type == "DYNAMIC" && len(b) > 0:
			r.dynamicSegment(b)
		}
	}
}

func (r *reader) dynamicSegment(b []byte) {
	d := &r.p.Dynamic
	d.Present = true
	entries := r.dynamicEntries(b)
	names := r.dynamicNames(entries)
	for _, e := range entries {
		switch e.tag {
		case dtNeeded:
			r.p.Needed = append(r.p.Needed, text(names, e.value))
		case dtRPath, dtRunPath:
			d.RPath = append(d.RPath, text(names, e.value))
		case dtTextrel:
			d.TextRel = true
		case dtBindNow:
			d.Now = true
		case dtFlags:
			d.Now = d.Now || e.value&8 != 0
			d.TextRel = d.TextRel || e.value&4 != 0
		case dtFlags1:
			d.Now = d.Now || e.value&1 != 0
			d.PIE = e.value&0x08000000 != 0
		}
	}
}

func (r *reader) dynamicEntries(b []byte) []dynamicEntry {
	const most = 4096
	w := r.size()
	var all []dynamicEntry
	for ; len(b) >= 2*w && len(all) < most; b = b[2*w:] {
		e := dynamicEntry{r.word(b), r.word(b[w:])}
		if e.tag == dtNull {
			break
		}
		all = append(all, e)
	}
	return all
}

// dynamicNames returns the table of strings that the dynamic section names.
func (r *reader) dynamicNames(entries []dynamicEntry) string {
	var at, size uint64
	for _, e := range entries {
		switch e.tag {
		case dtStrtab:
			at = e.value
		case dtStrsz:
			size = e.value
		}
	}
	b := r.p.From(at)
	return string(b[:min(size, uint64(len(b)), 16<<20)])
}

// relocations reads which names the loader binds to which words of memory, and
// which addresses it puts there.
func (r *reader) relocations() {
	r.slots = map[uint64]string{}
	for _, h := range r.headers {
		if (h.Type == "RELA" || h.Type == "REL") && h.Alloc {
			r.relocationTable(h)
		}
	}
}

func (r *reader) relocationTable(h sectionHeader) {
	w := r.size()
	entry := 2 * w
	if h.Type == "RELA" {
		entry = 3 * w
	}
	data := r.data(h)
	n := min(len(data)/entry, r.limits.Symbols)
	names := r.symbolNames(h.link)
	for i := range n {
		b := data[i*entry:]
		at, info := r.word(b), r.word(b[w:])
		symbol := info >> 32
		if r.p.Bits == 32 {
			symbol = info >> 8
		}
		switch {
		case symbol != 0 && symbol < uint64(len(names)):
			r.slots[at] = names[symbol]
		case symbol == 0 && h.Type == "RELA":
			r.relatives = append(r.relatives, r.word(b[2*w:]))
		}
	}
}

// symbolNames returns the names of a table of symbols by index.
func (r *reader) symbolNames(section uint32) []string {
	if int(section) >= len(r.headers) {
		return nil
	}
	h := r.headers[section]
	if h.Type != "DYNSYM" && h.Type != "SYMTAB" || int(h.link) >= len(r.headers) {
		return nil
	}
	entry := 16
	if r.p.Bits == 64 {
		entry = 24
	}
	data, names := r.data(h), r.names(h.link)
	all := make([]string, min(len(data)/entry, r.limits.Symbols))
	for i := range all {
		all[i], _, _ = strings.Cut(text(names, uint64(r.order.Uint32(data[i*entry:]))), "@")
	}
	return all
}
