package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"holdfast/audit"
)

// auditBar shows how far an audit is, where a person looks on.
type auditBar struct {
	out io.Writer // nil: nobody looks on

	mu    sync.Mutex // guards what follows
	last  time.Time
	shown bool
}

func newAuditBar(out io.Writer) *auditBar {
	if f, ok := out.(*os.File); !ok || !isTerminal(f) {
		return &auditBar{}
	}
	return &auditBar{out: out}
}

// show draws the bar, ten times a second at most.
func (b *auditBar) show(p audit.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out == nil || time.Since(b.last) < 100*time.Millisecond || p.Total == 0 {
		return
	}
	b.last, b.shown = time.Now(), true
	const width = 30
	full := int(min(p.Done, p.Total) * width / p.Total)
	what := fmt.Sprintf("rules %d of %d", p.Done, p.Total)
	if p.Reading {
		what = fmt.Sprintf("reading %d of %d MB", p.Done>>20, p.Total>>20)
	}
	fmt.Fprintf(b.out, "\r[%-*.*s] %-40s", width, full, "##############################", what)
}

// clear takes the bar away.
func (b *auditBar) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown {
		fmt.Fprintf(b.out, "\r%-80s\r", "")
	}
}
