package delta

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"holdfast/release"
)

// Stats say what a patch is made of, in bytes of the new image but for Length.
type Stats struct {
	Length    int64 // of the patch
	Copied    int64 // in blocks that are ranges of the old image
	Different int64 // differences to ranges of the old image
	Inserted  int64 // what resembles nothing in the old image
}

// Make writes to w a patch that makes the new image of the old one. The same
// images always give the same patch. Make holds less than MakeMemory; it ends with ctx's error soon after ctx has ended.
func Make(ctx context.Context, old io.ReaderAt, oldSize int64, new io.ReaderAt, newSize int64, w io.Writer) (Stats, error) {
	if oldSize < 0 || oldSize > MaxSize || newSize < 0 || newSize > MaxSize {
		return Stats{}, fmt.Errorf("make delta: of %d bytes from %d: the most are %d", newSize, oldSize, int64(MaxSize))
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(MaxBlock), zstd.WithSingleSegment(true))
	if err != nil {
		return Stats{}, fmt.Errorf("make delta: %w", err)
	}
	defer z.Close()
	e := &encoder{new: new, newSize: newSize, to: bufio.NewWriter(w), zstd: z}
	if err := e.header(ctx, old, oldSize); err != nil {
		return Stats{}, fmt.Errorf("make delta: %w", err)
	}
	if e.match, err = newMatcher(ctx, old, oldSize); err != nil {
		return Stats{}, fmt.Errorf("make delta: %w", err)
	}
	for at := int64(0); at < newSize; at += MaxBlock {
		if err := e.block(ctx, at); err != nil {
			return Stats{}, fmt.Errorf("make delta: %w", err)
		}
	}
	if err := e.to.Flush(); err != nil {
		return Stats{}, fmt.Errorf("make delta: %w", err)
	}
	return e.stats, nil
}

// encoder is a patch that is being made.
type encoder struct {
	new     io.ReaderAt
	newSize int64
	to      *bufio.Writer
	zstd    *zstd.Encoder
	match   *matcher
	stats   Stats

	in, differ, insert    []byte
	plain, packed, mended []byte // the forms of the block
	parted, zipped        []byte
}

func (e *encoder) header(ctx context.Context, old io.ReaderAt, oldSize int64) error {
	var h Header
	var err error
	if h.Old, err = blobOf(ctx, old, oldSize); err != nil {
		return err
	}
	if h.New, err = blobOf(ctx, e.new, e.newSize); err != nil {
		return err
	}
	return e.write(h.append(nil))
}

// blobOf reads all of an image.
func blobOf(ctx context.Context, r io.ReaderAt, size int64) (release.Blob, error) {
	h, buf := sha256.New(), make([]byte, 64<<10)
	for at := int64(0); at < size; at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), size-at)]
		if err := readAt(ctx, r, part, at); err != nil {
			return release.Blob{}, err
		}
		h.Write(part)
	}
	b := release.Blob{Length: size}
	h.Sum(b.SHA256[:0])
	return b, nil
}

func readAt(ctx context.Context, r io.ReaderAt, to []byte, at int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := r.ReadAt(to, at)
	if n == len(to) {
		return nil
	}
	return fmt.Errorf("read at %d: %w", at, err)
}

func (e *encoder) write(b []byte) error {
	n, err := e.to.Write(b)
	e.stats.Length += int64(n)
	return err
}

// block writes the block of the new image that begins at a place: of the forms
// that it can have the shortest.
func (e *encoder) block(ctx context.Context, at int64) error {
	e.in = grown(e.in, int(min(MaxBlock, e.newSize-at)))
	if err := readAt(ctx, e.new, e.in, at); err != nil {
		return err
	}
	steps, err := e.match.steps(ctx, e.in, at)
	if err != nil {
		return err
	}
	if err := e.parts(steps); err != nil {
		return err
	}
	n := len(e.in)
	if len(e.insert) == 0 && len(steps) == 1 && zero(e.differ) {
		e.stats.Copied += int64(n)
		return e.write(appendNumber(e.begin(kindCopy, e.plain), uint64(steps[0].from)))
	}
	e.plain = append(e.begin(kindPlain, e.plain), e.in...)
	form := e.plain
	if len(e.differ) < n { // otherwise all of it resembles something
		e.packed = e.pack(e.begin(kindPacked, e.packed), e.in)
		form = shorter(form, e.packed)
	}
	if e.mend(steps); len(e.differ) > 0 && len(e.mended) < len(form) {
		e.stats.Different += int64(len(e.differ))
		e.stats.Inserted += int64(len(e.insert))
		return e.write(e.mended)
	}
	e.stats.Inserted += int64(n)
	return e.write(form)
}

// begin makes b a block's kind and length.
func (e *encoder) begin(kind byte, b []byte) []byte {
	return appendNumber(append(b[:0], kind), uint64(len(e.in)))
}

// mend makes the form that is of steps.
func (e *encoder) mend(steps []step) {
	b := appendNumber(e.begin(kindMended, e.mended), uint64(len(steps)))
	place := int64(0)
	for _, s := range steps {
		b = appendNumber(b, zigzag(s.from-place))
		b = appendNumber(b, uint64(s.differ))
		b = appendNumber(b, uint64(s.inserted))
		place = s.from + int64(s.differ)
	}
	e.parted = append(append(e.parted[:0], e.differ...), e.insert...)
	e.mended = e.pack(b, e.parted)
}

// pack appends what in is packed.
func (e *encoder) pack(b, in []byte) []byte {
	e.zipped = e.zstd.EncodeAll(in, e.zipped[:0])
	return append(appendNumber(b, uint64(len(e.zipped))), e.zipped...)
}

// parts takes a block's differences and insertions out of it.
func (e *encoder) parts(steps []step) error {
	e.differ, e.insert = e.differ[:0], e.insert[:0]
	at := 0
	for _, s := range steps {
		begin := len(e.differ)
		e.differ = append(e.differ, e.in[at:at+s.differ]...)
		if err := e.match.old.subtract(e.differ[begin:], s.from); err != nil {
			return err
		}
		at += s.differ
		e.insert = append(e.insert, e.in[at:at+s.inserted]...)
		at += s.inserted
	}
	return nil
}

func shorter(a, b []byte) []byte {
	if len(b) < len(a) {
		return b
	}
	return a
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
