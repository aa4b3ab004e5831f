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
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/audit/elfread"
	"holdfast/audit/subject"
)

// Options say how files are read. The zero value is fit for use.
type Options struct {
	// Base is the load address of raw binaries.
	Base uint64
	// Based says that Base was given: otherwise addresses of raw binaries count
	// from 0 and say nothing.
	Based bool
	// MCUboot wants the images among the named files to be MCUboot images: it is
	// a trouble when one is none. Images with MCUboot's magic are read as such
	// anyway.
	MCUboot bool
	// Ignore are patterns of names below directories that are not read, as of
	// path.Match, against the path below the directory and against the last
	// element of each directory and file on it; ".git" and others of its kind are
	// never read.
	Ignore []string
	// Limits bound what is read; a zero field means its default.
	Limits Limits
	// Progress is told of the bytes read and of those that are known of, one
	// call at a time; may be nil.
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
	DebugEntries int   // of an ELF's debug information; default 4 million
	DebugSize    int64 // of an ELF's debug sections in bytes, unpacked; default 512 MiB
	Calls        int   // in an ELF's code; default 4 million
	Defines      int   // lines of the preprocessor of a configuration, includes counted; default 100,000
}

// withDefaults returns the limits with the defaults for what is zero.
func (l Limits) withDefaults() Limits {
	return Limits{
		FileSize: cmp.Or(l.FileSize, 1<<30), Files: cmp.Or(l.Files, 200_000),
		MemberSize: cmp.Or(l.MemberSize, 256<<20), ArchiveTotal: cmp.Or(l.ArchiveTotal, 1<<30),
		ArchiveRatio: cmp.Or(l.ArchiveRatio, 200), ArchiveDepth: cmp.Or(l.ArchiveDepth, 4),
		Sections: cmp.Or(l.Sections, 65_536), Symbols: cmp.Or(l.Symbols, 4_000_000),
		DebugEntries: cmp.Or(l.DebugEntries, 4_000_000), DebugSize: cmp.Or(l.DebugSize, 512<<20),
		Calls: cmp.Or(l.Calls, 4_000_000), Defines: cmp.Or(l.Defines, 100_000),
	}
}

// elf returns the limits of one ELF file.
func (l Limits) elf() elfread.Limits {
	return elfread.Limits{Sections: l.Sections, Symbols: l.Symbols, DebugEntries: l.DebugEntries, DebugSize: l.DebugSize, Calls: l.Calls}
}

// Open reads files and directories. The subject holds what could be read, and
// its troubles say what could not; an error means that there is nothing to
// judge: a name that does not exist, or ctx is done. Close the subject.
func Open(ctx context.Context, names []string, o Options) (*subject.Subject, error) {
	o.Limits = o.Limits.withDefaults()
	u := &unpacker{Options: o, left: o.Limits.ArchiveTotal}
	s, err := u.open(ctx, names)
	if err != nil {
		return nil, errors.Join(err, u.close())
	}
	return s, nil
}

// unpacker reads one input.
type unpacker struct {
	Options
	closers []func() error

	mu    sync.Mutex
	left  int64 // bytes that members of archives may still come to
	files int
	done  int64
	total int64
}

func (u *unpacker) open(ctx context.Context, names []string) (*subject.Subject, error) {
	all, troubles, err := u.gather(ctx, names)
	if err != nil {
		return nil, err
	}
	results := make([]result, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range all {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("read %s: %w", f.name, err)
			}
			u.file(f, &results[i])
			u.progress(f.size)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	s := subject.New(u.close)
	s.Troubles = troubles
	for i := range results {
		results[i].into(s)
	}
	u.payloads(s)
	u.configure(s)
	return s, nil
}

// later has something closed with the subject.
func (u *unpacker) later(f func() error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closers = append(u.closers, f)
}

func (u *unpacker) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []error
	for _, f := range u.closers {
		all = append(all, f())
	}
	u.closers = nil
	return errors.Join(all...)
}

func (u *unpacker) progress(n int64) {
	if u.Progress == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done += n
	u.Progress(u.done, u.total)
}

// another counts a file and reports whether it may be read.
func (u *unpacker) another() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.files++
	return u.files <= u.Limits.Files
}

// spend takes bytes from what members of archives may come to and reports
// whether there were as many left.
func (u *unpacker) spend(n int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.left -= n
	return u.left >= 0
}
