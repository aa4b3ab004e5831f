// Package sockdir finds a directory for Unix sockets, whose paths Linux limits
// to 107 bytes (sun_path, unix(7)).
package sockdir

import (
	"fmt"
	"os"
	"path/filepath"
)

const maxPath = 107

// Choose returns dir when a socket called name fits in it, else a new short
// directory that only this user can enter. The function returned removes what
// Choose made; it is never nil.
func Choose(dir, name string) (string, func(), error) {
	if len(filepath.Join(dir, name)) <= maxPath {
		return dir, func() {}, nil
	}
	short, err := os.MkdirTemp("/tmp", "holdfast-")
	if err != nil {
		return "", func() {}, fmt.Errorf("directory for sockets: %w", err)
	}
	return short, func() { _ = os.RemoveAll(short) }, nil // holds sockets only
}
