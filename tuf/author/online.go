package author

import (
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Snapshot names the metadata files that belong together. The hub signs it.
type Snapshot struct {
	Version int64
	Expires time.Time
	Files   []File // targets and the products, in any order
}

// Timestamp names the newest snapshot. The hub signs it.
type Timestamp struct {
	Version  int64
	Expires  time.Time
	Snapshot File
}

// File is a metadata file as another one names it.
type File struct {
	Role    string
	Version int64
	Bytes   []byte // as they are served: their length and SHA-256 are named
}

func (f File) meta() (*metadata.MetaFiles, error) {
	if f.Version < 1 || len(f.Bytes) == 0 {
		return nil, fmt.Errorf("%s of version %d with %d bytes", f.Role, f.Version, len(f.Bytes))
	}
	return &metadata.MetaFiles{Version: f.Version, Length: int64(len(f.Bytes)), Hashes: metadata.Hashes{"sha256": sum(f.Bytes)}}, nil
}

// Document makes the snapshot's metadata, unsigned.
func (s Snapshot) Document() (*Document, error) {
	meta := metadata.Snapshot(stamp(s.Expires))
	meta.Signed.Version, meta.Signed.Meta = s.Version, map[string]*metadata.MetaFiles{}
	for _, f := range s.Files {
		m, err := f.meta()
		if err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		if meta.Signed.Meta[f.Role+".json"] != nil {
			return nil, fmt.Errorf("snapshot: %s is there twice", f.Role)
		}
		meta.Signed.Meta[f.Role+".json"] = m
	}
	if meta.Signed.Meta[metadata.TARGETS+".json"] == nil {
		return nil, fmt.Errorf("snapshot: without targets")
	}
	return newDocument(metadata.SNAPSHOT, s.Version, meta.Signed.Expires, meta.Signed)
}

// Document makes the timestamp's metadata, unsigned.
func (t Timestamp) Document() (*Document, error) {
	m, err := t.Snapshot.meta()
	if err != nil {
		return nil, fmt.Errorf("timestamp: %w", err)
	}
	meta := metadata.Timestamp(stamp(t.Expires))
	meta.Signed.Version = t.Version
	meta.Signed.Meta = map[string]*metadata.MetaFiles{metadata.SNAPSHOT + ".json": m}
	return newDocument(metadata.TIMESTAMP, t.Version, meta.Signed.Expires, meta.Signed)
}
