package mcuboot

import (
	"encoding/binary"
	"fmt"

	"holdfast/identity"
)

var le = binary.LittleEndian

// Parse reads an image and computes its digest. It checks the form alone:
// see Verify. Its errors are Refusals with details.
func Parse(data []byte) (*Image, error) {
	if len(data) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes", Truncated, len(data))
	}
	if got := le.Uint32(data); got != magic {
		return nil, fmt.Errorf("%w: magic %#x", NotAnImage, got)
	}
	l, err := layoutOf(data)
	if err != nil {
		return nil, err
	}
	img := &Image{
		LoadAddress: le.Uint32(data[4:]),
		Flags:       le.Uint32(data[16:]),
		Version: Version{Major: data[20], Minor: data[21],
			Revision: le.Uint16(data[22:]), Build: le.Uint32(data[24:])},
		Payload: data[l.header:l.payloadEnd],
		Digest:  identity.Sum(data[:l.signedEnd]),
		Size:    l.end,
	}
	if other := img.Flags &^ harmlessFlags; other != 0 {
		return nil, fmt.Errorf("%w: %#x", Unsupported, other)
	}
	if err := img.tags(data, l); err != nil {
		return nil, err
	}
	for i, b := range data[l.end:] {
		if b != erased {
			return nil, fmt.Errorf("%w: at %d", Trailing, l.end+i)
		}
	}
	return img, nil
}

// layout is where the parts of an image end.
type layout struct {
	header, payloadEnd, signedEnd, end int
}

func layoutOf(data []byte) (layout, error) {
	var l layout
	l.header = int(le.Uint16(data[8:]))
	protected, payload := int(le.Uint16(data[10:])), int64(le.Uint32(data[12:]))
	if l.header < headerSize {
		return l, fmt.Errorf("%w: header of %d bytes", NotAnImage, l.header)
	}
	if payload > MaxSize {
		return l, fmt.Errorf("%w: payload of %d bytes", TooLarge, payload)
	}
	l.payloadEnd = l.header + int(payload)
	l.signedEnd = l.payloadEnd + protected
	if l.signedEnd+areaHeader > len(data) {
		return l, fmt.Errorf("%w: %d bytes, want more than %d", Truncated, len(data), l.signedEnd+areaHeader)
	}
	if protected != 0 {
		size, err := area(data[l.payloadEnd:], protectedMagic)
		if err != nil {
			return l, err
		}
		if size != protected {
			return l, fmt.Errorf("%w: %d bytes of protected tags, the header says %d", Malformed, size, protected)
		}
	}
	size, err := area(data[l.signedEnd:], openMagic)
	l.end = l.signedEnd + size
	return l, err
}

// area checks the header of a list of tags and returns the list's size.
func area(data []byte, magic uint16) (int, error) {
	if len(data) < areaHeader {
		return 0, fmt.Errorf("%w: in a list of tags", Truncated)
	}
	if got := le.Uint16(data); got != magic {
		return 0, fmt.Errorf("%w: magic %#x, want %#x", Malformed, got, magic)
	}
	size := int(le.Uint16(data[2:]))
	if size < areaHeader {
		return 0, fmt.Errorf("%w: list of %d bytes", Malformed, size)
	}
	if size > len(data) {
		return 0, fmt.Errorf("%w: list of %d bytes in %d", Truncated, size, len(data))
	}
	return size, nil
}

// tags reads both lists of tags.
func (img *Image) tags(data []byte, l layout) error {
	seen := map[uint16]bool{}
	if l.signedEnd > l.payloadEnd {
		if err := img.list(data[l.payloadEnd+areaHeader:l.signedEnd], true, seen); err != nil {
			return err
		}
	}
	return img.list(data[l.signedEnd+areaHeader:l.end], false, seen)
}

func (img *Image) list(data []byte, protected bool, seen map[uint16]bool) error {
	for n := 0; len(data) > 0; n++ {
		if n == maxTags {
			return fmt.Errorf("%w: more than %d", Malformed, maxTags)
		}
		if len(data) < tagHeader {
			return fmt.Errorf("%w: %d bytes left", Malformed, len(data))
		}
		kind, size := le.Uint16(data), int(le.Uint16(data[2:]))
		if size > len(data)-tagHeader {
			return fmt.Errorf("%w: tag %#x of %d bytes, %d left", Malformed, kind, size, len(data)-tagHeader)
		}
		if seen[kind] && known(kind) {
			return fmt.Errorf("%w: %#x", Duplicate, kind)
		}
		seen[kind] = true
		if err := img.tag(kind, data[tagHeader:tagHeader+size], protected); err != nil {
			return err
		}
		data = data[tagHeader+size:]
	}
	return nil
}

func known(kind uint16) bool {
	switch kind {
	case tagKeyHash, tagPublicKey, tagSHA256, tagECDSA, tagSecurityCounter:
		return true
	}
	return false
}

func (img *Image) tag(kind uint16, value []byte, protected bool) error {
	switch kind {
	case tagKeyHash:
		img.keyHash = value
	case tagPublicKey:
		img.publicKey = value
	case tagSHA256:
		img.hash = value
	case tagECDSA:
		img.signature = value
	case tagSecurityCounter:
		if !protected {
			return Unprotected
		}
		if len(value) != 4 {
			return fmt.Errorf("%w: security counter of %d bytes", Malformed, len(value))
		}
		img.SecurityCounter = le.Uint32(value)
	}
	return nil
}
