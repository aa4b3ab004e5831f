package unpack

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"holdfast/audit/subject"
)

// piece is a run of bytes that a program has at an address of flash.
type piece struct {
	name string
	at   uint64
	data []byte
	must bool // it has to be in the image
}

func (p piece) end() uint64 { return p.at + uint64(len(p.data)) }

// Match returns nil when what a program loads is what an image flashes, and
// otherwise an error that names the first difference. These are the rules:
//
//  1. Each byte of each allocated section with bytes in the file is in the
//     image, at the load (physical) address that its segment gives it. In an
//     MCUboot image, and in a raw binary without a base, addresses count from
//     the first byte of the payload and of the lowest section.
//  2. What a loadable segment has beside its sections (file headers, padding)
//     may be left out of the image; where the image has bytes there, they are
//     the segment's.
//  3. Any other byte of the image is padding: each gap between sections, before
//     the first or behind the last, is all 0x00 or all 0xff.
//  4. Bytes that a program has in memory but not in its file (.bss), debug
//     information and section headers are not flashed and not compared.
//
// A program without sections is compared by its segments.
//
// Where the payload of an MCUboot image is an ELF file itself, as for a board
// that starts Linux programs, that file is what is loaded: the program's whole
// file has to be the beginning of the payload, and what stands behind it on no
// page that is executable.
func Match(p *subject.Program, img *subject.Image) error {
	if carriesELF(img) {
		if err := begins(p, img.MCUboot.Payload); err != nil {
			return fmt.Errorf("%s is not shown to be %s: %w", img.File, p.File, err)
		}
		return nil
	}
	pieces, err := loaded(p)
	if err != nil {
		return fmt.Errorf("%s is not shown to be %s: %w", img.File, p.File, err)
	}
	chunks, based := img.Chunks, img.Based
	if img.MCUboot != nil {
		chunks, based = []subject.Chunk{{Data: img.MCUboot.Payload}}, false
	}
	if len(chunks) == 0 || len(chunks[0].Data) == 0 {
		return fmt.Errorf("%s is empty", img.File)
	}
	if !based {
		rebase(pieces, chunks[0].Address)
	}
	if err := compare(pieces, chunks); err != nil {
		return fmt.Errorf("%s is not shown to be %s: %w", img.File, p.File, err)
	}
	return nil
}

// loaded returns what a program has in flash, by address.
func loaded(p *subject.Program) ([]piece, error) {
	if p.Type == subject.Relocatable {
		return nil, errors.New("the program was never linked")
	}
	sections := slices.ContainsFunc(p.Sections, func(s subject.Section) bool { return s.Alloc && s.Size > 0 })
	var all []piece
	for _, r := range p.Regions() {
		address, ok := flashed(p, r.Offset)
		if !ok {
			return nil, fmt.Errorf("section %s is in no loadable segment", r.Name)
		}
		all = append(all, piece{r.Name, address, r.Data, r.Name != "" || !sections})
	}
	slices.SortFunc(all, func(a, b piece) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.name, b.name)) })
	if !slices.ContainsFunc(all, func(p piece) bool { return p.must }) {
		return nil, errors.New("the program loads nothing")
	}
	for i := 1; i < len(all); i++ {
		if all[i].at < all[i-1].end() {
			return nil, fmt.Errorf("the program loads two things to %#x", all[i].at)
		}
	}
	return all, nil
}

// flashed returns the load address of a byte of the file.
func flashed(p *subject.Program, offset int64) (uint64, bool) {
	for _, s := range p.Segments {
		if s.Type == "LOAD" && uint64(offset) >= s.Offset && uint64(offset)-s.Offset < s.FileSize {
			return s.LoadAddress + uint64(offset) - s.Offset, true
		}
	}
	return 0, false
}

// rebase moves pieces so that the lowest that must be in the image is at start.
func rebase(pieces []piece, start uint64) {
	first := pieces[slices.IndexFunc(pieces, func(p piece) bool { return p.must })].at
	for i := range pieces {
		pieces[i].at += start - first
	}
}

// compare holds pieces against chunks, both by address.
func compare(pieces []piece, chunks []subject.Chunk) error {
	for _, p := range pieces {
		if err := contained(p, chunks); err != nil {
			return err
		}
	}
	for _, c := range chunks {
		at := c.Address
		for _, p := range pieces {
			if p.end() <= at || p.at >= c.Address+uint64(len(c.Data)) || p.end() < p.at {
				continue
			}
			if p.at > at {
				if err := padding(c, at, p.at); err != nil {
					return err
				}
			}
			at = min(p.end(), c.Address+uint64(len(c.Data)))
		}
		if err := padding(c, at, c.Address+uint64(len(c.Data))); err != nil {
			return err
		}
	}
	return nil
}

// contained checks that the chunks have a piece, or of one that may be left out
// that what they have of it is the same.
func contained(p piece, chunks []subject.Chunk) error {
	at := p.at
	for _, c := range chunks {
		end := c.Address + uint64(len(c.Data))
		from, to := max(p.at, c.Address), min(p.end(), end)
		if from >= to {
			continue
		}
		if p.must && from != at {
			break
		}
		have, want := c.Data[from-c.Address:to-c.Address], p.data[from-p.at:to-p.at]
		if !bytes.Equal(have, want) {
			i := 0
			for have[i] == want[i] {
				i++
			}
			return fmt.Errorf("%s differs at %#x: %#02x in the program, %#02x in the image", p.title(), from+uint64(i), want[i], have[i])
		}
		at = to
	}
	if p.must && at != p.end() {
		return fmt.Errorf("%s is missing from %#x on", p.title(), at)
	}
	return nil
}

func (p piece) title() string {
	if p.name == "" {
		return "a segment"
	}
	return "section " + p.name
}

// padding checks the bytes of a chunk between two addresses.
func padding(c subject.Chunk, from, to uint64) error {
	if from >= to {
		return nil
	}
	gap := c.Data[from-c.Address : to-c.Address]
	fill := gap[0]
	if fill != 0 && fill != 0xff {
		return fmt.Errorf("the image has bytes at %#x that the program does not load", from)
	}
	for i, b := range gap {
		if b != fill {
			return fmt.Errorf("the image has bytes at %#x that the program does not load", from+uint64(i))
		}
	}
	return nil
}
