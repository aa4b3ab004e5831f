package elfread

import (
	"bytes"
	"strconv"
)

// attribute is a tag of the attributes section: its name, and whether it is
// text rather than a number.
type attribute struct {
	name string
	text bool
}

// armAttributes are those of the ABI for the Arm architecture (addenda,
// "build attributes") that rules ask for. Of others, even tags up to 32 and
// those above with a low bit of 0 are numbers.
var armAttributes = map[uint64]attribute{
	4: {"CPU_raw_name", true}, 5: {"CPU_name", true}, 6: {"CPU_arch", false}, 7: {"CPU_arch_profile", false}, 8: {"ARM_ISA_use", false}, 9: {"THUMB_ISA_use", false},
	10: {"FP_arch", false}, 24: {"ABI_align_needed", false}, 25: {"ABI_align_preserved", false}, 30: {"ABI_optimization_goals", false},
	34: {"CPU_unaligned_access", false}, 46: {"DSP_extension", false}, 50: {"PAC_extension", false}, 52: {"BTI_extension", false}, 67: {"conformance", true},
}

var riscvAttributes = map[uint64]attribute{
	4: {"stack_align", false}, 5: {"arch", true}, 6: {"unaligned_access", false}, 8: {"priv_spec", false},
}

// attributes reads .ARM.attributes or .riscv.attributes.
func (r *reader) attributes() {
	r.p.Attributes = map[string]string{}
	names, vendor := armAttributes, "aeabi"
	section := ".ARM.attributes"
	if r.machine == emRISCV {
		names, vendor, section = riscvAttributes, "riscv", ".riscv.attributes"
	}
	_, b := r.section(section)
	if len(b) == 0 || b[0] != 'A' {
		return
	}
	for b = b[1:]; len(b) >= 4; {
		size := uint64(r.order.Uint32(b))
		if size < 4 || size > uint64(len(b)) {
			return
		}
		if name, rest, ok := bytes.Cut(b[4:size], []byte{0}); ok && string(name) == vendor {
			r.vendorAttributes(rest, names)
		}
		b = b[size:]
	}
}

// vendorAttributes reads the attributes that hold for the whole file.
func (r *reader) vendorAttributes(b []byte, names map[uint64]attribute) {
	for len(b) >= 5 {
		size := uint64(r.order.Uint32(b[1:]))
		if size < 5 || size > uint64(len(b)) {
			return
		}
		if b[0] == 1 { // Tag_File
			r.fileAttributes(b[5:size], names)
		}
		b = b[size:]
	}
}

func (r *reader) fileAttributes(b []byte, names map[uint64]attribute) {
	for len(b) > 0 {
		tag, rest, ok := uleb(b)
		if !ok {
			return
		}
		a, known := names[tag]
		isText := a.text
		if !known {
			isText = tag > 32 && tag&1 != 0 || r.machine == emRISCV && tag&1 != 0
		}
		var value string
		if isText {
			v, after, found := bytes.Cut(rest, []byte{0})
			if !found {
				return
			}
			value, rest = string(v), after
		} else {
			n, after, ok := uleb(rest)
			if !ok {
				return
			}
			value, rest = strconv.FormatUint(n, 10), after
		}
		if tag == 32 && r.machine == emARM { // Tag_compatibility: a number and a text
			_, rest, _ = bytes.Cut(rest, []byte{0})
		}
		if known {
			r.p.Attributes[a.name] = value
		}
		b = rest
	}
}

// uleb reads an unsigned LEB128 number of at most 64 bits.
func uleb(b []byte) (n uint64, rest []byte, ok bool) {
	for i := 0; i < len(b) && i < 10; i++ {
		n |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}

// sleb reads a signed LEB128 number of at most 64 bits.
func sleb(b []byte) (n int64, rest []byte, ok bool) {
	for i := 0; i < len(b) && i < 10; i++ {
		n |= int64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			if i < 9 && b[i]&0x40 != 0 {
				n |= -1 << (7 * (i + 1))
			}
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}
