package slots_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"holdfast/device/slots"
	"holdfast/identity"
	"holdfast/internal/flash/flashtest"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/update"
)

const (
	sector   = 512
	slotSize = 16 * sector
)

// fuses are a counter.
type fuses struct {
	value uint32
	err   error
}

func (f *fuses) Minimum() (uint32, error) { return f.value, f.err }

func (f *fuses) Burn() error {
	f.value++
	return nil
}

// bench is a board's flash and what may be installed there.
type bench struct {
	t       *testing.T
	key     *ecdsa.PrivateKey
	chip    *flashtest.Chip
	counter fuses
	cfg     slots.Config
	resets  []string
}

// newBench is a board that runs version 1.0.0, security version 1, from slot A.
func newBench(t *testing.T) *bench {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, key: key, chip: &flashtest.Chip{}, counter: fuses{value: 1}}
	first, _ := b.build(0, 1, 3000)
	b.cfg = slots.Config{A: b.chip.Area(slotSize, sector, first), B: b.chip.Area(slotSize, sector, []byte("an old image")), Record: b.chip.Area(2*sector, sector, nil),
		Running: update.A, KeyHash: hash, Counter: &b.counter, Reset: func(why string) error {
			b.resets = append(b.resets, why)
			return nil
		}}
	return b
}

// build makes an image and what signed metadata says of it.
func (b *bench) build(minor uint8, security uint32, size int) ([]byte, release.Release) {
	b.t.Helper()
	image, err := mcuboot.Build(bytes.Repeat([]byte{minor + 1}, size), mcuboot.Version{Major: 1, Minor: minor}, security, b.key)
	if err != nil {
		b.t.Fatal(err)
	}
	img, err := mcuboot.Parse(image)
	if err != nil {
		b.t.Fatal(err)
	}
	return image, release.Release{
		Target: release.Target{Product: "pump", Version: img.Version, SecurityVersion: security, Measured: img.Digest,
			Health: release.Health{Checks: []string{release.CheckHub}, Seconds: 60}},
		Image: release.Blob{Length: int64(len(image)), SHA256: identity.Sum(image)},
	}
}

func (b *bench) open() *slots.Slots {
	b.t.Helper()
	s, err := slots.Open(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// boot is what the boot ROM does after a reset.
func (b *bench) boot() *slots.Slots {
	b.t.Helper()
	c := update.Boot(b.record(), func(s update.Slot) (update.Image, error) {
		area := b.cfg.A
		if s == update.B {
			area = b.cfg.B
		}
		img, err := mcuboot.VerifyAt(area, area.Size(), b.cfg.KeyHash)
		if err != nil {
			return update.Image{}, err
		}
		return update.Image{Measured: img.Digest, Version: img.Version, SecurityVersion: img.SecurityCounter}, nil
	}, b.counter.value, "requested")
	if c.Write {
		if _, err := update.Save(copies{b.cfg.Record.(*flashtest.Area)}, c.Record); err != nil {
			b.t.Fatal(err)
		}
	}
	b.cfg.Running, b.cfg.Trial = c.Image.Slot, c.Trial
	return b.open()
}

func (b *bench) record() update.Record { return update.Load(copies{b.cfg.Record.(*flashtest.Area)}) }

// copies is the record's place, written by hand.
type copies struct{ *flashtest.Area }

func (c copies) ReadCopy(i int) ([]byte, error) { return c.Bytes()[i*sector : (i+1)*sector], nil }
func (c copies) WriteCopy(i int, b []byte) error {
	return errors.Join(c.Erase(int64(i)*sector, sector), c.Program(b, int64(i)*sector), c.Sync())
}

// write writes a whole image.
func (b *bench) write(s *slots.Slots, rel release.Release, image []byte) error {
	b.t.Helper()
	w, err := s.Begin(rel)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, bytes.NewReader(image)); err != nil {
		return err
	}
	return w.Finish()
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestUpdate(t *testing.T) {
	b := newBench(t)
	image, rel := b.build(1, 3, 4000)
	before := b.cfg.A.(*flashtest.Area).Bytes()
	s := b.open()
	if r := s.Running(); r.Version != (mcuboot.Version{Major: 1}) || r.SecurityVersion != 1 || identity.Sum(before[:r.Size]) != r.Blob {
		t.Errorf("running %+v", r)
	}
	if got, err := io.ReadAll(io.NewSectionReader(s.Running(), 0, 1<<20)); err != nil || !bytes.Equal(got, before[:s.Running().Size]) {
		t.Errorf("the running image reads as %d bytes, %v", len(got), err)
	}
	b.must(b.write(s, rel, image))
	b.must(s.VerifyInactive(rel))
	b.must(s.MarkTrial())
	b.must(s.Reset("update"))
	if len(b.resets) != 1 {
		t.Errorf("resets %q", b.resets)
	}

	s = b.boot()
	facts, err := s.Facts()
	if err != nil || !facts.Trial || facts.Running.Slot != update.B || facts.Minimum != 1 || !facts.Record.Trying() {
		t.Fatalf("facts of the trial %+v, %v", facts, err)
	}
	if w, err := s.Begin(rel); !errors.Is(err, slots.ErrTrying) {
		t.Errorf("wrote over the way back: %v, %v", w, err)
	}
	for name, err := range map[string]error{"burned": s.Burn(), "cleared": s.ClearTrial(), "dropped": s.DropTrial()} {
		if err == nil {
			t.Errorf("%s before the commit", name)
		}
	}
	for range 2 { // each may be repeated
		b.must(s.Commit())
	}
	if b.counter.value != 1 {
		t.Error("a commit burned the counter")
	}
	if s.Burn() == nil {
		t.Error("burned before the trial was cleared")
	}
	for range 2 {
		b.must(s.ClearTrial())
		b.must(s.Burn())
	}
	if r := s.Record(); r.Active != update.B || r.Trial != nil || r.Last.Result != update.Committed || b.counter.value != 3 {
		t.Errorf("in the end %+v, counter %d", r, b.counter.value)
	}
	if got := b.cfg.A.(*flashtest.Area).Bytes(); !bytes.Equal(got, before) {
		t.Error("the running slot was written")
	}
	if s = b.boot(); s.Running().Slot != update.B {
		t.Errorf("boots %s", s.Running().Slot)
	}
}

func TestResume(t *testing.T) {
	b := newBench(t)
	image, rel := b.build(1, 1, 5000)
	w, err := b.open().Begin(rel)
	b.must(err)
	_, err = w.Write(image[:3000])
	b.must(err)
	b.must(w.Sync())
	at := w.Offset()
	if at != 2560 { // whole sectors
		t.Errorf("offset %d", at)
	}

	s := b.open() // after a power cut
	w, err = s.Resume(rel, 3000)
	b.must(err)
	if w.Offset() != at {
		t.Errorf("goes on at %d, want %d", w.Offset(), at)
	}
	_, err = w.Write(image[at:])
	b.must(err)
	b.must(w.Finish())
	b.must(s.VerifyInactive(rel))

	// All of it is there, and the caller does not know.
	s = b.open()
	w, err = s.Resume(rel, 3000)
	b.must(err)
	if w.Offset() != rel.Image.Length {
		t.Errorf("goes on at %d of a finished image", w.Offset())
	}
	b.must(w.Finish())
	b.must(s.VerifyInactive(rel))
	_, other := b.build(2, 1, 5000)
	if w, err = s.Resume(other, 3000); err != nil || w.Offset() != 0 {
		t.Errorf("another image: goes on at %d, %v", w.Offset(), err)
	}

	// A caller that remembers an offset that was never reached is found out.
	s = b.open()
	w, err = s.Begin(rel)
	b.must(err)
	_, err = w.Write(image[:1024])
	b.must(err)
	b.must(w.Sync())
	w, err = b.open().Resume(rel, 2048)
	b.must(err)
	_, err = w.Write(image[2048:])
	b.must(err)
	if err := w.Finish(); release.AttackOf(err) != release.ArbitrarySoftware {
		t.Errorf("finished with a hole: %v", err)
	}
}

func TestNothingBootsBeforeItsDigestIsRight(t *testing.T) {
	b := newBench(t)
	image, rel := b.build(1, 1, 4000)
	other, _ := b.build(2, 1, 4000) // signed by the same key, but not for us
	bootable := func() bool {
		_, err := mcuboot.VerifyAt(b.cfg.B, b.cfg.B.Size(), b.cfg.KeyHash)
		return err == nil
	}
	b.chip.Before = func(op flashtest.Op) {
		if bootable() && (op.Kind != flashtest.Sync || op.Area != 1) {
			t.Errorf("before %s the slot boots", op)
		}
	}
	other = append(other, bytes.Repeat([]byte{0xff}, len(image)-min(len(image), len(other)))...)[:len(image)]
	if err := b.write(b.open(), rel, other); release.AttackOf(err) != release.ArbitrarySoftware {
		t.Errorf("another image: %v", err)
	}
	if bootable() {
		t.Error("another image boots")
	}
	b.must(b.write(b.open(), rel, image))
	b.chip.Before = nil
	if !bootable() {
		t.Error("the right image does not boot")
	}
	b.must(b.open().DropTrial())
	if bootable() {
		t.Error("what was dropped boots")
	}
}

func TestWriterRefuses(t *testing.T) {
	b := newBench(t)
	image, rel := b.build(1, 1, 4000)
	s := b.open()
	begin := func() *slots.Writer {
		w, err := s.Begin(rel)
		b.must(err)
		return w
	}
	t.Run("more than was signed", func(t *testing.T) {
		if _, err := begin().Write(append(bytes.Clone(image), 0)); release.AttackOf(err) != release.EndlessData {
			t.Error(err)
		}
	})
	t.Run("less than was signed", func(t *testing.T) {
		w := begin()
		_, err := w.Write(image[:len(image)-1])
		b.must(err)
		if err := w.Finish(); err == nil || !strings.Contains(err.Error(), "bytes came") {
			t.Error(err)
		}
	})
	t.Run("no image", func(t *testing.T) {
		if err := b.write(s, rel, bytes.Repeat([]byte{1}, len(image))); release.AttackOf(err) != release.ArbitrarySoftware {
			t.Error(err)
		}
	})
	t.Run("one writer at a time", func(t *testing.T) {
		first := begin()
		begin()
		for _, err := range []error{first.Sync(), first.Finish()} {
			if !errors.Is(err, slots.ErrSuperseded) {
				t.Error(err)
			}
		}
		if _, err := first.Write(image); !errors.Is(err, slots.ErrSuperseded) {
			t.Error(err)
		}
	})
	t.Run("sizes and offsets", func(t *testing.T) {
		for _, length := range []int64{0, 3, -1, slotSize + 1} {
			bad := rel
			bad.Image.Length = length
			if _, err := s.Begin(bad); !errors.Is(err, slots.ErrSize) {
				t.Errorf("%d bytes: %v", length, err)
			}
		}
		for _, offset := range []int64{-1, rel.Image.Length + 1} {
			if _, err := s.Resume(rel, offset); err == nil {
				t.Errorf("resumed at %d", offset)
			}
		}
	})
}

func TestVerifyInactiveRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		attack release.Attack
		spoil  func(b *bench, rel *release.Release, image *[]byte)
		after  func(b *bench)
	}{
		"rot":                  {attack: release.ArbitrarySoftware, after: func(b *bench) { b.cfg.B.(*flashtest.Area).Rot(1000, 3) }},
		"rot behind the image": {attack: release.ExtraneousContents, after: func(b *bench) { b.cfg.B.(*flashtest.Area).Rot(slotSize-1, 0) }},
		"another signer": {attack: release.ArbitrarySoftware, spoil: func(b *bench, rel *release.Release, image *[]byte) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			b.must(err)
			b.key = key
			*image, *rel = b.build(1, 1, 4000)
		}},
		"another measurement":      {attack: release.MixAndMatch, spoil: func(_ *bench, rel *release.Release, _ *[]byte) { rel.Measured[0] ^= 1 }},
		"another version":          {attack: release.MixAndMatch, spoil: func(_ *bench, rel *release.Release, _ *[]byte) { rel.Version.Minor++ }},
		"another security version": {attack: release.MixAndMatch, spoil: func(_ *bench, rel *release.Release, _ *[]byte) { rel.SecurityVersion++ }},
		"below the counter":        {attack: release.Rollback, after: func(b *bench) { b.counter.value = 2 }},
		"padding that was signed": {attack: release.ArbitrarySoftware, spoil: func(_ *bench, rel *release.Release, image *[]byte) {
			*image = append(*image, 0xff)
			rel.Image = release.Blob{Length: int64(len(*image)), SHA256: identity.Sum(*image)}
		}},
		"a missing counter": {after: func(b *bench) { b.counter.err = errors.New("gone") }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			image, rel := b.build(1, 1, 4000)
			if c.spoil != nil {
				c.spoil(b, &rel, &image)
			}
			s := b.open()
			b.must(b.write(s, rel, image))
			if c.after != nil {
				c.after(b)
			}
			if err := s.VerifyInactive(rel); err == nil || release.AttackOf(err) != c.attack {
				t.Errorf("%v, want %q", err, c.attack)
			}
			if err := s.MarkTrial(); !errors.Is(err, slots.ErrNotVerified) {
				t.Errorf("marked what was refused: %v", err)
			}
			if _, err := mcuboot.VerifyAt(b.cfg.B, slotSize, b.cfg.KeyHash); err == nil && c.attack != "" {
				t.Error("what was refused boots")
			}
		})
	}
}

func TestSlotsRefuse(t *testing.T) {
	b := newBench(t)
	image, rel := b.build(1, 1, 4000)
	s := b.open()
	if err := s.MarkTrial(); !errors.Is(err, slots.ErrNotVerified) {
		t.Errorf("marked nothing: %v", err)
	}
	w, err := s.Begin(rel)
	b.must(err)
	if err := s.VerifyInactive(rel); !errors.Is(err, slots.ErrUnfinished) {
		t.Errorf("verified what is being written: %v", err)
	}
	_, err = w.Write(image)
	b.must(err)
	b.must(w.Finish())
	b.must(s.VerifyInactive(rel))
	b.must(s.MarkTrial())
	if err := s.Commit(); err == nil {
		t.Error("committed a trial that has not booted")
	}
	if err := s.Burn(); err == nil {
		t.Error("burned with a trial to come")
	}
	if _, err := s.Begin(rel); err != nil || s.Record().Trial != nil {
		t.Errorf("writing again left the trial: %+v, %v", s.Record(), err)
	}
	if err := s.MarkTrial(); !errors.Is(err, slots.ErrNotVerified) {
		t.Errorf("marked what is being written: %v", err)
	}
	if err := s.Do(update.Report, update.Machine{}); err == nil {
		t.Error("slots report")
	}
	b.counter.err = errors.New("gone")
	if f, err := s.Facts(); err == nil {
		t.Errorf("a missing counter: %+v", f)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*slots.Config){
		"no slot":      func(c *slots.Config) { c.B = nil },
		"no record":    func(c *slots.Config) { c.Record = nil },
		"no counter":   func(c *slots.Config) { c.Counter = nil },
		"no reset":     func(c *slots.Config) { c.Reset = nil },
		"slot C":       func(c *slots.Config) { c.Running = "C" },
		"not an image": func(c *slots.Config) { c.Running = update.B },
	} {
		b := newBench(t)
		spoil(&b.cfg)
		if s, err := slots.Open(b.cfg); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
