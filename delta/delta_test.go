package delta_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"holdfast/delta"
	"holdfast/release"
)

func patch(t testing.TB, was, is []byte) ([]byte, delta.Stats) {
	t.Helper()
	var out bytes.Buffer
	st, err := delta.Make(context.Background(), bytes.NewReader(was), int64(len(was)), bytes.NewReader(is), int64(len(is)), &out)
	if err != nil {
		t.Fatal(err)
	}
	if st.Length != int64(out.Len()) || st.Copied+st.Different+st.Inserted != int64(len(is)) {
		t.Errorf("%+v of a patch of %d bytes for %d", st, out.Len(), len(is))
	}
	return out.Bytes(), st
}

func apply(was, p []byte, l delta.Limits) ([]byte, error) {
	var out bytes.Buffer
	err := delta.Apply(bytes.NewReader(was), int64(len(was)), bytes.NewReader(p), &out, l)
	return out.Bytes(), err
}

// numbers are the bytes of a generator that begins anew for each seed.
func numbers(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// program is n bytes that look a little like code: words that refer to places.
func program(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = append(b, byte(r.IntN(40)), byte(r.IntN(3)))
		b = binary.LittleEndian.AppendUint32(b, uint32(r.IntN(n)))
	}
	return b[:n]
}

// edit changes b in some of the ways in which images change.
func edit(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range r.IntN(6) {
		at := r.IntN(len(b) + 1)
		n := r.IntN(1 + r.IntN(50_000))
		switch r.IntN(6) {
		case 0: // put something in
			b = slices.Insert(b, at, numbers(r.Uint64(), n)...)
		case 1: // take something out
			b = slices.Delete(b, at, min(at+n, len(b)))
		case 2: // move something
			part := bytes.Clone(b[at:min(at+n, len(b))])
			b = slices.Delete(b, at, at+len(part))
			b = slices.Insert(b, r.IntN(len(b)+1), part...)
		case 3: // shift all addresses
			for i := at; i+4 <= len(b); i += 6 {
				binary.LittleEndian.PutUint32(b[i:], binary.LittleEndian.Uint32(b[i:])+32)
			}
		case 4: // flip bits here and there
			for range r.IntN(200) {
				if len(b) > 0 {
					b[r.IntN(len(b))] ^= 1 << r.IntN(8)
				}
			}
		case 5: // a run of zeros
			clear(b[at:min(at+n, len(b))])
		}
	}
	return b
}

// What is made of the old image and the patch is the new image, whatever was
// edited, and making it again makes the same patch.
func TestRandomEditsComeBack(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 2))
		was := program(seed, r.IntN(1+r.IntN(1_000_000)))
		is := edit(r, was)
		p, _ := patch(t, was, is)
		if seed%5 == 0 {
			if again, _ := patch(t, was, is); !bytes.Equal(p, again) {
				t.Fatalf("seed %d: another patch of the same images", seed)
			}
		}
		back, err := apply(was, p, delta.Limits{Length: int64(len(is))})
		if err != nil || !bytes.Equal(back, is) {
			t.Fatalf("seed %d: %d bytes of %d, %v", seed, len(back), len(is), err)
		}
	}
}

func TestExtremesComeBack(t *testing.T) {
	random, other := numbers(1, 700_000), numbers(2, 700_000)
	for name, tt := range map[string]struct{ was, is []byte }{
		"nothing of nothing":    {},
		"something of nothing":  {nil, random},
		"nothing of something":  {random, nil},
		"the same":              {random, random},
		"all other":             {random, other},
		"one byte":              {[]byte{1}, []byte{2}},
		"all zero":              {make([]byte, 600_000), make([]byte, 700_000)},
		"the second half first": {random, append(bytes.Clone(random[350_000:]), random[:350_000]...)},
		"a bit shorter":         {random, random[1:]},
		"a block's length":      {random, random[:delta.MaxBlock]},
		"one more":              {random, append(bytes.Clone(random), 0)},
	} {
		p, st := patch(t, tt.was, tt.is)
		back, err := apply(tt.was, p, delta.Limits{Length: int64(len(tt.is))})
		if err != nil || !bytes.Equal(back, tt.is) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(back), len(tt.is), err)
		}
		if most := len(tt.is) + 200; len(p) > most {
			t.Errorf("%s: a patch of %d bytes", name, len(p))
		}
		switch name {
		case "the same", "the second half first", "a bit shorter":
			if len(p) > 400 {
				t.Errorf("%s: a patch of %d bytes: %+v", name, len(p), st)
			}
		}
	}
}

func TestHeaderSaysWhatTheImagesAre(t *testing.T) {
	was, is := program(1, 1000), program(2, 2000)
	p, _ := patch(t, was, is)
	h, err := delta.ReadHeader(bytes.NewReader(p))
	want := delta.Header{Old: release.Blob{Length: 1000, SHA256: sha256.Sum256(was)}, New: release.Blob{Length: 2000, SHA256: sha256.Sum256(is)}}
	if err != nil || h != want {
		t.Errorf("%+v, %v", h, err)
	}
}

// A device that lost power goes on at a block's end.
func TestApplyGoesOnAtEachBlock(t *testing.T) {
	was := program(3, 1_200_000)
	is := edit(rand.New(rand.NewPCG(7, 7)), was)
	p, _ := patch(t, was, is)
	var places []delta.Place
	l := delta.Limits{Length: int64(len(is)), Block: func(at delta.Place) error {
		places = append(places, at)
		return nil
	}}
	if _, err := apply(was, p, l); err != nil {
		t.Fatal(err)
	}
	if last := places[len(places)-1]; len(places) < 4 || last != (delta.Place{Patch: int64(len(p)), New: int64(len(is))}) {
		t.Fatalf("places %v", places)
	}
	for _, at := range places {
		back, err := apply(was, p[at.Patch:], delta.Limits{Length: int64(len(is)), From: at})
		if err != nil || !bytes.Equal(back, is[at.New:]) {
			t.Errorf("from %v: %d bytes, %v", at, len(back), err)
		}
	}
	stop := errors.New("enough")
	if _, err := apply(was, p, delta.Limits{Length: int64(len(is)), Block: func(delta.Place) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b, nil)
}

// forged is a patch between images of 1000 bytes with the blocks that parts make.
func forged(parts ...any) []byte {
	b := []byte("HFDELTA1")
	for range 2 {
		b = append(binary.BigEndian.AppendUint64(b, 1000), make([]byte, 32)...)
	}
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.AppendUvarint(b, uint64(p))
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

func TestApplyRefuses(t *testing.T) {
	was := numbers(4, 1000)
	kilo, bomb := zipped(t, make([]byte, 1000)), zipped(t, make([]byte, 1<<20))
	short := zipped(t, make([]byte, 900))
	for name, tt := range map[string]struct {
		patch []byte
		want  release.Attack
		text  string
	}{
		"nothing":                     {nil, release.MalformedMetadata, "cut off"},
		"no delta":                    {bytes.Repeat([]byte("x"), 200), release.MalformedMetadata, "no delta"},
		"a huge image":                {slices.Concat([]byte("HFDELTA1"), bytes.Repeat([]byte{0xff}, 80)), release.MalformedMetadata, "the most is"},
		"no blocks":                   {forged(), release.MalformedMetadata, "cut off"},
		"an unknown kind":             {forged(9, 10), release.MalformedMetadata, "kind 9"},
		"an empty block":              {forged(1, 0), release.MalformedMetadata, "0 bytes"},
		"a huge block":                {forged(1, delta.MaxBlock+1), release.MalformedMetadata, "the most is"},
		"more than was signed":        {forged(0, 1001, 0), release.DecompressionBomb, "1000 are left"},
		"more than was signed, later": {forged(0, 900, 0, 0, 101, 0), release.DecompressionBomb, "100 are left"},
		"a copy beyond the end":       {forged(0, 1000, 1), release.MalformedMetadata, "the old image has 1000"},
		"a copy far beyond the end":   {forged(0, 1000, 1<<34), release.MalformedMetadata, "the old image has 1000"},
		"plain and cut off":           {forged(1, 1000, make([]byte, 999)), release.MalformedMetadata, "cut off"},
		"packed and cut off":          {forged(2, 1000, len(kilo), kilo[:len(kilo)-1]), release.MalformedMetadata, "cut off"},
		"packed into more":            {forged(2, 1000, 1000, make([]byte, 1000)), release.MalformedMetadata, "packed into"},
		"a bomb":                      {forged(2, 1000, len(bomb), bomb), release.DecompressionBomb, "more than 1000"},
		"a bomb in steps":             {forged(3, 1000, 1, 0, 1000, 0, len(bomb), bomb), release.DecompressionBomb, "more than 1000"},
		"two frames":                  {forged(2, 1000, 2*len(kilo), kilo, kilo), release.DecompressionBomb, "more than 1000"},
		"too few bytes":               {forged(2, 1000, len(short), short), release.MalformedMetadata, "has 900"},
		"no frame":                    {forged(2, 1000, 5, []byte("hello")), release.MalformedMetadata, "unpack"},
		"no steps":                    {forged(3, 1000, 0), release.MalformedMetadata, "0 steps"},
		"too many steps":              {forged(3, 1000, delta.MaxSteps+1), release.MalformedMetadata, "the most are"},
		"steps of more":               {forged(3, 1000, 1, 0, 1000, 1), release.MalformedMetadata, "steps of more"},
		"steps of less":               {forged(3, 1000, 1, 0, 999, 0), release.MalformedMetadata, "leave 1 bytes"},
		"a step before the image":     {forged(3, 1000, 1, 1, 1000, 0, len(kilo), kilo), release.MalformedMetadata, "from -1 on"},
		"a step behind the image":     {forged(3, 1000, 1, 2, 1000, 0, len(kilo), kilo), release.MalformedMetadata, "from 1 on"},
		"a number that is too long":   {forged(0, []byte{0x80, 0x80, 0x80, 0x80, 0x80, 1}), release.MalformedMetadata, "no number"},
		"a number in a longer form":   {forged(0, []byte{0x81, 0}), release.MalformedMetadata, "no number"},
		"more behind the end":         {forged(0, 1000, 0, 0), release.EndlessData, "behind the end"},
	} {
		out, err := apply(was, tt.patch, delta.Limits{Length: 1000})
		if release.AttackOf(err) != tt.want || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q with %q", name, err, tt.want, tt.text)
		}
		if len(out) > 1000 {
			t.Errorf("%s: wrote %d bytes", name, len(out))
		}
	}
	good := forged(0, 1000, 0)
	if out, err := apply(was, good, delta.Limits{Length: 1000}); err != nil || !bytes.Equal(out, was) {
		t.Errorf("what is forged well: %v", err)
	}
	if _, err := apply(was[:999], good, delta.Limits{Length: 1000}); release.AttackOf(err) != release.MalformedMetadata {
		t.Errorf("another old image: %v", err)
	}
	if _, err := apply(was, good, delta.Limits{Length: 999}); release.AttackOf(err) != release.DecompressionBomb {
		t.Errorf("another new image: %v", err)
	}
	for _, l := range []delta.Limits{{Length: -1}, {Length: delta.MaxSize + 1}, {Length: 1000, From: delta.Place{New: 1001}}} {
		if _, err := apply(was, good, l); err == nil {
			t.Errorf("took the limits %+v", l)
		}
	}
}

func TestEveryCutIsRefused(t *testing.T) {
	was := program(5, 300_000)
	is := edit(rand.New(rand.NewPCG(11, 7)), was)
	p, _ := patch(t, was, is)
	for cut := 0; cut < len(p); cut += 1 + len(p)/200 {
		if _, err := apply(was, p[:cut], delta.Limits{Length: int64(len(is))}); release.AttackOf(err) != release.MalformedMetadata {
			t.Fatalf("cut after %d of %d bytes: %v", cut, len(p), err)
		}
	}
}

var errDisk = errors.New("bad sector")

// failing is an image that cannot be read behind its first bytes.
type failing struct {
	io.ReaderAt
	good int64
}

func (f failing) ReadAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > f.good {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(b, at)
}

// That an image cannot be read is nobody's attack.
func TestSourcesThatFail(t *testing.T) {
	b := numbers(6, 300_000)
	p, _ := patch(t, b, b)
	bad, good := failing{bytes.NewReader(b), 100_000}, bytes.NewReader(b)
	n := int64(len(b))
	err := delta.Apply(bad, n, bytes.NewReader(p), io.Discard, delta.Limits{Length: n})
	if !errors.Is(err, errDisk) || release.AttackOf(err) != "" {
		t.Errorf("apply: %v", err)
	}
	for name, images := range map[string][2]io.ReaderAt{"old": {bad, good}, "new": {good, bad}} {
		if _, err := delta.Make(t.Context(), images[0], n, images[1], n, io.Discard); !errors.Is(err, errDisk) {
			t.Errorf("make, %s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := delta.Make(ctx, good, n, good, n, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := delta.Make(t.Context(), good, delta.MaxSize+1, good, n, io.Discard); err == nil {
		t.Error("took an image that is too large")
	}
}

// allocated is how many bytes do takes in all: it cannot hold more at a time.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestMemoryIsBounded(t *testing.T) {
	const n = 24 << 20
	was := program(7, n)
	is := bytes.Clone(was)
	for i := n / 3; i+4 <= n; i += 6 {
		binary.LittleEndian.PutUint32(is[i:], binary.LittleEndian.Uint32(is[i:])+32)
	}
	var p []byte
	out := &bytes.Buffer{}
	out.Grow(n)
	if took := allocated(func() {
		if _, err := delta.Make(t.Context(), bytes.NewReader(was), n, bytes.NewReader(is), n, out); err != nil {
			t.Error(err)
		}
	}); took > delta.MakeMemory {
		t.Errorf("making took %d bytes", took)
	}
	p = bytes.Clone(out.Bytes())
	if took := allocated(func() {
		if err := delta.Apply(bytes.NewReader(was), n, bytes.NewReader(p), io.Discard, delta.Limits{Length: n}); err != nil {
			t.Error(err)
		}
	}); took > delta.ApplyMemory {
		t.Errorf("applying took %d bytes", took)
	}
	t.Logf("a patch of %d bytes for %d", len(p), n)
}

func FuzzApply(f *testing.F) {
	was := program(8, 5000)
	is := edit(rand.New(rand.NewPCG(3, 3)), was)
	p, _ := patch(f, was, is)
	f.Add(p, int64(len(is)))
	f.Add(forged(0, 1000, 0), int64(1000))
	f.Add(forged(3, 1000, 1, 0, 1000, 0, 5, []byte("hello")), int64(1000))
	f.Fuzz(func(t *testing.T, p []byte, length int64) {
		length %= 1 << 20
		out, err := apply(was, p, delta.Limits{Length: length})
		if int64(len(out)) > max(length, 0) || err == nil && int64(len(out)) != length {
			t.Fatalf("%d bytes where %d are wanted: %v", len(out), length, err)
		}
		if err != nil && length >= 0 && release.AttackOf(err) == "" {
			t.Fatalf("%v has no name", err)
		}
	})
}

// Whatever the images, the patch between them makes the one of the other.
func FuzzMake(f *testing.F) {
	f.Add([]byte("hello world, hello world, hello world"), []byte("hello, world"))
	f.Add(program(1, 3000), program(1, 3100))
	f.Fuzz(func(t *testing.T, was, is []byte) {
		p, _ := patch(t, was, is)
		back, err := apply(was, p, delta.Limits{Length: int64(len(is))})
		if err != nil || !bytes.Equal(back, is) {
			t.Fatalf("%d bytes of %d: %v", len(back), len(is), err)
		}
	})
}
