package stream

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// space is what may still be written, as it was last asked for.
type space struct {
	asked time.Time
	left  int64
}

// spaceFor is how long an answer to the question for space is good for. What
// others write meanwhile is little beside Config.MinFree.
const spaceFor = 100 * time.Millisecond

// checkSpace refuses to fill the disk to its end: the ledger and the rest of
// the hub's state need room too. The text is that of ENOSPC.
func (s *Stream) checkSpace(n int) error {
	if s.cfg.MinFree < 0 || s.cfg.URL != "" {
		return nil
	}
	if now := time.Now(); now.Sub(s.space.asked) >= spaceFor || s.space.left < int64(n) {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(s.cfg.Dir, &fs); err != nil {
			return fmt.Errorf("ask for free space: %w", err)
		}
		s.space = space{now, int64(fs.Bavail)*fs.Bsize - s.cfg.MinFree}
	}
	if s.space.left < int64(n) {
		return fmt.Errorf("%w: %d bytes are free, %d are kept", syscall.ENOSPC, s.space.left+s.cfg.MinFree, s.cfg.MinFree)
	}
	s.space.left -= int64(n)
	return nil
}

// mtimeTick is more than the coarsest step of a file system's time stamps
// that matters here (the kernel's clock tick).
const mtimeTick = 50 * time.Millisecond

// dirSync makes the names of new block files durable. JetStream fsyncs what it
// writes into a block, but not the directory entry of a new one; most file
// systems commit both together, POSIX does not promise it.
type dirSync struct {
	path   string
	dir    *os.File  // nil: to be opened
	synced time.Time // mtime of the directory when it was last synced for good
}

// sync fsyncs the directory when it has changed since the last time.
func (d *dirSync) sync() error {
	if d.dir == nil {
		dir, err := os.Open(d.path)
		if err != nil {
			return fmt.Errorf("open stream directory: %w", err)
		}
		d.dir = dir
	}
	info, err := d.dir.Stat()
	if err != nil {
		return fmt.Errorf("look at stream directory: %w", err)
	}
	if info.ModTime().Equal(d.synced) {
		return nil
	}
	now := time.Now()
	if err := d.dir.Sync(); err != nil {
		return fmt.Errorf("sync stream directory: %w", err)
	}
	if now.Sub(info.ModTime()) > mtimeTick { // no second change can hide behind this time stamp
		d.synced = info.ModTime()
	}
	return nil
}

// close has the directory opened anew: another may stand in its place.
func (d *dirSync) close() {
	if d != nil && d.dir != nil {
		d.dir.Close()
		d.dir = nil
	}
}

// syncParents fsyncs path and its parents up to and including the parent of top.
func syncParents(path, top string) error {
	for stop := filepath.Dir(top); ; path = filepath.Dir(path) {
		if err := syncFile(path); err != nil {
			return err
		}
		if path == stop || path == filepath.Dir(path) {
			return nil
		}
	}
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
