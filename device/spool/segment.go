package spool

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"holdfast/logs"
)

// A segment is a file of frames: four bytes length of the payload and four
// bytes CRC-32C of it (both big-endian), then the payload, one record in JSON.
const (
	headerSize = 8
	maxPayload = 96 << 10 // a trimmed record of which JSON writes every byte as six
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged is returned for a frame that is cut off or does not verify.
var ErrDamaged = errors.New("damaged frame")

// appendFrame appends the frame of r to b.
func appendFrame(b []byte, r logs.Record) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if len(payload) > maxPayload {
		return nil, fmt.Errorf("record has %d bytes, at most %d are allowed", len(payload), maxPayload)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...), nil
}

// frame takes the first frame from b and returns its record, its payload's
// length and what follows it.
func frame(b []byte) (r logs.Record, size int, rest []byte, err error) {
	if len(b) < headerSize {
		return r, 0, b, ErrDamaged
	}
	size = int(binary.BigEndian.Uint32(b))
	if size == 0 || size > maxPayload || size > len(b)-headerSize {
		return r, 0, b, ErrDamaged
	}
	payload := b[headerSize : headerSize+size]
	if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return r, 0, b, ErrDamaged
	}
	if json.Unmarshal(payload, &r) != nil {
		return r, 0, b, ErrDamaged
	}
	return r, size, b[headerSize+size:], nil
}

// entry is one record of a segment with the size it takes in a shipment.
type entry struct {
	record logs.Record
	size   int
}

// scan reads a segment whose records begin with the sequence number first and
// ascend without a gap. It stops at the first frame that does not verify and
// returns what came before it and how many bytes that is.
func scan(b []byte, first uint64) (entries []entry, good int) {
	rest := b
	for want := first; len(rest) > 0; want++ {
		r, size, next, err := frame(rest)
		if err != nil || r.Seq != want {
			break
		}
		entries = append(entries, entry{r, size})
		rest = next
	}
	return entries, len(b) - len(rest)
}
