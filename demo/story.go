package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"

	"holdfast/internal/atomicfile"
)

// story is how far the story got; it outlives the processes.
type story struct {
	path       string
	Registered map[string]bool `json:"registered"` // devices that the hub knows of
	Tampered   map[string]bool `json:"tampered"`   // devices whose flash has been modified
	Ports      ports           `json:"ports"`
}

func loadStory(path string) (*story, error) {
	s := &story{path: path, Registered: map[string]bool{}, Tampered: map[string]bool{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err != nil {
		return nil, fmt.Errorf("story of an earlier run (%s; remove the state directory to start afresh): %w", path, err)
	}
	return s, nil
}

func (s *story) save() error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(s.path, b, 0o600)
}

// lock takes a lock file for as long as this process lives, so that two demos
// do not play with the same state.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another demo is running on this state directory (%s): %w", path, err)
	}
	return func() { f.Close() }, nil
}
