// Package flash is memory as flash has it: it is programmed where it was
// erased, erased in whole sectors, and nothing is sure to be kept before Sync.
package flash

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Erased is what erased flash reads.
const Erased = 0xff

// Area is a part of a flash memory. Its methods are not safe for concurrent
// use, except ReadAt.
type Area interface {
	io.ReaderAt
	// Size is in bytes, whole sectors.
	Size() int64
	// Used is where it is known that all is erased from there on, at most Size.
	Used() int64
	// Sector is the size of what is erased at once, in bytes.
	Sector() int64
	// Program writes bytes where the flash is erased.
	Program(p []byte, off int64) error
	// Erase erases n bytes: whole sectors.
	Erase(off, n int64) error
	// Sync returns when everything before it is on stable storage.
	Sync() error
}

// Errors of an Area.
var (
	ErrNotErased = errors.New("flash: programmed where it is not erased")
	ErrBounds    = errors.New("flash: out of bounds")
)

// Check says what is wrong with an access to n bytes at off. An erase has to
// begin and end with a sector.
func Check(a Area, off, n int64, erase bool) error {
	if off < 0 || n < 0 || off > a.Size()-n {
		return fmt.Errorf("%w: %d bytes at %d of %d", ErrBounds, n, off, a.Size())
	}
	if erase && (off%a.Sector() != 0 || n%a.Sector() != 0) {
		return fmt.Errorf("%w: erase of %d bytes at %d: sectors are of %d", ErrBounds, n, off, a.Sector())
	}
	return nil
}

// Blank reports whether p is what erased flash reads.
func Blank(p []byte) bool {
	return len(p) == 0 || p[0] == Erased && bytes.Equal(p[1:], p[:len(p)-1])
}

// Pair is an area of two sectors or more of which each of the first two holds
// one copy of something. It has the methods of update.Copies.
type Pair struct{ Area }

// ReadCopy returns the sector i.
func (p Pair) ReadCopy(i int) ([]byte, error) {
	b := make([]byte, p.Sector())
	if _, err := p.ReadAt(b, int64(i)*p.Sector()); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read flash: %w", err)
	}
	return b, nil
}

// WriteCopy replaces the sector i.
func (p Pair) WriteCopy(i int, b []byte) error {
	at := int64(i) * p.Sector()
	if err := p.Erase(at, p.Sector()); err != nil {
		return err
	}
	if err := p.Program(b, at); err != nil {
		return err
	}
	return p.Sync()
}
