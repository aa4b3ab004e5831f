package flash

import (
	"encoding/binary"
	"strings"

	"holdfast/audit/subject"
)

// Kinds of records of Intel HEX.
const (
	hexData     = 0
	hexEnd      = 1
	hexSegment  = 2 // bits 4 to 19 of the address
	hexStart80  = 3 // CS:IP to start at
	hexLinear   = 4 // the upper half of the address
	hexStart    = 5 // EIP to start at
	hexOverhead = 5 // count, address, kind, checksum
)

// ParseHex reads Intel HEX (specification of 1988). It wants the record of the
// end, and nothing behind it.
func ParseHex(text string) ([]subject.Chunk, error) {
	var b builder
	var base uint64
	var buffer [256 + hexOverhead]byte
	line, ended := 0, false
	for l := range strings.Lines(text) {
		line++
		l = strings.TrimSpace(l)
		if l == "" {
			continue
		}
		bad := func(reason string) error { return &Error{Line: line, Offset: -1, Reason: reason} }
		r, ok := unhex(buffer[:], strings.TrimPrefix(l[:min(len(l), 2*len(buffer)+1)], ":"))
		switch {
		case ended:
			return nil, bad("data behind the end")
		case l[0] != ':' || !ok || len(r) < hexOverhead || int(r[0])+hexOverhead != len(r):
			return nil, bad("not a record")
		case sum(r) != 0:
			return nil, bad("wrong checksum")
		}
		data := r[4 : len(r)-1]
		switch r[3] {
		case hexData:
			if err := b.add(base+uint64(binary.BigEndian.Uint16(r[1:])), data); err != nil {
				return nil, bad(err.Error())
			}
		case hexEnd:
			ended = true
		case hexSegment, hexLinear:
			if len(data) != 2 {
				return nil, bad("an address of other than two bytes")
			}
			base = uint64(binary.BigEndian.Uint16(data)) << map[byte]int{hexSegment: 4, hexLinear: 16}[r[3]]
		case hexStart80, hexStart:
		default:
			return nil, bad("unknown kind of record")
		}
	}
	if !ended {
		return nil, &Error{Line: line, Offset: -1, Reason: "no record of the end"}
	}
	return b.finish(line)
}

// ParseSREC reads Motorola S-records of 16, 24 and 32 bits. It wants the record
// of the end.
func ParseSREC(text string) ([]subject.Chunk, error) {
	var b builder
	var buffer [256]byte
	line, ended := 0, false
	for l := range strings.Lines(text) {
		line++
		l = strings.TrimSpace(l)
		if l == "" {
			continue
		}
		bad := func(reason string) error { return &Error{Line: line, Offset: -1, Reason: reason} }
		if ended {
			return nil, bad("data behind the end")
		}
		if len(l) < 4 || len(l) > 2*len(buffer)+2 || l[0] != 'S' {
			return nil, bad("not a record")
		}
		r, ok := unhex(buffer[:], l[2:])
		width := map[byte]int{'0': 2, '1': 2, '2': 3, '3': 4, '5': 2, '6': 3, '7': 4, '8': 3, '9': 2}[l[1]]
		switch {
		case !ok || width == 0 || int(r[0])+1 != len(r) || len(r) < width+2:
			return nil, bad("not a record")
		case sum(r) != 0xff:
			return nil, bad("wrong checksum")
		}
		if kind := l[1]; kind >= '1' && kind <= '3' {
			var address uint64
			for _, c := range r[1 : 1+width] {
				address = address<<8 | uint64(c)
			}
			if err := b.add(address, r[1+width:len(r)-1]); err != nil {
				return nil, bad(err.Error())
			}
		}
		ended = l[1] >= '7'
	}
	if !ended {
		return nil, &Error{Line: line, Offset: -1, Reason: "no record of the end"}
	}
	return b.finish(line)
}
