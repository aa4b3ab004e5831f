package mcuboot_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/identity"
	"holdfast/mcuboot"
)

// sameImage compares what is exported of images, but for the payload.
var sameImage = cmp.Options{cmpopts.IgnoreUnexported(mcuboot.Image{}), cmpopts.IgnoreFields(mcuboot.Image{}, "Payload")}

func TestVerifyAtIsVerify(t *testing.T) {
	key, hash := newKey(t)
	for _, size := range []int{0, 1, 31, 64<<10 - 33, 64 << 10, 300_000} {
		data := build(t, bytes.Repeat([]byte{0x5a, 1, 2}, size/3), key)
		slot := append(bytes.Clone(data), bytes.Repeat([]byte{0xff}, 100_000)...)
		want, err := mcuboot.Verify(data, hash)
		if err != nil {
			t.Fatal(err)
		}
		got, err := mcuboot.VerifyAt(bytes.NewReader(slot), int64(len(slot)), hash)
		if err != nil {
			t.Fatalf("payload of %d bytes: %v", size, err)
		}
		if diff := cmp.Diff(want, got, sameImage); diff != "" {
			t.Errorf("payload of %d bytes (-want +got):\n%s", size, diff)
		}
		if got.Payload != nil || got.Blob != identity.Sum(data) {
			t.Errorf("payload of %d bytes: %d bytes of it, blob %s", size, len(got.Payload), got.Blob)
		}
		var payload bytes.Buffer
		if err := got.CopyPayload(&payload, bytes.NewReader(slot)); err != nil || !bytes.Equal(payload.Bytes(), want.Payload) {
			t.Errorf("payload of %d bytes: copied %d, %v", size, payload.Len(), err)
		}
		for _, at := range []int{len(data), len(data) + 70_000, len(slot) - 1} {
			bad := bytes.Clone(slot)
			bad[at] = 0
			if _, err := mcuboot.VerifyAt(bytes.NewReader(bad), int64(len(bad)), hash); !errors.Is(err, mcuboot.Trailing) {
				t.Errorf("a byte at %d behind an image of %d: %v", at, len(data), err)
			}
		}
	}
}

// torn is flash that cannot be read from some byte on.
type torn struct {
	data []byte
	from int64
}

var errTorn = errors.New("worn out")

func (r torn) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, r.data[min(off, int64(len(r.data))):])
	if off+int64(n) > r.from {
		return int(max(0, r.from-off)), errTorn
	}
	return n, nil
}

func TestUnreadableFlashIsARefusal(t *testing.T) {
	key, hash := newKey(t)
	data := build(t, make([]byte, 200_000), key)
	slot := append(bytes.Clone(data), bytes.Repeat([]byte{0xff}, 1000)...)
	img, err := mcuboot.VerifyAt(torn{slot, int64(len(slot))}, int64(len(slot)), hash)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []int{0, 31, 40, 150_000, 200_033, len(data) - 1, len(slot) - 1} {
		_, err := mcuboot.VerifyAt(torn{slot, int64(from)}, int64(len(slot)), hash)
		if !errors.Is(err, mcuboot.Unreadable) || !errors.Is(err, errTorn) {
			t.Errorf("unreadable from %d: %v", from, err)
		}
	}
	if err := img.CopyPayload(io.Discard, torn{slot, 1000}); !errors.Is(err, mcuboot.Unreadable) {
		t.Errorf("copied what cannot be read: %v", err)
	}
}

// flipping is flash that reads differently each time it is asked.
type flipping struct {
	data  []byte
	at    int64
	reads *int
}

func (r flipping) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, r.data[off:])
	if r.at >= off && r.at < off+int64(n) {
		if *r.reads++; *r.reads > 1 {
			p[r.at-off] ^= 1
		}
	}
	return n, nil
}

func TestWhatChangesBetweenReadsIsNotTaken(t *testing.T) {
	key, hash := newKey(t)
	data := build(t, make([]byte, 1000), key)
	want, err := mcuboot.Verify(data, hash)
	if err != nil {
		t.Fatal(err)
	}
	for at := range data {
		img, err := mcuboot.VerifyAt(flipping{data, int64(at), new(int)}, int64(len(data)), hash)
		if err == nil && !cmp.Equal(want, img, sameImage) {
			t.Errorf("byte %d changes after it was read, and what was verified is another image", at)
		}
	}
	for at := range 1032 { // header and payload
		if err := want.CopyPayload(io.Discard, flipping{data, int64(at), &[]int{1}[0]}); !errors.Is(err, mcuboot.WrongHash) {
			t.Fatalf("byte %d has changed since: %v", at, err)
		}
	}
}

// FuzzVerifyAt holds what is verified from a slot against Verify of the same
// bytes, and the digest against one that is computed from the header alone.
func FuzzVerifyAt(f *testing.F) {
	key, hash := newKey(f)
	data := build(f, []byte("payload"), key)
	f.Add(data, uint16(0))
	f.Add(data, uint16(100))
	f.Add(data[:len(data)-1], uint16(3))
	f.Add(append(bytes.Clone(data), 0), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, pad uint16) {
		slot := append(bytes.Clone(data), bytes.Repeat([]byte{0xff}, int(pad))...)
		want, errWant := mcuboot.Verify(slot, hash)
		got, err := mcuboot.VerifyAt(bytes.NewReader(slot), int64(len(slot)), hash)
		if (errWant == nil) != (err == nil) || err != nil && err.Error() != errWant.Error() {
			t.Fatalf("from a slot %v, from memory %v", err, errWant)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(want, got, sameImage); diff != "" {
			t.Errorf("(-memory +slot):\n%s", diff)
		}
		le := binary.LittleEndian
		signed := int(le.Uint16(slot[8:])) + int(le.Uint32(slot[12:])) + int(le.Uint16(slot[10:]))
		if got.Digest != identity.Sum(slot[:signed]) || got.Blob != identity.Sum(slot[:got.Size]) {
			t.Error("wrong digests")
		}
	})
}
