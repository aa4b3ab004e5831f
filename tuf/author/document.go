// Package author makes the metadata that package tuf verifies: root, targets, a
// delegated role for each product, snapshot and timestamp.
//
// The same input gives the same signed bytes: time is truncated to seconds,
// everything that has no order of its own is sorted, and the expiry is an
// argument. Ed25519 and ML-DSA signatures are deterministic too; an ECDSA
// signature, from a token, differs each time, but what is signed does not.
package author

import (
	"bytes"
	"crypto/mldsa"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/tuf"
)

// Document is one metadata file: what is signed, and the signatures on it.
type Document struct {
	Role    string // "root", "targets", "snapshot", "timestamp" or a product
	Version int64
	Expires time.Time

	signed     json.RawMessage   // as it stands in the file
	message    []byte            // its canonical form, which is signed
	signatures map[string][]byte // by key id
}

// newDocument makes a document of the signed part of a role.
func newDocument(role string, version int64, expires time.Time, signed any) (*Document, error) {
	if version < 1 {
		return nil, fmt.Errorf("%s: version %d", role, version)
	}
	raw, err := json.Marshal(signed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	message, err := tuf.Canonical(json.RawMessage(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	return &Document{Role: role, Version: version, Expires: expires, signed: raw, message: message, signatures: map[string][]byte{}}, nil
}

// FileName returns the name of the file in a repository: "2.root.json", and
// "timestamp.json".
func (d *Document) FileName() string {
	if d.Role == metadata.TIMESTAMP {
		return d.Role + ".json"
	}
	return fmt.Sprintf("%d.%s.json", d.Version, d.Role)
}

// Message returns the bytes that are signed.
func (d *Document) Message() []byte { return bytes.Clone(d.message) }

// Same reports whether two documents have the same signed bytes.
func (d *Document) Same(other *Document) bool { return bytes.Equal(d.message, other.message) }

// Sign adds the signatures of those halves of s that are asked for.
func (d *Document) Sign(s Signer, classical, post bool) error {
	if classical {
		id, err := ID(s.Classical.Public())
		if err != nil {
			return fmt.Errorf("sign %s: %w", d.Role, err)
		}
		sig, err := sign(s.Classical, d.message)
		if err != nil {
			return fmt.Errorf("sign %s: %w", d.Role, err)
		}
		if !verifies(s.Classical.Public(), d.message, sig) {
			return fmt.Errorf("sign %s: the key's signature does not verify", d.Role)
		}
		d.signatures[id] = sig
	}
	if post {
		sig, err := tuf.SignMLDSA(s.MLDSA, d.message)
		if err != nil {
			return fmt.Errorf("sign %s: %w", d.Role, err)
		}
		d.signatures[sig.KeyID] = sig.Signature
	}
	return nil
}

// SignFor adds the signatures of those halves of s that one of the quorums
// names. It refuses a signer whom none names.
func (d *Document) SignFor(s Signer, quorums ...Quorum) error {
	var classical, post bool
	for _, q := range quorums {
		c, p := q.Holds(s)
		classical, post = classical || c, post || p
	}
	if !classical && !post {
		return fmt.Errorf("sign %s: the role does not name this key", d.Role)
	}
	return d.Sign(s, classical, post)
}

// Unsign drops all signatures.
func (d *Document) Unsign() { clear(d.signatures) }

// Signed has the ids of a quorum's keys whose signatures on a document verify.
type Signed struct {
	Classical, MLDSA []string
	Threshold        int
}

// Complete reports whether both thresholds are met.
func (s Signed) Complete() bool {
	return s.Threshold > 0 && len(s.Classical) >= s.Threshold && len(s.MLDSA) >= s.Threshold
}

// Signed says who of a quorum has signed.
func (d *Document) Signed(q Quorum) Signed {
	out := Signed{Threshold: q.Threshold}
	for _, k := range q.Classical {
		if id, err := ID(k); err == nil && !slices.Contains(out.Classical, id) && verifies(k, d.message, d.signatures[id]) {
			out.Classical = append(out.Classical, id)
		}
	}
	for _, k := range q.MLDSA {
		if id := tuf.MLDSAKeyID(k); !slices.Contains(out.MLDSA, id) && mldsa.Verify(k, d.message, d.signatures[id], nil) == nil {
			out.MLDSA = append(out.MLDSA, id)
		}
	}
	return out
}

// Signers returns the ids of all keys that a signature claims, sorted.
func (d *Document) Signers() []string { return sorted(d.signatures) }

// file is a metadata file.
type file struct {
	Signatures []metadata.Signature `json:"signatures"`
	Signed     json.RawMessage      `json:"signed"`
}

// Bytes returns the metadata file. Signatures stand in the order of their ids,
// whoever signed first.
func (d *Document) Bytes() ([]byte, error) {
	f := file{Signatures: []metadata.Signature{}, Signed: d.signed}
	for _, id := range d.Signers() {
		f.Signatures = append(f.Signatures, metadata.Signature{KeyID: id, Signature: d.signatures[id]})
	}
	return json.Marshal(f)
}

// parse reads a metadata file of a role.
func parse[T metadata.Roles](role string, b []byte) (*Document, *metadata.Metadata[T], error) {
	limits := tuf.DefaultLimits()
	if err := tuf.CheckStrict(b, limits.ProductBytes, limits.Depth); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", role, err)
	}
	meta, err := new(metadata.Metadata[T]).FromBytes(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", role, err)
	}
	d, err := newDocument(role, versionOf(meta), expiresOf(meta), meta.Signed)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range meta.Signatures {
		d.signatures[s.KeyID] = s.Signature
	}
	return d, meta, nil
}

func versionOf[T metadata.Roles](m *metadata.Metadata[T]) int64 {
	switch s := any(m.Signed).(type) {
	case metadata.RootType:
		return s.Version
	case metadata.TargetsType:
		return s.Version
	case metadata.SnapshotType:
		return s.Version
	case metadata.TimestampType:
		return s.Version
	}
	return 0
}

func expiresOf[T metadata.Roles](m *metadata.Metadata[T]) time.Time {
	switch s := any(m.Signed).(type) {
	case metadata.RootType:
		return s.Expires
	case metadata.TargetsType:
		return s.Expires
	case metadata.SnapshotType:
		return s.Expires
	case metadata.TimestampType:
		return s.Expires
	}
	return time.Time{}
}

// stamp is the form in which an expiry is signed.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
