package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/operator"
)

func tokenCmd(io stdio) *cobra.Command {
	return noun("token", "Make and end API tokens, for scripts", tokenAddCmd(io), tokenListCmd(), tokenRemoveCmd())
}

func tokenAddCmd(io stdio) *cobra.Command {
	var in operator.AddToken
	var role, out string
	var groups []string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make an API token of one's own account",
		Long: `Make a token, which a script sends as 'Authorization: Bearer hft_...'. It can do
no more than whoever makes it, never what takes a fresh proof, and is shown this
once. With --out the token goes into a profile for the command line instead.`,
		Example: `  holdfast token add nightly-report --ttl 720h
  holdfast token add ci --role operator --group pumps --out ci-profile`,
		Args: nArgs(1),
	}
	cmd.Flags().StringVar(&role, "role", string(operator.RoleViewer), "viewer, operator or administrator")
	cmd.Flags().StringSliceVar(&groups, "group", nil, "only devices of this group (repeatable; default: one's own groups)")
	cmd.Flags().DurationVar(&ttl, "ttl", 90*24*time.Hour, "how long it is good, up to 8784h")
	cmd.Flags().StringVar(&out, "out", "", "make a profile in this directory in place of showing the secret")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		in.Name, in.Role, in.TTL = a[0], operator.Role(role), seconds(ttl)
		if !slices.Contains(operator.Roles(), in.Role) {
			return usagef("--role %q: want viewer, operator or administrator", role)
		}
		var err error
		if in.Groups, err = groupNames(groups); err != nil {
			return err
		}
		if out != "" {
			if err := client.CheckNew(out); err != nil {
				return err
			}
		}
		return ask(cmd, "add token "+a[0], func(c *client.Client, ctx context.Context) (operator.Token, error) {
			t, err := c.AddToken(ctx, in)
			if err != nil || out == "" {
				return t, err
			}
			secret := t.Secret
			t.Secret = ""
			return t, tokenProfile(cmd, io, out, secret)
		}, func(w writer, t operator.Token) {
			if t.Secret != "" {
				fmt.Fprintln(w, t.Secret)
				fmt.Fprintf(io.Err, "token %s of %s: %s for groups %s, until %s; it is not shown again\n", t.ID, t.Account, t.Role, groupsText(t.Groups), stamp(t.Expires))
			}
		})
	}
	return cmd
}

// tokenProfile makes a profile with a token.
func tokenProfile(cmd *cobra.Command, io stdio, out, secret string) error {
	_, p, err := loadProfile(cmd)
	if err != nil {
		return err
	}
	if err := p.WriteToken(out, secret); err != nil {
		return fmt.Errorf("write the profile: %w", err)
	}
	fmt.Fprintf(io.Err, "profile: %s\n", filepath.Join(out, profileName))
	return nil
}

func tokenListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List tokens: one's own, and of accounts that one administers", Example: "  holdfast token list --json", Args: noArgs}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list tokens", (*client.Client).Tokens, func(w writer, ts []operator.Token) {
			fmt.Fprintln(w, "ID\tNAME\tOPERATOR\tROLE\tGROUPS\tUNTIL\tLAST USED")
			for _, t := range ts {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.Name, t.Account, t.Role, groupsText(t.Groups), stamp(t.Expires), stamp(t.LastUsed))
			}
		})
	}
	return cmd
}

func tokenRemoveCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "remove ID", Short: "End a token: it opens nothing from then on", Example: "  holdfast token remove 4kq2p7", Args: nArgs(1)}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "remove token "+a[0], func(c *client.Client, ctx context.Context) (map[string]string, error) {
			return map[string]string{"id": a[0]}, c.RemoveToken(ctx, a[0])
		}, func(w writer, _ map[string]string) { fmt.Fprintf(w, "removed token %s\n", a[0]) })
	}
	return cmd
}
