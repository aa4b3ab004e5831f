package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/statement"
)

func auditorCmd() *cobra.Command {
	return noun("auditor", "Say whose audits of firmware count", auditorKeygenCmd(), auditorAddCmd(), auditorListCmd(), auditorRemoveCmd(),
		noun("statements", "Look at what auditors have signed", statementsListCmd(), statementsShowCmd(), statementsRemoveCmd()))
}

func auditorKeygenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make an auditor's key",
		Long: `Make an auditor's key: ECDSA P-256, the private half in FILE (PKCS #8, PEM, for its
owner alone) and the public half in FILE.pub, which a hub's administrator registers.
A file that is there is never replaced.`,
		Example: "  holdfast auditor keygen auditor.key",
		Args:    nArgs(1),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if err := makeAuditorKey(a[0]); err != nil {
			return err
		}
		made := map[string]string{"private": a[0], "public": a[0] + ".pub"}
		return show(cmd.OutOrStdout(), *asJSON, made, func(w writer) { fmt.Fprintf(w, "made %s, and %s.pub to give to others\n", a[0], a[0]) })
	}
	return cmd
}

func makeAuditorKey(path string) error {
	for _, name := range []string{path, path + ".pub"} {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already, and keys are never replaced", name)
		}
	}
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	public, err := publicText(key.Public())
	if err != nil {
		return err
	}
	private, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(path, private, 0o600); err != nil {
		return err
	}
	return atomicfile.Write(path+".pub", public, 0o644)
}

func publicText(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func auditorAddCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add NAME KEY.pub",
		Short: "Register an auditor's key: what it signs of firmware counts",
		Long: `Register the public key (PEM: ECDSA P-256 or Ed25519) of somebody whose audits this
hub believes. It has to be a key of its own: none that signs releases, certifies, or
opens anything on this hub.`,
		Example: "  holdfast auditor add lab auditor.key.pub",
		Args:    nArgs(2),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		text, err := os.ReadFile(a[1])
		if err != nil {
			return fmt.Errorf("read the key: %w", err)
		}
		if strings.Contains(string(text), "PRIVATE") {
			return usagef("%s is a private key: it stays with the auditor, and %s.pub is registered", a[1], a[1])
		}
		return ask(cmd, "add auditor "+a[0], func(c *client.Client, ctx context.Context) (operator.Auditor, error) {
			return c.AddAuditor(ctx, operator.Auditor{Name: a[0], Key: string(text)})
		}, func(w writer, one operator.Auditor) { fmt.Fprintf(w, "registered %s: %s\n", one.Name, one.ID) })
	}
	return cmd
}

func auditorListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the auditors whose statements count", Example: "  holdfast auditor list", Args: noArgs}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list auditors", (*client.Client).Auditors, func(w writer, all []operator.Auditor) {
			fmt.Fprintln(w, "NAME\tKEY\tADDED\tBY\tTROUBLE")
			for _, one := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", one.Name, one.ID, one.Added.UTC().Format(time.DateOnly), plain(one.By), plain(cmp.Or(one.Trouble, "-")))
			}
		})
	}
	return cmd
}

func auditorRemoveCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove an auditor: nothing that it has signed counts any more",
		Example: "  holdfast auditor remove lab",
		Args:    nArgs(1),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "remove auditor "+a[0], func(c *client.Client, ctx context.Context) (map[string]string, error) {
			return map[string]string{"name": a[0]}, c.RemoveAuditor(ctx, a[0])
		}, func(w writer, _ map[string]string) { fmt.Fprintf(w, "removed %s\n", a[0]) })
	}
	return cmd
}

func statementsListCmd() *cobra.Command {
	var measured string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List auditors' statements, the newest first",
		Example: `  holdfast auditor statements list
  holdfast auditor statements list --measured 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&measured, "measured", "", "only those about the image that a device measures so")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var d identity.Digest
		if measured != "" {
			var err error
			if d, err = identity.ParseDigest(measured); err != nil {
				return usagef("--measured: %w", err)
			}
		}
		return ask(cmd, "list statements", func(c *client.Client, ctx context.Context) ([]operator.Audit, error) {
			return c.Audits(ctx, d)
		}, func(w writer, all []operator.Audit) {
			fmt.Fprintln(w, "STATEMENT\tAUDITOR\tTIME\tIMAGES\tCAME WITH\tCOUNTS")
			for _, one := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", one.ID, one.Auditor, one.Time.UTC().Format(time.RFC3339), len(one.Images),
					cmp.Or(one.Release, plain(one.By)), map[bool]string{true: "no: there is a newer one", false: "yes"}[one.Older])
			}
		})
	}
	return cmd
}

func statementsShowCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "show STATEMENT", Short: "Show what an auditor said of which image", Args: nArgs(1),
		Example: "  holdfast auditor statements show 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		d, err := identity.ParseDigest(a[0])
		if err != nil {
			return usageError{err}
		}
		return ask(cmd, "show statement", func(c *client.Client, ctx context.Context) (operator.Audit, error) { return c.Audit(ctx, d) }, showStatement)
	}
	return cmd
}

func showStatement(w writer, one operator.Audit) {
	fmt.Fprintf(w, "auditor\t%s (%s)\ntime\t%s\nrules\t%s\nrevision\t%s\n", one.Auditor, plain(one.Program), one.Time.UTC().Format(time.RFC3339), plain(one.Rules), plain(cmp.Or(one.Revision, "-")))
	for _, i := range one.Images {
		fmt.Fprintf(w, "image\t%s (%s, carries %s)\n", i.Measured, plain(i.File), plain(i.Matches))
	}
	for _, r := range one.Rows {
		if r.Applies || r.Verdict != measure.Unknown {
			fmt.Fprintf(w, "%s\t%s: %s\n", r.Measure, r.Verdict, plain(r.Reason))
		}
	}
}

func statementsRemoveCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "remove STATEMENT", Short: "Remove a statement that an operator added", Args: nArgs(1),
		Example: "  holdfast auditor statements remove 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		d, err := identity.ParseDigest(a[0])
		if err != nil {
			return usageError{err}
		}
		return ask(cmd, "remove statement", func(c *client.Client, ctx context.Context) (map[string]string, error) {
			return map[string]string{"statement": d.String()}, c.RemoveAudit(ctx, d)
		}, func(w writer, _ map[string]string) { fmt.Fprintf(w, "removed %s\n", d) })
	}
	return cmd
}

// addStatement gives the hub the statement in a file.
func addStatement(cmd *cobra.Command, path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() > statement.MaxSize {
		return fmt.Errorf("%s has %d bytes: a statement has %d at most", path, info.Size(), statement.MaxSize)
	}
	envelope, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the statement: %w", err)
	}
	return ask(cmd, "add the audit "+path, func(c *client.Client, ctx context.Context) (operator.Audit, error) {
		return c.AddAudit(ctx, envelope)
	}, func(w writer, one operator.Audit) {
		fmt.Fprintf(w, "added the statement of %s: %s\n", one.Auditor, one.ID)
		for _, i := range one.Images {
			fmt.Fprintf(w, "it is about %s (%s)\n", i.Measured, plain(i.File))
		}
	})
}
