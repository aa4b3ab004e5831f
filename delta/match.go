package delta

import (
	"bytes"
	"context"
	"io"
	"math/bits"
	"slices"
)

// How matches are sought. Of the old image the hash of every stride-th window is
// kept; the new one is looked through in cells.
const (
	window    = 32      // bytes that have to be the same for a range to be found
	minStride = 16      // of the windows that are kept
	maxSlots  = 1 << 22 // of the table of windows: 16 MiB
	cell      = 64      // bytes that are judged at a time
	ahead     = 64      // and so many behind them
	recents   = 8       // distances that are tried anywhere
	tries     = 16      // distances that are tried for one cell
	enough    = cell / 3
	worth     = 8 // bytes that another range has to match better to be taken
)

// none is the distance of bytes that resemble nothing.
const none = int64(1) << 62

// matcher finds ranges of the old image that resemble the new one. A range is
// known by its distance: its place in the old image less that in the new.
type matcher struct {
	old   *pages
	slots []uint32 // by hash, the number of a window and a tag of its hash; 0: none
	shift int

	stride int64 // from window to window

	distance int64   // of what was judged last
	recent   []int64 // the newest first
	tried    []int64
	runs     []run
	made     []step

	left, right [2 * cell]int // scores
}

// run is a stretch of a block that has one distance.
type run struct {
	distance int64
	length   int
}

// newMatcher reads the old image and keeps the places of its windows.
func newMatcher(ctx context.Context, old io.ReaderAt, size int64) (*matcher, error) {
	stride := int64(minStride)
	for size/stride > maxSlots*3/4 {
		stride *= 2
	}
	slots := 1 << bits.Len64(uint64(max(size/stride, 1)))
	m := &matcher{old: newPages(old, size), slots: make([]uint32, min(2*slots, maxSlots)), stride: stride, distance: none}
	m.shift = 64 - bits.TrailingZeros(uint(len(m.slots)))
	var buf [window]byte
	for at := int64(0); at+window <= size; at += stride {
		if at%pageSize < stride {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		if err := m.old.read(buf[:], at); err != nil {
			return nil, err
		}
		if uniform(buf[:]) {
			continue
		}
		h := mix(sum(buf[:]))
		if slot := &m.slots[h>>m.shift]; *slot == 0 {
			*slot = uint32(at/stride+1)<<tagBits | tag(h)
		}
	}
	return m, nil
}

// uniform reports whether all bytes are the same: there are too many such windows
// to tell anything.
func uniform(b []byte) bool { return bytes.Count(b, b[:1]) == len(b) }

// prime is what the rolling hash multiplies with, and primeOut its power that
// the byte has that leaves the window.
const prime = 0x9E3779B185EBCA87

var primeOut = power(window)

func power(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= prime
	}
	return p
}

// sum is the rolling hash's state after a window.
func sum(b []byte) uint64 {
	h := uint64(0)
	for _, c := range b {
		h = h*prime + uint64(c) + 1
	}
	return h
}

// mix spreads a state over the bits that choose the slot.
func mix(h uint64) uint64 { return (h ^ h>>29) * 0xBF58476D1CE4E5B9 }

// tag is of a hash what its slot does not say. Numbers of windows, from 1 on, take
// the other bits.
func tag(h uint64) uint32 { return uint32(h) % (1 << tagBits) }

const tagBits = 8

// steps says how the block of the new image that begins at a place is made of
// the old image.
func (m *matcher) steps(ctx context.Context, block []byte, at int64) ([]step, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.runs = m.runs[:0]
	for p := 0; p < len(block); p += cell {
		n := min(cell, len(block)-p)
		d, err := m.judge(block, p, at)
		if err != nil {
			return nil, err
		}
		m.add(d, n)
	}
	if err := m.refine(block, at); err != nil {
		return nil, err
	}
	m.join(at)
	return m.made, nil
}

func (m *matcher) add(d int64, n int) {
	if last := len(m.runs) - 1; last >= 0 && m.runs[last].distance == d {
		m.runs[last].length += n
		return
	}
	m.runs = append(m.runs, run{d, n})
}

// judge returns the distance of the cell at p, or none.
func (m *matcher) judge(block []byte, p int, at int64) (int64, error) {
	part := block[p:min(p+cell+ahead, len(block))]
	best, most, err := m.distance, 0, error(nil)
	if best != none {
		if most, err = m.old.equal(part, at+int64(p)+best); err != nil {
			return 0, err
		}
		if most == len(part) {
			return best, nil
		}
	}
	m.tried = append(m.tried[:0], best)
	most += worth
	try := func(d int64) error {
		if len(m.tried) > tries || slices.Contains(m.tried, d) {
			return nil
		}
		m.tried = append(m.tried, d)
		n, err := m.old.equal(part, at+int64(p)+d)
		if n > most {
			best, most = d, n
		}
		return err
	}
	if err := m.anchors(block, p, at, try); err != nil {
		return 0, err
	}
	for _, d := range m.recent {
		if err := try(d); err != nil {
			return 0, err
		}
	}
	if best == none || most*cell < enough*len(part) {
		return none, nil
	}
	m.take(best)
	return best, nil
}

// take makes d the distance that is tried first.
func (m *matcher) take(d int64) {
	if d == m.distance {
		return
	}
	m.distance = d
	if i := slices.Index(m.recent, d); i >= 0 {
		m.recent = slices.Delete(m.recent, i, i+1)
	}
	m.recent = slices.Insert(m.recent, 0, d)
	m.recent = m.recent[:min(len(m.recent), recents)]
}

// anchors tries the distances of windows that begin in the cell at p and are in
// the old image.
func (m *matcher) anchors(block []byte, p int, at int64, try func(int64) error) error {
	if p+window > len(block) {
		return nil
	}
	h := sum(block[p : p+window])
	for q := p; ; q++ {
		mixed := mix(h)
		if slot := m.slots[mixed>>m.shift]; slot != 0 && slot%(1<<tagBits) == tag(mixed) {
			if err := try(int64(slot>>tagBits-1)*m.stride - at - int64(q)); err != nil {
				return err
			}
		}
		if q+1 >= p+cell || q+1+window > len(block) {
			return nil
		}
		h = h*prime + uint64(block[q+window]) + 1 - (uint64(block[q])+1)*primeOut
	}
}

// refine moves the boundaries between runs, which are those of cells, to where
// they match best.
func (m *matcher) refine(block []byte, at int64) error {
	end := 0
	for i := range len(m.runs) - 1 {
		a, b := &m.runs[i], &m.runs[i+1]
		end += a.length
		from, to := end-min(cell, a.length), end+min(cell, b.length)
		x, y := m.left[:to-from], m.right[:to-from]
		if err := m.scores(x, block[from:to], at+int64(from), a.distance); err != nil {
			return err
		}
		if err := m.scores(y, block[from:to], at+int64(from), b.distance); err != nil {
			return err
		}
		total := 0
		for _, s := range y {
			total += s
		}
		best, where := total, 0
		for k := range x {
			if total += x[k] - y[k]; total > best {
				best, where = total, k+1
			}
		}
		move := from + where - end
		a.length, b.length, end = a.length+move, b.length-move, end+move
	}
	return nil
}

// scores puts into s how well each byte is made: 2 where it is the same at the
// distance, 0 where it differs, 1 where it stands for itself.
func (m *matcher) scores(s []int, part []byte, at int64, distance int64) error {
	for i := range s {
		s[i] = 1
	}
	if distance == none {
		return nil
	}
	lo, hi := m.old.clip(at+distance, len(part))
	for i := range s {
		s[i] = -4 * cell // it is not there
	}
	return m.old.each(at+distance+int64(lo), hi-lo, func(offset int, was []byte) {
		for i, c := range was {
			s[lo+offset+i] = 0
			if part[lo+offset+i] == c {
				s[lo+offset+i] = 2
			}
		}
	})
}

// join makes m.made of the runs. What lies outside of the old image stands for
// itself, and so does all beyond MaxSteps.
func (m *matcher) join(at int64) {
	steps := append(m.made[:0], step{})
	place := at
	for _, r := range m.runs {
		n := r.length
		if n == 0 {
			continue
		}
		lo, hi := 0, 0
		if r.distance != none && len(steps) < MaxSteps {
			lo, hi = m.old.clip(place+r.distance, n)
		}
		if hi <= lo {
			lo, hi = n, n
		}
		last := &steps[len(steps)-1]
		last.inserted += lo
		if hi > lo {
			if last.differ+last.inserted > 0 {
				steps = append(steps, step{})
				last = &steps[len(steps)-1]
			}
			last.from, last.differ, last.inserted = place+r.distance+int64(lo), hi-lo, n-hi
		}
		place += int64(n)
	}
	m.made = steps
}
