// Package filelock keeps processes from working on the same files at once. A
// lock ends with the process that holds it, however that ends.
package filelock

import (
	"errors"
	"os"
	"syscall"
)

// ErrHeld says that another process, or another part of this one, has the lock.
var ErrHeld = errors.New("in use by another process")

// Try takes the lock that the file path stands for, or returns ErrHeld. The
// file is made where it is missing, and stays.
func Try(path string) (release func(), err error) {
	release, err = take(path, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrHeld
	}
	return release, err
}

// Wait is Try for who waits until the lock is free.
func Wait(path string) (release func(), err error) { return take(path, syscall.LOCK_EX) }

func take(path string, how int) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return func() { f.Close() }, nil
}
