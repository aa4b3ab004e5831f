package repository

import (
	"context"
	"net/http"
	"sync"
	"time"

	"holdfast/identity"
)

// stallLimit is how long a device may take over a chunk before its connection is
// cut: it keeps nothing but that from anybody.
const stallLimit = 30 * time.Second

// maxChunk is how much is written at a time, in bytes, when a pace is kept.
const maxChunk = 32 << 10

// lane is what shares a rate: a device's downloads, or those of its group.
type lane struct {
	mu   sync.Mutex
	free time.Time // when the next byte may be written
	open int       // downloads; of the table of lanes
}

// take takes the time for n bytes and says how long to wait before they are
// written. What was not used is not saved up.
func (l *lane) take(n int, rate int64, now time.Time) time.Duration {
	if rate <= 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	wait := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(rate))
	return wait
}

// pacers are the lanes of the devices that fetch now.
type pacers struct {
	mu      sync.Mutex
	devices map[identity.Device]*lane
	groups  map[identity.Group]*lane
}

func newPacers() *pacers {
	return &pacers{devices: map[identity.Device]*lane{}, groups: map[identity.Group]*lane{}}
}

// enter opens a download; false: the device has too many.
func (p *pacers) enter(c Client) (*pace, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := join(p.devices, c.Device)
	if d.open > maxDownloads {
		part(p.devices, c.Device)
		return nil, false
	}
	return &pace{Client: c, device: d, group: join(p.groups, c.Group)}, true
}

// leave ends a download.
func (p *pacers) leave(c Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	part(p.devices, c.Device)
	part(p.groups, c.Group)
}

func join[K comparable](lanes map[K]*lane, key K) *lane {
	l := lanes[key]
	if l == nil {
		l = &lane{}
		lanes[key] = l
	}
	l.open++
	return l
}

func part[K comparable](lanes map[K]*lane, key K) {
	l := lanes[key]
	if l.open--; l.open == 0 {
		delete(lanes, key)
	}
}

// pace is how fast one download goes.
type pace struct {
	Client
	device, group *lane
}

// chunk is how much to write at a time: no more than an eighth of a second's.
func (p *pace) chunk() int {
	n := int64(maxChunk)
	for _, rate := range []int64{p.Rate, p.GroupRate} {
		if rate > 0 {
			n = min(n, max(rate/8, 512))
		}
	}
	return int(n)
}

// wait waits until n bytes may be written.
func (p *pace) wait(ctx context.Context, n int) error {
	now := time.Now()
	for _, wait := range []time.Duration{p.device.take(n, p.Rate, now), p.group.take(n, p.GroupRate, now)} {
		wait -= time.Since(now)
		if wait <= 0 {
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}

// paced is an answer that is written at a pace, to a device that has to take each
// part within stall.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
	ctx     context.Context
	pace    *pace
	stall   time.Duration
	written int64
	err     error
}

// Write implements http.ResponseWriter.
func (w *paced) Write(b []byte) (int, error) {
	if w.pace.Rate <= 0 && w.pace.GroupRate <= 0 {
		return w.write(b)
	}
	done, size := 0, w.pace.chunk()
	for done < len(b) {
		n := min(size, len(b)-done)
		if err := w.pace.wait(w.ctx, n); err != nil {
			w.err = err
			return done, err
		}
		n, err := w.write(b[done : done+n])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (w *paced) write(b []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall)) // where it cannot be set the listener's is in force
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	if err != nil {
		w.err = err
	}
	return n, err
}
