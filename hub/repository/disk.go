package repository

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"holdfast/internal/atomicfile"
	"holdfast/release"
	"holdfast/tuf"
)

// keptVersions is how many files of a role stay on disk, and may be fetched: a
// device that began a refresh before a publication may end it after. Roots stay
// all.
const keptVersions = 4

// disk is the directory of metadata.
type disk struct {
	dir string

	// before is asked before each change of the directory; an error of it is that of
	// the change. Nil but in tests.
	before func(change string) error
}

func (d disk) change(what string) error {
	if d.before == nil {
		return nil
	}
	return d.before(what)
}

// write puts a file in place, unless it is there already.
func (d disk) write(name string, b []byte) error {
	path := filepath.Join(d.dir, name)
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, b) {
		return nil
	}
	if err := d.change("write " + name); err != nil {
		return err
	}
	return atomicfile.Write(path, b, 0o600)
}

// commit writes files, and the timestamp last.
func (d disk) commit(files map[string][]byte, timestamp []byte) error {
	for _, name := range slices.SortedFunc(maps.Keys(files), rootsLast) {
		if err := d.write(name, files[name]); err != nil {
			return err
		}
	}
	return d.write(timestampURL, timestamp)
}

// rootsLast puts the names of roots behind all others, oldest first: a root
// without what it signs for would be of no use to anybody.
func rootsLast(a, b string) int {
	va, ra, _ := parseName(a)
	vb, rb, _ := parseName(b)
	switch aRoot, bRoot := ra == tuf.Root, rb == tuf.Root; {
	case aRoot && !bRoot:
		return 1
	case bRoot && !aRoot:
		return -1
	case va != vb:
		return int(max(-1, min(1, va-vb)))
	}
	return bytes.Compare([]byte(a), []byte(b))
}

// names returns the versions of each role that are on disk, in order.
func (d disk) names() (map[string][]int64, error) {
	es, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	out := map[string][]int64{}
	for _, e := range es {
		if v, role, ok := parseName(e.Name()); ok && e.Type().IsRegular() {
			out[role] = append(out[role], v)
		}
	}
	for _, vs := range out {
		slices.Sort(vs)
	}
	return out, nil
}

func (d disk) read(version int64, role string) ([]byte, error) {
	return os.ReadFile(filepath.Join(d.dir, fileName(version, role)))
}

// load returns what is published. Of the roots on disk it takes the newest that
// fits all else: one that was written when a publication was cut off need not.
func (d disk) load() (*state, error) {
	timestamp, err := os.ReadFile(filepath.Join(d.dir, timestampURL))
	if errors.Is(err, os.ErrNotExist) {
		return newState(), nil
	}
	if err != nil {
		return nil, err
	}
	have, err := d.names()
	if err != nil {
		return nil, err
	}
	roots, err := d.roots(have[tuf.Root])
	if err != nil {
		return nil, err
	}
	versions := slices.Sorted(maps.Keys(roots))
	for n := len(versions); n > 0; n-- {
		s, openErr := d.open(roots, timestamp)
		if openErr == nil {
			s.keep(have)
			return s, nil
		}
		err = errors.Join(err, openErr)
		delete(roots, versions[n-1])
	}
	return nil, errors.Join(err, errors.New("no root on disk signs for what is published"))
}

// roots reads the roots that follow one another.
func (d disk) roots(versions []int64) (map[int64][]byte, error) {
	roots := map[int64][]byte{}
	var t *tuf.Trust
	for _, v := range versions {
		b, err := d.read(v, tuf.Root)
		if err != nil {
			return nil, err
		}
		if t == nil {
			t, err = tuf.NewTrust(b, tuf.DefaultLimits())
		} else {
			err = t.UpdateRoot(b)
		}
		if err != nil && len(roots) == 0 {
			return nil, err
		}
		if err != nil {
			break
		}
		roots[v] = b
	}
	return roots, nil
}

// open verifies what a timestamp leads to under the newest of the roots.
func (d disk) open(roots map[int64][]byte, timestamp []byte) (*state, error) {
	newest := slices.Max(slices.Collect(maps.Keys(roots)))
	kept := tuf.State{Root: roots[newest], Timestamp: timestamp}
	top, err := listing(timestamp)
	if err != nil {
		return nil, err
	}
	if kept.Snapshot, err = d.read(top[tuf.Snapshot], tuf.Snapshot); err != nil {
		return nil, err
	}
	listed, err := listing(kept.Snapshot)
	if err != nil {
		return nil, err
	}
	if kept.Targets, err = d.read(listed[tuf.Targets], tuf.Targets); err != nil {
		return nil, err
	}
	t, err := tuf.OpenTrust(kept, tuf.DefaultLimits())
	if err != nil {
		return nil, err
	}
	orphans := map[string][]byte{}
	kept.Products = map[release.Product][]byte{}
	for role, v := range listed {
		if role == tuf.Targets {
			continue
		}
		b, err := d.read(v, role)
		if err != nil {
			return nil, err
		}
		if p := release.Product(role); slices.Contains(t.Products(), p) {
			kept.Products[p] = b
		} else {
			orphans[fileName(v, role)] = b
		}
	}
	if t, err = tuf.OpenTrust(kept, tuf.DefaultLimits()); err != nil {
		return nil, err
	}
	for role, v := range listed {
		if held := t.Version(role); held != v && orphans[fileName(v, role)] == nil {
			return nil, fmt.Errorf("%s %d is listed, and %d is there", role, v, held)
		}
	}
	return stateOf(t, roots, orphans)
}

// keep lets devices fetch the last files of each role that have been published.
func (s *state) keep(have map[string][]int64) {
	for role, versions := range have {
		if role == tuf.Root {
			continue
		}
		for _, v := range recent(versions, s.current(role)) {
			s.names[fileName(v, role)] = true
		}
	}
}

// current returns the version of a role that is in force.
func (s *state) current(role string) int64 {
	if role == tuf.Snapshot {
		return s.roles[tuf.Snapshot].Version
	}
	return s.listed[role]
}

// recent returns the versions that stay: the one in force and some before it.
func recent(versions []int64, current int64) []int64 {
	n, found := slices.BinarySearch(versions, current)
	if found {
		n++
	}
	return versions[max(0, n-keptVersions):n]
}

// prune removes the files of roles that are neither in force nor recent.
func (d disk) prune(s *state) error {
	have, err := d.names()
	if err != nil {
		return err
	}
	for role, versions := range have {
		if role == tuf.Root {
			continue
		}
		stay := recent(versions, s.current(role))
		for _, v := range versions {
			if !slices.Contains(stay, v) {
				err = errors.Join(err, os.Remove(filepath.Join(d.dir, fileName(v, role))))
			}
		}
	}
	return err
}
