package repository

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/tuf"
)

// state is what is published. It never changes: a publication makes another.
type state struct {
	trust    tuf.State
	files    map[string][]byte // that release keys have signed, by name
	listed   map[string]int64  // what the snapshot lists: a role's version
	names    map[string]bool   // of the files that devices may fetch
	roles    map[string]operator.RepositoryRole
	releases []release.Release // by product and version
	newest   map[release.Product]release.Release
	measured map[identity.Digest]release.Release
	blobs    map[identity.Digest]int64           // that devices may fetch, and their lengths
	images   map[identity.Digest]release.Release // of all releases, which deltas are made from
	needed   map[identity.Digest]bool            // blobs that are kept
	changed  chan struct{}                       // closed when another takes its place
}

// newState returns the state of a repository in which nothing is published.
func newState() *state {
	return &state{files: map[string][]byte{}, listed: map[string]int64{}, names: map[string]bool{}, roles: map[string]operator.RepositoryRole{},
		newest: map[release.Product]release.Release{}, measured: map[identity.Digest]release.Release{},
		blobs: map[identity.Digest]int64{}, images: map[identity.Digest]release.Release{}, needed: map[identity.Digest]bool{}, changed: make(chan struct{})}
}

// published reports whether there is anything.
func (s *state) published() bool { return len(s.trust.Root) > 0 }

// stateOf makes the state of what was verified: the roots, and the files that
// timestamp and snapshot lead to.
func stateOf(t *tuf.Trust, roots map[int64][]byte, orphans map[string][]byte) (*state, error) {
	s := newState()
	s.trust = t.State()
	for v, b := range roots {
		s.files[fileName(v, tuf.Root)] = b
	}
	s.files[fileName(t.Version(tuf.Targets), tuf.Targets)] = s.trust.Targets
	var err error
	if s.listed, err = listing(s.trust.Snapshot); err != nil {
		return nil, err
	}
	for p, b := range s.trust.Products {
		s.files[fileName(t.Version(string(p)), string(p))] = b
	}
	for name, b := range orphans {
		s.files[name] = b
	}
	for name := range s.files {
		s.names[name] = true
	}
	s.names[timestampURL] = true
	s.names[fileName(t.Version(tuf.Snapshot), tuf.Snapshot)] = true
	for _, role := range []string{tuf.Root, tuf.Targets, tuf.Snapshot, tuf.Timestamp} {
		s.roles[role] = operator.RepositoryRole{Version: t.Version(role), Expires: t.Expires(role)}
	}
	for _, p := range t.Products() {
		if t.Version(string(p)) > 0 {
			s.roles[string(p)] = operator.RepositoryRole{Version: t.Version(string(p)), Expires: t.Expires(string(p))}
			s.add(t.Listed(p))
		}
	}
	s.tellSigners()
	slices.SortFunc(s.releases, func(a, b release.Release) int {
		return cmp.Or(cmp.Compare(a.Product, b.Product), a.Version.Compare(b.Version))
	})
	return s, nil
}

// add takes in a product's releases, oldest first.
func (s *state) add(all []release.Release) {
	for _, rel := range all {
		s.releases = append(s.releases, rel)
		s.images[rel.Image.SHA256] = rel
		if known, ok := s.measured[rel.Measured]; !ok || known.Withdrawn != "" {
			s.measured[rel.Measured] = rel
		}
		for _, b := range blobsOf(rel) {
			s.needed[b.SHA256] = true
			if rel.Withdrawn == "" {
				s.blobs[b.SHA256] = b.Length
			}
		}
		if rel.Withdrawn == "" {
			s.newest[rel.Product] = rel
		}
	}
}

// blobsOf returns what a release names: the image first.
func blobsOf(rel release.Release) []release.Blob {
	out := []release.Blob{rel.Image}
	for _, b := range []*release.Blob{rel.SBOM, rel.Audit} {
		if b != nil {
			out = append(out, *b)
		}
	}
	return out
}

func (s *state) shown(rel release.Release) operator.Release {
	newest, ok := s.newest[rel.Product]
	return operator.Release{Release: rel, Newest: ok && newest.Version == rel.Version}
}

// expiry is when a role's newest file ends.
type expiry struct {
	role string
	operator.RepositoryRole
}

func (s *state) expiries() []expiry {
	out := make([]expiry, 0, len(s.roles))
	for role, at := range s.roles {
		out = append(out, expiry{role, at})
	}
	slices.SortFunc(out, func(a, b expiry) int { return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.role, b.role)) })
	return out
}

func fileName(version int64, role string) string { return fmt.Sprintf("%d.%s.json", version, role) }

var nameForm = regexp.MustCompile(`^([1-9][0-9]{0,17})\.([a-z][a-z0-9-]{0,31})\.json$`)

// parseName reads the name of a file that has its version in it.
func parseName(name string) (version int64, role string, ok bool) {
	m := nameForm.FindStringSubmatch(name)
	if m == nil {
		return 0, "", false
	}
	version, err := strconv.ParseInt(m[1], 10, 64)
	return version, m[2], err == nil
}

// listing returns the versions of roles that a snapshot or a timestamp lists,
// which has been verified or will be.
func listing(b []byte) (map[string]int64, error) {
	var file struct {
		Signed struct {
			Meta map[string]struct {
				Version int64 `json:"version"`
			} `json:"meta"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("read what is listed: %w", err)
	}
	out := map[string]int64{}
	for name, m := range file.Signed.Meta {
		if len(name) > len(".json") {
			out[name[:len(name)-len(".json")]] = m.Version
		}
	}
	return out, nil
}

// next returns the version of the hub's next file of a role. It follows the clock,
// so that a hub that was restored from a backup goes on behind what devices have
// seen of it, and never goes back.
func next(last int64, now time.Time) int64 { return max(last+1, now.Unix()) }
