package updater

import (
	"context"

	"holdfast/update"
)

// task is something that a goroutine of the updater does. There is one of a
// kind at a time.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// telling is what a task tells the loop. What one tells that was stopped since
// is not heard.
type telling struct {
	from *task
	what any // an update.Event, or one of the types below
}

// What tasks tell beside the machine's events.
type (
	// setback is why something that will be tried again does not go on.
	setback struct{ err error }
	// part says how far the download of a delta is.
	part patch
	// found ends a look at metadata.
	found struct{ offered update.Offered }
)

// begin has f done in place of what the slot's task does. What f tells on the
// way and what it returns is heard by the loop; nil is nothing.
func (u *Updater) begin(ctx context.Context, slot **task, f func(ctx context.Context, tell func(any)) any) {
	u.stop(slot)
	ctx, cancel := context.WithCancel(ctx)
	t := &task{cancel: cancel, done: make(chan struct{})}
	*slot = t
	go func() {
		defer close(t.done)
		tell := func(what any) {
			select {
			case u.told <- telling{t, what}:
			case <-ctx.Done():
			}
		}
		if what := f(ctx, tell); what != nil {
			tell(what)
		}
	}()
}

// stop ends a task and waits for it.
func (u *Updater) stop(slot **task) {
	t := *slot
	if t == nil {
		return
	}
	*slot = nil
	t.cancel()
	<-t.done
}

// hear takes what a task tells.
func (u *Updater) hear(ctx context.Context, t telling) {
	if t.from != u.work && t.from != u.lookup {
		return
	}
	switch what := t.what.(type) {
	case setback:
		u.trouble(what.err)
	case part:
		u.delta = patch(what)
	case found:
		u.later = u.later || u.trying()
		u.step(ctx, what.offered)
	case update.Chunk:
		u.step(ctx, what)
		u.underway()
	case update.Event:
		u.step(ctx, what)
	}
}
