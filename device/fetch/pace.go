package fetch

import (
	"context"
	"fmt"
	"io"
	"time"

	"holdfast/release"
)

// Slow is the least that a hub has to bring: in each window of waiting for it,
// so many bytes per second. Time that the reader takes for itself does not
// count.
type Slow struct {
	Rate   int64 // bytes per second
	Window time.Duration
}

// need is the least in one window, in bytes.
func (s Slow) need() int64 { return int64(float64(s.Rate) * s.Window.Seconds()) }

// pace watches how fast bytes come.
type pace struct {
	slow   Slow
	waited time.Duration // in this window
	got    int64         // in this window
}

// read reads once. A hub that is too slow is a refusal, and end has been
// called.
func (p *pace) read(r io.Reader, buf []byte, end context.CancelCauseFunc) (int, error) {
	refusal := release.Refuse(release.SlowRetrieval, fmt.Errorf("fewer than %d bytes in %v", p.slow.need(), p.slow.Window))
	begin := time.Now()
	stuck := time.AfterFunc(p.slow.Window, func() { end(refusal) }) // nothing at all in a window
	n, err := r.Read(buf)
	if !stuck.Stop() {
		return n, refusal
	}
	p.waited += time.Since(begin)
	p.got += int64(n)
	if p.waited < p.slow.Window {
		return n, err
	}
	slow := p.got < p.slow.need()
	p.reset()
	if slow && err == nil {
		end(refusal)
		err = refusal
	}
	return n, err
}

// reset begins another window.
func (p *pace) reset() { p.waited, p.got = 0, 0 }
