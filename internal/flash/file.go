package flash

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"holdfast/internal/atomicfile"
)

// File is an Area that is kept in a file. What lies behind the end of the file
// is erased, so that the file of a slot is the image in it.
type File struct {
	f            *os.File
	size, sector int64
}

// Open opens an area of whole sectors that is kept in the file path, which is
// made where it is missing.
func Open(path string, size, sector int64) (*File, error) {
	_, missing := os.Lstat(path)
	f, err := open(path, os.O_RDWR|os.O_CREATE, size, sector)
	if err != nil || missing == nil {
		return f, err
	}
	if err := errors.Join(f.Sync(), atomicfile.SyncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(fmt.Errorf("open flash: %w", err), f.Close())
	}
	return f, nil
}

// OpenReadOnly opens an area that is not to be changed. A missing file is an
// error.
func OpenReadOnly(path string, size, sector int64) (*File, error) {
	return open(path, os.O_RDONLY, size, sector)
}

func open(path string, flags int, size, sector int64) (*File, error) {
	if sector <= 0 || size <= 0 || size%sector != 0 {
		return nil, fmt.Errorf("open flash %s: %d bytes in sectors of %d", path, size, sector)
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open flash: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() > size {
		err = fmt.Errorf("%s has %d bytes, the flash %d", path, info.Size(), size)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open flash: %w", err), f.Close())
	}
	return &File{f, size, sector}, nil
}

// Close releases the file.
func (f *File) Close() error { return f.f.Close() }

// Size implements Area.
func (f *File) Size() int64 { return f.size }

// Used implements Area: behind the end of the file all is erased.
func (f *File) Used() int64 {
	end, err := f.end()
	if err != nil {
		return f.size // then reading it fails too
	}
	return end
}

// Sector implements Area.
func (f *File) Sector() int64 { return f.sector }

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: read at %d", ErrBounds, off)
	}
	want := int(max(0, min(int64(len(p)), f.size-off)))
	n, err := f.f.ReadAt(p[:want], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	fill(p[n:want])
	if want < len(p) {
		return want, io.EOF
	}
	return want, nil
}

// fill makes p what erased flash reads. Copying what is done already is many
// times as fast as a loop.
func fill(p []byte) {
	if len(p) == 0 {
		return
	}
	p[0] = Erased
	for done := 1; done < len(p); done *= 2 {
		copy(p[done:], p[:done])
	}
}

// Program implements Area.
func (f *File) Program(p []byte, off int64) error {
	if err := Check(f, off, int64(len(p)), false); err != nil {
		return err
	}
	end, err := f.end()
	if err != nil {
		return err
	}
	if off < end {
		old := make([]byte, min(int64(len(p)), end-off))
		if _, err := f.ReadAt(old, off); err != nil {
			return err
		}
		if !Blank(old) {
			return fmt.Errorf("%w: %d bytes at %d", ErrNotErased, len(p), off)
		}
	}
	if err := f.blank(end, off); err != nil {
		return err
	}
	_, err = f.f.WriteAt(p, off)
	return err
}

// end returns where the file ends.
func (f *File) end() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Erase implements Area.
func (f *File) Erase(off, n int64) error {
	if err := Check(f, off, n, true); err != nil {
		return err
	}
	end, err := f.end()
	switch {
	case err != nil || off >= end:
		return err
	case off+n >= end:
		return f.f.Truncate(off)
	}
	return f.blank(off, off+n)
}

// blank writes what erased flash reads.
func (f *File) blank(from, to int64) error {
	if from >= to {
		return nil
	}
	b := make([]byte, min(to-from, 64<<10))
	fill(b)
	for from < to {
		n, err := f.f.WriteAt(b[:min(int64(len(b)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// Sync implements Area.
func (f *File) Sync() error { return f.f.Sync() }
