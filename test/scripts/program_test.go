package scripts_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"

	"github.com/rogpeppe/go-internal/testscript"
)

// program FILE writes a Linux program that ends at once: one segment of code,
// one page long.
func program(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: program FILE")
	}
	const base, size = 0x400000, 4096
	code := []byte{0xb8, 0x3c, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05} // exit(0)
	var head elf.Header64
	var segment elf.Prog64
	entry := uint64(binary.Size(head) + binary.Size(segment))
	copy(head.Ident[:], "\x7fELF\x02\x01\x01")
	head.Type, head.Machine, head.Version = uint16(elf.ET_EXEC), uint16(elf.EM_X86_64), uint32(elf.EV_CURRENT)
	head.Entry, head.Phoff = base+entry, uint64(binary.Size(head))
	head.Ehsize, head.Phentsize, head.Phnum = uint16(binary.Size(head)), uint16(binary.Size(segment)), 1
	segment = elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: size}
	var b bytes.Buffer
	for _, part := range []any{head, segment, code, make([]byte, size-int(entry)-len(code))} {
		ts.Check(binary.Write(&b, binary.LittleEndian, part))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o700))
}
