// Package delta makes and applies the difference between two images, so that a
// device that has the old one needs a small part of the new one.
//
// The new image is cut into blocks of at most MaxBlock bytes. A block is a range
// of the old image as it stands; or the byte-wise difference to ranges of the old
// image that resemble it, with what is in between, compressed; or, where nothing
// resembles it, its own bytes, compressed or not. Ranges are found by content: by
// a rolling hash over the new image and the hashes of windows of the old one. In
// programs most of what changes are addresses, all by the same distance, and a
// difference of those compresses to almost nothing.
//
// A block needs the old image and nothing of other blocks: a reader holds one
// block at a time, and may go on at any block's end (Place).
//
// # Form
//
// Numbers are unsigned LEB128 varints, at most five bytes of the shortest form,
// unless said otherwise; a signed one is zigzag coded.
//
//	"HFDELTA1"
//	old: length 8 bytes big-endian, SHA-256
//	new: length 8 bytes big-endian, SHA-256
//	blocks until the new image is complete; then the patch ends
//
//	block    = kind (1 byte), length, what the kind says
//	copy   0 : offset in the old image
//	plain  1 : length bytes
//	packed 2 : n, then n bytes of zstd that become length bytes
//	mended 3 : m, then m steps; n, then n bytes of zstd that become length bytes
//	step     = seek (signed), difference, insertion
//
// Steps are applied in turn, with a place in the old image that is 0 at first in
// each block: the place moves by seek; then as many bytes as difference says are
// the sum, byte by byte and modulo 256, of the old image's from there on and of
// unpacked ones, and the place moves behind them; then as many unpacked bytes
// as insertion says stand for themselves. Of the unpacked bytes those for
// differences come first, then those for insertions. zstd is RFC 8878 without
// dictionary; what is packed is shorter than what it becomes.
//
// Lengths and digests in a patch are hints: a patch is not signed. What comes of
// it is held against signed metadata by whoever applies it, and Apply itself
// writes no byte more than that states.
package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"holdfast/identity"
	"holdfast/release"
)

// Bounds of the form.
const (
	MaxBlock   = 256 << 10        // bytes of the new image in a block
	MaxSteps   = 8 << 10          // steps of a block
	MaxSize    = release.MaxImage // bytes of an image, old or new
	HeaderSize = len(magic) + 2*(8+len(identity.Digest{}))
)

// What is held in memory at most, in bytes, whatever the sizes of the images.
const (
	MakeMemory  = 64 << 20
	ApplyMemory = 4 << 20
)

const magic = "HFDELTA1"

// The kinds of blocks.
const (
	kindCopy = iota
	kindPlain
	kindPacked
	kindMended
)

// Header is what a patch says of itself.
type Header struct {
	Old, New release.Blob
}

// ReadHeader reads the HeaderSize bytes that a patch begins with. Its refusals
// name release.MalformedMetadata.
func ReadHeader(r io.Reader) (Header, error) {
	var b [HeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Header{}, broken("header", err)
	}
	if string(b[:len(magic)]) != magic {
		return Header{}, refuse("this is no delta, or one of another form")
	}
	var h Header
	rest := b[len(magic):]
	for _, blob := range []*release.Blob{&h.Old, &h.New} {
		n := binary.BigEndian.Uint64(rest)
		if n > MaxSize {
			return Header{}, refuse("it speaks of an image of %d bytes, the most is %d", n, int64(MaxSize))
		}
		blob.Length = int64(n)
		rest = rest[8+copy(blob.SHA256[:], rest[8:]):]
	}
	return h, nil
}

func (h Header) append(b []byte) []byte {
	b = append(b, magic...)
	for _, blob := range []release.Blob{h.Old, h.New} {
		b = binary.BigEndian.AppendUint64(b, uint64(blob.Length))
		b = append(b, blob.SHA256[:]...)
	}
	return b
}

func refuse(format string, args ...any) error {
	return release.Refuse(release.MalformedMetadata, fmt.Errorf("delta: "+format, args...))
}

// broken is the error of a read that did not bring what has to be there: the end
// is the patch's own fault, all else its source's.
func broken(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse("%s: cut off", what)
	}
	return fmt.Errorf("read delta: %s: %w", what, err)
}
