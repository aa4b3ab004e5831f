package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"holdfast/internal/atomicfile"
)

// story is how far the story got; it outlives the processes.
type story struct {
	path       string
	Registered map[string]bool `json:"registered"` // devices that the hub knows of
	Tampered   map[string]bool `json:"tampered"`   // devices whose flash has been modified
	Published  map[string]bool `json:"published"`  // versions of the firmware
	Acts       []string        `json:"acts"`       // of the updates, those that have been played
	Ports      ports           `json:"ports"`
}

func loadStory(path string) (*story, error) {
	s := &story{path: path, Registered: map[string]bool{}, Tampered: map[string]bool{}, Published: map[string]bool{}}
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
