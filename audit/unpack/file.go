package unpack

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"holdfast/audit/buildlog"
	"holdfast/audit/elfread"
	"holdfast/audit/flash"
	"holdfast/audit/linkmap"
	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/identity"
	"holdfast/mcuboot"
)

// result is what one file of the input comes to, with the members of an
// archive.
type result struct {
	files    []*subject.File
	programs []*subject.Program
	images   []*subject.Image
	maps     []*subject.Map
	sources  []*subject.Source
	commands []subject.Command
	logs     []*subject.Log
	troubles []finding.Trouble
}

// into adds a result to the subject.
func (r *result) into(s *subject.Subject) {
	s.Files = append(s.Files, r.files...)
	s.Programs = append(s.Programs, r.programs...)
	s.Images = append(s.Images, r.images...)
	s.Maps = append(s.Maps, r.maps...)
	s.Sources = append(s.Sources, r.sources...)
	s.Commands = append(s.Commands, r.commands...)
	s.Logs = append(s.Logs, r.logs...)
	s.Troubles = append(s.Troubles, r.troubles...)
}

func (r *result) trouble(l finding.Location, format string, args ...any) {
	r.troubles = append(r.troubles, finding.Trouble{Location: l, Message: fmt.Sprintf(format, args...)})
}

// file reads one file of the input.
func (u *unpacker) file(f found, r *result) {
	if !u.another() {
		r.trouble(finding.InFile(f.name), "more than %d files: not read", u.Limits.Files)
		return
	}
	data, again, err := u.content(f)
	if err != nil {
		r.trouble(finding.InFile(f.name), "cannot be read: %s", cause(err))
		return
	}
	u.guarded(f.name, r, func() { u.judge(f.name, data, again, f.given, 0, r) })
}

// guarded runs the reading of one file; a panic in it is a trouble.
func (u *unpacker) guarded(name string, r *result, read func()) {
	if err := subject.Guard(read); err != nil {
		r.trouble(finding.InFile(name), "cannot be read: %v", err)
	}
}

// judge finds out what a file is and reads it as that.
func (u *unpacker) judge(name string, data []byte, again func() ([]byte, error), given bool, depth int, r *result) {
	f := subject.NewFile(name, sniff(name, data, given), again)
	f.Size, f.SHA256, f.Given = int64(len(data)), identity.Sum(data), given
	r.files = append(r.files, f)
	switch f.Kind {
	case subject.ELF:
		u.program(f, data, r)
	case subject.Hex, subject.SREC, subject.UF2, subject.MCUboot, subject.Binary:
		u.image(f, data, r)
	case subject.LinkMap:
		r.maps = append(r.maps, linkmap.Parse(name, string(data)))
	case subject.Commands:
		all, err := buildlog.ParseCommands(name, data)
		r.commands = append(r.commands, all...)
		if err != nil {
			r.trouble(finding.InFile(name), "%v", err)
		}
	case subject.BuildLog:
		all, log := buildlog.ParseLog(name, string(data))
		r.commands, r.logs = append(r.commands, all...), append(r.logs, log)
	case subject.CSource, subject.Header:
		r.sources = append(r.sources, &subject.Source{File: f, Language: language(name)})
	case subject.Archive:
		u.archive(f, data, depth, r)
	}
}

// program reads an ELF file.
func (u *unpacker) program(f *subject.File, data []byte, r *result) {
	p, troubles := elfread.Read(f.Name, data, u.Limits.elf())
	r.troubles = append(r.troubles, troubles...)
	if p != nil {
		f.Arch = p.Arch
		r.programs = append(r.programs, p)
	}
}

// image reads what is flashed.
func (u *unpacker) image(f *subject.File, data []byte, r *result) {
	img := &subject.Image{File: f.Name, Format: f.Kind, Based: true}
	var err error
	switch f.Kind {
	case subject.Hex:
		img.Chunks, err = flash.ParseHex(string(data))
	case subject.SREC:
		img.Chunks, err = flash.ParseSREC(string(data))
	case subject.UF2:
		img.Chunks, err = flash.ParseUF2(data)
	default:
		img.Based = u.Based
		img.Chunks = []subject.Chunk{{Address: u.Base, Data: data}}
	}
	if err != nil {
		l := finding.InFile(f.Name)
		if e, ok := errors.AsType[*flash.Error](err); ok {
			l.Line, l.Offset = e.Line, e.Offset
			err = errors.New(e.Reason)
		}
		r.trouble(l, "not a whole %s: %v", f.Kind, err)
		return
	}
	if len(img.Chunks[0].Data) == 0 {
		return
	}
	img.Measured = measured(img.Chunks)
	if first := img.Chunks[0].Data; isMCUboot(first) || u.MCUboot && f.Given {
		parsed, err := mcuboot.Parse(first)
		if err != nil {
			r.trouble(finding.InFile(f.Name), "as an MCUboot image: %v", err)
		} else {
			img.MCUboot, img.Measured = parsed, parsed.Digest
		}
	}
	r.images = append(r.images, img)
}

// measured returns the digest of an image's bytes from first to last, gaps as
// erased flash, or none when the gaps are too wide for one flash.
func measured(chunks []subject.Chunk) identity.Digest {
	const widest = 256 << 20
	var d identity.Digest
	first, last := chunks[0].Address, chunks[len(chunks)-1]
	if last.Address-first+uint64(len(last.Data)) > max(widest, uint64(len(last.Data))) {
		return d
	}
	h := sha256.New()
	at := first
	erased := make([]byte, 4096)
	for i := range erased {
		erased[i] = 0xff
	}
	for _, c := range chunks {
		for at < c.Address {
			n := min(c.Address-at, uint64(len(erased)))
			h.Write(erased[:n])
			at += n
		}
		h.Write(c.Data)
		at += uint64(len(c.Data))
	}
	h.Sum(d[:0])
	return d
}
