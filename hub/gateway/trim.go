package gateway

import (
	"context"
	"runtime/debug"
	"time"
)

// After a storm of handshakes the process holds stacks and heap that the
// sessions no longer need. Once it is quiet they are given back to the system:
// three times, because a stack shrinks by half at each collection.
const (
	trimAfter  = 64 // connections since the last time
	trimQuiet  = 2 * time.Second
	trimRounds = 3
)

// trim gives memory back whenever connections came and then stopped coming, and
// forgets the paces of devices that are gone.
func (g *Gateway) trim(ctx context.Context) {
	tick := time.NewTicker(trimQuiet)
	defer tick.Stop()
	var seen, trimmed uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		g.paces.sweep(time.Now())
		total := g.pend.count()
		if total == seen && total-trimmed >= trimAfter {
			for range trimRounds {
				debug.FreeOSMemory()
			}
			trimmed = total
		}
		seen = total
	}
}
