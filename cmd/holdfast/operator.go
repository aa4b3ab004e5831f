package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
)

func operatorCmd(io stdio) *cobra.Command {
	return noun("operator", "Say who may ask this hub, and what opens it to them",
		operatorAddCmd(io), operatorChangeCmd(), operatorListCmd(), operatorShowCmd(), operatorRevokeCmd(),
		noun("certificate", "Make operators' certificates", certificateIssueCmd(io), certificateRenewCmd(io)),
		linkCmd("link [NAME]", "Make a link that logs a browser in once", "  holdfast operator link\n  holdfast operator link ann", 1),
		noun("login", "See and end the sessions of browsers", loginListCmd(), loginEndCmd()))
}

// loginCmd is "operator link" of oneself, by the word that people try first.
func loginCmd() *cobra.Command {
	return linkCmd("login", "Make a link that logs a browser in to the console", "  holdfast login", 0)
}

func linkCmd(use, short, example string, most int) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: fromTo(0, most),
		Long: short + `. It is good for two
minutes and once. Then add a passkey in the console, and log in with that.`}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		name := strings.Join(a, "")
		return ask(cmd, "make a login link", func(c *client.Client, ctx context.Context) (operator.Link, error) {
			return c.NewLink(ctx, name)
		}, func(w writer, l operator.Link) { fmt.Fprintln(w, l.URL) })
	}
	return cmd
}

// accountFlags are what an account is to be.
type accountFlags struct {
	role    string
	groups  []string
	subject string
}

func (f *accountFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.role, "role", "", "viewer, operator or administrator (required)")
	cmd.Flags().StringSliceVar(&f.groups, "group", nil, "only devices of this group (repeatable; default: all groups)")
	cmd.Flags().StringVar(&f.subject, "oidc", "", "what the OIDC provider calls it: an e-mail address, or 'ISSUER SUBJECT'")
}

func (f *accountFlags) account(name string) (operator.Account, error) {
	a := operator.Account{Name: name, Role: operator.Role(f.role), Subject: f.subject}
	if !slices.Contains(operator.Roles(), a.Role) {
		return a, usagef("--role %q: want viewer, operator or administrator", f.role)
	}
	var err error
	a.Groups, err = groupNames(f.groups)
	return a, err
}

// groupNames reads the groups of --group; nil without any.
func groupNames(names []string) ([]identity.Group, error) {
	var gs []identity.Group
	for _, n := range names {
		g, err := identity.ParseGroup(n)
		if err != nil {
			return nil, usagef("--group: %w", err)
		}
		gs = append(gs, g)
	}
	return gs, nil
}

func groupsText(gs []identity.Group) string {
	if gs == nil {
		return "all"
	}
	return commas(gs)
}

func commas(gs []identity.Group) string {
	var words []string
	for _, g := range gs {
		words = append(words, string(g))
	}
	return strings.Join(words, ",")
}

func operatorAddCmd(io stdio) *cobra.Command {
	var f accountFlags
	var out string
	cmd := &cobra.Command{
		Use:   "add NAME --role ROLE",
		Short: "Add an account, for a person or a machine",
		Long: `Add an account. A viewer sees, an operator acts on devices, an administrator
changes groups, policies, authorities and accounts; with --group it is all of that
for these groups alone. Nobody can give more than they have. With --out the account
gets a certificate, and DIR becomes a profile for the command line: hand it over on
a way that nobody else reads. Without, make a login link ('operator link NAME').`,
		Example: `  holdfast operator add ann --role administrator --oidc ann@example.com
  holdfast operator add ci --role viewer --group pumps --out ci-profile`,
		Args: nArgs(1),
	}
	f.add(cmd)
	cmd.Flags().StringVar(&out, "out", "", "make a certificate, and a profile in this directory")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		account, err := f.account(a[0])
		if err != nil {
			return err
		}
		if out != "" {
			if err := client.CheckNew(out); err != nil {
				return err
			}
		}
		return ask(cmd, "add operator "+a[0], func(c *client.Client, ctx context.Context) (operator.Account, error) {
			added, err := c.AddAccount(ctx, account)
			if err != nil || out == "" {
				return added, err
			}
			return added, certify(ctx, cmd, io, c, a[0], out)
		}, accountSheet)
	}
	return required(cmd, "role")
}

// certify makes a certificate of an account and a profile with it.
func certify(ctx context.Context, cmd *cobra.Command, io stdio, c *client.Client, name, out string) error {
	_, p, err := loadProfile(cmd)
	if err != nil {
		return err
	}
	credential, err := c.NewCredential(ctx, name)
	if err != nil {
		return fmt.Errorf("certify %s: %w", name, err)
	}
	if err := p.Write(out, credential); err != nil {
		return fmt.Errorf("write the profile of %s: %w", name, err)
	}
	fmt.Fprintf(io.Err, "profile of %s: %s\n", name, filepath.Join(out, profileName))
	return nil
}

func operatorChangeCmd() *cobra.Command {
	var f accountFlags
	cmd := &cobra.Command{
		Use:   "change NAME --role ROLE",
		Short: "Give an account another role, other groups or another subject",
		Long: `Change an account: it has what is given here, and nothing of what it had. Its
browsers have to log in again; its tokens can do no more than it can.`,
		Example: "  holdfast operator change ann --role operator --group pumps --oidc ann@example.com",
		Args:    nArgs(1),
	}
	f.add(cmd)
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		account, err := f.account(a[0])
		if err != nil {
			return err
		}
		return ask(cmd, "change operator "+a[0], func(c *client.Client, ctx context.Context) (operator.Account, error) {
			return c.ChangeAccount(ctx, account)
		}, accountSheet)
	}
	return required(cmd, "role")
}

func operatorListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List accounts: one's own, and those that one administers", Example: "  holdfast operator list --json", Args: noArgs}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list operators", (*client.Client).Accounts, func(w writer, as []operator.Account) {
			fmt.Fprintln(w, "NAME\tROLE\tGROUPS\tPASSKEYS\tOIDC\tLAST SEEN\tSTATE")
			for _, a := range as {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", a.Name, a.Role, groupsText(a.Groups), len(a.Passkeys), dash(a.Subject), stamp(a.LastSeen), accountState(a))
			}
		})
	}
	return cmd
}

func accountState(a operator.Account) string {
	if a.Revoked.IsZero() {
		return "live"
	}
	return "revoked " + stamp(a.Revoked)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// stamp is a time to the minute, UTC.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

func operatorShowCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "show NAME", Short: "Show an account and its passkeys", Example: "  holdfast operator show ann", Args: nArgs(1)}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "show operator "+a[0], func(c *client.Client, ctx context.Context) (operator.Account, error) {
			as, err := c.Accounts(ctx)
			if err != nil {
				return operator.Account{}, err
			}
			i := slices.IndexFunc(as, func(acc operator.Account) bool { return acc.Name == a[0] })
			if i < 0 {
				return operator.Account{}, fault.New(fault.NotFound, "there is no account %q that you administer", a[0])
			}
			return as[i], nil
		}, accountSheet)
	}
	return cmd
}

func accountSheet(w writer, a operator.Account) {
	fmt.Fprintf(w, "name\t%s\nrole\t%s\ngroups\t%s\nOIDC\t%s\nadded\t%s by %s\nlast seen\t%s\nstate\t%s\n",
		a.Name, a.Role, groupsText(a.Groups), dash(a.Subject), stamp(a.Created), dash(a.By), stamp(a.LastSeen), accountState(a))
	for _, k := range a.Passkeys {
		fmt.Fprintf(w, "passkey\t%s, of %s, last used %s\n", k.Name, stamp(k.Created), stamp(k.LastUsed))
	}
}

func operatorRevokeCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke NAME --reason WHY",
		Short: "End an account for good, with all that opens it",
		Long: `End an account: its certificates, passkeys, tokens, links and sessions open
nothing from then on. Its name is not used again, because the ledger knows it.`,
		Example: "  holdfast operator revoke ann --reason 'left the firm'",
		Args:    nArgs(1),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; kept in the ledger (required)")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "revoke operator "+a[0], func(c *client.Client, ctx context.Context) (map[string]string, error) {
			return map[string]string{"name": a[0], "revoked": reason}, c.RevokeAccount(ctx, a[0], reason)
		}, func(w writer, _ map[string]string) { fmt.Fprintf(w, "revoked %s\n", a[0]) })
	}
	return required(cmd, "reason")
}

func certificateIssueCmd(io stdio) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "issue NAME --out DIR",
		Short:   "Make a certificate of an account, and a profile with it",
		Example: "  holdfast operator certificate issue ann --out ann-profile",
		Args:    nArgs(1),
	}
	cmd.Flags().StringVar(&out, "out", "", "directory of the new profile (required)")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if err := client.CheckNew(out); err != nil {
			return err
		}
		return ask(cmd, "certificate of "+a[0], func(c *client.Client, ctx context.Context) (map[string]string, error) {
			return map[string]string{"name": a[0], "profile": filepath.Join(out, profileName)}, certify(ctx, cmd, io, c, a[0], out)
		}, func(writer, map[string]string) {})
	}
	return required(cmd, "out")
}

func certificateRenewCmd(io stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Make a new key and certificate of oneself, in the same profile",
		Long: `Make a new key and have it certified, and put both into the profile that the
command runs with. The certificate of before stays good until it expires; do this
before that.`,
		Example: "  holdfast operator certificate renew",
		Args:    noArgs,
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		path, p, err := loadProfile(cmd)
		if err != nil {
			return err
		}
		return ask(cmd, "renew the certificate", func(c *client.Client, ctx context.Context) (map[string]string, error) {
			me, err := c.Me(ctx)
			if err != nil {
				return nil, err
			}
			credential, err := c.NewCredential(ctx, me.Name)
			if err != nil {
				return nil, err
			}
			return map[string]string{"name": me.Name, "profile": path}, p.Renew(path, credential)
		}, func(w writer, done map[string]string) {
			fmt.Fprintf(w, "renewed the certificate of %s\n", done["name"])
		})
	}
	return cmd
}

func loginListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the sessions of browsers", Example: "  holdfast operator login list", Args: noArgs}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list logins", (*client.Client).Logins, func(w writer, ls []operator.Login) {
			fmt.Fprintln(w, "ID\tOPERATOR\tVIA\tFROM\tSINCE\tUNTIL\tBROWSER")
			for _, l := range ls {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.ID, l.Account, l.Via, l.Remote, stamp(l.Created), stamp(l.Expires), dash(l.Agent))
			}
		})
	}
	return cmd
}

func loginEndCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "end ID", Short: "End the session of a browser", Example: "  holdfast operator login end 5Q7WZ2", Args: nArgs(1)}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "end the session", func(c *client.Client, ctx context.Context) (map[string]string, error) {
			return map[string]string{"ended": a[0]}, c.EndLogin(ctx, a[0])
		}, func(w writer, _ map[string]string) { fmt.Fprintf(w, "ended %s\n", a[0]) })
	}
	return cmd
}
