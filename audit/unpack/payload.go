package unpack

import (
	"bytes"
	"errors"
	"fmt"

	"holdfast/audit/elfread"
	"holdfast/audit/subject"
	"holdfast/identity"
	"holdfast/mcuboot"
)

// payloads reads the programs that MCUboot images carry as ELF files, where the
// program itself is not among the input. They are called "image!payload".
func (u *unpacker) payloads(s *subject.Subject) {
	for _, img := range s.Images {
		var r result
		u.guarded(img.File, &r, func() {
			if carriesELF(img) && !given(s, img.MCUboot) && u.another() {
				u.payload(img.File+"!payload", img.MCUboot.Payload, &r)
			}
		})
		r.into(s)
	}
}

func (u *unpacker) payload(name string, data []byte, r *result) {
	f := subject.NewFile(name, subject.ELF, func() ([]byte, error) { return data, nil })
	f.Size, f.SHA256 = int64(len(data)), identity.Sum(data)
	r.files = append(r.files, f)
	u.program(f, data, r)
}

// given reports whether a program of the input is what an image carries.
func given(s *subject.Subject, img *mcuboot.Image) bool {
	for _, p := range s.Programs {
		if begins(p, img.Payload) == nil {
			return true
		}
	}
	return false
}

func carriesELF(img *subject.Image) bool {
	return img.MCUboot != nil && elfread.Is(img.MCUboot.Payload)
}

// minPage is the least size of a page of memory in bytes.
const minPage = 4096

// begins checks that a payload, which is an ELF file for a loader, loads as the
// program does: the program's file is how it begins, and what stands behind is
// on no page that the loader makes executable.
func begins(p *subject.Program, payload []byte) error {
	if !bytes.HasPrefix(payload, p.Data) {
		return errors.New("the payload does not begin with the program's file")
	}
	known := min(extent(p), uint64(len(p.Data)))
	if known == uint64(len(payload)) {
		return nil
	}
	for _, s := range p.Segments {
		if s.Type != "LOAD" || !s.Exec || s.FileSize == 0 {
			continue
		}
		page, end := max(s.Align, minPage), s.Offset+s.FileSize
		if last := (end + page - 1) / page * page; end < s.Offset || last < end || last > known {
			return fmt.Errorf("the %d bytes behind the program may be on a page of its code at %#x", uint64(len(payload))-known, s.Address)
		}
	}
	return nil
}

// extent returns where a program's file ends that others may have written on:
// behind all its segments and sections, and the table of these. Nothing is
// behind a file that ends before.
func extent(p *subject.Program) uint64 {
	var end uint64
	for _, s := range p.Segments {
		end = max(end, s.Offset+s.FileSize)
	}
	for _, s := range p.Sections {
		if s.Type != "NOBITS" {
			end = max(end, s.Offset+s.Size)
		}
	}
	const header = 64 // bytes of a section's, or fewer
	return end + uint64(len(p.Sections)+1)*header
}
