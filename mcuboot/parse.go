package mcuboot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"holdfast/identity"
)

var le = binary.LittleEndian

// Parse reads an image and computes its digest. It checks the form alone:
// see Verify. Its errors are Refusals with details.
func Parse(data []byte) (*Image, error) {
	img, err := ParseAt(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	img.Payload = data[img.layout.header:img.layout.payloadEnd]
	return img, nil
}

// ParseAt is Parse of an image in the first size bytes of r, such as a slot,
// in memory that does not grow with the image. A part that cannot be read is
// an Unreadable.
func ParseAt(r io.ReaderAt, size int64) (*Image, error) {
	if size < headerSize {
		return nil, fmt.Errorf("%w: %d bytes", Truncated, size)
	}
	head, err := readAt(r, 0, headerSize)
	if err != nil {
		return nil, err
	}
	if got := le.Uint32(head); got != Magic {
		return nil, fmt.Errorf("%w: magic %#x", NotAnImage, got)
	}
	l, err := layoutOf(r, head, size)
	if err != nil {
		return nil, err
	}
	img := &Image{
		LoadAddress: le.Uint32(head[4:]),
		Flags:       le.Uint32(head[16:]),
		Version: Version{Major: head[20], Minor: head[21],
			Revision: le.Uint16(head[22:]), Build: le.Uint32(head[24:])},
		Size:   int(l.end),
		layout: l,
	}
	if other := img.Flags &^ harmlessFlags; other != 0 {
		return nil, fmt.Errorf("%w: %#x", Unsupported, other)
	}
	lists, err := readAt(r, l.payloadEnd, l.end-l.payloadEnd)
	if err != nil {
		return nil, err
	}
	if err := img.tags(lists, l); err != nil {
		return nil, err
	}
	if err := blank(r, l.end, size); err != nil {
		return nil, err
	}
	if err := img.sum(r, head, lists); err != nil {
		return nil, err
	}
	return img, nil
}

// sum computes the image's digests: the first is of a beginning of what the
// second is of. It takes header and lists as they were read before, so that
// what was judged is what is hashed.
func (img *Image) sum(r io.ReaderAt, head, lists []byte) error {
	h, l := sha256.New(), img.layout
	_, _ = h.Write(head) // never fails
	if err := each(r, int64(len(head)), l.payloadEnd, writeTo(h)); err != nil {
		return err
	}
	_, _ = h.Write(lists[:l.signedEnd-l.payloadEnd])
	h.Sum(img.Digest[:0])
	_, _ = h.Write(lists[l.signedEnd-l.payloadEnd:])
	h.Sum(img.Blob[:0])
	return nil
}

// chunk is how much is read at once, in bytes.
const chunk = 64 << 10

// readAt reads n bytes, of which n is at most as much as two lists of tags.
func readAt(r io.ReaderAt, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	if got, err := r.ReadAt(b, off); got < len(b) {
		return nil, fmt.Errorf("%w: %w", Unreadable, err)
	}
	return b, nil
}

// each hands over what is in r from off to end, in parts.
func each(r io.ReaderAt, off, end int64, f func(part []byte, at int64) error) error {
	if off >= end {
		return nil
	}
	buf := make([]byte, min(chunk, end-off))
	for off < end {
		part := buf[:min(int64(len(buf)), end-off)]
		if n, err := r.ReadAt(part, off); n < len(part) {
			return fmt.Errorf("%w: %w", Unreadable, err)
		}
		if err := f(part, off); err != nil {
			return err
		}
		off += int64(len(part))
	}
	return nil
}

// writeTo is what each does to write all of it.
func writeTo(w io.Writer) func([]byte, int64) error {
	return func(part []byte, _ int64) error {
		_, err := w.Write(part)
		return err
	}
}

// blank checks that nothing but erased flash is between off and end.
func blank(r io.ReaderAt, off, end int64) error {
	return each(r, off, end, func(part []byte, at int64) error {
		// All bytes are the same when each is the same as the one before it.
		if part[0] == erased && bytes.Equal(part[1:], part[:len(part)-1]) {
			return nil
		}
		return fmt.Errorf("%w: at %d", Trailing, at+int64(slices.IndexFunc(part, func(b byte) bool { return b != erased })))
	})
}

// CopyPayload writes the payload of the image, which was parsed or verified
// from r, to w. An error means that w has got something else: r is read again,
// and what is not what was parsed is a WrongHash.
func (img *Image) CopyPayload(w io.Writer, r io.ReaderAt) error {
	h, l := sha256.New(), img.layout
	from := int64(0)
	for _, part := range []struct {
		end int64
		w   io.Writer
	}{{l.header, h}, {l.payloadEnd, io.MultiWriter(h, w)}, {l.signedEnd, h}} {
		if err := each(r, from, part.end, writeTo(part.w)); err != nil {
			return err
		}
		from = part.end
	}
	if got := identity.Digest(h.Sum(nil)); got != img.Digest {
		return fmt.Errorf("%w: %s, it was %s", WrongHash, got, img.Digest)
	}
	return nil
}

// layout is where the parts of an image end.
type layout struct {
	header, payloadEnd, signedEnd, end int64
}

func layoutOf(r io.ReaderAt, head []byte, total int64) (layout, error) {
	var l layout
	l.header = int64(le.Uint16(head[8:]))
	protected, payload := int64(le.Uint16(head[10:])), int64(le.Uint32(head[12:]))
	if l.header < headerSize {
		return l, fmt.Errorf("%w: header of %d bytes", NotAnImage, l.header)
	}
	if payload > MaxSize {
		return l, fmt.Errorf("%w: payload of %d bytes", TooLarge, payload)
	}
	l.payloadEnd = l.header + payload
	l.signedEnd = l.payloadEnd + protected
	if l.signedEnd+areaHeader > total {
		return l, fmt.Errorf("%w: %d bytes, want more than %d", Truncated, total, l.signedEnd+areaHeader)
	}
	if protected != 0 {
		size, err := area(r, l.payloadEnd, total, protectedMagic)
		if err != nil {
			return l, err
		}
		if size != protected {
			return l, fmt.Errorf("%w: %d bytes of protected tags, the header says %d", Malformed, size, protected)
		}
	}
	size, err := area(r, l.signedEnd, total, openMagic)
	l.end = l.signedEnd + size
	return l, err
}

// area checks the header of a list of tags at off and returns the list's size.
func area(r io.ReaderAt, off, total int64, magic uint16) (int64, error) {
	if total-off < areaHeader {
		return 0, fmt.Errorf("%w: in a list of tags", Truncated)
	}
	head, err := readAt(r, off, areaHeader)
	if err != nil {
		return 0, err
	}
	if got := le.Uint16(head); got != magic {
		return 0, fmt.Errorf("%w: magic %#x, want %#x", Malformed, got, magic)
	}
	size := int64(le.Uint16(head[2:]))
	if size < areaHeader {
		return 0, fmt.Errorf("%w: list of %d bytes", Malformed, size)
	}
	if size > total-off {
		return 0, fmt.Errorf("%w: list of %d bytes in %d", Truncated, size, total-off)
	}
	return size, nil
}

// areaHead is the header of a list of tags.
func areaHead(magic uint16, size int64) uint32 { return uint32(magic) | uint32(size)<<16 }

// tags reads both lists of tags, which stand one behind the other.
func (img *Image) tags(lists []byte, l layout) error {
	seen := map[uint16]bool{}
	protected := l.signedEnd - l.payloadEnd
	if protected > 0 && le.Uint32(lists) != areaHead(protectedMagic, protected) ||
		le.Uint32(lists[protected:]) != areaHead(openMagic, l.end-l.signedEnd) {
		return fmt.Errorf("%w: the lists of tags read differently each time", Unreadable)
	}
	if protected > 0 {
		if err := img.list(lists[areaHeader:protected], true, seen); err != nil {
			return err
		}
	}
	return img.list(lists[protected+areaHeader:], false, seen)
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
