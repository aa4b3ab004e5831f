package delta

import (
	"fmt"
	"io"
)

// The pages of an image that are held in memory: 8 MiB.
const (
	pageSize = 16 << 10
	maxPages = 512
)

// pages reads an image, here and there, and holds what was read last.
type pages struct {
	from io.ReaderAt
	size int64
	held [maxPages]page
}

type page struct {
	number int64
	data   []byte // nil: nothing yet
}

func newPages(r io.ReaderAt, size int64) *pages { return &pages{from: r, size: size} }

// at returns what its page has from a place on.
func (p *pages) at(place int64) ([]byte, error) {
	number := place / pageSize
	h := &p.held[number%maxPages]
	if h.data == nil || h.number != number {
		want := int(min(pageSize, p.size-number*pageSize))
		if cap(h.data) < pageSize {
			h.data = make([]byte, pageSize)
		}
		h.data, h.number = h.data[:want], number
		if n, err := p.from.ReadAt(h.data, number*pageSize); n < want {
			h.data = nil
			return nil, fmt.Errorf("read the old image at %d: %w", number*pageSize, err)
		}
	}
	return h.data[place%pageSize:], nil
}

// each calls do with the parts of n bytes from a place on, all of which are there.
func (p *pages) each(place int64, n int, do func(offset int, part []byte)) error {
	for done := 0; done < n; {
		part, err := p.at(place + int64(done))
		if err != nil {
			return err
		}
		part = part[:min(len(part), n-done)]
		do(done, part)
		done += len(part)
	}
	return nil
}

func (p *pages) read(to []byte, place int64) error {
	return p.each(place, len(to), func(offset int, part []byte) { copy(to[offset:], part) })
}

// subtract takes the image's bytes from those in b.
func (p *pages) subtract(b []byte, place int64) error {
	return p.each(place, len(b), func(offset int, part []byte) {
		for i, c := range part {
			b[offset+i] -= c
		}
	})
}

// equal counts the bytes of b that are the same in the image from a place on. A
// place outside of the image has none that are.
func (p *pages) equal(b []byte, place int64) (int, error) {
	lo, hi := p.clip(place, len(b))
	n := 0
	err := p.each(place+int64(lo), max(hi-lo, 0), func(offset int, part []byte) {
		mine := b[lo+offset:]
		for i, c := range part {
			if mine[i] == c {
				n++
			}
		}
	})
	return n, err
}

// clip returns which of n bytes from a place on are in the image.
func (p *pages) clip(place int64, n int) (lo, hi int) {
	lo = int(min(max(-place, 0), int64(n)))
	hi = int(max(min(p.size-place, int64(n)), 0))
	return lo, max(hi, lo)
}
