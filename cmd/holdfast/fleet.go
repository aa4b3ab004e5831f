package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
)

func fleetCmd(io stdio) *cobra.Command {
	return noun("fleet", "Register, list and steer devices",
		fleetAddCmd(io), fleetListCmd(), fleetShowCmd(),
		fleetActCmd("revoke", "Take a device's credentials for good and end its session"),
		fleetActCmd("quarantine", "Cut a device down to attestation, posture and logs"),
		fleetActCmd("restore", "Lift a quarantine or a revocation"),
		fleetImportCmd(io), fleetPendingCmd(), fleetAcceptCmd(), fleetRefuseCmd())
}

func fleetAddCmd(io stdio) *cobra.Command {
	var group, ek string
	var token bool
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Register a device before it comes",
		Long: `Register a device, so that it gets this id when it comes. The device is known by
its TPM's endorsement key (--ek FILE, made with 'holdfast-device ek'), by a claim
token that is shown once (--token), or, where the group has a maker's CA, by a
certificate with its id.`,
		Example: `  holdfast fleet add pump-01 --group pumps --ek pump-01.ek
  holdfast fleet add gateway-7 --group lab --token --ttl 2h`,
		Args: nArgs(1),
	}
	cmd.Flags().StringVar(&group, "group", "", "group the device belongs to (required)")
	cmd.Flags().StringVar(&ek, "ek", "", "file with the public area of the TPM's endorsement key")
	cmd.Flags().BoolVar(&token, "token", false, "make a claim token and print it")
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token is good")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		d, err := newDevice(a[0], group, ek, token, ttl)
		if err != nil {
			return err
		}
		return ask(cmd, "add "+a[0], func(c *client.Client, ctx context.Context) (operator.AddedDevice, error) {
			return c.AddDevice(ctx, d)
		}, func(w writer, added operator.AddedDevice) {
			if added.Token != "" {
				fmt.Fprintln(w, added.Token)
			}
			fmt.Fprintf(io.Err, "registered %s in group %s\n", added.ID, added.Group)
		})
	}
	return required(cmd, "group")
}

// newDevice reads the flags of fleet add.
func newDevice(id, group, ek string, token bool, ttl time.Duration) (operator.AddDevice, error) {
	d := operator.AddDevice{Token: token, TTL: int64(ttl / time.Second)}
	var err error
	if d.ID, err = identity.ParseDevice(id); err != nil {
		return d, usageError{err}
	}
	if d.Group, err = identity.ParseGroup(group); err != nil {
		return d, usagef("--group: %w", err)
	}
	if ek != "" {
		if d.EK, err = os.ReadFile(ek); err != nil {
			return d, fmt.Errorf("read the endorsement key: %w", err)
		}
	}
	return d, nil
}

func fleetListCmd() *cobra.Command {
	var group, status string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List devices with their status and measures",
		Example: "  holdfast fleet list --group pumps --status quarantined",
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&group, "group", "", "only this group")
	cmd.Flags().StringVar(&status, "status", "", "only this status")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list devices", func(c *client.Client, ctx context.Context) ([]operator.Device, error) {
			return c.Devices(ctx, identity.Group(group), status)
		}, deviceTable)
	}
	return cmd
}

// deviceTable prints a line per device.
func deviceTable(w writer, ds []operator.Device) {
	fmt.Fprintln(w, "DEVICE\tGROUP\tSTATUS\tPASS\tFAIL\tUNKNOWN\tCERTIFICATE\tWHY")
	for _, d := range ds {
		p, f, u := tally(d.Posture)
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", d.ID, d.Group, d.Status, p, f, u, lifetime(d), plain(firstReason(d.Reason)))
	}
}

// firstReason cuts a list of reasons to its first; 'fleet show' has them all.
func firstReason(reasons string) string {
	first, rest, more := strings.Cut(reasons, "; ")
	if !more {
		return first
	}
	return fmt.Sprintf("%s (and %d more)", first, 1+strings.Count(rest, "; "))
}

// lifetime says how long a device's certificate was issued for.
func lifetime(d operator.Device) string {
	if d.Certificate == nil {
		return "-"
	}
	return (time.Duration(d.Certificate.Lifetime) * time.Second).Round(time.Minute).String()
}

// tally counts verdicts.
func tally(rows []measure.Row) (pass, fail, unknown int) {
	for _, r := range rows {
		switch r.Verdict {
		case measure.Pass:
			pass++
		case measure.Fail:
			fail++
		default:
			unknown++
		}
	}
	return pass, fail, unknown
}

func fleetShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a device: every measure, with evidence and reason",
		Example: "  holdfast fleet show pump-01 --json",
		Args:    nArgs(1),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "show "+a[0], func(c *client.Client, ctx context.Context) (operator.Device, error) {
			return c.Device(ctx, identity.Device(a[0]))
		}, deviceSheet)
	}
	return cmd
}

// deviceSheet prints all that is known of a device.
func deviceSheet(w writer, d operator.Device) {
	fmt.Fprintf(w, "device\t%s\ngroup\t%s\nstatus\t%s\nreason\t%s\n", d.ID, d.Group, d.Status, plain(d.Reason))
	if f := d.Firmware; f != nil {
		fmt.Fprintf(w, "firmware\t%s\n", firmwareText(d.Release, f))
	}
	if d.Certificate != nil {
		fmt.Fprintf(w, "certificate\t%s, until %s\n", lifetime(d), d.Certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	if !d.LastSeen.IsZero() {
		fmt.Fprintf(w, "last seen\t%s\n", d.LastSeen.UTC().Format(time.RFC3339))
	}
	if d.Decision != nil {
		fmt.Fprintf(w, "policy\t%s\n", d.Decision.Standing)
	}
	fmt.Fprintln(w, "\nMEASURE\tVERDICT\tGRADE\tAGE\tREASON")
	for _, r := range d.Posture {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Measure, r.Verdict, r.Grade, age(r), plain(r.Reason))
	}
}

// firmwareText says what a device runs, and how that stands.
func firmwareText(release string, f *operator.Firmware) string {
	parts := []string{cmp.Or(plain(release), f.Digest.String())}
	if f.Withdrawn != "" {
		parts = append(parts, "withdrawn: "+plain(f.Withdrawn))
	}
	if late := f.Late(time.Now()); late != "" {
		parts = append(parts, late)
	}
	if f.Minimum != nil {
		parts = append(parts, fmt.Sprintf("counter at %d", *f.Minimum))
	}
	return strings.Join(parts, ", ")
}

// age says how old a row's evidence is, where it rests on any.
func age(r measure.Row) string {
	if r.Grade == measure.None {
		return "-"
	}
	return time.Since(r.Time).Round(time.Second).String()
}

func fleetActCmd(verb, short string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     verb + " ID --reason WHY",
		Short:   short,
		Example: fmt.Sprintf("  holdfast fleet %s pump-01 --reason 'stolen from site A'", verb),
		Args:    nArgs(1),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; kept in the ledger (required)")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, fmt.Sprintf("%s %s", verb, a[0]), func(c *client.Client, ctx context.Context) (operator.Device, error) {
			return c.Act(ctx, identity.Device(a[0]), verb, reason)
		}, func(w writer, d operator.Device) { fmt.Fprintf(w, "%s is %s\n", d.ID, d.Status) })
	}
	return required(cmd, "reason")
}

func fleetPendingCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "pending", Short: "List devices that came and that nothing admits", Example: "  holdfast fleet pending", Args: noArgs}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list pending devices", (*client.Client).Pending, func(w writer, ps []operator.Pending) {
			fmt.Fprintln(w, "REQUEST\tFROM\tTIME\tSHOWED")
			for _, p := range ps {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.ID, p.Remote, p.Time.UTC().Format(time.RFC3339), plain(p.Shown))
			}
		})
	}
	return cmd
}

func fleetAcceptCmd() *cobra.Command {
	var id, group string
	cmd := &cobra.Command{
		Use:   "accept REQUEST --id ID --group GROUP",
		Short: "Admit a pending device",
		Long: `Admit a pending device under an id. REQUEST is the digest of its TPM's endorsement
key; compare it with what the box itself says: holdfast-device ek | sha256sum`,
		Example: "  holdfast fleet accept 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --id pump-09 --group pumps",
		Args:    nArgs(1),
	}
	cmd.Flags().StringVar(&id, "id", "", "id the device will have (required)")
	cmd.Flags().StringVar(&group, "group", "", "its group (required)")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		d, err := newDevice(id, group, "", false, 0)
		if err != nil {
			return err
		}
		return ask(cmd, "accept "+a[0], func(c *client.Client, ctx context.Context) (operator.Accept, error) {
			accept := operator.Accept{Device: d.ID, Group: d.Group}
			return accept, c.Accept(ctx, a[0], accept)
		}, func(w writer, done operator.Accept) {
			fmt.Fprintf(w, "accepted; the device becomes %s when it asks again\n", done.Device)
		})
	}
	return required(cmd, "id", "group")
}

func fleetRefuseCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "refuse REQUEST --reason WHY",
		Short:   "Refuse a pending device",
		Example: "  holdfast fleet refuse 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --reason 'not ours'",
		Args:    nArgs(1),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; kept in the ledger (required)")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "refuse "+a[0], func(c *client.Client, ctx context.Context) (operator.Act, error) {
			return operator.Act{Reason: reason}, c.Refuse(ctx, a[0], reason)
		}, func(w writer, _ operator.Act) { fmt.Fprintln(w, "refused") })
	}
	return required(cmd, "reason")
}

// writer keeps io.Writer nameable where a parameter is called io.
type writer = io.Writer
