package unpack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
)

// archiveOf returns what reads an archive, or nil when data is none.
func archiveOf(data []byte) func(*expansion) error {
	switch {
	case bytes.HasPrefix(data, []byte("!<arch>\n")):
		return (*expansion).ar
	case bytes.HasPrefix(data, []byte("!<thin>\n")):
		return (*expansion).thin
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b, 8}):
		return (*expansion).gzip
	case bytes.HasPrefix(data, []byte("PK\x03\x04")), bytes.HasPrefix(data, []byte("PK\x05\x06")):
		return (*expansion).zip
	case len(data) >= 512 && bytes.Equal(data[257:262], []byte("ustar")):
		return (*expansion).tar
	}
	return nil
}

// expansion is the reading of one archive.
type expansion struct {
	*unpacker
	name  string
	data  []byte
	depth int
	r     *result
}

// errFull ends the reading of an archive whose limits are reached.
var errFull = errors.New("the limits of archives are reached: the rest was not read")

func (u *unpacker) archive(f *subject.File, data []byte, depth int, r *result) {
	if depth >= u.Limits.ArchiveDepth {
		r.trouble(finding.InFile(f.Name), "more than %d archives in one another: not read", u.Limits.ArchiveDepth)
		return
	}
	x := &expansion{u, f.Name, data, depth, r}
	if err := archiveOf(data)(x); err != nil {
		r.trouble(finding.InFile(f.Name), "%v", err)
	}
}

// member reads a member whose bytes are there. Its name is only a name: no
// path of the machine is made of it.
func (x *expansion) member(name string, data []byte) error {
	safe := strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(name, `\`, "/")), "/")
	full := x.name + "!" + safe
	if safe == "" || !x.another() {
		return errFull
	}
	for part := range strings.SplitSeq(strings.ReplaceAll(name, `\`, "/"), "/") {
		if part == ".." {
			x.r.trouble(finding.InFile(full), "its name in the archive, %.200q, leads out of it", name)
			break
		}
	}
	x.guarded(full, x.r, func() {
		x.judge(full, data, func() ([]byte, error) { return data, nil }, false, x.depth+1, x.r)
	})
	return nil
}

// unpack reads a packed member to its end, within the limits.
func (x *expansion) unpack(from io.Reader, packed int64) ([]byte, error) {
	const first = 1 << 20 // beyond these bytes the ratio counts
	most := min(x.Limits.MemberSize, max(first, x.Limits.ArchiveRatio*packed))
	data, err := io.ReadAll(io.LimitReader(from, most+1))
	switch {
	case int64(len(data)) > most:
		return nil, fmt.Errorf("unpacks to more than %d bytes from %d", most, packed)
	case !x.spend(int64(len(data))):
		return nil, errFull
	}
	return data, err
}

func (x *expansion) gzip() error {
	z, err := gzip.NewReader(bytes.NewReader(x.data))
	if err != nil {
		return err
	}
	data, err := x.unpack(z, int64(len(x.data)))
	if err != nil {
		return err
	}
	name := subject.Base(x.name)
	switch ext := path.Ext(name); ext {
	case ".tgz":
		name = strings.TrimSuffix(name, ext) + ".tar"
	case ".gz":
		name = strings.TrimSuffix(name, ext)
	default:
		name += ".unpacked"
	}
	return x.member(name, data)
}

func (x *expansion) zip() error {
	z, err := zip.NewReader(bytes.NewReader(x.data), int64(len(x.data)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return err
	}
	for _, f := range z.File {
		if !f.Mode().IsRegular() {
			continue
		}
		if err := x.zipped(f); errors.Is(err, errFull) {
			return err
		} else if err != nil {
			x.r.trouble(finding.InFile(x.name+"!"+f.Name), "%v", err)
		}
	}
	return nil
}

func (x *expansion) zipped(f *zip.File) error {
	from, err := f.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	packed := min(f.CompressedSize64, uint64(len(x.data)))
	data, err := x.unpack(from, int64(packed))
	if err != nil {
		return err
	}
	return x.member(f.Name, data)
}

// tar reads members where they stand in the archive; only those with holes are
// copied.
func (x *expansion) tar() error {
	from := bytes.NewReader(x.data)
	t := tar.NewReader(from)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("at %#x: %w", len(x.data)-from.Len(), err)
		}
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse {
			continue
		}
		start := len(x.data) - from.Len()
		rest := x.data[start:]
		data := rest[:min(max(h.Size, 0), int64(len(rest)))]
		if sparse(h) {
			if data, err = x.unpack(t, int64(len(rest))); err != nil {
				return err
			}
		}
		if int64(len(data)) != h.Size {
			return fmt.Errorf("at %#x: %s is cut off", start, h.Name)
		}
		if err := x.member(h.Name, data); err != nil {
			return err
		}
	}
}

// sparse reports whether a member's bytes are not all in the archive.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (x *expansion) thin() error {
	return errors.New("a thin archive: its members are other files, which are not read through it")
}

// ar reads an archive of object files, in the forms of System V, GNU and BSD.
func (x *expansion) ar() error {
	const start, header = 8, 60
	var long string
	for at := start; at+header <= len(x.data); {
		h := x.data[at : at+header]
		size, err := strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 63)
		body := x.data[at+header:]
		switch {
		case h[58] != '`' || h[59] != '\n' || err != nil || size < 0:
			return fmt.Errorf("at %#x: not the header of a member", at)
		case size > int64(len(body)):
			return fmt.Errorf("at %#x: a member of %d bytes, %d left", at, size, len(body))
		}
		name, data := strings.TrimRight(string(h[:16]), " "), body[:size]
		switch {
		case name == "//":
			long = string(data)
		case name == "/" || name == "/SYM64/" || strings.HasPrefix(name, "__.SYMDEF"):
		default:
			name, data = arName(name, long, data)
			if err := x.member(name, data); err != nil {
				return err
			}
		}
		at += header + int(size) + int(size&1)
	}
	return nil
}

// arName returns a member's name, which may be in the table of long names or,
// with BSD, before its bytes.
func arName(name, long string, data []byte) (string, []byte) {
	if digits, ok := strings.CutPrefix(name, "#1/"); ok {
		if n, err := strconv.Atoi(digits); err == nil && n >= 0 && n <= len(data) {
			return strings.TrimRight(string(data[:n]), "\x00"), data[n:]
		}
	}
	if digits, ok := strings.CutPrefix(name, "/"); ok {
		if n, err := strconv.Atoi(digits); err == nil && n >= 0 && n < len(long) {
			name, _, _ = strings.Cut(long[n:], "\n")
		}
	}
	return strings.TrimSuffix(name, "/"), data
}
