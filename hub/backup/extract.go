package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"holdfast/fault"
)

// Limits of an archive that is read.
const (
	maxManifest = 64 << 10
	maxMembers  = 1 << 20
	maxSums     = 256 << 20
	maxWindow   = 64 << 20 // of the compression, in memory
)

// Extract unpacks an archive into dir, which must be empty, at most limit bytes
// of it, and returns its manifest. open opens what was sealed; an error of it
// means that the archive is another hub's. Unless Extract returns nil nothing in
// dir may be used: only the end of an archive says that it is whole. Refusals
// are faults of kind Integrity.
func Extract(r io.Reader, dir string, limit int64, open func([]byte) ([]byte, error)) (Manifest, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return Manifest{}, refuse("%w", err)
	}
	defer z.Close()
	e := &extraction{dir: dir, left: limit, tar: tar.NewReader(z)}
	m, err := e.manifest()
	if err != nil {
		return m, err
	}
	sealed, err := e.members()
	if err != nil {
		return m, err
	}
	if err := e.last(z); err != nil {
		return m, err
	}
	text, err := open(sealed)
	if err != nil {
		return m, refuse("its end does not open: it is of another hub, or this is not that hub's seal file: %w", err)
	}
	return m, e.check(text)
}

// extraction is an archive on its way into a directory.
type extraction struct {
	dir  string
	left int64 // bytes that may still be written
	tar  *tar.Reader
	sums []sum
	open string // the member that is made of pieces now
	next int    // and the number of the piece that has to follow
}

func refuse(format string, args ...any) error {
	return fault.New(fault.Integrity, "backup: "+format, args...)
}

func (e *extraction) manifest() (Manifest, error) {
	var m Manifest
	h, err := e.header()
	if err != nil {
		return m, err
	}
	if h.Name != manifestName || h.Size > maxManifest {
		return m, refuse("it begins with %q of %d bytes, want %s", h.Name, h.Size, manifestName)
	}
	b, err := e.read(h)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, refuse("%s: %w", manifestName, err)
	}
	if m.Format != Format {
		return m, refuse("it has format %d, this program reads %d", m.Format, Format)
	}
	return m, nil
}

// members unpacks what lies between the manifest and the end, and returns the
// end.
func (e *extraction) members() ([]byte, error) {
	for range maxMembers {
		h, err := e.header()
		if err != nil {
			return nil, err
		}
		if h.Name == sumsName {
			if h.Size > maxSums {
				return nil, refuse("%s has %d bytes, at most %d are allowed", sumsName, h.Size, maxSums)
			}
			b, err := io.ReadAll(e.tar)
			if err != nil {
				return nil, refuse("%s: %w", sumsName, err)
			}
			return b, nil
		}
		if err := e.unpack(h); err != nil {
			return nil, err
		}
	}
	return nil, refuse("it has more than %d members", maxMembers)
}

func (e *extraction) header() (*tar.Header, error) {
	h, err := e.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, refuse("it is cut off: its end is missing")
	case err != nil:
		return nil, refuse("%w", err)
	case h.Typeflag != tar.TypeReg || h.Size < 0:
		return nil, refuse("member %q is no file", h.Name)
	}
	return h, nil
}

// last demands that nothing follows the end.
func (e *extraction) last(z io.Reader) error {
	if _, err := e.tar.Next(); !errors.Is(err, io.EOF) {
		return refuse("something follows its end")
	}
	if n, err := z.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return refuse("something follows its end")
	}
	return nil
}

// unpack writes a member, or a piece of one, to its file.
func (e *extraction) unpack(h *tar.Header) error {
	name, flags, err := e.place(h.Name)
	if err != nil {
		return err
	}
	if h.Size > e.left {
		return refuse("unpacked it has more bytes than are allowed or free")
	}
	e.left -= h.Size
	path := filepath.Join(e.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|flags, 0o600)
	if errors.Is(err, os.ErrExist) {
		return refuse("member %q comes twice", h.Name)
	}
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), contents{e.tar, h.Name})
	if err == nil {
		err = f.Sync()
	}
	f.Close()
	if err != nil {
		return fmt.Errorf("unpack %s: %w", h.Name, err)
	}
	e.took(h.Name, n, sum.Sum(nil))
	return nil
}

// contents reads a member: what is wrong with it is the archive's fault, not
// that of the disk it is written to.
type contents struct {
	from io.Reader
	name string
}

func (c contents) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	if err != nil && err != io.EOF {
		err = refuse("%s: %w", c.name, err)
	}
	return n, err
}

// place says which file a member belongs to and how to open that. Pieces come in
// order and next to one another.
func (e *extraction) place(name string) (file string, flags int, err error) {
	p := piece.FindStringSubmatch(name)
	if !member.MatchString(name) || p == nil && name == manifestName {
		return "", 0, refuse("member %.100q has a name that no member has", name)
	}
	if p == nil {
		e.open = ""
		return name, os.O_CREATE | os.O_EXCL, nil
	}
	n, err := strconv.Atoi(p[2])
	switch {
	case err != nil, n > 0 && (p[1] != e.open || n != e.next):
		return "", 0, refuse("piece %q is out of order", name)
	case n == 0:
		flags = os.O_CREATE | os.O_EXCL
	default:
		flags = os.O_APPEND
	}
	e.open, e.next = p[1], n+1
	return p[1], flags, nil
}

func (e *extraction) read(h *tar.Header) ([]byte, error) {
	b, err := io.ReadAll(e.tar)
	if err != nil {
		return nil, refuse("%s: %w", h.Name, err)
	}
	digest := sha256.Sum256(b)
	e.took(h.Name, int64(len(b)), digest[:])
	return b, nil
}

func (e *extraction) took(name string, size int64, digest []byte) {
	s := sum{Name: name, Size: size}
	copy(s.SHA256[:], digest)
	e.sums = append(e.sums, s)
}

// check compares what was read with what the end says of it.
func (e *extraction) check(text []byte) error {
	var want []sum
	if err := json.Unmarshal(text, &want); err != nil {
		return refuse("%s: %w", sumsName, err)
	}
	if len(want) != len(e.sums) {
		return refuse("it has %d members, its end tells of %d", len(e.sums), len(want))
	}
	for i, s := range e.sums {
		if s != want[i] {
			return refuse("member %q is not what was backed up", s.Name)
		}
	}
	return nil
}
