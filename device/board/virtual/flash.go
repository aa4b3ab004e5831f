package virtual

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"holdfast/internal/atomicfile"
	"holdfast/internal/flash"
	"holdfast/mcuboot"
	"holdfast/update"
)

// The slots, in the order in which the boot ROM tries them.
const (
	SlotA = "A"
	SlotB = "B"
)

func slots() []string { return []string{SlotA, SlotB} }

// What Payload puts behind a program: data that loaders of ELF files do not
// look at.
const (
	resourceTitle = "holdfast board resources\n"
	resourceSize  = 4096
)

// Payload returns the payload of an image for a virtual board: a Linux program
// and, behind it, a block of resources, which Tamper changes.
func Payload(program []byte) []byte {
	resources := make([]byte, resourceSize)
	copy(resources, resourceTitle)
	return slices.Concat(program, resources)
}

// WriteSlot replaces the image in a slot, from outside. A board that is on
// must not be written.
func WriteSlot(dir, slot string, image []byte) error {
	if !slices.Contains(slots(), slot) {
		return fmt.Errorf("write slot %q: there is none", slot)
	}
	return atomicfile.Write(paths(dir).slot(slot), image, 0o600)
}

// ReadSlot returns the image in a slot. An empty slot is fs.ErrNotExist.
func ReadSlot(dir, slot string) ([]byte, error) {
	if !slices.Contains(slots(), slot) {
		return nil, fmt.Errorf("read slot %q: there is none", slot)
	}
	return os.ReadFile(paths(dir).slot(slot))
}

// Tamper modifies the image in a slot as an attacker with access to the flash
// would: the program still runs, its digest and signature are wrong. The
// payload must be of Payload. To tamper again changes nothing.
func Tamper(dir, slot string) error {
	image, err := ReadSlot(dir, slot)
	if err != nil {
		return fmt.Errorf("tamper: %w", err)
	}
	parsed, err := mcuboot.Parse(image)
	if err != nil {
		return fmt.Errorf("tamper: %w", err)
	}
	tail := len(parsed.Payload) - resourceSize
	if tail < 0 || !bytes.HasPrefix(parsed.Payload[tail:], []byte(resourceTitle)) {
		return errors.New("tamper: the payload has no resources to change")
	}
	copy(parsed.Payload[tail+len(resourceTitle):], "modified") // a part of image
	return WriteSlot(dir, slot, image)
}

// The flash of a board.
const (
	sectorSize      = 4096
	recordSize      = 2 * sectorSize
	defaultSlotSize = 64 << 20
)

// slotSize is the size of a slot in bytes.
func (s Settings) slotSize() int64 {
	if s.SlotSize == 0 {
		return defaultSlotSize
	}
	return s.SlotSize
}

// openROM opens the flash for the boot ROM, which writes the record alone.
// close releases it.
func openROM(p paths, s Settings) (r ROM, closeAll func(), err error) {
	var opened []io.Closer
	closeAll = func() {
		for _, f := range opened {
			_ = f.Close() // what matters was synced
		}
	}
	r.Fuses = s.Fuses
	for slot, area := range map[string]*flash.Area{SlotA: &r.A, SlotB: &r.B} {
		f, err := flash.OpenReadOnly(p.slot(slot), s.slotSize(), sectorSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll()
			return r, nil, err
		}
		*area, opened = f, append(opened, f)
	}
	record, err := flash.Open(p.record(), recordSize, sectorSize)
	if err != nil {
		closeAll()
		return r, nil, err
	}
	r.Record, opened = record, append(opened, record)
	return r, closeAll, nil
}

// Record returns a board's boot record.
func Record(dir string) (update.Record, error) {
	f, err := flash.OpenReadOnly(paths(dir).record(), recordSize, sectorSize)
	if errors.Is(err, fs.ErrNotExist) {
		return update.Record{}, nil
	}
	if err != nil {
		return update.Record{}, fmt.Errorf("boot record: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	return update.Load(flash.Pair{Area: f}), nil
}
