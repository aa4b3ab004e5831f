// Package spool keeps a device's log records on its own storage until the hub
// has acknowledged them.
//
// The spool is bounded: when it is full, the oldest segment of records goes
// and is counted. A record's sequence number is one more than that of the
// record before it, over restarts too, so a gap at the hub says how many were
// dropped. Warnings, errors and crashes are on stable storage when Append
// returns; the rest is within a second. Whatever power cuts and kill -9 leave
// of the last segment is read up to the first frame that does not verify.
package spool

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"holdfast/internal/atomicfile"
	"holdfast/logs"
)

const (
	minBytes  = 1 << 20
	segments  = 8 // the bound is kept by dropping an eighth of it at a time
	syncDelay = time.Second
)

// Config says where a spool lives and how large it may be.
type Config struct {
	Dir   string // made when absent
	Bytes int64  // bound on all segments together; 0: 1 MiB, which is also the least
	Boot  uint64 // stamped on each record
}

// Spool is a durable queue of log records. It may be used concurrently.
type Spool struct {
	cfg   Config
	ready chan struct{}

	mu       sync.Mutex // guards what follows and the files
	closed   []segment  // oldest first, not written any more
	active   segment
	file     *os.File // of the active segment
	state    state
	next     uint64 // sequence number of the next record
	timer    *time.Timer
	unsynced bool
}

// segment is one file: records first, first+1 and so on.
type segment struct {
	first uint64
	size  int64
}

// state is what the spool remembers besides its segments.
type state struct {
	Acked   uint64 `json:"acked"`   // everything up to this number is at the hub
	Dropped uint64 `json:"dropped"` // records that were never acknowledged and are gone
}

// Open opens the spool in a directory, or makes it.
func Open(cfg Config) (*Spool, error) {
	if cfg.Bytes == 0 {
		cfg.Bytes = minBytes
	}
	if cfg.Bytes < minBytes {
		return nil, fmt.Errorf("spool of %d bytes is too small", cfg.Bytes)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s := &Spool{cfg: cfg, ready: make(chan struct{}, 1)}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return s, nil
}

func (s *Spool) path(first uint64) string {
	return filepath.Join(s.cfg.Dir, fmt.Sprintf("%020d.log", first))
}

func (s *Spool) load() error {
	if err := s.loadState(); err != nil {
		return err
	}
	found, err := s.find()
	if err != nil {
		return err
	}
	if len(found) == 0 {
		s.next = s.state.Acked + 1
		return s.create()
	}
	s.closed, s.active = found[:len(found)-1], found[len(found)-1]
	return s.resume()
}

// loadState reads the state. A damaged one costs only repeated shipments.
func (s *Spool) loadState() error {
	b, err := os.ReadFile(filepath.Join(s.cfg.Dir, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if json.Unmarshal(b, &s.state) != nil {
		s.state = state{}
	}
	return nil
}

// find lists the segments in the directory, oldest first.
func (s *Spool) find() ([]segment, error) {
	names, err := filepath.Glob(filepath.Join(s.cfg.Dir, "*.log"))
	if err != nil {
		return nil, err
	}
	var found []segment
	for _, name := range names {
		var first uint64
		if _, err := fmt.Sscanf(filepath.Base(name), "%d.log", &first); err != nil || s.path(first) != name {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		found = append(found, segment{first: first, size: info.Size()})
	}
	slices.SortFunc(found, func(a, b segment) int { return cmp.Compare(a.first, b.first) })
	return found, nil
}

// read returns the contents of a segment, never more than the spool may hold.
func (s *Spool) read(g segment) ([]byte, error) {
	f, err := os.Open(s.path(g.first))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return io.ReadAll(io.LimitReader(f, s.cfg.Bytes))
}

// resume opens the last segment and cuts off what a crash left unfinished.
func (s *Spool) resume() error {
	b, err := s.read(s.active)
	if err != nil {
		return err
	}
	entries, good := scan(b, s.active.first)
	if s.file, err = os.OpenFile(s.path(s.active.first), os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	if err := s.file.Truncate(int64(good)); err != nil {
		return errors.Join(err, s.file.Close())
	}
	s.active.size = int64(good)
	s.next = max(s.active.first+uint64(len(entries)), s.state.Acked+1)
	if s.next != s.active.first+uint64(len(entries)) {
		return s.rotate()
	}
	s.signal()
	return nil
}

// create begins a new active segment at the next sequence number.
func (s *Spool) create() error {
	f, err := os.OpenFile(s.path(s.next), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := atomicfile.SyncDir(s.cfg.Dir); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.active = f, segment{first: s.next}
	return nil
}

// rotate closes the active segment and begins another. The new one exists
// before an old one goes, since its name carries the sequence number on.
func (s *Spool) rotate() error {
	if err := s.file.Sync(); err != nil {
		return err
	}
	old, oldFile := s.active, s.file
	if old.first == s.next {
		return nil // still empty
	}
	if err := s.create(); err != nil {
		return err
	}
	s.closed = append(s.closed, old)
	_ = oldFile.Close() // it has been synced
	return s.bound()
}

// bound drops the oldest segments while the spool is too large.
func (s *Spool) bound() error {
	total := s.active.size + s.cfg.Bytes/segments // room that the active segment may yet take
	for _, g := range s.closed {
		total += g.size
	}
	changed := false
	for total > s.cfg.Bytes && len(s.closed) > 0 {
		g, after := s.closed[0], s.after(0)
		if unacked := max(g.first, s.state.Acked+1); after > unacked {
			s.state.Dropped += after - unacked
			changed = true
		}
		if err := os.Remove(s.path(g.first)); err != nil {
			return err
		}
		total -= g.size
		s.closed = s.closed[1:]
	}
	if changed {
		return s.saveState()
	}
	return nil
}

// after returns the sequence number that follows closed segment i.
func (s *Spool) after(i int) uint64 {
	if i+1 < len(s.closed) {
		return s.closed[i+1].first
	}
	return s.active.first
}

func (s *Spool) saveState() error {
	b, err := json.Marshal(s.state)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(s.cfg.Dir, "state.json"), b, 0o600)
}

// Append gives r its sequence number and boot and writes it. Message and
// attributes are cut to size. A record that cannot be written, on a full disk
// for example, is counted as dropped and its error returned.
func (s *Spool) Append(r logs.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return fs.ErrClosed
	}
	if err := s.write(trim(r)); err != nil {
		s.state.Dropped++
		return fmt.Errorf("spool: %w", err)
	}
	s.signal()
	return nil
}

func (s *Spool) write(r logs.Record) error {
	r.Seq, r.Boot = s.next, s.cfg.Boot
	b, err := appendFrame(nil, r)
	if err != nil {
		return err
	}
	if s.active.size+int64(len(b)) > s.cfg.Bytes/segments {
		if err := s.rotate(); err != nil {
			return err
		}
	}
	if _, err := s.file.Write(b); err != nil {
		return errors.Join(err, s.file.Truncate(s.active.size)) // nothing may follow a part of a frame
	}
	s.active.size += int64(len(b))
	s.next++
	return s.settle(r.Level)
}

// settle syncs at once what matters and the rest soon.
func (s *Spool) settle(level string) error {
	if level != "debug" && level != "info" {
		s.unsynced = false
		return s.file.Sync()
	}
	if !s.unsynced {
		s.unsynced = true
		s.timer = time.AfterFunc(syncDelay, s.syncLate)
	}
	return nil
}

func (s *Spool) syncLate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsynced && s.file != nil {
		s.unsynced = s.file.Sync() != nil
	}
}

func (s *Spool) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Ready yields a value when there may be records to ship.
func (s *Spool) Ready() <-chan struct{} { return s.ready }

// Batch returns the oldest records that are not acknowledged, as many as one
// shipment may hold; none when there are none. They are on stable storage, so
// that no sequence number that the hub has seen is ever given again.
func (s *Spool) Batch() ([]logs.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil, fs.ErrClosed
	}
	if err := s.file.Sync(); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s.unsynced = false
	b := batch{room: logs.MaxBatch - len("[]")}
	for i, g := range append(slices.Clip(s.closed), s.active) {
		if i < len(s.closed) && s.after(i) <= s.state.Acked+1 {
			continue
		}
		data, err := s.read(g)
		if err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
		entries, _ := scan(data, g.first)
		if full := b.add(entries, s.state.Acked); full {
			break
		}
	}
	return b.records, nil
}

// batch collects records up to the limits of a shipment.
type batch struct {
	records []logs.Record
	room    int
}

// add takes the entries after acked and reports whether the batch is full.
func (b *batch) add(entries []entry, acked uint64) bool {
	for _, e := range entries {
		if e.record.Seq <= acked {
			continue
		}
		if len(b.records) == logs.MaxRecords || e.size+len(",") > b.room {
			return true
		}
		b.room -= e.size + len(",")
		b.records = append(b.records, e.record)
	}
	return false
}

// Ack says that the hub has stored every record up to seq.
func (s *Spool) Ack(seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq <= s.state.Acked || seq >= s.next {
		return nil
	}
	s.state.Acked = seq
	if err := s.saveState(); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	for len(s.closed) > 0 && s.after(0) <= seq+1 {
		if err := os.Remove(s.path(s.closed[0].first)); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		s.closed = s.closed[1:]
	}
	return nil
}

// Dropped returns how many records the spool lost before the hub had them.
func (s *Spool) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Dropped
}

// Close syncs and closes the spool.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	err := errors.Join(s.file.Sync(), s.file.Close())
	s.file = nil
	return err
}
