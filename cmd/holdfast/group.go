package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/posture/policy"
)

func groupCmd() *cobra.Command {
	return noun("group", "Make device groups and say what their devices have to show",
		groupCreateCmd(), groupListCmd(), groupShowCmd())
}

func groupCreateCmd() *cobra.Command {
	var g operator.SetGroup
	var from string
	cmd := &cobra.Command{
		Use:     "create NAME",
		Aliases: []string{"set"},
		Short:   "Make a group, or change one",
		Long: `Make a group or change one. --policy takes a built-in policy (standard, bench,
lenient) or a file with a policy, in text or JSON; 'holdfast policy show NAME' prints
one to start from. Limits hold for each device from its next connection on. With
--product, published releases of the product are known good in the group without a
'holdfast reference add'; left out it stays as it was, and - takes it away.`,
		Example: `  holdfast group create pumps --policy standard
  holdfast group set pumps --policy standard --product pump
  holdfast group create meters --maker-ca maker --ids 'meter-*' --policy lenient
  holdfast group create sensors --rate 10 --bytes 4096 --max-message 1024`,
		Args: nArgs(1),
	}
	cmd.Flags().StringVar(&from, "policy", "standard", "built-in policy or policy file")
	cmd.Flags().StringVar(&g.Product, "product", "", "product whose published releases its devices may run (-: none)")
	cmd.Flags().BoolVar(&g.Simulation, "simulation", false, "let software TPMs count as hardware roots")
	cmd.Flags().BoolVar(&g.FileKeys, "file-keys", false, "let devices without a TPM keep their key in a file")
	cmd.Flags().BoolVar(&g.SelfSigned, "legacy-selfsigned", false, "accept self-signed certificates that are enrolled by SHA-256; identity measures fail")
	cmd.Flags().BoolVar(&g.TLS12, "tls12", false, "allow TLS 1.2 with ECDHE and AEAD")
	cmd.Flags().BoolVar(&g.ThreadX, "legacy-threadx", false, "allow the legacy listener, for stock ThreadX firmware")
	cmd.Flags().StringSliceVar(&g.MakerCAs, "maker-ca", nil, "maker's CA that speaks for the group's ids")
	cmd.Flags().StringSliceVar(&g.IDs, "ids", nil, "ids or patterns that the maker's CA may certify")
	cmd.Flags().IntVar(&g.Limits.MessagesPerSecond, "rate", 0, "messages a second that a device may send (0: the hub's default, as for the other limits)")
	cmd.Flags().IntVar(&g.Limits.BytesPerSecond, "bytes", 0, "bytes a second that a device may send")
	cmd.Flags().IntVar(&g.Limits.BurstSeconds, "burst", 0, "seconds for which a silent device saves both up")
	cmd.Flags().IntVar(&g.Limits.MaxMessageBytes, "max-message", 0, "bytes of one telemetry message")
	cmd.Flags().IntVar(&g.Limits.InFlight, "in-flight", 0, "messages of a device that wait for their acknowledgement")
	cmd.Flags().IntVar(&g.Limits.GroupMessagesPerSecond, "group-rate", 0, "messages a second that all devices of the group may send together")
	cmd.Flags().IntVar(&g.Limits.GroupBytesPerSecond, "group-bytes", 0, "bytes a second that all devices of the group may send together")
	cmd.Flags().IntVar(&g.Limits.DownloadBytesPerSecond, "download", 0, "bytes of releases a second that a device may fetch")
	cmd.Flags().IntVar(&g.Limits.GroupDownloadBytesPerSecond, "group-download", 0, "bytes of releases a second that all devices of the group may fetch together")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		id, err := identity.ParseGroup(a[0])
		if err != nil {
			return usageError{err}
		}
		if err := readPolicy(&g, from); err != nil {
			return err
		}
		return ask(cmd, fmt.Sprintf("group %s", id), func(c *client.Client, ctx context.Context) (operator.Group, error) {
			return c.SetGroup(ctx, id, g)
		}, func(w writer, out operator.Group) {
			fmt.Fprintf(w, "group %s demands %d measures (policy %s)\n", out.ID, len(out.Policy.Require), out.Policy.Name)
		})
	}
	return cmd
}

// readPolicy takes the name of a built-in policy or a file.
func readPolicy(g *operator.SetGroup, from string) error {
	if !strings.ContainsAny(from, "./") {
		g.PolicyName = from
		return nil
	}
	b, _, err := loadPolicy(nil, from)
	if err != nil {
		return err
	}
	putPolicy(g, b)
	return nil
}

func groupListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List groups", Example: "  holdfast group list", Args: noArgs}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list groups", (*client.Client).Groups, func(w writer, gs []operator.Group) {
			fmt.Fprintln(w, "GROUP\tPOLICY\tDEMANDS\tWEAKENED BY\tPRODUCT\tMAKER CAS\tIDS")
			for _, g := range gs {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", g.ID, g.Policy.Name, len(g.Policy.Require),
					weakened(g), cmp.Or(string(g.Product), "-"), strings.Join(g.MakerCAs, " "), strings.Join(g.IDs, " "))
			}
		})
	}
	return cmd
}

// weakened names a group's weak options.
func weakened(g operator.Group) string {
	var w []string
	for _, o := range []struct {
		on   bool
		name string
	}{{g.Simulation, "simulation"}, {g.FileKeys, "file-keys"}, {g.TLS12, "tls12"}, {g.SelfSigned, "legacy-selfsigned"}, {g.ThreadX, "legacy-threadx"}} {
		if o.on {
			w = append(w, o.name)
		}
	}
	if len(w) == 0 {
		return "-"
	}
	return strings.Join(w, " ")
}

func groupShowCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "show NAME", Short: "Show a group and its policy", Example: "  holdfast group show pumps --json", Args: nArgs(1)}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "show group "+a[0], func(c *client.Client, ctx context.Context) (operator.Group, error) {
			return findGroup(ctx, c, a[0])
		}, groupSheet)
	}
	return cmd
}

// findGroup finds a group by its name.
func findGroup(ctx context.Context, c *client.Client, name string) (operator.Group, error) {
	gs, err := c.Groups(ctx)
	if err != nil {
		return operator.Group{}, err
	}
	i := slices.IndexFunc(gs, func(g operator.Group) bool { return string(g.ID) == name })
	if i < 0 {
		return operator.Group{}, fault.New(fault.NotFound, "no group %q", name)
	}
	return gs[i], nil
}

func groupSheet(w writer, g operator.Group) {
	fmt.Fprintf(w, "group\t%s\npolicy\t%s, version %d\nproduct\t%s\nweakened by\t%s\n", g.ID, g.Policy.Name, g.Policy.Version,
		cmp.Or(string(g.Product), "-"), weakened(g))
	for _, l := range []struct {
		name string
		n    int
	}{{"messages a second", g.Limits.MessagesPerSecond}, {"bytes a second", g.Limits.BytesPerSecond}, {"seconds of burst", g.Limits.BurstSeconds},
		{"bytes a message", g.Limits.MaxMessageBytes}, {"in flight", g.Limits.InFlight},
		{"messages a second together", g.Limits.GroupMessagesPerSecond}, {"bytes a second together", g.Limits.GroupBytesPerSecond},
		{"bytes of releases a second", g.Limits.DownloadBytesPerSecond}, {"bytes of releases a second together", g.Limits.GroupDownloadBytesPerSecond}} {
		if l.n > 0 {
			fmt.Fprintf(w, "%s\t%d\n", l.name, l.n)
		}
	}
	fmt.Fprintln(w, "\nMEASURE\tGRADE AT LEAST\tNOT OLDER THAN\tMAY BE UNKNOWN")
	for _, r := range g.Policy.Require {
		old, grace := "-", "-"
		if r.MaxAge > 0 {
			old = policy.Text(r.MaxAge)
		}
		if r.GraceUnknown {
			grace = "with grace"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Measure, r.Grade, old, grace)
	}
	if len(g.Policy.Conditions) > 0 {
		fmt.Fprintln(w, "\nWHILE THIS HOLDS\tIT IS\tBECAUSE")
	}
	for _, c := range g.Policy.Conditions {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.When, c.Then, c.Reason)
	}
}
