package virtual

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/device/board"
	"holdfast/identity"
	"holdfast/internal/flash"
	"holdfast/internal/flash/flashtest"
	"holdfast/mcuboot"
	"holdfast/update"
)

func TestBootChooses(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	good, err := mcuboot.Build(Payload([]byte("program")), mcuboot.Version{Major: 1}, 2, key)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), good...)
	bad[40] ^= 1
	verify := Fuses{KeyHash: hash, Verify: true}
	other := Fuses{KeyHash: identity.Sum(nil), Verify: true}
	for _, c := range []struct {
		name    string
		fuses   Fuses
		minimum uint32
		a, b    []byte // nil: no flash there
		slot    update.Slot
		refused []string
	}{
		{"healthy", verify, 0, good, good, "A", nil},
		{"tampered A", verify, 0, bad, good, "B", []string{"slot A: wrong hash"}},
		{"tampered A, no verification", Fuses{}, 0, bad, good, "A", nil},
		{"no image, no verification", Fuses{}, 0, []byte("no"), good, "B", []string{"slot A: not an image"}},
		{"both tampered", verify, 0, bad, bad, "", []string{"slot A: wrong hash", "slot B: wrong hash"}},
		{"another key", other, 0, good, nil, "", []string{"slot A: wrong key", "slot B: empty"}},
		{"A missing", verify, 0, nil, good, "B", []string{"slot A: empty"}},
		{"A erased", verify, 0, []byte{}, good, "B", []string{"slot A: empty"}},
		{"counter at the least", verify, 2, good, good, "A", nil},
		{"counter below the least", verify, 3, good, nil, "", []string{"slot A: security counter too low", "slot B: empty"}},
		{"counter that nobody verifies", Fuses{}, 3, good, nil, "A", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newROM(c.fuses, c.a, c.b)
			got := r.Boot(c.minimum, board.PowerOn)
			var texts []string
			for _, r := range got.Refused {
				texts = append(texts, refused(r))
			}
			if got.Image.Slot != c.slot || (got.Parsed == nil) != (c.slot == "") || got.Trial || got.Write {
				t.Errorf("chose %+v; want slot %q", got, c.slot)
			}
			if diff := cmp.Diff(c.refused, texts); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
		})
	}
}

// newROM is a boot ROM over a flash that holds two images.
func newROM(f Fuses, a, b []byte) ROM {
	var chip flashtest.Chip
	r := ROM{Fuses: f, Record: chip.Area(recordSize, sectorSize, nil)}
	if a != nil {
		r.A = chip.Area(16*sectorSize, sectorSize, a)
	}
	if b != nil {
		r.B = chip.Area(16*sectorSize, sectorSize, b)
	}
	return r
}

func newImage(t *testing.T, key *ecdsa.PrivateKey, minor uint8, counter uint32) ([]byte, *mcuboot.Image) {
	t.Helper()
	image, err := mcuboot.Build(Payload([]byte("program")), mcuboot.Version{Major: 1, Minor: minor}, counter, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := mcuboot.Parse(image)
	if err != nil {
		t.Fatal(err)
	}
	return image, parsed
}

func TestTrialBootsOnce(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := newImage(t, key, 0, 1)
	b, parsed := newImage(t, key, 1, 1)
	r := newROM(Fuses{KeyHash: hash, Verify: true}, a, b)
	record := flash.Pair{Area: r.Record}
	staged, err := update.Save(record, update.Record{}.Stage(update.A, update.Trial{Slot: update.B, Digest: parsed.Digest, Version: parsed.Version, Seconds: 5}))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Boot(0, board.Requested); got.Image.Slot != update.B || !got.Trial || !update.Load(record).Trying() {
		t.Fatalf("booted %+v", got)
	}
	got := r.Boot(0, board.Expired)
	if got.Image.Slot != update.A || got.Trial || !got.Reverted {
		t.Errorf("after the trial %+v", got)
	}
	last := update.Load(record).Last
	if last.Result != update.Reverted || last.Reset != board.Expired || last.Digest != parsed.Digest {
		t.Errorf("outcome %+v", last)
	}

	// A trial that the record cannot say has been tried does not boot.
	if _, err := update.Save(record, staged); err != nil {
		t.Fatal(err)
	}
	r.Record = broken{r.Record}
	if got := r.Boot(0, board.PowerOn); got.Image.Slot != update.A || got.Trial || got.Parsed == nil {
		t.Errorf("with a broken record %+v", got)
	}
}

// broken is flash that cannot be written.
type broken struct{ flash.Area }

func (broken) Erase(int64, int64) error    { return errors.New("worn out") }
func (broken) Program([]byte, int64) error { return errors.New("worn out") }

func TestLoadFindsWhatChangedSinceItWasVerified(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := newImage(t, key, 0, 1)
	var chip flashtest.Chip
	area := chip.Area(16*sectorSize, sectorSize, a)
	r := ROM{A: area, Record: chip.Area(recordSize, sectorSize, nil)}
	got := r.Boot(0, board.PowerOn)
	var program bytes.Buffer
	if err := r.Load(got, &program); err != nil || !bytes.Equal(program.Bytes(), Payload([]byte("program"))) {
		t.Errorf("loaded %d bytes, %v", program.Len(), err)
	}
	area.Rot(40, 0)
	if err := r.Load(got, io.Discard); !errors.Is(err, mcuboot.WrongHash) {
		t.Errorf("loaded what had changed: %v", err)
	}
}
