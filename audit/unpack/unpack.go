// Package unpack reads the files that are given to an audit into a
// subject.Subject: programs, images, maps, sources, configurations, archives
// and directories.
//
// It trusts nothing of them. Sizes and counts are judged before they are
// believed (Limits), members of archives are never written to disk, links are
// not followed out of what was given, and nothing of the input is executed.
// What cannot be read becomes a finding.Trouble with file and offset, and the
// rest is read on.
package unpack

import (
	"context"

	"holdfast/audit/subject"
)

// Options say how files are read. The zero value is fit for use.
type Options struct {
	// Base is the load address of raw binaries.
	Base uint64
	// Based says that Base was given: otherwise addresses of raw binaries count
	// from 0 and say nothing.
	Based bool
	// MCUboot reads files of unknown form as MCUboot images, and it is a trouble
	// when they are none. Images with MCUboot's magic are read as such anyway.
	MCUboot bool
	// Ignore are patterns of names below directories that are not read, as of
	// path.Match, against the name and each directory above it; ".git" and
	// others of its kind are never read.
	Ignore []string
	// Limits bound what is read; a zero field means its default.
	Limits Limits
	// Progress is told of bytes read, of the bytes that are known of; may be nil.
	Progress func(done, total int64)
}

// Limits bound the work on an input that may be hostile.
type Limits struct {
	FileSize     int64 // of one file in bytes; default 1 GiB
	Files        int   // files in all, members of archives too; default 200,000
	MemberSize   int64 // of one member of an archive, unpacked; default 256 MiB
	ArchiveTotal int64 // of all members of the input, unpacked; default 1 GiB
	ArchiveRatio int64 // unpacked to packed, beyond the first MiB; default 200
	ArchiveDepth int   // archives within archives; default 4
	Sections     int   // of an ELF; default 65,536
	Symbols      int   // of an ELF; default 4 million
	DebugEntries int   // of an ELF's debug information; default 8 million
	Defines      int   // lines of the preprocessor of a configuration, includes counted; default 100,000
}

// Open reads files and directories. The subject holds what could be read, and
// its troubles say what could not; an error means that there is nothing to
// judge: a name that does not exist, or ctx is done. Close the subject.
func Open(ctx context.Context, names []string, o Options) (*subject.Subject, error) {
	return subject.New(nil), ctx.Err()
}
