package virtual

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"holdfast/internal/atomicfile"
	"holdfast/mcuboot"
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

// WriteSlot replaces the image in a slot.
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

// load reads what the slots hold.
func load(dir string) []content {
	var all []content
	for _, slot := range slots() {
		c := content{slot: slot}
		var err error
		if c.image, err = ReadSlot(dir, slot); errors.Is(err, fs.ErrNotExist) {
			c.trouble = empty
		} else if err != nil {
			c.trouble = unreadable
		}
		all = append(all, c)
	}
	return all
}
