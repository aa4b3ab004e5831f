package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/release"
	"holdfast/tuf"
)

// keeper keeps what the device trusts: each file of metadata under the name of
// its digest, and an index of those that count. The index is replaced last, so
// that a power cut leaves the trust of before or the new one, and no mixture.
type keeper struct {
	dir  string
	root identity.Digest // of the root that was provisioned
}

// index is the form of the index.
type index struct {
	Provisioned identity.Digest            `json:"provisioned"` // the root that the trust began with
	Files       map[string]identity.Digest `json:"files"`       // by role
}

const (
	indexName = "index.json"
	fileEnd   = ".json"
	maxKept   = 1 << 20 // bytes of one file
)

// load returns the state that is kept; a device that never saw any metadata
// begins with the root that it was provisioned with. What is there and cannot
// be read is an error: to begin anew would forget what is too old.
func (k keeper) load(root []byte) (tuf.State, error) {
	text, err := read(filepath.Join(k.dir, indexName))
	if errors.Is(err, fs.ErrNotExist) {
		return tuf.State{Root: root}, nil
	}
	var at index
	if err == nil {
		err = json.Unmarshal(text, &at)
	}
	if err != nil {
		return tuf.State{}, fmt.Errorf("read what was trusted before: %w", err)
	}
	if at.Provisioned != k.root {
		return tuf.State{}, errors.New("what was trusted before began with another release root than was provisioned")
	}
	s := tuf.State{Products: map[release.Product][]byte{}}
	for role, digest := range at.Files {
		b, err := read(filepath.Join(k.dir, digest.String()+fileEnd))
		if err == nil && identity.Sum(b) != digest {
			err = errors.New("it has been damaged")
		}
		if err != nil {
			return tuf.State{}, fmt.Errorf("read what was trusted before: %s: %w", role, err)
		}
		put(&s, role, b)
	}
	return s, nil
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKept {
		return nil, fmt.Errorf("%s has %d bytes", filepath.Base(path), info.Size())
	}
	return os.ReadFile(path)
}

// put enters a role's file.
func put(s *tuf.State, role string, b []byte) {
	switch role {
	case tuf.Root:
		s.Root = b
	case tuf.Timestamp:
		s.Timestamp = b
	case tuf.Snapshot:
		s.Snapshot = b
	case tuf.Targets:
		s.Targets = b
	default:
		s.Products[release.Product(role)] = b
	}
}

// save replaces what is kept by s.
func (k keeper) save(s tuf.State) error {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return fmt.Errorf("keep what is trusted: %w", err)
	}
	at := index{Provisioned: k.root, Files: map[string]identity.Digest{}}
	files := map[string][]byte{tuf.Root: s.Root, tuf.Timestamp: s.Timestamp, tuf.Snapshot: s.Snapshot, tuf.Targets: s.Targets}
	for p, b := range s.Products {
		files[string(p)] = b
	}
	for role, b := range files {
		if len(b) == 0 {
			continue
		}
		digest := identity.Sum(b)
		at.Files[role] = digest
		path := filepath.Join(k.dir, digest.String()+fileEnd)
		if _, err := os.Stat(path); err == nil {
			continue // it has been kept before; its name says what it holds
		}
		if err := atomicfile.Write(path, b, 0o600); err != nil {
			return fmt.Errorf("keep what is trusted: %w", err)
		}
	}
	text, err := json.Marshal(at)
	if err == nil {
		err = atomicfile.Write(filepath.Join(k.dir, indexName), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep what is trusted: %w", err)
	}
	k.tidy(at)
	return nil
}

// tidy removes the files that do not count any more, and what a crash left.
// What cannot be removed is only in the way.
func (k keeper) tidy(at index) {
	used := map[string]bool{indexName: true}
	for _, digest := range at.Files {
		used[digest.String()+fileEnd] = true
	}
	entries, _ := os.ReadDir(k.dir)
	for _, e := range entries {
		if !used[e.Name()] && (strings.HasSuffix(e.Name(), fileEnd) || strings.HasPrefix(e.Name(), ".")) {
			_ = os.Remove(filepath.Join(k.dir, e.Name()))
		}
	}
}
