package flashtest_test

import (
	"bytes"
	"slices"
	"testing"

	"holdfast/internal/flash/flashtest"
)

func TestWhatIsNotSyncedMayBeLost(t *testing.T) {
	var c flashtest.Chip
	a := c.Area(1024, 512, []byte("old"))
	var ops []string
	c.Before = func(o flashtest.Op) { ops = append(ops, o.String()) }
	if err := a.Erase(0, 512); err != nil {
		t.Fatal(err)
	}
	if err := a.Program([]byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	s := c.Snapshot()
	for keep, want := range map[uint]string{0: "old", 1: "\xff\xff\xff", 3: "new", 2: "nde"} { // 2: the write without the erase: both
		got := s.Cut(func(i int) bool { return keep>>i&1 == 1 }, flashtest.Op{}, 0).Areas()[0].Bytes()[:3]
		if keep == 2 {
			want = string([]byte{'o' & 'n', 'l' & 'e', 'd' & 'w'})
		}
		if string(got) != want {
			t.Errorf("kept %02b: %q, want %q", keep, got, want)
		}
	}
	if err := a.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := c.Snapshot().Cut(func(int) bool { return false }, flashtest.Op{}, 0).Areas()[0].Bytes(); !bytes.HasPrefix(got, []byte("new")) {
		t.Errorf("synced and lost: %q", got[:3])
	}
	want := []string{"erase area 0 at 0, 512 bytes", "program area 0 at 0, 3 bytes", "sync area 0"}
	if !slices.Equal(ops, want) {
		t.Errorf("operations %q", ops)
	}
}

func TestCuts(t *testing.T) {
	op := flashtest.Op{Kind: flashtest.Program, Off: 256, Len: 1024}
	if got, want := op.Cuts(512), []int64{0, 256, 513, 768, 1023, 1024}; !slices.Equal(got, want) {
		t.Errorf("cuts %v, want %v", got, want)
	}
	if got := (flashtest.Op{Kind: flashtest.Sync}).Cuts(512); !slices.Equal(got, []int64{0}) {
		t.Errorf("cuts of a sync %v", got)
	}
}

func TestTornWrite(t *testing.T) {
	var c flashtest.Chip
	a := c.Area(512, 512, nil)
	var at flashtest.Snapshot
	var op flashtest.Op
	c.Before = func(o flashtest.Op) { at, op = c.Snapshot(), o }
	if err := a.Program([]byte("abcd"), 8); err != nil {
		t.Fatal(err)
	}
	got := at.Cut(nil, op, 2).Areas()[0]
	if b := got.Bytes()[8:12]; string(b) != "ab\xff\xff" {
		t.Errorf("torn after 2 of 4 bytes: %q", b)
	}
	got.Rot(8, 0)
	if b := got.Bytes()[8]; b != 'a'^1 {
		t.Errorf("rotten: %q", b)
	}
}
