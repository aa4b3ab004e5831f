package repository

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"holdfast/delta"
	"holdfast/identity"
)

// maxWaiting is how many deltas may wait to be made: devices that ask for more are
// told to ask again.
const maxWaiting = 256

// maxKept is how many deltas are kept, and pairs that are known to have none.
const maxKept = 4096

// pair is the images that a delta is between, by their digests.
type pair struct {
	from, to identity.Digest
}

// made is a delta, or that there is none that would be smaller than the image.
type made struct {
	digest identity.Digest // zero: there is none
	size   int64
	used   time.Time
}

// deltas has the deltas that were made, and those that are to be.
type deltas struct {
	dir string
	max int64 // bytes

	mu      sync.Mutex
	have    map[pair]made
	waiting []pair
	wake    chan struct{}
}

// noneName ends the name of the empty file that says that there is no delta.
const noneName = "none"

func openDeltas(dir string, max int64) (*deltas, error) {
	d := &deltas{dir: dir, max: max, have: map[pair]made{}, wake: make(chan struct{}, 1)}
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open deltas: %w", err)
	}
	for _, e := range es {
		p, m, err := parseDelta(e)
		if err != nil {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("open deltas: %w", err)
			}
			continue
		}
		d.have[p] = m
	}
	return d, nil
}

// name returns the name of a delta's file.
func (p pair) name(m made) string {
	end := noneName
	if m.size > 0 {
		end = m.digest.String()
	}
	return p.from.String() + "-" + p.to.String() + "-" + end
}

// parseDelta reads the name of a delta's file.
func parseDelta(e os.DirEntry) (pair, made, error) {
	info, err := e.Info()
	if err != nil {
		return pair{}, made{}, err
	}
	parts := strings.Split(e.Name(), "-")
	if len(parts) != 3 {
		return pair{}, made{}, errors.New("not a delta")
	}
	from, errFrom := identity.ParseDigest(parts[0])
	to, errTo := identity.ParseDigest(parts[1])
	m := made{size: info.Size(), used: info.ModTime()}
	var errEnd error
	if parts[2] != noneName {
		m.digest, errEnd = identity.ParseDigest(parts[2])
	}
	if (parts[2] == noneName) != (m.size == 0) {
		errEnd = errors.New("a file of another length")
	}
	return pair{from, to}, m, errors.Join(errFrom, errTo, errEnd)
}

// get returns what is known of a delta, and has it made where nothing is.
func (d *deltas) get(p pair, now time.Time) (m made, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m, known = d.have[p]; known {
		m.used = now
		d.have[p] = m
		return m, true
	}
	for _, w := range d.waiting {
		if w == p {
			return m, false
		}
	}
	if len(d.waiting) < maxWaiting {
		d.waiting = append(d.waiting, p)
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
	return m, false
}

// first returns the pair that has waited longest.
func (d *deltas) first() (pair, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == 0 {
		return pair{}, false
	}
	return d.waiting[0], true
}

// done takes the first pair off the waiting list, and keeps what was made of it.
func (d *deltas) done(p pair, m made) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = d.waiting[1:]
	d.have[p] = m
	d.evict(p)
}

// evict removes the deltas that were not used for longest, until there is room.
func (d *deltas) evict(but pair) {
	total := int64(0)
	for _, m := range d.have {
		total += m.size
	}
	for total > d.max || len(d.have) > maxKept {
		var oldest pair
		found := false
		for p, m := range d.have {
			if p != but && (m.size > 0 || len(d.have) > maxKept) && (!found || m.used.Before(d.have[oldest].used)) {
				oldest, found = p, true
			}
		}
		if !found {
			return
		}
		total -= d.have[oldest].size
		d.remove(oldest)
	}
}

func (d *deltas) remove(p pair) {
	_ = os.Remove(filepath.Join(d.dir, p.name(d.have[p]))) // what stays is found at the next start
	delete(d.have, p)
}

// forget removes the deltas from or to images that are not published any more.
func (d *deltas) forget(s *state) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p := range d.have {
		if !s.between(p) {
			d.remove(p)
		}
	}
}

// between reports whether devices may ask for a delta: to an image that they may
// fetch, of the same product.
func (s *state) between(p pair) bool {
	from, known := s.images[p.from]
	_, published := s.blobs[p.to]
	return known && published && from.Product == s.images[p.to].Product && p.from != p.to
}

// makeDeltas makes deltas that were asked for, one after another, until ctx ends.
func (r *Repository) makeDeltas(ctx context.Context) {
	for {
		p, ok := r.deltas.first()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-r.deltas.wake:
				continue
			}
		}
		begun := time.Now()
		m, err := r.makeDelta(ctx, p)
		if ctx.Err() != nil {
			return
		}
		outcome := "made"
		switch {
		case err != nil:
			outcome, m = "failed", made{used: r.cfg.Now()} // devices fetch the image
			r.cfg.Log.ErrorContext(ctx, "make a delta", "from", p.from, "to", p.to, "err", err)
		case m.size == 0:
			outcome = "larger"
		}
		r.stats.Deltas.Inc(outcome)
		r.cfg.Log.DebugContext(ctx, "delta", "from", p.from, "to", p.to, "outcome", outcome, "bytes", m.size, "took", time.Since(begun))
		r.deltas.done(p, m)
	}
}

// errLarger says that a delta would be no smaller than the image.
var errLarger = errors.New("the delta is not smaller")

// makeDelta makes one delta. Its file is named by what it is of and by its own
// digest.
func (r *Repository) makeDelta(ctx context.Context, p pair) (made, error) {
	s := r.held.Load()
	if !s.between(p) {
		return made{}, errors.New("an image has been withdrawn")
	}
	from, err := os.Open(r.blobPath(p.from))
	if err != nil {
		return made{}, err
	}
	defer from.Close()
	to, err := os.Open(r.blobPath(p.to))
	if err != nil {
		return made{}, err
	}
	defer to.Close()
	f, err := os.CreateTemp(filepath.Join(r.cfg.Dir, incomingDir), "delta-")
	if err != nil {
		return made{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	buf := bufio.NewWriterSize(f, 64<<10)
	out := &less{to: io.MultiWriter(buf, h), left: s.images[p.to].Image.Length - 1}
	st, err := delta.Make(ctx, from, s.images[p.from].Image.Length, to, s.images[p.to].Image.Length, out)
	m := made{used: r.cfg.Now()}
	switch {
	case errors.Is(err, errLarger):
		return m, os.WriteFile(filepath.Join(r.deltas.dir, p.name(m)), nil, 0o600)
	case err != nil:
		return made{}, err
	}
	if err := errors.Join(buf.Flush(), f.Sync()); err != nil {
		return made{}, err
	}
	m.size = st.Length
	h.Sum(m.digest[:0])
	return m, os.Rename(f.Name(), filepath.Join(r.deltas.dir, p.name(m)))
}

// less passes on what is less than so many bytes.
type less struct {
	to   io.Writer
	left int64
}

func (l *less) Write(b []byte) (int, error) {
	if l.left -= int64(len(b)); l.left < 0 {
		return 0, errLarger
	}
	return l.to.Write(b)
}
