package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/rollout"
)

func rolloutCmd(io stdio) *cobra.Command {
	return noun("rollout", "Bring a published release to devices, wave by wave",
		rolloutStartCmd(), rolloutListCmd(), rolloutShowCmd(), rolloutDevicesCmd(), rolloutWatchCmd(io),
		rolloutActCmd("pause", "Let no further device begin, until it is resumed", "Let no further device begin an update. A trial that runs comes to its end.", "  holdfast rollout pause pump-k3x9qa72bn --reason \"a storm\""),
		rolloutActCmd("resume", "Go on with a rollout that is paused or halted",
			"Go on with a rollout. One that was halted goes on only when it would not be halted\nagain at once: have the devices that failed retry first.", "  holdfast rollout resume pump-k3x9qa72bn"),
		rolloutActCmd("halt", "Stop a rollout and take its offers back", "Stop a rollout: devices that have not begun their trial drop what they have\ndownloaded. Only an operator lets it go on.", "  holdfast rollout halt pump-k3x9qa72bn --reason \"pumps of hall 3 stopped\""),
		rolloutRetryCmd())
}

// startFlags are what a rollout is started with, as it stands in flags.
type startFlags struct {
	groups, devices, windows    []string
	canary, step, haltOn        string
	soak, deadline, silentAfter time.Duration
	older                       bool
}

func rolloutStartCmd() *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use:   "start PRODUCT VERSION --group GROUP",
		Short: "Start a rollout",
		Long: `Bring a published release to the devices of a group, or to some devices. The canary
gets it first, then more devices with each step. A wave is done when each device that
was offered the release is decided: it has committed it and its attestation shows it,
or it failed. When nothing has changed for the time of --soak, the next wave begins;
when more than --halt-on of the decided devices failed, the rollout halts.

Devices that are away hold nothing up: they are offered the release when they come.
Devices that cannot take it are listed as excluded. Rollouts of the product that are
on their way lose their devices to this one.

Windows are times of day, UTC. Shares are percentages of the devices, as 5% or 2.5%.`,
		Example: `  holdfast rollout start pump 1.4.0 --group pumps --canary 5% --step 25% --soak 10m --halt-on 2%
  holdfast rollout start pump 1.4.0 --group pumps --window 22:00-04:00 --deadline 72h --silent-after 30m
  holdfast rollout start pump 1.4.0 --device pump-07 --soak 0s`,
		Args: nArgs(2),
	}
	cmd.Flags().StringArrayVar(&f.groups, "group", nil, "all devices of this group; may be given again")
	cmd.Flags().StringArrayVar(&f.devices, "device", nil, "this device, in place of groups; may be given again")
	cmd.Flags().StringVar(&f.canary, "canary", rollout.DefaultCanary.String(), "share of the devices that gets it first, at least one device")
	cmd.Flags().StringVar(&f.step, "step", rollout.DefaultStep.String(), "share by which each wave is larger than the one before")
	cmd.Flags().DurationVar(&f.soak, "soak", rollout.DefaultSoak, "how long a wave has to stay well before the next")
	cmd.Flags().StringVar(&f.haltOn, "halt-on", rollout.DefaultHaltOn.String(), "share of failed devices beyond which it halts")
	cmd.Flags().DurationVar(&f.deadline, "deadline", rollout.DefaultDeadline, "how long a device has from its offer on")
	cmd.Flags().StringArrayVar(&f.windows, "window", nil, "when devices may start their trial, as 22:00-04:00 UTC; may be given again (default at any time)")
	cmd.Flags().DurationVar(&f.silentAfter, "silent-after", rollout.DefaultSilentAfter, "after which time a device of which nothing is heard has failed")
	cmd.Flags().BoolVar(&f.older, "older-unsafe", false, "offer it to devices that run a newer release too: a drill, they refuse it")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		in, err := f.read(a[0], a[1])
		if err != nil {
			return usageError{err}
		}
		return ask(cmd, "start a rollout of "+a[0]+" "+a[1], func(c *client.Client, ctx context.Context) (operator.Rollout, error) {
			return c.StartRollout(ctx, in)
		}, rolloutSheet)
	}
	return cmd
}

// read makes of flags what the hub is asked.
func (f startFlags) read(product, version string) (operator.StartRollout, error) {
	var in operator.StartRollout
	var err error
	if in.Product, err = release.ParseProduct(product); err != nil {
		return in, err
	}
	if in.Version, err = mcuboot.ParseVersion(version); err != nil {
		return in, err
	}
	if (len(f.groups) == 0) == (len(f.devices) == 0) {
		return in, fmt.Errorf("say which devices: with --group or with --device")
	}
	in.OlderUnsafe = f.older
	for _, g := range f.groups {
		id, err := identity.ParseGroup(g)
		if err != nil {
			return in, fmt.Errorf("--group: %w", err)
		}
		in.Groups = append(in.Groups, id)
	}
	for _, d := range f.devices {
		id, err := identity.ParseDevice(d)
		if err != nil {
			return in, fmt.Errorf("--device: %w", err)
		}
		in.Devices = append(in.Devices, id)
	}
	for _, share := range []struct {
		flag, text string
		to         *float64
	}{{"canary", f.canary, &in.Canary}, {"step", f.step, &in.Step}, {"halt-on", f.haltOn, &in.HaltOn}} {
		p, err := rollout.ParsePercent(share.text)
		if err != nil {
			return in, fmt.Errorf("--%s: %w", share.flag, err)
		}
		*share.to = p.Float()
	}
	if in.Canary == 0 || in.Step == 0 {
		return in, fmt.Errorf("--canary and --step: want more than 0%%")
	}
	for _, w := range f.windows {
		window, err := rollout.ParseWindow(w)
		if err != nil {
			return in, fmt.Errorf("--window: %w", err)
		}
		in.Windows = append(in.Windows, window)
	}
	for _, d := range []struct {
		flag string
		d    time.Duration
		to   *int64
		min  time.Duration
	}{{"soak", f.soak, &in.Soak, 0}, {"deadline", f.deadline, &in.Deadline, rollout.MinDeadline}, {"silent-after", f.silentAfter, &in.SilentAfter, rollout.MinSilent}} {
		if d.d < d.min || d.d%time.Second != 0 {
			return in, fmt.Errorf("--%s %s: want whole seconds, at least %s", d.flag, d.d, d.min)
		}
		*d.to = int64(d.d / time.Second)
	}
	return in, nil
}

func rolloutListCmd() *cobra.Command {
	var q operator.RolloutQuery
	var product string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List rollouts, the newest first",
		Example: "  holdfast rollout list --live\n  holdfast rollout list --product pump --json",
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&product, "product", "", "only of this product")
	cmd.Flags().StringVar(&q.Stage, "stage", "", "only in this stage: planning, running, paused, halted, finished or superseded")
	cmd.Flags().BoolVar(&q.Live, "live", false, "only those that are not over")
	cmd.Flags().StringVar(&q.After, "after", "", "only those older than the rollout with this id")
	cmd.Flags().IntVar(&q.Limit, "limit", 50, "at most so many, up to 500")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q.Product = release.Product(product)
		return ask(cmd, "list rollouts", func(c *client.Client, ctx context.Context) ([]operator.Rollout, error) { return c.Rollouts(ctx, q) }, rolloutTable)
	}
	return cmd
}

func rolloutTable(w writer, rs []operator.Rollout) {
	fmt.Fprintln(w, "ID\tRELEASE\tGROUPS\tSTAGE\tWAVE\tDONE\tFAILED\tOF\tSTARTED\tREASON")
	for _, r := range rs {
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\t%d/%d\t%d\t%d\t%d\t%s\t%s\n", r.ID, r.Product, r.Version, rolloutGroups(r), r.Stage, r.Wave, r.Waves,
			r.Counts.Done, r.Counts.Failed, total(r), stamp(r.Started), plain(r.Reason))
	}
}

func rolloutGroups(r operator.Rollout) string {
	var names []string
	for _, g := range r.Groups {
		names = append(names, string(g))
	}
	return strings.Join(names, ",")
}

// total is how many devices a rollout is for.
func total(r operator.Rollout) int {
	n := r.Counts
	return n.Waiting + n.Offered + n.Updating + n.Committed + n.Done + n.Failed
}

func rolloutShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a rollout",
		Example: "  holdfast rollout show pump-k3x9qa72bn --json",
		Args:    nArgs(1),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "show rollout "+a[0], func(c *client.Client, ctx context.Context) (operator.Rollout, error) { return c.Rollout(ctx, a[0]) }, rolloutSheet)
	}
	return cmd
}

func rolloutSheet(w writer, r operator.Rollout) {
	n := r.Counts
	fmt.Fprintf(w, "id\t%s\nrelease\t%s %s\ngroups\t%s\nstage\t%s: %s\n", r.ID, r.Product, r.Version, rolloutGroups(r), r.Stage, plain(r.Reason))
	fmt.Fprintf(w, "wave\t%d of %d, to %d of %d devices\n", r.Wave, r.Waves, r.Limit, total(r))
	if !r.Soaked.IsZero() {
		fmt.Fprintf(w, "soaks\tuntil %s\n", r.Soaked.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(w, "devices\t%d done, %d failed, %d committed, %d updating, %d offered, %d waiting; %d excluded, %d superseded\n",
		n.Done, n.Failed, n.Committed, n.Updating, n.Offered, n.Waiting, n.Excluded, n.Superseded)
	if len(r.Causes) > 0 {
		fmt.Fprintf(w, "causes\t%s\n", causes(r))
	}
	fmt.Fprintf(w, "plan\tcanary %g%%, step %g%%, soak %s, halt on %g%%, deadline %s, silent after %s\n", r.Canary, r.Step, time.Duration(r.Soak)*time.Second, r.HaltOn,
		time.Duration(r.Deadline)*time.Second, time.Duration(r.SilentAfter)*time.Second)
	for _, m := range r.Windows {
		fmt.Fprintf(w, "window\t%s-%s UTC\n", m.From, m.To)
	}
	fmt.Fprintf(w, "started\t%s by %s\netag\t%s\n", stamp(r.Started), plain(r.By), r.ETag)
}

// causes lists why devices failed or are excluded.
func causes(r operator.Rollout) string {
	var said []string
	for _, cause := range slices.Sorted(maps.Keys(r.Causes)) {
		said = append(said, fmt.Sprintf("%d %s", r.Causes[cause], cause))
	}
	return strings.Join(said, ", ")
}

func rolloutDevicesCmd() *cobra.Command {
	var state string
	var limit int
	cmd := &cobra.Command{
		Use:   "devices ID",
		Short: "List where devices stand in a rollout",
		Long: `List devices of a rollout by id. States are waiting (for their turn, or away),
offered, updating, committed (not yet proved), done, failed, excluded and superseded.`,
		Example: "  holdfast rollout devices pump-k3x9qa72bn --state failed",
		Args:    nArgs(1),
	}
	cmd.Flags().StringVar(&state, "state", "", "only in this state")
	cmd.Flags().IntVar(&limit, "limit", 0, "at most so many (default all)")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "devices of rollout "+a[0], func(c *client.Client, ctx context.Context) ([]operator.RolloutDevice, error) {
			return c.RolloutDevices(ctx, a[0], state, max(limit, 0))
		}, rolloutDeviceTable)
	}
	return cmd
}

func rolloutDeviceTable(w writer, ds []operator.RolloutDevice) {
	fmt.Fprintln(w, "DEVICE\tGROUP\tSTATE\tSTEP\tLOADED\tATTEMPT\tSINCE\tREASON")
	for _, d := range ds {
		loaded := "-"
		if d.Length > 0 {
			loaded = fmt.Sprintf("%d%%", min(d.Bytes, d.Length)*100/d.Length)
		}
		reason := plain(d.Reason)
		if d.Cause != "" {
			reason = d.Cause + ": " + reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", d.Device, d.Group, d.State, dash(plain(d.Step)), loaded, d.Attempt, stamp(d.Changed), reason)
	}
}

// rolloutActCmd is a command that does one thing to a rollout.
func rolloutActCmd(verb, short, long, example string) *cobra.Command {
	var reason, etag string
	cmd := &cobra.Command{Use: verb + " ID", Short: short, Long: long, Example: example, Args: nArgs(1)}
	cmd.Flags().StringVar(&reason, "reason", "", "why; kept in the ledger")
	cmd.Flags().StringVar(&etag, "etag", "", "do it only if the rollout has this ETag")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, verb+" rollout "+a[0], func(c *client.Client, ctx context.Context) (operator.Rollout, error) {
			return c.ActOnRollout(ctx, a[0], verb, operator.RolloutAct{Reason: reason}, etag)
		}, rolloutSheet)
	}
	return cmd
}

func rolloutRetryCmd() *cobra.Command {
	var devices []string
	cmd := rolloutActCmd("retry", "Have devices that failed try again", `Have the devices that failed try again, all of them or those that --device names.
What they failed for is forgotten: a halted rollout can be resumed after.`, "  holdfast rollout retry pump-k3x9qa72bn --device pump-07 && holdfast rollout resume pump-k3x9qa72bn")
	cmd.Flags().StringArrayVar(&devices, "device", nil, "only this device; may be given again")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		in := operator.RolloutAct{}
		in.Reason, _ = cmd.Flags().GetString("reason")
		etag, _ := cmd.Flags().GetString("etag")
		for _, d := range devices {
			id, err := identity.ParseDevice(d)
			if err != nil {
				return usagef("--device: %w", err)
			}
			in.Devices = append(in.Devices, id)
		}
		return ask(cmd, "retry rollout "+a[0], func(c *client.Client, ctx context.Context) (operator.Rollout, error) {
			return c.ActOnRollout(ctx, a[0], "retry", in, etag)
		}, rolloutSheet)
	}
	return cmd
}

// newest returns the rollout that is on its way, the newest of them.
func newest(ctx context.Context, c *client.Client) (operator.Rollout, error) {
	rs, err := c.Rollouts(ctx, operator.RolloutQuery{Live: true, Limit: 1})
	if err == nil && len(rs) == 0 {
		err = fault.New(fault.NotFound, "no rollout is on its way")
	}
	if err != nil {
		return operator.Rollout{}, err
	}
	return rs[0], nil
}
