package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/operator"
)

func alertCmd() *cobra.Command {
	return noun("alert", "See what somebody should know of the fleet, and say that it is known", alertListCmd(), alertAckCmd())
}

func alertListCmd() *cobra.Command {
	var q operator.AlertQuery
	var group, device string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List alerts, the newest first",
		Long: `List alerts: devices that are quarantined, degraded, revoked, refused, pending,
offline for too long, about to lose their certificate, or that show another
device's key. A device has one open alert of each kind; COUNT says how often it
came up. An alert is cleared when the device is well again.`,
		Example: `  holdfast alert list --open
  holdfast alert list --device pump-01 --json`,
		Args: noArgs,
	}
	cmd.Flags().BoolVar(&q.Open, "open", false, "only those that are neither cleared nor acknowledged")
	cmd.Flags().StringVar(&group, "group", "", "only devices of this group")
	cmd.Flags().StringVar(&device, "device", "", "only this device")
	cmd.Flags().StringVar(&q.After, "after", "", "only those older than the alert with this id")
	cmd.Flags().IntVar(&q.Limit, "limit", 50, "at most so many, up to 500")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q.Group, q.Device = identity.Group(group), identity.Device(device)
		return ask(cmd, "list alerts", func(c *client.Client, ctx context.Context) ([]operator.Alert, error) { return c.Alerts(ctx, q) }, alertTable)
	}
	return cmd
}

func alertTable(w writer, as []operator.Alert) {
	fmt.Fprintln(w, "ID\tLAST\tSEVERITY\tKIND\tDEVICE\tGROUP\tCOUNT\tSTATE\tREASON")
	for _, a := range as {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", a.ID, stamp(a.Last), a.Severity, a.Kind,
			dash(string(a.Device)), dash(string(a.Group)), a.Count, alertState(a), plain(a.Reason))
	}
}

func alertState(a operator.Alert) string {
	var said []string
	if !a.Cleared.IsZero() {
		said = append(said, "cleared")
	}
	if !a.Acknowledged.IsZero() {
		said = append(said, "known to "+plain(a.By))
	}
	if len(said) == 0 {
		return "open"
	}
	return strings.Join(said, ", ")
}

func alertAckCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ack ID...",
		Short:   "Say that an alert is known: somebody sees to it",
		Long:    "Say that alerts are known. They are no longer open; who said so, and when, is in the ledger.",
		Example: "  holdfast alert ack 17 18",
		Args:    fromTo(1, 500),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		return ask(cmd, "acknowledge", func(c *client.Client, ctx context.Context) ([]operator.Alert, error) {
			var done []operator.Alert
			var errs []error
			for _, id := range ids {
				a, err := c.Acknowledge(ctx, id)
				if err != nil {
					errs = append(errs, fmt.Errorf("alert %s: %w", id, err))
					continue
				}
				done = append(done, a)
			}
			return done, errors.Join(errs...)
		}, func(w writer, as []operator.Alert) {
			for _, a := range as {
				fmt.Fprintf(w, "alert %s (%s) is known to %s\n", a.ID, a.Kind, plain(a.By))
			}
		})
	}
	return cmd
}
