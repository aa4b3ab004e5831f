package device

import (
	"errors"
	"strings"
	"testing"

	"holdfast/device/board"
)

// tally is a counter without a TPM.
type tally struct {
	value uint64
	err   error
}

func (c *tally) ReadCounter(uint32) (uint64, error) { return c.value, c.err }

func (c *tally) IncrementCounter(uint32) (uint64, error) {
	c.value++
	return c.value, c.err
}

func TestSecurityCounterBeginsAtItsBase(t *testing.T) {
	n := &tally{value: 41}
	c := tpmCounter{tpm: n, index: 1, base: 41}
	for want := range uint32(3) {
		got, err := c.Minimum()
		if err != nil || got != want {
			t.Errorf("minimum %d, %v, want %d", got, err, want)
		}
		if err := c.Burn(); err != nil {
			t.Error(err)
		}
	}
	n.value = 40
	if got, err := c.Minimum(); err == nil {
		t.Errorf("took a counter below its base as %d", got)
	}
	n.value = 1 << 40
	if got, err := c.Minimum(); err == nil {
		t.Errorf("took a counter of 2^40 as %d", got)
	}
	n.err = errors.New("gone")
	if got, err := c.Minimum(); err == nil {
		t.Errorf("a missing counter is %d", got)
	}
	if c.Burn() == nil {
		t.Error("burned a missing counter")
	}
}

func TestOpenSlotsRefuses(t *testing.T) {
	none := &board.Board{Missing: map[string]string{"slots": "linux has none"}}
	if _, err := openSlots(none, nil); !errors.Is(err, errNoSlots) || !strings.Contains(err.Error(), "linux has none") {
		t.Errorf("no slots: %v", err)
	}
	tpm := &board.Board{Slots: &board.Slots{CounterIndex: 1}, Missing: map[string]string{"tpm": "broken"}}
	if _, err := openSlots(tpm, nil); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("counter without a TPM: %v", err)
	}
}
