// Package backup is the form of a hub's backup: a tar archive, compressed with
// zstd, that begins with a manifest and ends with the digests of all before,
// sealed under the hub's own secret. So a reader who has the secret knows that
// the archive is whole and was made by a hub that had it; without its end it is
// worth nothing.
//
// The secret is not in it. The keys in it are sealed under that secret; the
// database and the messages are in the clear.
package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"regexp"
	"time"

	"github.com/klauspost/compress/zstd"

	"holdfast/identity"
	"holdfast/ledger"
)

// Format is the version of the form.
const Format = 1

// Names of the members that this package makes.
const (
	manifestName = "manifest.json"
	sumsName     = "sums.sealed"
)

// pieceSize is how much of a member of unknown length is held until it is
// written, in bytes.
const pieceSize = 4 << 20

// member is the names that files in an archive may have: no way leads out of the
// directory that it is unpacked to.
var member = regexp.MustCompile(`^(?:[a-z0-9][a-z0-9.-]{0,63}/){0,2}[a-z0-9][a-z0-9.-]{0,63}$`)

// piece is the name of a part of a member of unknown length.
var piece = regexp.MustCompile(`^(.+)\.part([0-9]{8})$`)

// Manifest says what hub an archive is of, and when it was made.
type Manifest struct {
	Format   int         `json:"format"`
	Version  string      `json:"version"` // of the hub program
	Hosts    []string    `json:"hosts"`   // what devices reach it by
	Time     time.Time   `json:"time"`
	Head     ledger.Head `json:"ledger_head"`      // the archive has at least these records
	Messages bool        `json:"messages"`         // false: they are kept outside of the hub
	External string      `json:"stream,omitempty"` // where
}

// sum is what the end of an archive says of a member.
type sum struct {
	Name   string          `json:"name"`
	Size   int64           `json:"size"`
	SHA256 identity.Digest `json:"sha256"`
}

// Writer makes an archive. Nothing is good for anything before Close returned
// nil.
type Writer struct {
	seal func([]byte) ([]byte, error)
	zip  *zstd.Encoder
	tar  *tar.Writer
	sums []sum
}

// NewWriter begins an archive on w; seal seals the digests at its end.
func NewWriter(w io.Writer, m Manifest, seal func([]byte) ([]byte, error)) (*Writer, error) {
	m.Format = Format
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	out := &Writer{seal: seal, zip: z, tar: tar.NewWriter(z)}
	return out, out.put(manifestName, b)
}

// File adds a member with size bytes of r.
func (w *Writer) File(name string, r io.Reader, size int64) error {
	if !member.MatchString(name) || piece.MatchString(name) {
		return fmt.Errorf("back up: %q is no name for a member", name)
	}
	return w.add(name, r, size)
}

// Stream adds a member whose length nobody knows before fill has written it.
func (w *Writer) Stream(name string, fill func(io.Writer) error) error {
	p := &pieces{to: w, name: name}
	if err := fill(p); err != nil {
		return err
	}
	return p.flush()
}

// Close writes the end. It does not close the underlying writer.
func (w *Writer) Close() error {
	b, err := json.Marshal(w.sums)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if b, err = w.seal(b); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if err := w.put(sumsName, b); err != nil {
		return err
	}
	if err := w.tar.Close(); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if err := w.zip.Close(); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

func (w *Writer) put(name string, b []byte) error {
	if err := w.header(name, int64(len(b))); err != nil {
		return err
	}
	if _, err := w.tar.Write(b); err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	w.sums = append(w.sums, sum{Name: name, Size: int64(len(b)), SHA256: identity.Sum(b)})
	return nil
}

func (w *Writer) add(name string, r io.Reader, size int64) error {
	if err := w.header(name, size); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w.tar, h), io.LimitReader(r, size))
	switch {
	case err != nil:
		return fmt.Errorf("back up %s: %w", name, err)
	case n != size:
		return fmt.Errorf("back up %s: it has %d bytes, not %d: it changed meanwhile", name, n, size)
	}
	w.sums = append(w.sums, sum{Name: name, Size: n, SHA256: digest(h)})
	return nil
}

func (w *Writer) header(name string, size int64) error {
	err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, Format: tar.FormatPAX})
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	return nil
}

func digest(h hash.Hash) identity.Digest {
	var d identity.Digest
	h.Sum(d[:0])
	return d
}

// pieces cuts what is written into members of a known length.
type pieces struct {
	to   *Writer
	name string
	buf  []byte
	n    int
}

func (p *pieces) Write(b []byte) (int, error) {
	written := len(b)
	for len(b) > 0 {
		k := min(len(b), pieceSize-len(p.buf))
		p.buf, b = append(p.buf, b[:k]...), b[k:]
		if len(p.buf) < pieceSize {
			break
		}
		if err := p.flush(); err != nil {
			return 0, err
		}
	}
	return written, nil
}

func (p *pieces) flush() error {
	if len(p.buf) == 0 && p.n > 0 {
		return nil
	}
	err := p.to.put(fmt.Sprintf("%s.part%08d", p.name, p.n), p.buf)
	p.buf, p.n = p.buf[:0], p.n+1
	return err
}
