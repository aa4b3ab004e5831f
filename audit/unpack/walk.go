package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/finding"
)

// found is a file that is to be read.
type found struct {
	name  string // as reports name it
	size  int64
	given bool // named by the caller
	open  func() (*os.File, error)
}

// never are directories that are not looked into.
var never = []string{".git", ".hg", ".svn", "node_modules", "__pycache__"}

// gather lists the files of the input in order.
func (u *unpacker) gather(ctx context.Context, names []string) (all []found, troubles []finding.Trouble, err error) {
	for _, name := range names {
		info, err := os.Stat(name)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("read input: %w", err)
		case info.IsDir():
			files, t, err := u.directory(ctx, name)
			if err != nil {
				return nil, nil, err
			}
			all, troubles = append(all, files...), append(troubles, t...)
		default:
			all = append(all, found{name: filepath.ToSlash(name), size: info.Size(), given: true, open: func() (*os.File, error) { return openRegular(os.OpenFile, name) }})
		}
	}
	all = unique(all)
	for _, f := range all {
		u.total += f.size
	}
	return all, troubles, nil
}

// unique drops files that were given twice.
func unique(all []found) []found {
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(f found) bool {
		twice := seen[path.Clean(f.name)]
		seen[path.Clean(f.name)] = true
		return twice
	})
}

// openRegular opens a file that is neither a directory, a device nor a pipe.
// What the name means may have changed since it was looked at.
func openRegular(open func(string, int, os.FileMode) (*os.File, error), name string) (*os.File, error) {
	f, err := open(name, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// directory lists the files below a directory, by name. It is opened once, and
// nothing outside it can be reached from it (os.Root); links are not followed:
// what they name inside is read under its own name.
func (u *unpacker) directory(ctx context.Context, dir string) (all []found, troubles []finding.Trouble, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read input: %w", err)
	}
	u.later(root.Close)
	prefix := filepath.ToSlash(dir)
	trouble := func(name, message string) {
		troubles = append(troubles, finding.Trouble{Location: finding.InFile(path.Join(prefix, name)), Message: message})
	}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			trouble(name, "cannot be read: "+cause(err))
			return skip(d)
		case name != "." && u.ignored(name, d):
			return skip(d)
		case d.IsDir():
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			if _, err := root.Stat(filepath.FromSlash(name)); err != nil {
				trouble(name, "a link that leads out of the directory, or nowhere: not followed")
			}
			return nil
		case !d.Type().IsRegular():
			trouble(name, "not a regular file: not read")
			return nil
		case len(all) == u.Limits.Files:
			trouble(name, fmt.Sprintf("more than %d files: the rest was not read", u.Limits.Files))
			return fs.SkipAll
		}
		all = append(all, found{name: path.Join(prefix, name), size: sizeOf(d), open: func() (*os.File, error) { return openRegular(root.OpenFile, filepath.FromSlash(name)) }})
		return nil
	})
	return all, troubles, err
}

// skip passes over a directory, or over a file.
func skip(d fs.DirEntry) error {
	if d != nil && d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func sizeOf(d fs.DirEntry) int64 {
	if info, err := d.Info(); err == nil {
		return info.Size()
	}
	return 0
}

// cause returns the reason of an error of a file, without the file's name.
func cause(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// ignored reports whether a name below a directory is not to be read.
func (u *unpacker) ignored(name string, d fs.DirEntry) bool {
	base := path.Base(name)
	if d.IsDir() && slices.Contains(never, base) {
		return true
	}
	return slices.ContainsFunc(u.Ignore, func(pattern string) bool {
		pattern = strings.TrimSuffix(pattern, "/")
		whole, _ := path.Match(pattern, name)
		last, _ := path.Match(pattern, base)
		return whole || last
	})
}

// mapFrom is the size from which files are mapped rather than read.
const mapFrom = 1 << 20

// content returns a file's bytes and how to get them again.
func (u *unpacker) content(f found) (data []byte, again func() ([]byte, error), err error) {
	file, err := f.open()
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case info.Size() > u.Limits.FileSize:
		return nil, nil, fmt.Errorf("%d bytes are more than %d", info.Size(), u.Limits.FileSize)
	case info.Size() >= mapFrom:
		data, unmap, err := mapFile(file, info.Size())
		if err != nil {
			return nil, nil, err
		}
		u.later(unmap)
		return data, func() ([]byte, error) { return data, nil }, nil
	}
	data, err = readAll(file, info.Size())
	return data, func() ([]byte, error) { return reread(f) }, err
}

// readAll reads a file of a size, or what there is of it.
func readAll(file *os.File, size int64) ([]byte, error) {
	data := make([]byte, size)
	n, err := io.ReadFull(file, data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return data[:n], err
}

// reread reads a small file again.
func reread(f found) ([]byte, error) {
	file, err := f.open()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return readAll(file, min(info.Size(), mapFrom))
}
