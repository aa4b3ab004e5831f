package update

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"holdfast/identity"
	"holdfast/mcuboot"
)

// The form of a record, docs/PROTOCOL.md "The boot record": little-endian, and
// at the end the SHA-256 of everything before.
const (
	recordMagic  = "HFBR"
	recordFormat = 1

	// MaxRecord is the longest record in bytes. It fits a sector of any flash.
	MaxRecord = 512

	headSize    = 20 // magic, format, length, sequence, active, flags, two reserved
	trialSize   = 1 + 3 + imageSize + 4
	imageSize   = 8 + 4 + 32 // version, security version, digest
	outcomeSize = 1 + 1 + 1 + 1 + imageSize
)

// Flags of a record.
const (
	flagTrial = 1 << iota
	flagTried
	flagsKnown = flagTrial | flagTried
)

// ErrNoRecord is returned for bytes that are no record, or a damaged one.
var ErrNoRecord = errors.New("no boot record")

var le = binary.LittleEndian

// Marshal returns the record's form in flash. Texts that are too long are cut.
func (r Record) Marshal() []byte {
	b := append(make([]byte, 0, MaxRecord), recordMagic...)
	b = le.AppendUint16(b, recordFormat)
	b = le.AppendUint16(b, 0) // the length, below
	b = le.AppendUint64(b, r.Sequence)
	flags := byte(0)
	t := Trial{}
	if r.Trial != nil {
		t, flags = *r.Trial, flagTrial
		if t.Tried {
			flags |= flagTried
		}
	}
	b = append(b, slotByte(r.Active), flags, 0, 0)
	b = append(b, slotByte(t.Slot), 0, 0, 0)
	b = appendImage(b, t.Version, t.SecurityVersion, t.Digest)
	b = le.AppendUint32(b, t.Seconds)
	reason, reset := cut(r.Last.Reason, MaxReason), cut(r.Last.Reset, MaxReset)
	b = append(b, byte(r.Last.Result), byte(len(reason)), byte(len(reset)), 0)
	b = appendImage(b, r.Last.Version, 0, r.Last.Digest)
	b = append(append(b, reason...), reset...)
	le.PutUint16(b[6:], uint16(len(b)+sha256.Size))
	sum := identity.Sum(b)
	return append(b, sum[:]...)
}

// ParseRecord reads a record at the beginning of b; what stands behind it does
// not matter. It refuses, with ErrNoRecord, whatever Marshal would not have
// written.
func ParseRecord(b []byte) (Record, error) {
	const least = headSize + trialSize + outcomeSize + sha256.Size
	if len(b) < least || string(b[:4]) != recordMagic || le.Uint16(b[4:]) != recordFormat {
		return Record{}, ErrNoRecord
	}
	size := int(le.Uint16(b[6:]))
	if size < least || size > min(len(b), MaxRecord) {
		return Record{}, fmt.Errorf("%w: %d bytes", ErrNoRecord, size)
	}
	body := b[:size-sha256.Size]
	if sum := identity.Sum(body); !bytes.Equal(sum[:], b[len(body):size]) {
		return Record{}, fmt.Errorf("%w: wrong checksum", ErrNoRecord)
	}
	r := readRecord(body)
	if !bytes.Equal(r.Marshal(), b[:size]) {
		return Record{}, fmt.Errorf("%w: not in its one form", ErrNoRecord)
	}
	return r, nil
}

// readRecord reads a body that is at least as long as its fixed part. What is
// wrong in it shows when it is marshalled again.
func readRecord(b []byte) Record {
	r := Record{Sequence: le.Uint64(b[8:]), Active: slotOf(b[16])}
	flags, trial, last := b[17], b[headSize:], b[headSize+trialSize:]
	if flags&flagTrial != 0 {
		t := Trial{Slot: slotOf(trial[0]), Tried: flags&flagTried != 0, Seconds: le.Uint32(trial[4+imageSize:])}
		t.Version, t.SecurityVersion, t.Digest = readImage(trial[4:])
		r.Trial = &t
	}
	r.Last.Result = Result(last[0])
	r.Last.Version, _, r.Last.Digest = readImage(last[4:])
	text, n := string(last[outcomeSize:]), int(last[1])
	if n > len(text) {
		return r
	}
	r.Last.Reason, r.Last.Reset = text[:n], text[n:]
	return r
}

func slotByte(s Slot) byte {
	if s.Valid() {
		return s[0]
	}
	return 0
}

func slotOf(b byte) Slot {
	if s := Slot(string(rune(b))); s.Valid() {
		return s
	}
	return ""
}

func appendImage(b []byte, v mcuboot.Version, security uint32, d identity.Digest) []byte {
	b = append(b, v.Major, v.Minor)
	b = le.AppendUint16(b, v.Revision)
	b = le.AppendUint32(b, v.Build)
	b = le.AppendUint32(b, security)
	return append(b, d[:]...)
}

func readImage(b []byte) (mcuboot.Version, uint32, identity.Digest) {
	v := mcuboot.Version{Major: b[0], Minor: b[1], Revision: le.Uint16(b[2:]), Build: le.Uint32(b[4:])}
	return v, le.Uint32(b[8:]), identity.Digest(b[12:imageSize])
}

// Copies is the place of the record: two sectors of flash.
type Copies interface {
	// ReadCopy returns what copy 0 or 1 holds, at least MaxRecord bytes.
	ReadCopy(i int) ([]byte, error)
	// WriteCopy replaces copy 0 or 1. When it returns nil the bytes are on
	// stable storage; when the power goes in it, the copy may hold anything.
	WriteCopy(i int, b []byte) error
}

// Load returns the newest valid copy of the record, or the zero Record where
// there is none, which is a board that was never updated. One copy that cannot
// be read does not matter.
func Load(c Copies) Record {
	r, _ := newest(c)
	return r
}

// newest returns the newest valid copy and which it is; -1: none is valid.
func newest(c Copies) (Record, int) {
	best, at := Record{}, -1
	for i := range 2 {
		b, err := c.ReadCopy(i)
		if err != nil {
			continue
		}
		if r, err := ParseRecord(b); err == nil && (at < 0 || r.Sequence > best.Sequence) {
			best, at = r, i
		}
	}
	return best, at
}

// Save replaces the record by r, with the next sequence number, which the
// returned record has. A power cut leaves the old record or the new one. Both
// copies are written, so that later neither is missed: first the one that is
// not the newest.
func Save(c Copies, r Record) (Record, error) {
	old, at := newest(c)
	r.Sequence = old.Sequence + 1
	b := r.Marshal()
	first := 0
	if at == 0 {
		first = 1
	}
	for _, i := range []int{first, 1 - first} {
		if err := c.WriteCopy(i, b); err != nil {
			return r, fmt.Errorf("write boot record, copy %d: %w", i, err)
		}
		back, err := c.ReadCopy(i)
		if err != nil || len(back) < len(b) || !bytes.Equal(back[:len(b)], b) {
			return r, errors.Join(fmt.Errorf("write boot record, copy %d: it reads back differently", i), err)
		}
	}
	return r, nil
}
