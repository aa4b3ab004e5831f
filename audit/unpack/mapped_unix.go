//go:build unix

package unpack

import (
	"fmt"
	"os"
	"syscall"
)

// nonBlocking keeps the opening of a pipe from waiting for who writes to it.
const nonBlocking = syscall.O_NONBLOCK

// mapFile maps the bytes of a file. They stay when the file is closed.
func mapFile(f *os.File, size int64) ([]byte, func() error, error) {
	data, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		return nil, nil, fmt.Errorf("map: %w", err)
	}
	return data, func() error { return syscall.Munmap(data) }, nil
}
