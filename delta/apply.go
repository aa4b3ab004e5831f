package delta

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"holdfast/release"
)

// Place is a boundary between blocks: how much of the patch, its header
// included, has been read, and how much of the new image has been written. The
// zero Place is the beginning.
type Place struct {
	Patch int64 `json:"patch"`
	New   int64 `json:"new"`
}

// Limits say what Apply may make.
type Limits struct {
	// Length of the new image as signed metadata states it, in bytes. A patch
	// that would make more or less is refused.
	Length int64
	// From is where to go on: the patch then begins with what follows From.Patch.
	From Place
	// Block is told of each block's end once the block has been written. An error
	// of it ends Apply. Nil: nobody.
	Block func(Place) error
}

// maxVarint is the longest varint of the form, in bytes.
const maxVarint = 5

// Apply writes to w what the patch makes of the old image, from limits.From on.
// It writes limits.Length bytes in all or returns an error; whether they are the
// right ones only their digest says. It holds less than ApplyMemory. Its refusals name release.DecompressionBomb where a block would become
// more than it says or than may come, release.MalformedMetadata where the patch
// is cut off or points out of the old image, release.EndlessData where it goes
// on behind its end.
func Apply(old io.ReaderAt, oldSize int64, patch io.Reader, w io.Writer, limits Limits) error {
	if limits.Length < 0 || limits.Length > MaxSize || limits.From.New < 0 || limits.From.New > limits.Length || oldSize < 0 || oldSize > MaxSize {
		return errors.New("apply delta: an impossible length")
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(MaxBlock),
		zstd.WithDecoderMaxWindow(MaxBlock), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return fmt.Errorf("apply delta: %w", err)
	}
	defer z.Close()
	d := &decoder{old: old, oldSize: oldSize, patch: bufio.NewReaderSize(patch, 32<<10), to: w, zstd: z, at: limits.From}
	if d.at == (Place{}) {
		if err := d.header(limits.Length); err != nil {
			return err
		}
	}
	for d.at.New < limits.Length {
		if err := d.block(limits.Length - d.at.New); err != nil {
			return err
		}
		if limits.Block != nil {
			if err := limits.Block(d.at); err != nil {
				return err
			}
		}
	}
	switch _, err := d.patch.ReadByte(); {
	case err == nil:
		return release.Refuse(release.EndlessData, errors.New("delta: it goes on behind the end of the image"))
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("read delta: %w", err)
	}
	return nil
}

// decoder is a patch on its way into an image.
type decoder struct {
	old     io.ReaderAt
	oldSize int64
	patch   *bufio.Reader
	to      io.Writer
	zstd    *zstd.Decoder
	at      Place

	out, packed, mend []byte
	steps             []step
}

// step is a part of a mended block.
type step struct {
	from             int64 // in the old image
	differ, inserted int
}

func (d *decoder) header(length int64) error {
	h, err := ReadHeader(d.patch)
	switch {
	case err != nil:
		return err
	case h.Old.Length != d.oldSize:
		return refuse("it is of an old image of %d bytes, this one has %d", h.Old.Length, d.oldSize)
	case h.New.Length != length:
		return release.Refuse(release.DecompressionBomb, fmt.Errorf("delta: it makes %d bytes, signed are %d", h.New.Length, length))
	}
	d.at.Patch = int64(HeaderSize)
	return nil
}

// block reads and writes one block, of at most left bytes.
func (d *decoder) block(left int64) error {
	kind, err := d.patch.ReadByte()
	if err != nil {
		return broken("block", err)
	}
	d.at.Patch++
	n, err := d.number("length")
	if err != nil {
		return err
	}
	if n == 0 || n > MaxBlock {
		return refuse("a block of %d bytes, the most is %d", n, MaxBlock)
	}
	if n > left {
		return release.Refuse(release.DecompressionBomb, fmt.Errorf("delta: a block of %d bytes where %d are left of what was signed", n, left))
	}
	d.out = grown(d.out, int(n))
	switch kind {
	case kindCopy:
		err = d.copied()
	case kindPlain:
		err = d.read(d.out)
	case kindPacked:
		err = d.unpack()
	case kindMended:
		err = d.mended()
	default:
		err = refuse("a block of kind %d", kind)
	}
	if err != nil {
		return err
	}
	if _, err := d.to.Write(d.out); err != nil {
		return err
	}
	d.at.New += n
	return nil
}

func (d *decoder) copied() error {
	from, err := d.number("offset")
	if err != nil {
		return err
	}
	return d.range_(d.out, from)
}

// range_ reads a range of the old image.
func (d *decoder) range_(to []byte, from int64) error {
	if from < 0 || from > d.oldSize || int64(len(to)) > d.oldSize-from {
		return refuse("%d bytes from %d on, the old image has %d", len(to), from, d.oldSize)
	}
	n, err := d.old.ReadAt(to, from)
	if n == len(to) {
		return nil
	}
	return fmt.Errorf("apply delta: read the old image at %d: %w", from, err)
}

// unpack makes d.out of as many packed bytes as come.
func (d *decoder) unpack() error {
	n, err := d.number("packed length")
	if err != nil {
		return err
	}
	if n >= int64(len(d.out)) {
		return refuse("%d bytes packed into %d", len(d.out), n)
	}
	d.packed = grown(d.packed, int(n))
	if err := d.read(d.packed); err != nil {
		return err
	}
	out, err := d.zstd.DecodeAll(d.packed, d.out[:0:len(d.out)])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded):
		return release.Refuse(release.DecompressionBomb, fmt.Errorf("delta: %d bytes become more than %d", n, len(d.out)))
	case err != nil:
		return refuse("unpack: %w", err)
	case len(out) != len(d.out):
		return refuse("a block of %d bytes has %d", len(d.out), len(out))
	}
	copy(d.out, out) // where they are not the same bytes already
	return nil
}

func (d *decoder) mended() error {
	differ, err := d.readSteps()
	if err != nil {
		return err
	}
	if err := d.unpack(); err != nil {
		return err
	}
	d.mend = append(d.mend[:0], d.out...)
	differences, insertions := d.mend[:differ], d.mend[differ:]
	at := 0
	for _, s := range d.steps {
		part := d.out[at : at+s.differ]
		if err := d.range_(part, s.from); err != nil {
			return err
		}
		for i, b := range differences[:s.differ] {
			part[i] += b
		}
		at += s.differ
		copy(d.out[at:], insertions[:s.inserted])
		at += s.inserted
		differences, insertions = differences[s.differ:], insertions[s.inserted:]
	}
	return nil
}

// readSteps reads a block's steps, which make all of it, and returns how many of
// its bytes are differences.
func (d *decoder) readSteps() (differ int, err error) {
	count, err := d.number("steps")
	if err != nil {
		return 0, err
	}
	if count == 0 || count > MaxSteps {
		return 0, refuse("%d steps, the most are %d", count, MaxSteps)
	}
	d.steps = d.steps[:0]
	place, left := int64(0), int64(len(d.out))
	for range count {
		var n [3]int64
		for i := range n {
			if n[i], err = d.number("step"); err != nil {
				return 0, err
			}
		}
		place += unzigzag(n[0])
		if n[1] > left || n[2] > left-n[1] {
			return 0, refuse("steps of more than the %d bytes of their block", len(d.out))
		}
		d.steps = append(d.steps, step{from: place, differ: int(n[1]), inserted: int(n[2])})
		place, left, differ = place+n[1], left-n[1]-n[2], differ+int(n[1])
	}
	if left != 0 {
		return 0, refuse("steps that leave %d bytes of their block", left)
	}
	return differ, nil
}

func (d *decoder) read(to []byte) error {
	n, err := io.ReadFull(d.patch, to)
	d.at.Patch += int64(n)
	if err != nil {
		return broken("block", err)
	}
	return nil
}

// number reads a varint in its shortest form.
func (d *decoder) number(what string) (int64, error) {
	var n uint64
	for i := range maxVarint {
		b, err := d.patch.ReadByte()
		if err != nil {
			return 0, broken(what, err)
		}
		d.at.Patch++
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				break
			}
			return int64(n), nil
		}
	}
	return 0, refuse("%s: no number", what)
}

func zigzag(n int64) uint64                  { return uint64(n<<1) ^ uint64(n>>63) }
func unzigzag(n int64) int64                 { return int64(uint64(n)>>1) ^ -(n & 1) }
func appendNumber(b []byte, n uint64) []byte { return binary.AppendUvarint(b, n) }

// grown returns a slice of n bytes, b's where they suffice.
func grown(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n, MaxBlock)
	}
	return b[:n]
}
