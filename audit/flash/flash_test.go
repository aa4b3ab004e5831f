package flash_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/audit/flash"
	"holdfast/audit/subject"
	"holdfast/internal/testkit"
)

func chunk(address uint64, data ...byte) subject.Chunk {
	return subject.Chunk{Address: address, Offset: -1, Data: data}
}

func TestParseHex(t *testing.T) {
	got, err := flash.ParseHex(":020000040800F2\r\n:0400000001020304F2\n:020004000506EF\n\n:0110000007E8\n:00000001FF\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []subject.Chunk{chunk(0x8000000, 1, 2, 3, 4, 5, 6), chunk(0x8001000, 7)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseSREC(t *testing.T) {
	got, err := flash.ParseSREC("S00600004844521B\nS10500100102E7\nS2060010000304E2\nS3060010000205E2\nS5030003F9\nS9030000FC\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []subject.Chunk{chunk(0x10, 1, 2), chunk(0x1000, 3, 4), chunk(0x100002, 5)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func block(flags, address uint32, size uint32, data ...byte) []byte {
	b := make([]byte, 512)
	le := binary.LittleEndian
	le.PutUint32(b, 0x0a324655)
	le.PutUint32(b[4:], 0x9e5d5157)
	le.PutUint32(b[8:], flags)
	le.PutUint32(b[12:], address)
	le.PutUint32(b[16:], size)
	copy(b[32:], data)
	le.PutUint32(b[508:], 0x0ab16f30)
	return b
}

func TestParseUF2(t *testing.T) {
	got, err := flash.ParseUF2(bytes.Join([][]byte{block(0, 0x10000004, 2, 5, 6), block(1, 0, 4, 9, 9, 9, 9), block(0x2000, 0x10000000, 4, 1, 2, 3, 4)}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]subject.Chunk{chunk(0x10000000, 1, 2, 3, 4, 5, 6)}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusals(t *testing.T) {
	hex := func(s string) func() ([]subject.Chunk, error) {
		return func() ([]subject.Chunk, error) { return flash.ParseHex(s) }
	}
	srec := func(s string) func() ([]subject.Chunk, error) {
		return func() ([]subject.Chunk, error) { return flash.ParseSREC(s) }
	}
	uf2 := func(b []byte) func() ([]subject.Chunk, error) {
		return func() ([]subject.Chunk, error) { return flash.ParseUF2(b) }
	}
	const end = ":00000001FF\n"
	for _, c := range []struct {
		name string
		read func() ([]subject.Chunk, error)
		want string
	}{
		{"checksum", hex(":0400000001020304F3\n" + end), "line 1: wrong checksum"},
		{"count", hex(":0500000001020304F2\n" + end), "line 1: not a record"},
		{"digits", hex(":04000000010203zzF2\n" + end), "line 1: not a record"},
		{"no end", hex(":0400000001020304F2\n"), "line 1: no record of the end"},
		{"behind the end", hex(end + ":0400000001020304F2\n"), "line 2: data behind the end"},
		{"twice", hex(":0400000001020304F2\n:0400000001020304F2\n" + end), "line 3: two records write to 0x0"},
		{"kind", hex(":00000009F7\n"), "line 1: unknown kind of record"},
		{"short address", hex(":0100000400FB\n"), "line 1: an address of other than two bytes"},
		{"empty", hex(end), "line 1: no data"},
		{"long", hex(":" + strings.Repeat("00", 10_000)), "line 1: not a record"},
		{"srec checksum", srec("S10500100102E8\n"), "line 1: wrong checksum"},
		{"srec kind", srec("S40500100102E7\n"), "line 1: not a record"},
		{"srec count", srec("S10600100102E7\n"), "line 1: not a record"},
		{"srec no end", srec("S10500100102E7\n"), "line 1: no record of the end"},
		{"uf2 cut", uf2(block(0, 0, 4)[:500]), "at 0x0: a block is cut off"},
		{"uf2 magic", uf2(append(block(0, 0, 4), make([]byte, 512)...)), "at 0x200: not a block"},
		{"uf2 size", uf2(block(0, 0, 477)), "at 0x0: a block says"},
		{"uf2 twice", uf2(append(block(0, 0, 4), block(0, 2, 4)...)), "two records write to 0x2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := c.read(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestFormatsOfObjcopy reads what objcopy makes of known bytes.
func TestFormatsOfObjcopy(t *testing.T) {
	objcopy := testkit.Need(t, "objcopy")
	dir := t.TempDir()
	want := make([]byte, 70_000) // over a boundary of 64 KiB
	for i := range want {
		want[i] = byte(i * 7)
	}
	in := filepath.Join(dir, "in.bin")
	if err := os.WriteFile(in, want, 0o600); err != nil {
		t.Fatal(err)
	}
	for format, parse := range map[string]func(string) ([]subject.Chunk, error){"ihex": flash.ParseHex, "srec": flash.ParseSREC} {
		out := filepath.Join(dir, format)
		if b, err := exec.Command(objcopy, "-I", "binary", "-O", format, "--change-addresses", "0x8000000", in, out).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(string(text))
		if err != nil || len(got) != 1 || got[0].Address != 0x8000000 || !bytes.Equal(got[0].Data, want) {
			t.Errorf("%s: %d chunks, %v", format, len(got), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(":0400000001020304F2\n:00000001FF\n"))
	f.Add([]byte("S10500100102E7\nS9030000FC\n"))
	f.Add(block(0, 4, 4, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func() ([]subject.Chunk, error){
			func() ([]subject.Chunk, error) { return flash.ParseHex(string(data)) },
			func() ([]subject.Chunk, error) { return flash.ParseSREC(string(data)) },
			func() ([]subject.Chunk, error) { return flash.ParseUF2(data) },
		} {
			all, err := parse()
			if err != nil {
				continue
			}
			end, size := uint64(0), 0
			for _, c := range all {
				if len(c.Data) == 0 || c.Address < end {
					t.Fatal(fmt.Sprint("chunks out of order: ", all))
				}
				end, size = c.Address+uint64(len(c.Data)), size+len(c.Data)
			}
			if size > len(data) {
				t.Fatal("more bytes than the file has")
			}
		}
	})
}
