package subject_test

import (
	"fmt"
	"slices"
	"testing"

	"holdfast/audit/subject"
)

// TestRegionsHaveEachByteOnce tries sections and segments that overlap, leave
// gaps, and pass the end of the file.
func TestRegionsHaveEachByteOnce(t *testing.T) {
	data := make([]byte, 256)
	section := func(offset, size uint64) subject.Section {
		return subject.Section{Type: "PROGBITS", Alloc: true, Offset: offset, Size: size, Address: 0x1000 + offset}
	}
	segment := func(offset, size uint64) subject.Segment {
		return subject.Segment{Type: "LOAD", Offset: offset, FileSize: size, Address: 0x1000 + offset}
	}
	for _, c := range []struct {
		sections []subject.Section
		segments []subject.Segment
		want     int // bytes
	}{
		{nil, []subject.Segment{segment(0, 100)}, 100},
		{[]subject.Section{section(10, 20), section(40, 10)}, []subject.Segment{segment(0, 100)}, 100},
		{[]subject.Section{section(10, 20), section(15, 5), section(25, 20)}, nil, 35},
		{[]subject.Section{section(90, 20)}, []subject.Segment{segment(0, 100), segment(100, 50), segment(50, 60)}, 150},
		{[]subject.Section{section(200, 100)}, []subject.Segment{segment(0, 300)}, 0},
		{[]subject.Section{section(0, 256)}, []subject.Segment{segment(0, 256), segment(0, 256)}, 256},
		{[]subject.Section{section(1<<63, 1<<63)}, []subject.Segment{segment(1<<64-1, 2)}, 0},
	} {
		p := subject.Program{Data: data, Sections: c.sections, Segments: c.segments}
		var seen [256]bool
		n := 0
		for _, r := range p.Regions() {
			if r.Address != 0x1000+r.Offset {
				t.Errorf("the region at %d has address %#x", r.Offset, r.Address)
			}
			for i := range r.Data {
				at := r.Offset + int64(i)
				if seen[at] {
					t.Fatalf("%+v: byte %d twice", c, at)
				}
				seen[at] = true
				n++
			}
		}
		if n != c.want {
			t.Errorf("%+v: %d bytes, want %d", c, n, c.want)
		}
	}
}

func TestStrings(t *testing.T) {
	r := subject.Region{File: "f", Data: []byte("\x00ab\x01abcd\x80efgh\tij"), Offset: 16, Address: -1}
	var got []string
	for s := range r.Strings(4) {
		got = append(got, fmt.Sprintf("%s %q", s.Location, s.Value))
	}
	if want := []string{`f+0x14 "abcd"`, `f+0x19 "efgh\tij"`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCalls(t *testing.T) {
	var all []subject.Call
	for i, c := range [][2]string{{"a", "b"}, {"b", "c"}, {"c", "b"}, {"c", "d"}, {"e", "e"}, {"main", "a"}} {
		all = append(all, subject.Call{From: c[0], To: c[1], Site: uint64(i)})
	}
	g := subject.NewCalls(all, map[string]bool{"e": true}, true)
	if got := g.Path("main", "d"); !slices.Equal(got, []string{"main", "a", "b", "c", "d"}) {
		t.Errorf("path %q", got)
	}
	if g.Path("d", "main") != nil {
		t.Error("there is a way back")
	}
	if got := fmt.Sprint(g.Recursive()); got != "[[b c] [e]]" {
		t.Errorf("recursive: %s", got)
	}
	if r := g.Reachable(false, "main"); !r["d"] || r["e"] {
		t.Errorf("reachable: %v", r)
	}
	if r := g.Reachable(true, "main"); !r["e"] {
		t.Errorf("reachable through pointers: %v", r)
	}
}

// TestDeepCallsEnd finds a circle of very many functions.
func TestDeepCallsEnd(t *testing.T) {
	const n = 50_000
	all := make([]subject.Call, n)
	for i := range all {
		all[i] = subject.Call{From: fmt.Sprint("f", i), To: fmt.Sprint("f", (i+1)%n)}
	}
	if got := subject.NewCalls(all, nil, true).Recursive(); len(got) != 1 || len(got[0]) != n {
		t.Errorf("%d circles", len(got))
	}
}
