package slots

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"holdfast/identity"
	"holdfast/internal/flash"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/update"
)

// defaultBlock is how much a Writer programs at once, in bytes.
const defaultBlock = 64 << 10

// magicSize is how much of an image is written last, in bytes: without it
// nothing boots, and what it is is known.
const magicSize = 4

// Writer writes a release's image into the inactive slot, from its beginning
// to its end, and computes its digest on the way. The image's first bytes, its
// magic, are written last, once the digest is right: up to then the slot cannot
// boot, whatever has come from the network and whenever the power goes.
type Writer struct {
	s    *Slots
	rel  release.Release
	area flash.Area
	hash hash.Hash
	part []byte // not programmed yet
	at   int64  // where part begins: whole sectors

	failed   error // the flash has; Resume begins anew
	finished bool  // guarded by s.mu
}

// Begin begins to write a release. The inactive slot is erased, and a trial of
// it that has not booted is dropped.
func (s *Slots) Begin(rel release.Release) (*Writer, error) { return s.Resume(rel, 0) }

// Resume goes on with a release of which the first offset bytes were written
// and synced before, perhaps before a power cut. The caller remembers the
// offset; if what it says is wrong, Finish refuses the image. Writing goes on
// at Writer.Offset, which may be up to a sector before the offset, or at the
// image's end when all of it is there.
func (s *Slots) Resume(rel release.Release, offset int64) (*Writer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.resume(rel, offset)
	if err != nil {
		return nil, fmt.Errorf("write slot %s: %w", s.inactive(), err)
	}
	return w, nil
}

func (s *Slots) resume(rel release.Release, offset int64) (*Writer, error) {
	area := s.area(s.inactive())
	switch {
	case rel.Image.Length < magicSize || rel.Image.Length > area.Size():
		return nil, fmt.Errorf("%w: %d bytes, the slot has %d", ErrSize, rel.Image.Length, area.Size())
	case offset < 0 || offset > rel.Image.Length:
		return nil, fmt.Errorf("resume at %d of %d bytes", offset, rel.Image.Length)
	case s.record.Trying():
		return nil, ErrTrying
	}
	// From here on the slot is not what was verified.
	s.verified = nil
	s.writer = nil
	if s.record.Trial != nil || s.record.Last.Result != update.None {
		if err := s.save(s.record.Unstage()); err != nil {
			return nil, err
		}
	}
	w := &Writer{s: s, rel: rel, area: area, part: make([]byte, 0, max(int64(s.cfg.Block), area.Sector()))}
	if err := w.begin(offset); err != nil {
		return nil, err
	}
	s.writer = w
	return w, nil
}

// begin finds what the slot has already, of the offset that the caller
// remembers, and erases the rest.
func (w *Writer) begin(offset int64) error {
	head := make([]byte, magicSize)
	if _, err := w.area.ReadAt(head, 0); err != nil {
		return err
	}
	if offset > 0 && !flash.Blank(head) { // it was finished, and the caller does not know
		if err := w.rehash(w.rel.Image.Length); err != nil {
			return err
		}
		if identity.Digest(w.hash.Sum(nil)) == w.rel.Image.SHA256 {
			return nil
		}
		offset = 0 // it is another image
	}
	if err := w.rehash(offset - offset%w.area.Sector()); err != nil {
		return err
	}
	return w.area.Erase(w.at, w.area.Size()-w.at)
}

// rehash begins behind the first n bytes of the image, which are in the slot,
// with their digest.
func (w *Writer) rehash(n int64) error {
	w.hash, w.at = sha256.New(), n
	if n == 0 {
		return nil
	}
	_, _ = w.hash.Write(magic()) // never fails
	rest := io.NewSectionReader(w.area, magicSize, n-magicSize)
	_, err := io.CopyBuffer(struct{ io.Writer }{w.hash}, struct{ io.Reader }{rest}, w.part[:cap(w.part)])
	return err
}

func magic() []byte { return binary.LittleEndian.AppendUint32(nil, mcuboot.Magic) }

// Offset is how much of the image is in the slot: what Resume takes, once Sync
// has returned. What Write has taken beyond it waits for the rest of a block.
func (w *Writer) Offset() int64 { return w.at }

// Write takes the next bytes of the image. More than the release has are
// refused as endless data.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.current(); err != nil {
		return 0, err
	}
	if w.at+int64(len(w.part)+len(p)) > w.rel.Image.Length {
		return 0, release.Refuse(release.EndlessData, fmt.Errorf("more than the %d bytes that were signed", w.rel.Image.Length))
	}
	done := 0
	for done < len(p) {
		n := min(len(p)-done, cap(w.part)-len(w.part))
		w.part = append(w.part, p[done:done+n]...)
		done += n
		if len(w.part) == cap(w.part) {
			if err := w.program(len(w.part)); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// current reports whether this is still the writer of the slot.
func (w *Writer) current() error {
	if w.failed != nil {
		return w.failed
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.writer != w || w.finished {
		return ErrSuperseded
	}
	return nil
}

// program puts the first n bytes of part into the slot.
func (w *Writer) program(n int) error {
	data, at := w.part[:n], w.at
	if at == 0 && n > 0 {
		if n < magicSize || !bytes.Equal(data[:magicSize], magic()) {
			return release.Refuse(release.ArbitrarySoftware, mcuboot.NotAnImage)
		}
		data, at = data[magicSize:], magicSize
	}
	hashed := make(chan struct{})
	go func() { // the other core, while the flash is busy
		_, _ = w.hash.Write(w.part[:n]) // never fails
		close(hashed)
	}()
	err := w.area.Program(data, at)
	<-hashed
	if err != nil {
		w.failed = fmt.Errorf("write slot %s: %w", w.s.inactive(), err)
		return w.failed
	}
	w.at += int64(n)
	w.part = w.part[:copy(w.part, w.part[n:])]
	return nil
}

// Sync puts the whole sectors that Write has taken on stable storage.
func (w *Writer) Sync() error {
	if err := w.current(); err != nil {
		return err
	}
	if whole := len(w.part) - len(w.part)%int(w.area.Sector()); whole > 0 {
		if err := w.program(whole); err != nil {
			return err
		}
	}
	return w.area.Sync()
}

// Finish checks the length and the digest of what came, puts it on stable
// storage, and makes it an image. VerifyInactive then checks what the slot holds.
func (w *Writer) Finish() error {
	if err := w.current(); err != nil {
		return err
	}
	if got := w.at + int64(len(w.part)); got != w.rel.Image.Length {
		return fmt.Errorf("write slot %s: %d bytes came, want %d", w.s.inactive(), got, w.rel.Image.Length)
	}
	if err := w.program(len(w.part)); err != nil {
		return err
	}
	if sum := identity.Digest(w.hash.Sum(nil)); sum != w.rel.Image.SHA256 {
		return release.Refuse(release.ArbitrarySoftware, fmt.Errorf("image %s, %s was signed", sum, w.rel.Image.SHA256))
	}
	for _, step := range []func() error{w.area.Sync, w.seal, w.area.Sync} {
		if err := step(); err != nil {
			return fmt.Errorf("write slot %s: %w", w.s.inactive(), err)
		}
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.finished = true
	return nil
}

// seal makes what was written an image. A power cut may have left a part of the
// magic.
func (w *Writer) seal() error {
	head, want := make([]byte, magicSize), magic()
	if _, err := w.area.ReadAt(head, 0); err != nil {
		return err
	}
	done := 0
	for done < magicSize && head[done] == want[done] {
		done++
	}
	return w.area.Program(want[done:], int64(done))
}
