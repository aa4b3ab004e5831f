package flash

import (
	"encoding/binary"

	"holdfast/audit/subject"
)

// Magic numbers and flags of UF2 (microsoft/uf2, README).
const (
	uf2Block   = 512
	uf2Data    = 476
	uf2First   = 0x0a324655
	uf2Second  = 0x9e5d5157
	uf2Last    = 0x0ab16f30
	uf2NotMain = 0x1    // not for the main flash
	uf2File    = 0x1000 // of a container of files
)

// IsUF2 reports whether data starts as UF2 does.
func IsUF2(data []byte) bool {
	return len(data) >= 8 && binary.LittleEndian.Uint32(data) == uf2First && binary.LittleEndian.Uint32(data[4:]) == uf2Second
}

// ParseUF2 reads the blocks for the main flash.
func ParseUF2(data []byte) ([]subject.Chunk, error) {
	var b builder
	le := binary.LittleEndian
	for at := 0; at < len(data); at += uf2Block {
		bad := func(reason string) error { return &Error{Offset: int64(at), Reason: reason} }
		if len(data)-at < uf2Block {
			return nil, bad("a block is cut off")
		}
		block := data[at : at+uf2Block]
		size := le.Uint32(block[16:])
		switch {
		case !IsUF2(block) || le.Uint32(block[uf2Block-4:]) != uf2Last:
			return nil, bad("not a block")
		case le.Uint32(block[8:])&(uf2NotMain|uf2File) != 0:
			continue
		case size > uf2Data:
			return nil, bad("a block says that it has more bytes than it can have")
		}
		if err := b.add(uint64(le.Uint32(block[12:])), block[32:32+size]); err != nil {
			return nil, bad(err.Error())
		}
	}
	all, err := b.chunks()
	if err != nil {
		return nil, &Error{Offset: int64(len(data)), Reason: err.Error()}
	}
	return all, nil
}
