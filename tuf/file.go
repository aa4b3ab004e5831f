package tuf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/json/jsontext"
	jsonv2 "encoding/json/v2"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/release"
)

// maxSignature is the longest signature in bytes: one of ML-DSA-65.
const maxSignature = 3309

// file is a metadata file that has been read. Reading it proves nothing yet.
type file[T metadata.Roles] struct {
	role      string // whose it is: what was asked for
	meta      *metadata.Metadata[T]
	canonical []byte // what was signed
	head
}

// head is what the files of all roles have.
type head struct {
	raw     []byte // as received
	version int64
	expires time.Time
}

// String names the file: "timestamp 7".
func (f *file[T]) String() string { return fmt.Sprintf("%s %d", f.role, f.version) }

// refuse names the attack that a file is.
func (f *file[T]) refuse(a release.Attack, format string, args ...any) error {
	return refuse(a, "%s: %w", f, fmt.Errorf(format, args...))
}

func refuse(a release.Attack, format string, args ...any) error {
	return release.Refuse(a, fmt.Errorf(format, args...))
}

// envelope is the outer object of every file. What stands there is not signed,
// so nothing else may.
type envelope struct {
	Signed     jsontext.Value `json:"signed"`
	Signatures []struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
	} `json:"signatures"`
}

// read reads a role's file in the one way that there is: strict JSON that go-tuf
// understands as it was written.
func read[T metadata.Roles](role string, b []byte, l Limits) (*file[T], error) {
	if a, err := strict(b, l.bytes(role), l.Depth); err != nil {
		return nil, refuse(a, "%s: %w", role, err)
	}
	var e envelope
	if err := jsonv2.Unmarshal(b, &e, jsonv2.RejectUnknownMembers(true)); err != nil {
		return nil, refuse(release.MalformedMetadata, "%s: %w", role, err)
	}
	if a, err := e.check(l); err != nil {
		return nil, refuse(a, "%s: %w", role, err)
	}
	f := &file[T]{role: role, head: head{raw: bytes.Clone(b)}}
	if err := f.understand(e.Signed); err != nil {
		return nil, refuse(release.MalformedMetadata, "%s: %w", role, err)
	}
	if a, err := f.checkHead(l); err != nil {
		return nil, refuse(a, "%s: %w", role, err)
	}
	return f, nil
}

// check bounds the signatures, and has each key sign once.
func (e *envelope) check(l Limits) (release.Attack, error) {
	if len(e.Signed) == 0 || len(e.Signatures) > l.Signatures {
		return release.MalformedMetadata, fmt.Errorf("signed part of %d bytes with %d signatures: want at most %d", len(e.Signed), len(e.Signatures), l.Signatures)
	}
	seen := map[string]bool{}
	for _, s := range e.Signatures {
		switch {
		case seen[s.KeyID]:
			return release.KeyCompromise, fmt.Errorf("the key %.64q signs twice", s.KeyID)
		case !isHex(s.KeyID, sha256.Size, sha256.Size) || !isHex(s.Sig, 0, maxSignature):
			return release.MalformedMetadata, fmt.Errorf("signature of %.64q: want a key's id and at most %d bytes, in hexadecimal", s.KeyID, maxSignature)
		}
		seen[s.KeyID] = true
	}
	return "", nil
}

// isHex reports whether s is the lower-case hexadecimal of from to to bytes.
func isHex(s string, from, to int) bool {
	if len(s) < 2*from || len(s) > 2*to || s != strings.ToLower(s) {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

// understand has go-tuf read the file, and compares what it signs with what
// go-tuf took it for: names in other cases, numbers that lose digits, or times
// written otherwise have other canonical bytes.
func (f *file[T]) understand(signed jsontext.Value) error {
	meta, err := new(metadata.Metadata[T]).FromBytes(f.raw)
	if err != nil {
		return err
	}
	received, err := Canonical(json.RawMessage(signed))
	if err != nil {
		return err
	}
	understood, err := Canonical(meta.Signed)
	if err != nil {
		return err
	}
	if !bytes.Equal(received, understood) {
		return errors.New("the signed part can be read in more than one way")
	}
	f.meta, f.canonical = meta, received
	return nil
}

// checkHead checks what all roles have. Names of other specifications' major
// versions say that the rest means something else.
func (f *file[T]) checkHead(l Limits) (release.Attack, error) {
	var spec string
	switch s := any(&f.meta.Signed).(type) {
	case *metadata.RootType:
		spec, f.version, f.expires = s.SpecVersion, s.Version, s.Expires
	case *metadata.TimestampType:
		spec, f.version, f.expires = s.SpecVersion, s.Version, s.Expires
	case *metadata.SnapshotType:
		spec, f.version, f.expires = s.SpecVersion, s.Version, s.Expires
	case *metadata.TargetsType:
		spec, f.version, f.expires = s.SpecVersion, s.Version, s.Expires
	}
	if _, offset := f.expires.Zone(); offset != 0 || f.expires.Nanosecond() != 0 {
		return release.MalformedMetadata, fmt.Errorf("expires %s: want UTC in whole seconds", f.expires)
	}
	if !strings.HasPrefix(spec, "1.") {
		return release.MalformedMetadata, fmt.Errorf("specification %.32q: want version 1", spec)
	}
	return checkVersion(f.version, l)
}

// checkVersion refuses versions that leave no room for what follows.
func checkVersion(v int64, l Limits) (release.Attack, error) {
	switch {
	case v < 1:
		return release.MalformedMetadata, fmt.Errorf("version %d: want 1 or more", v)
	case v > l.Version:
		return release.FastForward, fmt.Errorf("version %d: want %d at most", v, l.Version)
	}
	return "", nil
}

// fresh refuses a file that has expired for certain.
func (f *file[T]) fresh(at Clock) error {
	if at.past(f.expires) {
		return f.refuse(release.IndefiniteFreeze, "it expired on %s; want one that is valid on %s", f.expires.Format(time.RFC3339), at.earliest().Format(time.RFC3339))
	}
	return nil
}

// follows refuses a file that is older than the one held, or other than it under
// the same version.
func (f *file[T]) follows(held *file[T]) error {
	switch {
	case held == nil:
		return nil
	case f.version < held.version:
		return f.refuse(release.Rollback, "version %d has been seen; want it or a later one", held.version)
	case f.version == held.version && !bytes.Equal(f.canonical, held.canonical):
		return f.refuse(release.MixAndMatch, "another one with this version has been seen")
	}
	return nil
}

// listed refuses a file that is not the one its listing names.
func (f *file[T]) listed(m *metadata.MetaFiles) error {
	if f.version != m.Version {
		return f.refuse(release.MixAndMatch, "version %d is listed", m.Version)
	}
	return nil
}

// digest refuses bytes whose length or hashes are not those of their listing.
func digest(role string, b []byte, m *metadata.MetaFiles) error {
	if m.Length != 0 && int64(len(b)) > m.Length {
		return refuse(release.EndlessData, "%s %d: %d bytes: %d are listed", role, m.Version, len(b), m.Length)
	}
	if err := m.VerifyLengthHashes(b); err != nil {
		return refuse(release.MixAndMatch, "%s: not the version %d that is listed: %w", role, m.Version, err)
	}
	return nil
}
