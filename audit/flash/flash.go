// Package flash reads the text and block formats that firmware is flashed
// from: Intel HEX, Motorola S-records and UF2. Each becomes runs of bytes at
// addresses, in order; a byte that two records give is refused, even when they
// agree, and so is a file whose bytes in all pass a limit.
package flash

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"holdfast/audit/subject"
)

// MaxSize is the most bytes that an image may write.
const MaxSize = 256 << 20

// maxRuns bounds the records that do not follow one another.
const maxRuns = 1 << 20

// Error is why a file cannot be read, and where.
type Error struct {
	Line   int   // of text formats, from 1
	Offset int64 // of others, -1 for text
	Reason string
}

// Error returns the reason with its place.
func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
	}
	return fmt.Sprintf("at %#x: %s", e.Offset, e.Reason)
}

// builder gathers records.
type builder struct {
	runs []subject.Chunk
	size int
}

// add appends bytes at an address, to the last run where they follow it.
func (b *builder) add(address uint64, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if b.size += len(data); b.size > MaxSize {
		return fmt.Errorf("more than %d bytes", MaxSize)
	}
	if n := len(b.runs); n > 0 {
		last := &b.runs[n-1]
		if last.Address+uint64(len(last.Data)) == address {
			last.Data = append(last.Data, data...)
			return nil
		}
	}
	if len(b.runs) == maxRuns {
		return errors.New("too many separate runs of bytes")
	}
	b.runs = append(b.runs, subject.Chunk{Address: address, Offset: -1, Data: slices.Clone(data)})
	return nil
}

// chunks sorts the runs and joins those that touch.
func (b *builder) chunks() ([]subject.Chunk, error) {
	if len(b.runs) == 0 {
		return nil, errors.New("no data")
	}
	slices.SortStableFunc(b.runs, func(x, y subject.Chunk) int { return cmp.Compare(x.Address, y.Address) })
	all := b.runs[:1]
	for _, r := range b.runs[1:] {
		last := &all[len(all)-1]
		end := last.Address + uint64(len(last.Data))
		switch {
		case r.Address < end:
			return nil, fmt.Errorf("two records write to %#x", r.Address)
		case r.Address == end:
			last.Data = append(last.Data, r.Data...)
		default:
			all = append(all, r)
		}
	}
	return all, nil
}

// finish returns the chunks of a file that was read to its end.
func (b *builder) finish(line int) ([]subject.Chunk, error) {
	all, err := b.chunks()
	if err != nil {
		return nil, &Error{Line: line, Offset: -1, Reason: err.Error()}
	}
	return all, nil
}

// unhex reads pairs of hexadecimal digits into a buffer.
func unhex(into []byte, digits string) ([]byte, bool) {
	into, err := hex.AppendDecode(into[:0], []byte(digits))
	if err != nil {
		return nil, false
	}
	return into, true
}

func sum(b []byte) (n byte) {
	for _, c := range b {
		n += c
	}
	return n
}
