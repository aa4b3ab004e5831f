package elfread

import (
	"bytes"
	"compress/zlib"
	"debug/dwarf"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"holdfast/audit/subject"
)

// maxUnits bounds the compile units of a program.
const maxUnits = 200_000

// debug reads the debug information.
func (r *reader) debug() {
	for _, h := range r.headers {
		if h.Name == ".debug_info" || h.Name == ".zdebug_info" {
			r.p.Debug = true
		}
	}
	if !r.p.Debug {
		return
	}
	data, err := r.dwarf()
	if err != nil {
		r.trouble(-1, "debug information: %v", err)
		return
	}
	newDebugReader(r, data).read()
}

// dwarf opens the debug information. Objects that were never linked need
// relocations in it, which debug/elf knows.
func (r *reader) dwarf() (*dwarf.Data, error) {
	parts, err := r.debugSections()
	if err != nil {
		return nil, err
	}
	if n := units(parts["info"], r.order.Uint32); n > maxUnits {
		return nil, fmt.Errorf("%d compile units are more than %d", n, maxUnits)
	}
	if r.p.Type == subject.Relocatable {
		f, err := elf.NewFile(bytes.NewReader(r.p.Data))
		if err != nil {
			return nil, err
		}
		return f.DWARF()
	}
	d, err := dwarf.New(parts["abbrev"], nil, nil, parts["info"], parts["line"], nil, parts["ranges"], parts["str"])
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"addr", "line_str", "str_offsets", "rnglists"} {
		if b := parts[name]; b != nil {
			if err := d.AddSection(".debug_"+name, b); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// debugSections returns the debug sections by the ends of their names,
// unpacked, within the limit of their sizes in all.
func (r *reader) debugSections() (map[string][]byte, error) {
	parts := map[string][]byte{}
	left := r.limits.DebugSize
	for _, h := range r.headers {
		name, ok := strings.CutPrefix(h.Name, ".debug_")
		if !ok || parts[name] != nil {
			continue
		}
		b, err := r.unpacked(h, left)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		left -= int64(len(b))
		parts[name] = b
	}
	if left < 0 {
		return nil, fmt.Errorf("more than %d bytes", r.limits.DebugSize)
	}
	return parts, nil
}

// unpacked returns the bytes of a section that may be compressed
// (SHF_COMPRESSED), when there are no more than most.
func (r *reader) unpacked(h sectionHeader, most int64) ([]byte, error) {
	const compressed = 0x800
	b := r.data(h)
	if h.flags&compressed == 0 {
		return b, nil
	}
	size, start := uint64(0), 12
	if r.p.Bits == 64 {
		start = 24
	}
	if len(b) < start {
		return nil, errors.New("no room for the header of a compressed section")
	}
	size = r.word(b[start-2*r.size():])
	if size > uint64(max(most, 0)) {
		return nil, fmt.Errorf("unpacks to %d bytes, more than %d", size, most)
	}
	return inflate(r.order.Uint32(b), b[start:], int64(size))
}

// inflate unpacks exactly size bytes.
func inflate(kind uint32, packed []byte, size int64) ([]byte, error) {
	var from io.Reader
	switch kind {
	case 1:
		z, err := zlib.NewReader(bytes.NewReader(packed))
		if err != nil {
			return nil, err
		}
		from = z
	case 2:
		z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(128<<20))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		from = z
	default:
		return nil, fmt.Errorf("compressed in the unknown way %d", kind)
	}
	b, err := io.ReadAll(io.LimitReader(from, size))
	if err == nil && int64(len(b)) != size {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// units counts the units of .debug_info by their lengths alone, before anything
// is allocated for them.
func units(info []byte, u32 func([]byte) uint32) int {
	n := 0
	for len(info) >= 4 && n <= maxUnits {
		size := uint64(u32(info))
		if size >= 0xfffffff0 { // the 64-bit form: rare enough to let debug/dwarf judge
			return n + 1
		}
		info = info[min(4+size, uint64(len(info))):]
		n++
	}
	return n
}
