package spool

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"

	"holdfast/logs"
)

// FuzzScan checks that whatever is read from a segment is a prefix of it that
// reads the same again.
func FuzzScan(f *testing.F) {
	b, err := appendFrame(nil, logs.Record{Seq: 7, Boot: 1, Level: "info", Message: "m", Attrs: map[string]string{"k": "v"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(append(bytes.Clone(b), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, good := scan(b, 7)
		if good < 0 || good > len(b) {
			t.Fatalf("%d good bytes of %d", good, len(b))
		}
		again, n := scan(b[:good], 7)
		if n != good || len(again) != len(entries) {
			t.Fatalf("reads %d records and then %d", len(entries), len(again))
		}
		for i, e := range entries {
			if e.record.Seq != 7+uint64(i) {
				t.Fatalf("record %d has number %d", i, e.record.Seq)
			}
		}
	})
}

func TestScanRefusesAGap(t *testing.T) {
	b, err := appendFrame(nil, logs.Record{Seq: 1})
	if err != nil {
		t.Fatal(err)
	}
	one := len(b)
	if b, err = appendFrame(b, logs.Record{Seq: 3}); err != nil {
		t.Fatal(err)
	}
	if entries, good := scan(b, 1); len(entries) != 1 || good != one {
		t.Errorf("%d records in %d bytes", len(entries), good)
	}
}

// TestFullDiskIsAnError puts the device that is always full under the spool.
func TestFullDiskIsAnError(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = full.Close() }()
	disk := s.file
	s.file = full
	if err := s.Append(logs.Record{Level: "warn", Message: "lost"}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("append on a full disk: %v", err)
	}
	s.file = disk
	if err := s.Append(logs.Record{Level: "warn", Message: "kept"}); err != nil {
		t.Fatal(err)
	}
	rs, err := s.Batch()
	if err != nil || len(rs) != 1 || rs[0].Seq != 1 || rs[0].Message != "kept" || s.Dropped() != 1 {
		t.Errorf("after it %+v, %d dropped, %v", rs, s.Dropped(), err)
	}
}
