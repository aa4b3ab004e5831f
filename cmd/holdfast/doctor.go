package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/hub"
	"holdfast/operator"
	"holdfast/posture"
)

func hubCheckCmd(io stdio) *cobra.Command {
	var state string
	var o hub.CheckOptions
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a hub's configuration and state before it starts",
		Long: `Look at the state directory on this machine: configuration (an unknown key is an
error), permissions, keys, authorities, addresses, names, disk, clock and limits.
Nothing is changed. The exit code is 3 when something would keep the hub from
running. With --deep the whole database and ledger are read too, while the hub
does not run.`,
		Example: `  holdfast hub check --state /var/lib/holdfast
  holdfast hub check --deep --json`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&state, "state", defaultState, "directory of the hub's state")
	cmd.Flags().BoolVar(&o.Deep, "deep", false, "read the whole database and ledger")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return findings(io, *asJSON, hub.Check(cmd.Context(), state, o))
	}
	return cmd
}

func hubDoctorCmd(io stdio) *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Diagnose a hub: what is wrong, and what to do",
		Long: `Do what 'hub check' does where the state directory is on this machine, then ask
the running hub through its API: whether it answers, its clock, certificates,
backups, devices that wait or are in quarantine, and what was made weaker on
purpose. Each finding says what to do. The exit code is 3 when something fails.`,
		Example: "  holdfast hub doctor",
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&state, "state", "", "directory of the hub's state, where it is on this machine")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var fs []operator.Finding
		if state != "" {
			fs = hub.Check(cmd.Context(), state, hub.CheckOptions{})
		}
		c, err := connect(cmd)
		if err != nil {
			fs = append(fs, operator.Finding{Check: "operator", State: operator.FindingFail, Text: err.Error(), Fix: "name the profile with --profile"})
		} else {
			fs = append(fs, examine(cmd.Context(), c, time.Now())...)
		}
		return findings(io, *asJSON, fs)
	}
	return cmd
}

// findings shows what was found; that something fails is an error.
func findings(io stdio, asJSON bool, fs []operator.Finding) error {
	failed, warned := 0, 0
	for _, f := range fs {
		switch f.State {
		case operator.FindingFail:
			failed++
		case operator.FindingWarn:
			warned++
		}
	}
	err := show(io.Out, asJSON, fs, func(w writer) {
		for _, f := range fs {
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.State, f.Check, f.Text)
			if f.Fix != "" && f.State != operator.FindingOK {
				fmt.Fprintf(w, "\t\t-> %s\n", f.Fix)
			}
		}
		fmt.Fprintf(w, "%d checks, %d warnings, %d failures\n", len(fs), warned, failed)
	})
	if err == nil && failed > 0 {
		err = fault.New(fault.Integrity, "%d of %d checks failed", failed, len(fs))
	}
	return err
}

// oldBackup is how old the newest backup may be.
const oldBackup = 7 * 24 * time.Hour

// examine asks a running hub.
func examine(ctx context.Context, c *client.Client, now time.Time) []operator.Finding {
	var fs []operator.Finding
	add := func(check, state, text, fix string) {
		fs = append(fs, operator.Finding{Check: check, State: state, Text: text, Fix: fix})
	}
	h, err := c.Hub(ctx)
	if err != nil {
		add("hub", operator.FindingFail, err.Error(), "is it running? 'journalctl -u holdfast' or its log says more")
		return fs
	}
	add("hub", operator.FindingOK, fmt.Sprintf("version %s, %d devices, %d connected", h.Version, h.Devices, h.Connected), "")
	if h.Version != version {
		add("hub", operator.FindingWarn, fmt.Sprintf("this program has version %s", version), "use the same version, or some commands may not know one another")
	}
	if h.Legacy != "" {
		add("weak", operator.FindingWarn, "the legacy listener is on at "+h.Legacy, "mend the devices' cipher tables, then remove legacy from hub.json")
	}
	examineGroups(ctx, c, add)
	examineDevices(ctx, c, add)
	examineHub(h, now, add)
	return fs
}

type adder func(check, state, text, fix string)

// examineGroups names what was made weaker on purpose.
func examineGroups(ctx context.Context, c *client.Client, add adder) {
	gs, err := c.Groups(ctx)
	if err != nil {
		add("groups", operator.FindingFail, err.Error(), "")
		return
	}
	for _, g := range gs {
		for _, w := range []struct {
			on   bool
			text string
		}{
			{g.Simulation, "software TPMs count as hardware roots"},
			{g.FileKeys, "keys may be in files"},
			{g.TLS12, "TLS 1.2 is allowed"},
			{g.SelfSigned, "self-signed certificates are accepted"},
			{g.ThreadX, "the legacy listener is allowed"},
			{len(g.Policy.Require) == 0, "its policy demands nothing"},
		} {
			if w.on {
				add("weak", operator.FindingWarn, fmt.Sprintf("group %s: %s", g.ID, w.text), "")
			}
		}
	}
}

func examineDevices(ctx context.Context, c *client.Client, add adder) {
	ps, err := c.Pending(ctx)
	if err != nil {
		add("pending", operator.FindingFail, err.Error(), "")
	} else if len(ps) > 0 {
		add("pending", operator.FindingWarn, fmt.Sprintf("%d devices wait for somebody to decide", len(ps)), "'holdfast fleet pending', then accept or refuse")
	}
	ds, err := c.Devices(ctx, "", string(posture.Quarantined))
	if err != nil {
		add("devices", operator.FindingFail, err.Error(), "")
	} else if len(ds) > 0 {
		add("devices", operator.FindingWarn, fmt.Sprintf("%d devices are in quarantine", len(ds)), "'holdfast fleet list --status quarantined' says which, 'fleet show ID' why")
	}
}

// examineHub looks at what the hub says of itself.
func examineHub(h operator.Hub, now time.Time, add adder) {
	if off := h.Time.Sub(now).Abs(); off > time.Minute {
		add("clock", operator.FindingWarn, fmt.Sprintf("the hub's clock differs from this machine's by %s", off.Round(time.Second)), "set whichever is wrong")
	}
	const fix = "'holdfast hub backup --out FILE', each day, to another machine"
	switch age := now.Sub(h.LastBackup); {
	case h.LastBackup.IsZero():
		add("backup", operator.FindingWarn, "no backup was ever made", fix)
	case age > oldBackup:
		add("backup", operator.FindingWarn, fmt.Sprintf("the newest backup is %d days old", int(age.Hours()/24)), fix)
	default:
		add("backup", operator.FindingOK, "the newest is of "+h.LastBackup.Format(time.RFC3339), "")
	}
}
