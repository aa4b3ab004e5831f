package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/operator"
	"holdfast/posture"
	"holdfast/posture/policy"
)

func policyCmd() *cobra.Command {
	return noun("policy", "Say what devices have to show, and try it before it is set",
		policyListCmd(), policyShowCmd(), policyCheckCmd(), policySetCmd(), policyFmtCmd())
}

func policyListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the policies of the groups", Example: "  holdfast policy list", Args: noArgs}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list policies", (*client.Client).Groups, func(w writer, gs []operator.Group) {
			fmt.Fprintln(w, "GROUP\tPOLICY\tVERSION\tDEMANDS\tCONDITIONS\tFULL\tSHORT")
			for _, g := range gs {
				p := g.Policy
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", g.ID, p.Name, p.Version, len(p.Require), len(p.Conditions), policy.Text(posture.Duration(p.Full())), policy.Text(posture.Duration(p.Short())))
			}
		})
	}
	return cmd
}

func policyShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show GROUP",
		Short: "Print a group's policy as text, or a built-in one's",
		Long: `Print the policy of a group in its text form, to start a file from. standard,
bench and lenient are the built-in policies, unless a group has that name.`,
		Example: `  holdfast policy show pumps >pumps.policy`,
		Args:    nArgs(1),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "show the policy of "+a[0], func(c *client.Client, ctx context.Context) (posture.Policy, error) {
			g, err := findGroup(ctx, c, a[0])
			if fault.Of(err) == fault.NotFound {
				if p, unknown := posture.Builtin(a[0]); unknown == nil {
					return p, nil
				}
			}
			return g.Policy, err
		}, func(w writer, p posture.Policy) { fmt.Fprint(w, policy.Print(p)) })
	}
	return cmd
}

// errLoss is the outcome of a check that --fail-on-loss makes an error.
var errLoss = errors.New("some devices would be worse off")

func policyCheckCmd() *cobra.Command {
	var group string
	var failOnLoss bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what a policy would do to the devices, without setting it",
		Long: `Hold a policy against what the hub knows of its devices, and say who would gain,
renew for the short lifetime alone, lose renewal, or be quarantined at once, and
why: the worst first. Nothing changes. With --fail-on-loss the exit code is 3
when a device would be worse off. FILE is text or JSON, "-" standard input.`,
		Example: `  holdfast policy check pumps.policy --group pumps
  holdfast policy check pumps.policy --group pumps --fail-on-loss`,
		Args: nArgs(1),
	}
	cmd.Flags().StringVar(&group, "group", "", "only the devices of this group (all)")
	cmd.Flags().BoolVar(&failOnLoss, "fail-on-loss", false, "exit with code 3 when a device would be worse off")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		b, _, err := loadPolicy(cmd.InOrStdin(), a[0])
		if err != nil {
			return err
		}
		var worse bool
		err = ask(cmd, "check the policy", func(c *client.Client, ctx context.Context) (operator.PolicyEffect, error) {
			in := operator.PolicyCheck{Group: identity.Group(group)}
			if isJSON(b) {
				in.Policy = b
			} else {
				in.Text = string(b)
			}
			fx, err := c.CheckPolicy(ctx, in)
			worse = fx.Lose+fx.Shorter+fx.Quarantined > 0
			return fx, err
		}, effectSheet)
		if err == nil && worse && failOnLoss {
			return fault.New(fault.Integrity, "%w", errLoss)
		}
		return err
	}
	return cmd
}

// effectSheet shows what a policy would do.
func effectSheet(w writer, fx operator.PolicyEffect) {
	fmt.Fprintf(w, "of %s under policy %s:\n", plural(fx.Devices, "device"), fx.Policy.Name)
	for _, l := range []struct {
		n    int
		text string
	}{
		{fx.Quarantined, "would be quarantined at once"},
		{fx.Lose - fx.Quarantined, "would lose renewal"},
		{fx.Shorter, "would renew for the short lifetime alone"},
		{fx.Gain, "would be better off"},
		{fx.Unchanged, "would stay as they are"},
	} {
		if l.n > 0 {
			fmt.Fprintf(w, "  %d\t%s\n", l.n, l.text)
		}
	}
	if len(fx.Changes) == 0 {
		return
	}
	fmt.Fprintln(w, "\nDEVICE\tGROUP\tDEMANDS\tSTATUS\tBECOMES\tWHY")
	for _, c := range fx.Changes {
		why := strings.Join(c.Reasons, "; ")
		if r := []rune(why); len(r) > maxWhy {
			why = string(r[:maxWhy-1]) + "…"
		}
		fmt.Fprintf(w, "%s\t%s\t%s > %s\t%s\t%s\t%s\n", c.Device, c.Group, c.From, c.To, c.Status, c.Becomes, why)
	}
	if fx.Left > 0 {
		fmt.Fprintf(w, "and %s more\n", plural(fx.Left, "device"))
	}
}

// maxWhy is how many characters of reasons a line of a table shows.
const maxWhy = 100

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func policySetCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set GROUP FILE",
		Short: "Set a group's policy",
		Long: `Set the policy of a group to that of a file, in text or JSON ("-": standard
input), and leave everything else of the group as it is. Its version has to be
higher than that of the policy which it replaces; one without a version gets the
next. It takes effect at once: see 'holdfast policy check' first.`,
		Example: `  holdfast policy set pumps pumps.policy`,
		Args:    nArgs(2),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		id, err := identity.ParseGroup(a[0])
		if err != nil {
			return usageError{err}
		}
		b, _, err := loadPolicy(cmd.InOrStdin(), a[1])
		if err != nil {
			return err
		}
		return ask(cmd, fmt.Sprintf("set the policy of %s", id), func(c *client.Client, ctx context.Context) (operator.Group, error) {
			return c.ChangeGroup(ctx, id, func(g *operator.SetGroup) { putPolicy(g, b) })
		}, func(w writer, g operator.Group) {
			fmt.Fprintf(w, "group %s has policy %s, version %d\n", g.ID, g.Policy.Name, g.Policy.Version)
		})
	}
	return cmd
}

func policyFmtCmd() *cobra.Command {
	var write, check bool
	cmd := &cobra.Command{
		Use:   "fmt FILE",
		Short: "Print a policy's file in the one form that it should have",
		Long: `Print a policy with its columns under one another; comments stay. A policy in
JSON becomes text. --write changes the file instead, and --check only says
whether it would: then the exit code is 3. FILE "-" is standard input.`,
		Example: `  holdfast policy fmt --write pumps.policy`,
		Args:    nArgs(1),
	}
	cmd.Flags().BoolVarP(&write, "write", "w", false, "change the file")
	cmd.Flags().BoolVar(&check, "check", false, "say whether the file has this form")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if write && check || write && a[0] == "-" {
			return usagef("--write changes a file: it goes neither with --check nor with standard input")
		}
		b, text, err := loadPolicy(cmd.InOrStdin(), a[0])
		switch {
		case err != nil:
			return err
		case check && text != string(b):
			return fault.New(fault.Integrity, "%s has another form: 'holdfast policy fmt --write' changes it", a[0])
		case check, write && text == string(b):
			return nil
		case write:
			return atomicfile.Write(a[0], []byte(text), 0o644)
		}
		_, err = io.WriteString(cmd.OutOrStdout(), text)
		return err
	}
	return cmd
}

// loadPolicy reads a policy's file and returns it and its one form. What is
// wrong with it is said with the file's name and the place in it.
func loadPolicy(in io.Reader, name string) (b []byte, text string, err error) {
	if name == "-" {
		b, err = io.ReadAll(io.LimitReader(in, posture.MaxPolicy+1))
	} else {
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the policy: %w", err)
	}
	if text, err = policy.Format(b); err == nil {
		return b, text, nil
	}
	if wrong, ok := errors.AsType[*policy.Error](err); ok {
		return nil, "", fault.New(fault.Invalid, "%s:%d:%d: %s", name, wrong.Line, wrong.Column, wrong.Text)
	}
	return nil, "", fault.New(fault.Invalid, "%s: %w", name, err)
}

// isJSON reports whether a policy is in JSON rather than in text.
func isJSON(b []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) }

// putPolicy puts a policy, in text or JSON, into what a group is set to.
func putPolicy(g *operator.SetGroup, b []byte) {
	if isJSON(b) {
		g.Policy = b
		return
	}
	g.Text = string(b)
}
