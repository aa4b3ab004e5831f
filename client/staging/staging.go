// Package staging keeps a staging directory: what is to be published of
// releases, until enough signers have signed it, on whichever machines they
// are, and until the hub has it.
//
// The directory has
//
//   - metadata.json: the metadata that is settled, signed by all whom it takes and
//     usually published, and a draft of what comes next, with the signatures so far;
//   - blobs: images, SBOMs and audit statements by their SHA-256;
//   - keys: the public halves of the release keys, by name. Nothing rests on
//     them: they only give keys a name.
//
// Every change is one replacement of metadata.json, after what it speaks of is
// on stable storage. Interrupted anywhere, the directory is as it was or as it
// was to become.
package staging

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"holdfast/fault"
	"holdfast/internal/atomicfile"
	"holdfast/internal/filelock"
)

const (
	stateName = "metadata.json"
	blobsName = "blobs"
	keysName  = "keys"
	lockName  = ".lock"
	firstRoot = "1.root.json" // what devices are provisioned with
)

// maxState bounds metadata.json in bytes.
const maxState = 256 << 20

// Dir is a staging directory.
type Dir struct {
	path string

	// write replaces a file; tests have it fail.
	write func(path string, mode os.FileMode, write func(io.Writer) error) error
}

// state is metadata.json: files by name.
type state struct {
	Settled map[string][]byte `json:"settled"`
	Draft   map[string][]byte `json:"draft"`
}

// Open opens the staging directory path; Init and Fetch make one that is
// missing.
func Open(path string) *Dir { return &Dir{path: path, write: atomicfile.WriteFrom} }

// lock keeps others out of the directory, which it makes where it is missing.
func (d *Dir) lock() (unlock func(), err error) {
	for _, sub := range []string{blobsName, keysName} {
		if err := os.MkdirAll(filepath.Join(d.path, sub), 0o755); err != nil {
			return nil, fmt.Errorf("staging directory: %w", err)
		}
	}
	unlock, err = filelock.Try(filepath.Join(d.path, lockName))
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fault.New(fault.Conflict, "the staging directory %s is in use by another command", d.path)
	}
	return unlock, err
}

// exists reports whether the directory has metadata.
func (d *Dir) exists() (bool, error) {
	_, err := os.Stat(filepath.Join(d.path, stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// need refuses a directory without metadata before it is touched.
func (d *Dir) need() error {
	ok, err := d.exists()
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "%s is no staging directory: 'holdfast release init' makes one", d.path)
	}
	return err
}

func (d *Dir) load() (state, error) {
	s := state{Settled: map[string][]byte{}, Draft: map[string][]byte{}}
	f, err := os.Open(filepath.Join(d.path, stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read the staging directory: %w", err)
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxState)).Decode(&s); err != nil {
		return s, fault.New(fault.Integrity, "read %s: %w", filepath.Join(d.path, stateName), err)
	}
	return s, nil
}

func (d *Dir) save(s state) error {
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return d.put(stateName, b)
}

// put replaces a file of the directory.
func (d *Dir) put(name string, b []byte) error {
	path := filepath.Join(d.path, name)
	if err := d.write(path, 0o644, func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// all returns the settled files with the draft's among them.
func (s state) all() map[string][]byte {
	all := maps.Clone(s.Settled)
	maps.Copy(all, s.Draft)
	return all
}
