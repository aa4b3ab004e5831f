package flash_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"holdfast/internal/flash"
	"holdfast/internal/flash/flashtest"
)

const sector = 512

// areas are an area of each kind with 8 sectors, of which the first holds content.
func areas(t *testing.T, content []byte) map[string]flash.Area {
	t.Helper()
	path := filepath.Join(t.TempDir(), "area")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := flash.Open(path, 8*sector, sector)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return map[string]flash.Area{"file": f, "chip": (&flashtest.Chip{}).Area(8*sector, sector, content)}
}

func read(t *testing.T, a flash.Area) []byte {
	t.Helper()
	b := make([]byte, a.Size())
	if _, err := a.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return b
}

func TestAreasAreFlash(t *testing.T) {
	content := []byte("an image")
	for name, a := range areas(t, content) {
		t.Run(name, func(t *testing.T) {
			want := bytes.Repeat([]byte{0xff}, 8*sector)
			check := func(what string) {
				t.Helper()
				if got := read(t, a); !bytes.Equal(got, want) {
					t.Fatalf("%s: reads differently from flash", what)
				}
			}
			copy(want, content)
			check("at first")
			if err := a.Program([]byte("x"), 3); !errors.Is(err, flash.ErrNotErased) {
				t.Errorf("programmed over something: %v", err)
			}
			part := bytes.Repeat([]byte{1}, 700)
			for _, off := range []int64{4 * sector, 2 * sector} { // with a gap before, and before that
				if err := a.Program(part, off); err != nil {
					t.Fatal(err)
				}
				copy(want[off:], part)
				check("programmed")
			}
			for _, off := range []int64{sector, 4 * sector, 0} { // in the middle, at the end, at the beginning
				if err := a.Erase(off, 2*sector); err != nil {
					t.Fatal(err)
				}
				copy(want[off:], bytes.Repeat([]byte{0xff}, 2*sector))
				check("erased")
			}
			if err := errors.Join(a.Program(content, 0), a.Sync()); err != nil {
				t.Fatal(err)
			}
			copy(want, content)
			check("programmed again")
		})
	}
}

func TestAreasRefuse(t *testing.T) {
	for name, a := range areas(t, nil) {
		for what, err := range map[string]error{
			"programmed beyond the end": a.Program([]byte{1, 2}, 8*sector-1),
			"programmed before it":      a.Program([]byte{1}, -1),
			"erased beyond the end":     a.Erase(7*sector, 2*sector),
			"erased half a sector":      a.Erase(sector/2, sector),
			"erased up to a half":       a.Erase(0, sector/2),
		} {
			if !errors.Is(err, flash.ErrBounds) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "area")
	if f, err := flash.OpenReadOnly(path, sector, sector); err == nil {
		t.Errorf("opened what is not there: %v", f)
	}
	if err := os.WriteFile(path, make([]byte, sector+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{0, sector, sector + 1} {
		if f, err := flash.Open(path, size, sector); err == nil {
			t.Errorf("opened %d bytes in a file of more: %v", size, f)
		}
	}
	f, err := flash.OpenReadOnly(path, 2*sector, sector)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Program([]byte{1}, sector+1); err == nil {
		t.Error("programmed what is to be read only")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestPair(t *testing.T) {
	for name, a := range areas(t, nil) {
		p := flash.Pair{Area: a}
		for i, text := range []string{"first", "second"} {
			if err := p.WriteCopy(i, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.WriteCopy(0, []byte("third")); err != nil {
			t.Fatal(err)
		}
		for i, text := range []string{"third", "second"} {
			got, err := p.ReadCopy(i)
			if err != nil || len(got) != sector || !bytes.HasPrefix(got, append([]byte(text), 0xff)) {
				t.Errorf("%s: copy %d is %q, %v", name, i, got, err)
			}
		}
	}
}
