// Package atomicfile replaces files so that a power cut leaves either the old
// contents or the new, never a part or none.
package atomicfile

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Write replaces the file path by data with the permissions mode. When it
// returns nil the new contents, and their name, are on stable storage. A file
// that a crash left half-written beside path is never read and is overwritten
// by nobody: its name is random and it begins with a dot.
func Write(path string, data []byte, mode os.FileMode) error {
	err := WriteFrom(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// WriteFrom is Write of what write writes. An error of write is returned as it
// is; what was at path stays then.
func WriteFrom(path string, mode os.FileMode, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	if err := fill(f, mode, write); err != nil {
		_ = os.Remove(f.Name()) // the first error is the one to report
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return SyncDir(dir)
}

func fill(f *os.File, mode os.FileMode, write func(io.Writer) error) error {
	defer func() { _ = f.Close() }() // after Sync it has nothing left to lose
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return f.Sync()
}

// SyncDir puts the names in a directory on stable storage.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
