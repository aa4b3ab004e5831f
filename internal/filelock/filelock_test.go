package filelock_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"holdfast/internal/filelock"
)

func TestOneHolderAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := filelock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := filelock.Try(path); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("a second holder: %v, want ErrHeld", err)
	}
	got := make(chan error)
	go func() {
		again, err := filelock.Wait(path)
		if err == nil {
			again()
		}
		got <- err
	}()
	release()
	if err := <-got; err != nil {
		t.Errorf("who waited: %v", err)
	}
}

func TestNowhereToLock(t *testing.T) {
	if _, err := filelock.Try(filepath.Join(t.TempDir(), "no", "lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
