package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"holdfast/logs"
)

// CaptureCrashes makes the text of a crash of this process (an unrecovered
// panic or a fatal fault) a record of the level crash at the next start. First
// it does so for the text that the run before left. It changes the whole
// process and is called once, early.
func (s *Spool) CaptureCrashes() error {
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, "crash.txt"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("capture crashes: %w", err)
	}
	defer func() { _ = f.Close() }() // the runtime keeps a duplicate
	text, err := io.ReadAll(io.LimitReader(f, logs.MaxMessage))
	if err != nil {
		return fmt.Errorf("capture crashes: %w", err)
	}
	if err := s.report(string(text)); err != nil {
		return fmt.Errorf("capture crashes: %w", err)
	}
	_, seek := f.Seek(0, io.SeekStart)
	if err := errors.Join(f.Truncate(0), seek, debug.SetCrashOutput(f, debug.CrashOptions{})); err != nil {
		return fmt.Errorf("capture crashes: %w", err)
	}
	return nil
}

// report appends a crash of the run before, which Append puts on stable
// storage before its text is forgotten.
func (s *Spool) report(text string) error {
	if text == "" {
		return nil
	}
	return s.Append(logs.Record{Level: "crash", Message: text})
}
