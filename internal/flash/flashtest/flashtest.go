// Package flashtest is a flash memory that forgets what was not synced when its
// power goes, tears what is being written, and rots. It is flash of the NOR
// kind: programming clears bits, so that what is programmed over something
// else is neither.
package flashtest

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"holdfast/internal/flash"
)

// Kind is a kind of operation.
type Kind string

// The kinds.
const (
	Program Kind = "program"
	Erase   Kind = "erase"
	Sync    Kind = "sync"
)

// Op is an operation on an area. It never changes.
type Op struct {
	Kind Kind
	Area int
	Off  int64
	Len  int64
	data []byte // of Program
}

// String returns the operation as "program area 1 at 512, 1024 bytes".
func (o Op) String() string {
	if o.Kind == Sync {
		return fmt.Sprintf("sync area %d", o.Area)
	}
	return fmt.Sprintf("%s area %d at %d, %d bytes", o.Kind, o.Area, o.Off, o.Len)
}

// Chip is a flash memory. It is not safe for concurrent use.
type Chip struct {
	// Before is called before each operation; it may be nil.
	Before func(Op)

	areas   []*Area
	pending []Op // not synced yet
}

// Area is a part of a chip. It implements flash.Area.
type Area struct {
	chip    *Chip
	index   int
	sector  int64
	data    []byte // as it reads
	durable []byte // as it reads when the power goes, without what is pending
}

// Area adds an area with content at its beginning, the rest erased.
func (c *Chip) Area(size, sector int64, content []byte) *Area {
	a := &Area{chip: c, index: len(c.areas), sector: sector, data: bytes.Repeat([]byte{flash.Erased}, int(size))}
	copy(a.data, content)
	a.durable = bytes.Clone(a.data)
	c.areas = append(c.areas, a)
	return a
}

// Areas returns the areas in the order in which they were added.
func (c *Chip) Areas() []*Area { return c.areas }

// Size implements flash.Area.
func (a *Area) Size() int64 { return int64(len(a.data)) }

// Used implements flash.Area: a chip does not know.
func (a *Area) Used() int64 { return a.Size() }

// Sector implements flash.Area.
func (a *Area) Sector() int64 { return a.sector }

// ReadAt implements io.ReaderAt.
func (a *Area) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > a.Size() {
		return 0, io.EOF
	}
	n := copy(p, a.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Program implements flash.Area.
func (a *Area) Program(p []byte, off int64) error {
	if err := flash.Check(a, off, int64(len(p)), false); err != nil {
		return err
	}
	if len(p) == 0 {
		return nil
	}
	if !flash.Blank(a.data[off : off+int64(len(p))]) {
		return flash.ErrNotErased
	}
	a.do(Op{Kind: Program, Off: off, Len: int64(len(p)), data: bytes.Clone(p)})
	return nil
}

// Erase implements flash.Area.
func (a *Area) Erase(off, n int64) error {
	if err := flash.Check(a, off, n, true); err != nil || n == 0 {
		return err
	}
	a.do(Op{Kind: Erase, Off: off, Len: n})
	return nil
}

// Sync implements flash.Area.
func (a *Area) Sync() error {
	a.do(Op{Kind: Sync})
	return nil
}

func (a *Area) do(op Op) {
	op.Area = a.index
	if a.chip.Before != nil {
		a.chip.Before(op)
	}
	if op.Kind != Sync {
		op.apply(a.data, op.Len)
		a.chip.pending = append(slices.Clip(a.chip.pending), op)
		return
	}
	a.chip.pending = slices.DeleteFunc(slices.Clone(a.chip.pending), func(o Op) bool {
		if o.Area == a.index {
			o.apply(a.durable, o.Len)
		}
		return o.Area == a.index
	})
}

// apply does the first n bytes of an operation.
func (o Op) apply(data []byte, n int64) {
	part := data[o.Off : o.Off+n]
	for i := range part {
		if o.Kind == Erase {
			part[i] = flash.Erased
		} else {
			part[i] &= o.data[i]
		}
	}
}

// Rot flips a bit, at once and for ever.
func (a *Area) Rot(off int64, bit uint) {
	a.data[off] ^= 1 << (bit % 8)
	a.durable[off] ^= 1 << (bit % 8)
}

// Bytes returns all that the area holds.
func (a *Area) Bytes() []byte { return bytes.Clone(a.data) }

// Snapshot is what a chip holds at a moment: what is sure, and what is pending.
type Snapshot struct {
	durable [][]byte
	sectors []int64
	pending []Op
}

// Snapshot returns what the chip holds now.
func (c *Chip) Snapshot() Snapshot {
	s := Snapshot{pending: c.pending}
	for _, a := range c.areas {
		s.durable = append(s.durable, bytes.Clone(a.durable))
		s.sectors = append(s.sectors, a.sector)
	}
	return s
}

// Pending returns how many operations are not synced.
func (s Snapshot) Pending() int { return len(s.pending) }

// Cut returns the chip as it is when the power is back after it went at the
// moment: of the pending operations those are done that keep says, and of op
// its first n bytes.
func (s Snapshot) Cut(keep func(i int) bool, op Op, n int64) *Chip {
	c := &Chip{}
	for i, d := range s.durable {
		c.Area(int64(len(d)), s.sectors[i], d)
	}
	for i, o := range s.pending {
		if keep(i) {
			o.apply(c.areas[o.Area].durable, o.Len)
		}
	}
	if n > 0 && op.Kind != Sync {
		op.apply(c.areas[op.Area].durable, n)
	}
	for _, a := range c.areas {
		copy(a.data, a.durable)
	}
	return c
}

// Cuts returns how much of an operation may be done when the power goes: none,
// up to each sector boundary, up to three points inside, and all.
func (o Op) Cuts(sector int64) []int64 {
	if o.Kind == Sync {
		return []int64{0}
	}
	cuts := []int64{0, o.Len / 4, o.Len/2 + 1, o.Len - 1, o.Len}
	for at := sector - o.Off%sector; at < o.Len; at += sector {
		cuts = append(cuts, at)
	}
	slices.Sort(cuts)
	return slices.Compact(slices.DeleteFunc(cuts, func(n int64) bool { return n < 0 || n > o.Len }))
}
