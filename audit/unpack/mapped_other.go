//go:build !unix

package unpack

import (
	"io"
	"os"
)

const nonBlocking = 0

// mapFile reads a file where there is no mapping.
func mapFile(f *os.File, size int64) ([]byte, func() error, error) {
	data, err := io.ReadAll(io.LimitReader(f, size))
	return data, func() error { return nil }, err
}
