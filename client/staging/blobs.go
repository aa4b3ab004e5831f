package staging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
)

// Keep puts content into the directory, under its digest.
func (d *Dir) Keep(b []byte) (release.Blob, error) {
	blob := release.Blob{Length: int64(len(b)), SHA256: identity.Sum(b)}
	unlock, err := d.lock()
	if err != nil {
		return blob, err
	}
	defer unlock()
	if info, err := os.Stat(d.blob(blob.SHA256)); err == nil && info.Size() == blob.Length {
		return blob, nil // it got its name when it was whole
	}
	return blob, d.put(filepath.Join(blobsName, blob.SHA256.String()), b)
}

func (d *Dir) blob(sum identity.Digest) string {
	return filepath.Join(d.path, blobsName, sum.String())
}

// openBlob opens content that is to be uploaded.
func (d *Dir) openBlob(b release.Blob) (io.ReadCloser, error) {
	f, err := os.Open(d.blob(b.SHA256))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "neither the hub nor %s has the content %s: sign where it is, or copy the file there", filepath.Join(d.path, blobsName), b.SHA256)
	}
	return f, err
}

// Claim is what a signer says of an image, and what is in files.
type Claim struct {
	Target   release.Target  // without Measured, SBOM and Audit
	Measured identity.Digest // of an image that is not in MCUboot's format; else zero
	Image    []byte
	SBOM     []byte // nil: none
	Audit    []byte // nil: none
}

// Describe makes the release that a claim is of, and keeps its content. What is
// said of an image in MCUboot's format has to be what its header says.
func (d *Dir) Describe(c Claim) (release.Release, error) {
	r := release.Release{Target: c.Target, Image: release.Blob{Length: int64(len(c.Image)), SHA256: identity.Sum(c.Image)}}
	var err error
	if r.Measured, err = c.measure(); err != nil {
		return r, err
	}
	if len(c.SBOM) > 0 {
		r.SBOM = &release.Blob{Length: int64(len(c.SBOM)), SHA256: identity.Sum(c.SBOM)}
	}
	if len(c.Audit) > 0 {
		r.Audit = &release.Blob{Length: int64(len(c.Audit)), SHA256: identity.Sum(c.Audit)}
	}
	if err := r.Check(); err != nil {
		return r, fault.New(fault.Invalid, "%w", err)
	}
	for _, b := range [][]byte{c.Image, c.SBOM, c.Audit} {
		if len(b) == 0 {
			continue
		}
		if _, err := d.Keep(b); err != nil {
			return r, err
		}
	}
	return r, nil
}

// magic is how an image in MCUboot's format begins.
const magic = "\x3d\xb8\xf3\x96"

// measure returns what a device that boots the image measures.
func (c Claim) measure() (identity.Digest, error) {
	if !bytes.HasPrefix(c.Image, []byte(magic)) {
		if c.Measured == (identity.Digest{}) {
			return c.Measured, fault.New(fault.Invalid, "the file is no MCUboot image: say with --measured what a device that boots it measures")
		}
		return c.Measured, nil
	}
	img, err := mcuboot.Parse(c.Image)
	switch {
	case err != nil:
		return c.Measured, fault.New(fault.Integrity, "the image is damaged: %w", err)
	case c.Measured != identity.Digest{} && c.Measured != img.Digest:
		return c.Measured, fault.New(fault.Invalid, "a device that boots the image measures %s, not %s", img.Digest, c.Measured)
	case img.Version != c.Target.Version:
		return c.Measured, fault.New(fault.Invalid, "the image's header says version %s, not %s", img.Version, c.Target.Version)
	case img.SecurityCounter != c.Target.SecurityVersion:
		return c.Measured, fault.New(fault.Invalid, "the image's security counter is %d, not %d", img.SecurityCounter, c.Target.SecurityVersion)
	}
	return img.Digest, nil
}

// ReadFile reads a file of at most max bytes.
func ReadFile(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(b)) > max {
		err = fmt.Errorf("%s has more than %d bytes", path, max)
	}
	return b, err
}
