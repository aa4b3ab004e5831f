package elfread_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"holdfast/audit/elfread"
	"holdfast/finding"
)

// says reports whether a trouble says something.
func says(troubles []finding.Trouble, text string) bool {
	for _, t := range troubles {
		if strings.Contains(t.Message, text) {
			return true
		}
	}
	return false
}

// TestHostileHeaders makes the numbers of a real header absurd, one by one.
func TestHostileHeaders(t *testing.T) {
	file := build(t, toolchains(t, "cortex-m4")[0], firmware, "-g")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	sections, segments := le.Uint32(good[32:]), le.Uint32(good[28:])
	for _, c := range []struct {
		name   string
		change func(b []byte)
		want   string
	}{
		{"class", func(b []byte) { b[4] = 9 }, "class 9"},
		{"order", func(b []byte) { b[5] = 9 }, "byte order 9"},
		{"sections past the end", func(b []byte) { le.PutUint32(b[32:], 0xfffffff0) }, "do not fit"},
		{"segments past the end", func(b []byte) { le.PutUint32(b[28:], 0x7fffffff) }, "do not fit"},
		{"small section headers", func(b []byte) { le.PutUint16(b[46:], 1) }, "section headers of 1 bytes"},
		{"small segment headers", func(b []byte) { le.PutUint16(b[42:], 8) }, "segment headers of 8 bytes"},
		{"names past the end", func(b []byte) { le.PutUint16(b[50:], 0xfff0) }, ""},
		{"a section past the end", func(b []byte) { le.PutUint32(b[sections+40+16:], 0xffffff00) }, "section 1 has"},
		{"a section too long", func(b []byte) { le.PutUint32(b[sections+40+20:], 0xffffffff) }, "section 1 has 4294967295 bytes"},
		{"a segment too long", func(b []byte) { le.PutUint32(b[segments+16:], 0xffffffff) }, "segment 0"},
		{"very many sections", func(b []byte) {
			le.PutUint16(b[48:], 0)
			le.PutUint32(b[sections+20:], 0xffffffff)
		}, "4294967295 sections are more than"},
		{"very many segments", func(b []byte) {
			le.PutUint16(b[44:], 0xffff)
			le.PutUint32(b[sections+28:], 0x10000000)
		}, "268435456 segments are more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(good)
			c.change(b)
			p, troubles := elfread.Read("bad.elf", b, limits)
			if c.want != "" && !says(troubles, c.want) {
				t.Errorf("%+v, want %q", troubles, c.want)
			}
			for _, trouble := range troubles {
				if trouble.File != "bad.elf" {
					t.Errorf("a trouble of %q", trouble.File)
				}
			}
			if p != nil {
				p.Regions()
			}
		})
	}
	for n := range 64 {
		elfread.Read("cut.elf", good[:n], limits)
	}
}

// TestSymbolsThatCannotBeRead: a table of symbols outside the file is none, so
// that nobody takes what it would name for absent.
func TestSymbolsThatCannotBeRead(t *testing.T) {
	data, err := os.ReadFile(build(t, toolchains(t, "cortex-m4")[0], firmware))
	if err != nil {
		t.Fatal(err)
	}
	const offset, link = 16, 24 // in the header of a section
	for field, value := range map[int]uint32{offset: 0xfffffff0, link: 1} {
		if p, troubles := elfread.Read("f", symbolsWith(bytes.Clone(data), field, value), limits); !p.Stripped || len(troubles) == 0 {
			t.Errorf("stripped: %v, troubles %v", p.Stripped, troubles)
		}
	}
}

// symbolsWith changes a field of the header of the table of symbols.
func symbolsWith(data []byte, field int, value uint32) []byte {
	headers, entry, count := int(binary.LittleEndian.Uint32(data[32:])), int(binary.LittleEndian.Uint16(data[46:])), int(binary.LittleEndian.Uint16(data[48:]))
	for i := range count {
		if h := data[headers+i*entry:]; binary.LittleEndian.Uint32(h[4:]) == 2 { // SHT_SYMTAB
			binary.LittleEndian.PutUint32(h[field:], value)
		}
	}
	return data
}

// TestLimits reads a program with limits that it passes.
func TestLimits(t *testing.T) {
	data, err := os.ReadFile(build(t, toolchains(t, "cortex-m4")[0], firmware, "-g"))
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*elfread.Limits){
		"are more than 3":        func(l *elfread.Limits) { l.Sections = 3 },
		"only 5 were read":       func(l *elfread.Limits) { l.Symbols = 5 },
		"more than 7 entries":    func(l *elfread.Limits) { l.DebugEntries = 7 },
		"more than 9 bytes":      func(l *elfread.Limits) { l.DebugSize = 9 },
		"more than 2 calls":      func(l *elfread.Limits) { l.Calls = 2 },
		"symbols: only 0 were r": func(l *elfread.Limits) { l.Symbols = 0 },
	} {
		l := limits
		change(&l)
		if _, troubles := elfread.Read("f", data, l); !says(troubles, want) {
			t.Errorf("%+v, want %q", troubles, want)
		}
	}
}

// TestDebugBomb refuses a compressed section that says that it unpacks to more
// than it may.
func TestDebugBomb(t *testing.T) {
	tc := toolchains(t, "cortex-m4")[0]
	data, err := os.ReadFile(build(t, tc, firmware, "-g", "-gz=zlib"))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := elfread.Read("f", data, limits)
	s, ok := p.Section(".debug_info")
	if !ok {
		t.Fatal("no debug information")
	}
	binary.LittleEndian.PutUint32(data[s.Offset+4:], 0xf0000000)
	if _, troubles := elfread.Read("f", data, limits); !says(troubles, "unpacks to 4026531840 bytes") {
		t.Errorf("%+v", troubles)
	}
	binary.LittleEndian.PutUint32(data[s.Offset+4:], 0x10)
	elfread.Read("f", data, limits)
}

// TestScrambledPrograms flips bytes all over a program and reads on.
func TestScrambledPrograms(t *testing.T) {
	for _, tc := range toolchains(t, "cortex-m4", "host-pie") {
		good, err := os.ReadFile(build(t, tc, firmware, "-g"))
		if err != nil {
			t.Fatal(err)
		}
		seed := uint32(1)
		for range 150 {
			b := bytes.Clone(good)
			for range 8 {
				seed = seed*1664525 + 1013904223
				b[int(seed>>8)%len(b)] = byte(seed)
			}
			if p, _ := elfread.Read("f", b, limits); p != nil {
				p.Regions()
				p.Calls.Recursive()
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, tc := range toolchains(f, "cortex-m4", "host-pie") {
		data, err := os.ReadFile(build(f, tc, "int _start(void) { return _start(); }", "-g", "-Wl,-z,max-page-size=16", "-Wl,-z,noseparate-code"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	small := elfread.Limits{Sections: 200, Symbols: 2000, DebugEntries: 2000, DebugSize: 1 << 20, Calls: 2000}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, _ := elfread.Read("f", data, small)
		if p == nil {
			return
		}
		n := 0
		for _, r := range p.Regions() {
			n += len(r.Data)
		}
		if n > len(data) {
			t.Fatal("regions have more bytes than the file")
		}
		for _, c := range p.Calls.All {
			p.At(c.Site)
		}
		p.Calls.Recursive()
	})
}
