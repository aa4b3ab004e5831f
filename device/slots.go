package device

import (
	"errors"
	"fmt"
	"math"

	"holdfast/device/board"
	"holdfast/device/keys"
	"holdfast/device/slots"
	"holdfast/update"
)

// errNoSlots is returned for a board whose firmware cannot be replaced.
var errNoSlots = errors.New("the board has no slots")

// openSlots opens the slots of a board. tpm may be nil on a board that counts
// its security version in fuses.
func openSlots(b *board.Board, tpm *keys.TPM) (*slots.Slots, error) {
	s := b.Slots
	if s == nil {
		return nil, fmt.Errorf("%w: %s", errNoSlots, b.Missing["slots"])
	}
	cfg := slots.Config{A: s.A, B: s.B, Record: s.Record, Running: update.Slot(b.Boot.Slot), Trial: b.Boot.Trial,
		KeyHash: s.KeyHash, Counter: s.Fuses, Reset: b.Reset}
	if s.CounterIndex != 0 {
		if tpm == nil {
			return nil, fmt.Errorf("open slots: the security counter is in a TPM: %s", b.Missing["tpm"])
		}
		cfg.Counter = tpmCounter{tpm, s.CounterIndex, s.CounterBase}
	}
	return slots.Open(cfg)
}

// counter is the part of keys.TPM that counts.
type counter interface {
	ReadCounter(index uint32) (uint64, error)
	IncrementCounter(index uint32) (uint64, error)
}

// tpmCounter is the security counter in a TPM: it counts from base.
type tpmCounter struct {
	tpm   counter
	index uint32
	base  uint64
}

// Minimum implements slots.Counter.
func (c tpmCounter) Minimum() (uint32, error) {
	value, err := c.tpm.ReadCounter(c.index)
	if err != nil {
		return 0, err
	}
	if value < c.base || value-c.base > math.MaxUint32 {
		return 0, fmt.Errorf("counter %#x is at %d and began at %d: it is another one", c.index, value, c.base)
	}
	return uint32(value - c.base), nil
}

// Burn implements slots.Counter.
func (c tpmCounter) Burn() error {
	_, err := c.tpm.IncrementCounter(c.index)
	return err
}
