package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"holdfast/identity"
	"holdfast/operator"
)

func eventsCmd(io stdio) *cobra.Command {
	var device, since, kind, after string
	var follow bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print what devices sent",
		Long: `Print stored events, oldest first, and exit; with --follow go on with what
arrives. Kinds are telemetry, log, twin (changes of twins), feedback (what became
of messages to devices), lifecycle (devices connected and disconnected) and
security (records of the ledger). --since takes an age (10m, 24h) or a time (RFC
3339). With --json each line is one JSON object; its id is what --after takes to
go on where a reader stopped.`,
		Example: `  holdfast events --device pump-01 --since 10m
  holdfast events --follow --json
  holdfast events --kind security --follow --json --after 1042-0`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&device, "device", "", "only this device")
	cmd.Flags().StringVar(&since, "since", "", "only from this age or time on")
	cmd.Flags().StringVar(&kind, "kind", "", "only this kind")
	cmd.Flags().StringVar(&after, "after", "", "only what follows the event with this id")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with new events")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		from, err := parseSince(since, time.Now())
		if err != nil {
			return err
		}
		c, err := connect(cmd)
		if err != nil {
			return err
		}
		enc := json.NewEncoder(io.Out)
		err = c.Events(cmd.Context(), operator.EventQuery{Device: identity.Device(device), Kind: kind, Since: from, After: after, Follow: follow}, func(e operator.Event) error {
			if *asJSON {
				return enc.Encode(e)
			}
			_, err := fmt.Fprintln(io.Out, eventLine(e))
			return err
		})
		if follow && errors.Is(err, context.Canceled) || cmd.Context().Err() != nil {
			return nil // Ctrl-C is how --follow ends
		}
		return err
	}
	return cmd
}

// parseSince reads an age or a time; empty means from the beginning.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usagef("--since %q: want an age like 10m or a time like 2026-01-31T12:00:00Z", s)
	}
	return t, nil
}

// eventLine shows an event on one line.
func eventLine(e operator.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", e.Time.UTC().Format(time.RFC3339Nano), e.Device, e.Kind)
	for _, k := range slices.Sorted(maps.Keys(e.Properties)) {
		fmt.Fprintf(&b, " %q=%q", k, e.Properties[k])
	}
	if e.Base64 != nil {
		fmt.Fprintf(&b, " %d bytes", len(e.Base64))
	} else {
		b.WriteString(" " + plain(e.Body))
	}
	return b.String()
}

// plain returns s for one line of a terminal. What comes from a device may hold
// anything: where it would do more than print, it is escaped as in Go.
func plain(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}
