package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/mcuboot"
	"holdfast/release"
)

// MaxBlob is the largest content in bytes.
const MaxBlob = max(release.MaxImage, release.MaxDocument)

// unneededFor is how long content stays that no release names: what was uploaded
// before its metadata, or what releases named that are not listed any more.
const unneededFor = 7 * 24 * time.Hour

func (r *Repository) blobPath(d identity.Digest) string {
	return filepath.Join(r.cfg.Dir, blobsDir, d.String())
}

// HasBlob returns the length of content that is there, published or not, or a
// fault of kind NotFound.
func (r *Repository) HasBlob(_ context.Context, d identity.Digest) (int64, error) {
	info, err := os.Stat(r.blobPath(d))
	if errors.Is(err, os.ErrNotExist) {
		return 0, fault.New(fault.NotFound, "no content %s is here", d)
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// PutBlob takes content in: size bytes of in, and no more, that have the digest.
// Devices get it once a published release names it.
func (r *Repository) PutBlob(ctx context.Context, d identity.Digest, size int64, in io.Reader) error {
	if size <= 0 || size > MaxBlob {
		return fault.New(fault.Invalid, "content of %d bytes: want 1 to %d, and the length beforehand", size, int64(MaxBlob))
	}
	if n, err := r.HasBlob(ctx, d); err == nil && n == size {
		_ = os.Chtimes(r.blobPath(d), time.Time{}, r.cfg.Now()) // it is wanted again
		return nil
	}
	if r.cfg.Free != nil {
		if free, err := r.cfg.Free(); err == nil && free-size < leastFree {
			return fault.New(fault.Unavailable, "the hub's disk has no room for %d bytes", size)
		}
	}
	f, err := os.CreateTemp(filepath.Join(r.cfg.Dir, incomingDir), "blob-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := take(f, d, size, in); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), r.blobPath(d)); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Join(r.cfg.Dir, blobsDir))
}

// take copies content and compares its digest.
func take(to io.Writer, d identity.Digest, size int64, in io.Reader) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(in, size+1))
	switch {
	case err != nil:
		return fault.New(fault.Unavailable, "the upload was cut off after %d of %d bytes: %w", n, size, err)
	case n != size:
		return fault.New(fault.Integrity, "the upload does not have the %d bytes that it says", size)
	case identity.Digest(h.Sum(nil)) != d:
		return fault.New(fault.Integrity, "the upload has another digest than %s", d)
	}
	return nil
}

// checkContent looks whether what new releases name is there and is what they say.
func (r *Repository) checkContent(ctx context.Context, was, is *state) error {
	known := map[string]release.Release{}
	for _, rel := range was.releases {
		known[rel.Path()] = rel
	}
	for _, rel := range is.releases {
		if before, ok := known[rel.Path()]; rel.Withdrawn != "" || ok && sameRelease(before, rel) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.checkRelease(rel); err != nil {
			return err
		}
		if err := r.checkAudit(ctx, rel); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repository) checkRelease(rel release.Release) error {
	for _, b := range blobsOf(rel) {
		if err := r.checkBlob(rel, b); err != nil {
			return err
		}
	}
	f, err := os.Open(r.blobPath(rel.Image.SHA256))
	if err != nil {
		return err
	}
	defer f.Close()
	img, err := mcuboot.ParseAt(f, rel.Image.Length)
	switch {
	case err != nil:
		return fault.New(fault.Integrity, "release %s: the image is none that MCUboot would boot: %w", rel.Path(), err)
	case img.Version != rel.Version:
		return refused(release.Refuse(release.MixAndMatch, fmt.Errorf("release %s: the image says that it is %s", rel.Path(), img.Version)))
	case img.SecurityCounter != rel.SecurityVersion:
		return refused(release.Refuse(release.MixAndMatch, fmt.Errorf("release %s: the image has security version %d, the release %d", rel.Path(), img.SecurityCounter, rel.SecurityVersion)))
	case img.Digest != rel.Measured:
		return refused(release.Refuse(release.MixAndMatch, fmt.Errorf("release %s: the image measures as %s, the release says %s", rel.Path(), img.Digest, rel.Measured)))
	case int64(img.Size) != rel.Image.Length:
		return refused(release.Refuse(release.ExtraneousContents, fmt.Errorf("release %s: the image has %d bytes and %d more behind it", rel.Path(), img.Size, rel.Image.Length-int64(img.Size))))
	}
	return nil
}

// checkAudit has the audit statement of a release looked at.
func (r *Repository) checkAudit(ctx context.Context, rel release.Release) error {
	if rel.Audit == nil || r.cfg.Audit == nil {
		return nil
	}
	envelope, err := r.Document(ctx, *rel.Audit)
	if err != nil {
		return err
	}
	return r.cfg.Audit(ctx, rel, envelope)
}

// Document returns a document that a release names, whole and unchanged.
func (r *Repository) Document(_ context.Context, b release.Blob) ([]byte, error) {
	if b.Length > release.MaxDocument {
		return nil, fmt.Errorf("document %s of %d bytes: want %d at most", b.SHA256, b.Length, release.MaxDocument)
	}
	f, err := os.Open(r.blobPath(b.SHA256))
	if err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	defer f.Close()
	var out bytes.Buffer
	if err := take(&out, b.SHA256, b.Length, f); err != nil {
		return nil, fmt.Errorf("document %s: %w", b.SHA256, err)
	}
	return out.Bytes(), nil
}

// checkBlob looks whether content is there, whole and unchanged.
func (r *Repository) checkBlob(rel release.Release, b release.Blob) error {
	f, err := os.Open(r.blobPath(b.SHA256))
	if errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.Invalid, "release %s: upload its content %s first", rel.Path(), b.SHA256)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := take(io.Discard, b.SHA256, b.Length, f); err != nil {
		return fault.New(fault.Integrity, "release %s: what is stored as %s: %w", rel.Path(), b.SHA256, err)
	}
	return nil
}

// sweep removes content that no release has named for unneededFor, and deltas that
// nobody can ask for any more.
func (r *Repository) sweep() error {
	r.changing.Lock()
	defer r.changing.Unlock()
	s := r.held.Load()
	r.deltas.forget(s)
	if r.Trouble() != nil {
		return nil // nobody knows what is needed
	}
	es, err := os.ReadDir(filepath.Join(r.cfg.Dir, blobsDir))
	if err != nil {
		return err
	}
	for _, e := range es {
		d, parseErr := identity.ParseDigest(e.Name())
		if parseErr == nil && s.needed[d] {
			continue
		}
		info, statErr := e.Info()
		if statErr == nil && r.cfg.Now().Sub(info.ModTime()) > unneededFor {
			err = errors.Join(err, os.Remove(filepath.Join(r.cfg.Dir, blobsDir, e.Name())))
		}
	}
	return err
}
