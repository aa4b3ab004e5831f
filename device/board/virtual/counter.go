package virtual

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/internal/atomicfile"
)

// ErrCounter is why a board does not boot whose security counter is missing or
// is not the one that its fuses name.
var ErrCounter = errors.New("the security counter is missing")

// minimum returns the least security version that a board boots: what its
// fuses say, and what its TPM has counted. tpm is nil on a board without one.
// A counter that the fuses name has to be there: a board that has lost it
// fails closed.
func minimum(f Fuses, tpm transport.TPM) (uint32, error) {
	if f.CounterIndex == 0 {
		return f.SecurityCounter, nil
	}
	if tpm == nil {
		return 0, fmt.Errorf("%w: the board has no TPM", ErrCounter)
	}
	value, err := readCounter(tpm, tpm2.TPMHandle(f.CounterIndex))
	if err != nil {
		return 0, fmt.Errorf("%w: NV %#x: %w", ErrCounter, f.CounterIndex, err)
	}
	if value < f.CounterBase || value-f.CounterBase > math.MaxUint32 {
		return 0, fmt.Errorf("%w: NV %#x is at %d, the fuses say that it began at %d", ErrCounter, f.CounterIndex, value, f.CounterBase)
	}
	return max(f.SecurityCounter, uint32(value-f.CounterBase)), nil
}

// Minimum returns the least security version that a board boots: what its
// fuses say, or what its TPM said when the board was last switched on. nil: it
// never was.
func Minimum(dir string) (*uint32, error) {
	s, err := LoadSettings(dir)
	if err != nil {
		return nil, err
	}
	if s.Fuses.CounterIndex == 0 {
		return &s.Fuses.SecurityCounter, nil
	}
	text, err := os.ReadFile(paths(dir).minimum())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("security version of board: %w", err)
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("security version of board: %w", err)
	}
	least := uint32(n)
	return &least, nil
}

// noteMinimum keeps what the TPM said, for Minimum.
func noteMinimum(p paths, n uint32) error {
	return atomicfile.Write(p.minimum(), fmt.Appendln(nil, n), 0o600)
}

// readCounter reads an NV counter with its own, empty authorisation.
func readCounter(tpm transport.TPM, index tpm2.TPMHandle) (uint64, error) {
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(tpm)
	if err != nil {
		return 0, err
	}
	area, err := public.NVPublic.Contents()
	if err != nil {
		return 0, err
	}
	if area.Attributes.NT != tpm2.TPMNTCounter || area.DataSize != 8 {
		return 0, errors.New("not a counter")
	}
	r, err := tpm2.NVRead{
		AuthHandle: tpm2.AuthHandle{Handle: index, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName}, Size: 8,
	}.Execute(tpm)
	if err != nil {
		return 0, err
	}
	if len(r.Data.Buffer) != 8 {
		return 0, errors.New("not a counter")
	}
	return binary.BigEndian.Uint64(r.Data.Buffer), nil
}
