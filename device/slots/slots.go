// Package slots writes firmware into the slot that does not run, proves what
// it has written, and has the boot chain try it (package update). The image
// that runs is never touched.
//
// An update is: Begin, Write, Finish, VerifyInactive, MarkTrial, Reset. After
// the reset the trial runs; Commit, ClearTrial and Burn make it permanent, in
// this order. What a power cut leaves undone, update.Machine asks for again at
// the next start.
package slots

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"holdfast/identity"
	"holdfast/internal/flash"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/update"
)

// Counter is the least security version that the board boots: a TPM's counter,
// or fuses. It only grows.
type Counter interface {
	// Minimum returns it. A counter that is missing is an error.
	Minimum() (uint32, error)
	// Burn raises it by one.
	Burn() error
}

// Config says what a board's slots are.
type Config struct {
	A, B    flash.Area
	Record  flash.Area      // two sectors or more
	Running update.Slot     // the slot that was booted
	Trial   bool            // as a trial
	KeyHash identity.Digest // identity.KeyDigest of the key that signs images
	Counter Counter
	Reset   func(reason string) error // boots again
	Block   int                       // bytes that are programmed at once, whole sectors; 0: 64 KiB
}

// Slots are a board's two slots. Its methods are safe for concurrent use, but
// there is one Writer at a time.
type Slots struct {
	cfg     Config
	running Image

	mu       sync.Mutex
	record   update.Record
	writer   *Writer       // the newest; another one writes no more
	verified *update.Trial // what VerifyInactive has found, while nobody has written since
}

// Errors of slots.
var (
	// ErrTrying is returned for what would destroy the way back from a trial.
	ErrTrying = errors.New("a trial is on")
	// ErrNotVerified is returned by MarkTrial before VerifyInactive.
	ErrNotVerified = errors.New("the inactive slot was not verified")
	// ErrUnfinished is returned by VerifyInactive while a Writer writes.
	ErrUnfinished = errors.New("the download is not finished")
	// ErrSuperseded is returned by a Writer after another Begin or Resume.
	ErrSuperseded = errors.New("another download has begun")
	// ErrSize is returned for an image that does not fit the slot.
	ErrSize = errors.New("the image does not fit the slot")
)

// Image is the image in a slot.
type Image struct {
	update.Image
	Size int64           // in bytes
	Blob identity.Digest // SHA-256 of its bytes, as release.Release.Image has it

	r io.ReaderAt
}

// ReadAt implements io.ReaderAt over the image's bytes.
func (i Image) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(i.r, 0, i.Size).ReadAt(p, off)
}

// Open reads the running image and the boot record.
func Open(cfg Config) (*Slots, error) {
	if cfg.A == nil || cfg.B == nil || cfg.Record == nil || cfg.Counter == nil || cfg.Reset == nil || !cfg.Running.Valid() {
		return nil, errors.New("open slots: the configuration is incomplete")
	}
	s := &Slots{cfg: cfg}
	if s.cfg.Block == 0 {
		s.cfg.Block = defaultBlock
	}
	area := s.area(cfg.Running)
	img, err := mcuboot.ParseAt(area, area.Used())
	if err != nil {
		return nil, fmt.Errorf("open slots: running image: %w", err)
	}
	s.running = Image{Image: imageOf(cfg.Running, img), Size: int64(img.Size), Blob: img.Blob, r: area}
	s.record = update.Load(s.copies())
	return s, nil
}

func imageOf(s update.Slot, img *mcuboot.Image) update.Image {
	return update.Image{Slot: s, Measured: img.Digest, Version: img.Version, SecurityVersion: img.SecurityCounter}
}

func (s *Slots) area(slot update.Slot) flash.Area {
	if slot == update.A {
		return s.cfg.A
	}
	return s.cfg.B
}

func (s *Slots) copies() update.Copies { return flash.Pair{Area: s.cfg.Record} }

// Running returns the image that runs.
func (s *Slots) Running() Image { return s.running }

// inactive is the slot that is written.
func (s *Slots) inactive() update.Slot { return s.cfg.Running.Other() }

// Minimum returns the least security version that the board boots.
func (s *Slots) Minimum() (uint32, error) { return s.cfg.Counter.Minimum() }

// Facts returns what an update.Machine has to know at a start. Product and
// hardware are left to the caller. It fails where the counter is missing: then
// nothing may be installed.
func (s *Slots) Facts() (update.Facts, error) {
	minimum, err := s.cfg.Counter.Minimum()
	if err != nil {
		return update.Facts{}, fmt.Errorf("security counter: %w", err)
	}
	return update.Facts{Running: s.running.Image, Trial: s.cfg.Trial, Record: s.Record(), Minimum: minimum}, nil
}

// Record returns the boot record.
func (s *Slots) Record() update.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record
}

// save replaces the boot record. The caller holds the lock: writing takes a
// moment, and nobody reads a record that is being written.
func (s *Slots) save(r update.Record) error {
	saved, err := update.Save(s.copies(), r)
	if err != nil {
		s.record = update.Load(s.copies())
		return err
	}
	s.record = saved
	return nil
}

// VerifyInactive reads the inactive slot again and checks that it is the
// release and may boot. What is refused is made unbootable. Its errors name the
// attack (release.AttackOf).
func (s *Slots) VerifyInactive(rel release.Release) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verified = nil
	if err := s.verify(rel); err != nil {
		return fmt.Errorf("verify slot %s: %w", s.inactive(), err)
	}
	s.verified = &update.Trial{Slot: s.inactive(), Digest: rel.Measured, Version: rel.Version,
		SecurityVersion: rel.SecurityVersion, Seconds: uint32(rel.Health.Seconds)}
	return nil
}

func (s *Slots) verify(rel release.Release) error {
	if s.writer != nil && !s.writer.finished {
		return ErrUnfinished
	}
	minimum, err := s.cfg.Counter.Minimum()
	if err != nil {
		return fmt.Errorf("security counter: %w", err)
	}
	if err := s.judge(rel, minimum); err != nil {
		return errors.Join(err, s.spoil())
	}
	return nil
}

func (s *Slots) judge(rel release.Release, minimum uint32) error {
	area := s.area(s.inactive())
	img, err := mcuboot.VerifyAt(area, area.Used(), s.cfg.KeyHash)
	refuse := func(a release.Attack, format string, args ...any) error {
		return release.Refuse(a, fmt.Errorf(format, args...))
	}
	switch {
	case errors.Is(err, mcuboot.Trailing):
		return release.Refuse(release.ExtraneousContents, err)
	case err != nil:
		return release.Refuse(release.ArbitrarySoftware, err)
	case int64(img.Size) != rel.Image.Length:
		return refuse(release.ArbitrarySoftware, "image of %d bytes, %d were signed", img.Size, rel.Image.Length)
	case img.Blob != rel.Image.SHA256:
		return refuse(release.ArbitrarySoftware, "image %s, %s was signed", img.Blob, rel.Image.SHA256)
	case img.Digest != rel.Measured:
		return refuse(release.MixAndMatch, "the image measures as %s, the metadata says %s", img.Digest, rel.Measured)
	case img.Version != rel.Version || img.SecurityCounter != rel.SecurityVersion:
		return refuse(release.MixAndMatch, "the image is version %s, security version %d; the metadata says %s, %d", img.Version, img.SecurityCounter, rel.Version, rel.SecurityVersion)
	case img.SecurityCounter < minimum:
		return refuse(release.Rollback, "security version %d, the least is %d", img.SecurityCounter, minimum)
	}
	return nil
}

// spoil makes sure that the inactive slot does not boot, even if the other one
// is damaged: what it holds is not wanted.
func (s *Slots) spoil() error {
	area := s.area(s.inactive())
	if err := area.Erase(0, area.Sector()); err != nil {
		return err
	}
	return area.Sync()
}

// MarkTrial has the boot chain try the verified image, once, at the next boot.
func (s *Slots) MarkTrial() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.record.Trying():
		return fmt.Errorf("mark trial: %w", ErrTrying)
	case s.verified == nil:
		return fmt.Errorf("mark trial: %w", ErrNotVerified)
	}
	return s.save(s.record.Stage(s.cfg.Running, *s.verified))
}

// DropTrial takes back what was written and has not booted: it is not wanted
// any more, and will not boot even if the other slot is damaged.
func (s *Slots) DropTrial() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record.Trial != nil && s.record.Trial.Tried {
		return fmt.Errorf("drop trial: %w", ErrTrying)
	}
	s.verified, s.writer = nil, nil
	if err := s.spoil(); err != nil {
		return fmt.Errorf("drop trial: %w", err)
	}
	if s.record.Trial == nil {
		return nil
	}
	return s.save(s.record.Unstage())
}

// Commit makes the trial that runs the active slot, or the image that the boot
// ROM fell back to because the active one is damaged. The way back is closed
// once it returns nil. To commit again does nothing.
func (s *Slots) Commit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.record.Trial
	switch {
	case t == nil && s.record.Active == s.cfg.Running:
		return nil
	case t == nil:
		return s.save(s.record.Adopt(s.cfg.Running))
	case !t.Tried || t.Slot != s.cfg.Running || t.Digest != s.running.Measured:
		return errors.New("commit: another slot is to be tried")
	case s.record.Active == t.Slot:
		return nil
	}
	return s.save(s.record.Commit())
}

// ClearTrial ends a trial that was committed. Without one it does nothing.
func (s *Slots) ClearTrial() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.record.Trial == nil:
		return nil
	case s.record.Trying() || !s.record.Trial.Tried:
		return errors.New("clear trial: it was not committed")
	}
	return s.save(s.record.Clear())
}

// Burn raises the minimum to the security version of the running image, which
// has to be committed. It may be repeated.
func (s *Slots) Burn() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record.Active != s.cfg.Running || s.record.Trial != nil {
		return errors.New("burn counter: what runs was not committed")
	}
	// The counter is read again after each step: it never goes above the image
	// that runs, whoever else raises it.
	for {
		minimum, err := s.cfg.Counter.Minimum()
		if err != nil {
			return fmt.Errorf("burn counter: %w", err)
		}
		if minimum >= s.running.SecurityVersion {
			return nil
		}
		if err := s.cfg.Counter.Burn(); err != nil {
			return fmt.Errorf("burn counter: %w", err)
		}
	}
}

// Reset boots again.
func (s *Slots) Reset(reason string) error { return s.cfg.Reset(reason) }

// Do does those actions of a machine that are about slots; others are an
// error.
func (s *Slots) Do(a update.Action, m update.Machine) error {
	switch a {
	case update.VerifySlot:
		return s.VerifyInactive(m.Target)
	case update.DropTrial:
		return s.DropTrial()
	case update.MarkTrial:
		return s.MarkTrial()
	case update.MarkCommitted:
		return s.Commit()
	case update.ClearTrial:
		return s.ClearTrial()
	case update.BurnCounter:
		return s.Burn()
	case update.Reset:
		return s.Reset("update: " + string(m.State))
	}
	return fmt.Errorf("slots: no such action: %s", a)
}
