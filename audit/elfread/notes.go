package elfread

import (
	"bytes"
	"encoding/hex"
	"slices"
)

// notes reads .comment and the notes: the build's id and GNU's properties.
func (r *reader) notes() {
	if _, b := r.section(".comment"); b != nil {
		for c := range bytes.SplitSeq(b[:min(len(b), 64<<10)], []byte{0}) {
			if len(c) > 0 && !slices.Contains(r.p.Comments, string(c)) {
				r.p.Comments = append(r.p.Comments, string(c))
			}
		}
	}
	for _, h := range r.headers {
		if h.Type == "NOTE" {
			r.noteSection(r.data(h), h.Align)
		}
	}
	if len(r.headers) > 0 {
		return
	}
	for _, s := range r.p.Segments {
		if s.Type == "NOTE" {
			r.noteSection(r.slice(s.Offset, s.FileSize), s.Align)
		}
	}
}

func (r *reader) noteSection(b []byte, align uint64) {
	if align != 8 {
		align = 4
	}
	up := func(n uint32) uint64 { return (uint64(n) + align - 1) &^ (align - 1) }
	for len(b) >= 12 {
		nameSize, size, kind := r.order.Uint32(b), r.order.Uint32(b[4:]), r.order.Uint32(b[8:])
		start := uint64(12) + (uint64(nameSize)+3)&^3
		if align == 8 {
			start = (start + 7) &^ 7
		}
		if start > uint64(len(b)) || uint64(size) > uint64(len(b))-start {
			return
		}
		name, value := b[12:12+min(uint64(nameSize), start-12)], b[start:start+uint64(size)]
		r.note(string(bytes.TrimRight(name, "\x00")), kind, value)
		b = b[min(start+up(size), uint64(len(b))):]
	}
}

func (r *reader) note(name string, kind uint32, value []byte) {
	switch {
	case name == "GNU" && kind == 3:
		r.p.BuildID = hex.EncodeToString(value[:min(len(value), 64)])
	case name == "GNU" && kind == 5:
		r.properties(value)
	}
}

// properties reads a NT_GNU_PROPERTY_TYPE_0.
func (r *reader) properties(b []byte) {
	for len(b) >= 8 {
		kind, size := r.order.Uint32(b), uint64(r.order.Uint32(b[4:]))
		if size > uint64(len(b)-8) {
			return
		}
		if size == 4 {
			r.property(kind, r.order.Uint32(b[8:]))
		}
		pad := uint64(r.size())
		b = b[min(8+(size+pad-1)&^(pad-1), uint64(len(b))):]
	}
}

func (r *reader) property(kind, value uint32) {
	var names [2]string
	switch {
	case kind == 0xc0000002 && (r.machine == emX86 || r.machine == emX8664):
		names = [2]string{"IBT", "SHSTK"}
	case kind == 0xc0000000 && r.machine == emAArch64:
		names = [2]string{"BTI", "PAC"}
	}
	for i, name := range names {
		if name != "" && value&(1<<i) != 0 && !slices.Contains(r.p.Properties, name) {
			r.p.Properties = append(r.p.Properties, name)
		}
	}
}
