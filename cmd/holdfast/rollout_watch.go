package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/operator"
	"holdfast/rollout"
)

func rolloutWatchCmd(std stdio) *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "watch [ID]",
		Short: "Watch a rollout until it is over",
		Long: `Show how a rollout goes on until it has finished, was superseded or is halted;
without an id the newest one that is on its way. On a terminal a bar shows it,
otherwise each change is a line, with --json a line of JSON. It fails when the
rollout is halted.`,
		Example: "  holdfast rollout watch pump-k3x9qa72bn",
		Args:    fromTo(0, 1),
	}
	cmd.Flags().DurationVar(&every, "every", time.Second, "how often to look")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if every < 10*time.Millisecond {
			return usagef("--every %s: want at least 10ms", every)
		}
		c, err := connect(cmd)
		if err != nil {
			return err
		}
		id := ""
		if len(a) > 0 {
			id = a[0]
		} else {
			r, err := newest(cmd.Context(), c)
			if err != nil {
				return err
			}
			id = r.ID
		}
		f, ok := std.Out.(*os.File)
		w := &watch{c: c, id: id, out: std.Out, json: *asJSON, bar: ok && isTerminal(f) && !*asJSON, told: map[string]bool{}}
		return w.run(cmd.Context(), every)
	}
	return cmd
}

// watch shows how a rollout goes on.
type watch struct {
	c    *client.Client
	id   string
	out  io.Writer
	json bool
	bar  bool // redraw one line
	last string
	told map[string]bool // failures that were shown
}

// run looks until the rollout is over; Ctrl-C is no error.
func (w *watch) run(ctx context.Context, every time.Duration) error {
	for {
		r, err := w.c.Rollout(ctx, w.id)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = w.show(ctx, r)
		}
		if err != nil {
			w.end()
			return fmt.Errorf("watch rollout %s: %w", w.id, err)
		}
		switch stage := rollout.Stage(r.Stage); {
		case stage.Over():
			w.end()
			return nil
		case stage == rollout.Halted:
			w.end()
			return fault.New(fault.Conflict, "rollout %s is halted: %s", r.ID, r.Reason)
		}
		select {
		case <-ctx.Done():
			w.end()
			return nil
		case <-time.After(every):
		}
	}
}

// show shows a rollout as it is now, where it has changed.
func (w *watch) show(ctx context.Context, r operator.Rollout) error {
	if w.json {
		line, err := json.Marshal(r)
		if err != nil || string(line) == w.last {
			return err
		}
		w.last = string(line)
		_, err = fmt.Fprintf(w.out, "%s\n", line)
		return err
	}
	if err := w.failures(ctx, r); err != nil {
		return err
	}
	line := rolloutLine(r)
	if w.bar {
		line = bar(r) + " " + line
	}
	if line == w.last {
		return nil
	}
	var err error
	if w.bar {
		_, err = fmt.Fprintf(w.out, "\r\x1b[K%s", line)
	} else {
		_, err = fmt.Fprintln(w.out, line)
	}
	w.last = line
	return err
}

// end leaves the line that is redrawn.
func (w *watch) end() {
	if w.bar && w.last != "" {
		fmt.Fprintln(w.out)
	}
}

// maxTold is how many failures a watch shows; all of them the rollout lists.
const maxTold = 20

// failures shows the devices that have failed since it last looked.
func (w *watch) failures(ctx context.Context, r operator.Rollout) error {
	if r.Counts.Failed == 0 || len(w.told) >= maxTold || r.Counts.Failed <= len(w.told) {
		return nil
	}
	ds, err := w.c.RolloutDevices(ctx, r.ID, string(rollout.Failed), maxTold)
	if err != nil {
		return err
	}
	for _, d := range ds {
		key := fmt.Sprint(d.Device, " ", d.Attempt)
		if w.told[key] {
			continue
		}
		w.told[key] = true
		if w.bar {
			fmt.Fprint(w.out, "\r\x1b[K")
		}
		if _, err := fmt.Fprintf(w.out, "%s failed (%s): %s\n", d.Device, d.Cause, plain(d.Reason)); err != nil {
			return err
		}
		w.last = ""
	}
	return nil
}

const barWidth = 30

// bar draws which part of the devices is done (#), failed (!), at work (=) and
// how far the wave reaches (|).
func bar(r operator.Rollout) string {
	all := max(total(r), 1)
	cells := []byte(strings.Repeat(".", barWidth))
	at := 0
	for _, part := range []struct {
		n    int
		with byte
	}{{r.Counts.Done, '#'}, {r.Counts.Failed, '!'}, {r.Counts.Committed + r.Counts.Updating + r.Counts.Offered, '='}} {
		end := min(at+(part.n*barWidth+all-1)/all, barWidth)
		for ; at < end; at++ {
			cells[at] = part.with
		}
	}
	if limit := r.Limit * barWidth / all; limit < barWidth && limit >= at {
		cells[limit] = '|'
	}
	return "[" + string(cells) + "]"
}

// rolloutLine is a rollout on one line.
func rolloutLine(r operator.Rollout) string {
	n := r.Counts
	line := fmt.Sprintf("%s %s %s: %s, wave %d of %d: %d of %d done", r.ID, r.Product, r.Version, r.Stage, r.Wave, r.Waves, n.Done, total(r))
	for _, part := range []struct {
		n    int
		what string
	}{{n.Committed, "committed"}, {n.Updating, "updating"}, {n.Offered, "offered"}, {n.Waiting, "waiting"}, {n.Failed, "failed"}, {n.Excluded, "excluded"}, {n.Superseded, "superseded"}} {
		if part.n > 0 {
			line += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	switch rollout.Stage(r.Stage) {
	case rollout.Running, rollout.Planning:
		if !r.Soaked.IsZero() {
			line += ", soaks until " + r.Soaked.UTC().Format("15:04:05")
		}
	default:
		line += "; " + plain(r.Reason)
	}
	return line
}
