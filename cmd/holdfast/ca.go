package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/operator"
)

func caCmd(io stdio) *cobra.Command {
	return noun("ca", "Register the authorities that others sign with", caAddCmd(io), caVerifyCmd(), caListCmd())
}

func caAddCmd(io stdio) *cobra.Command {
	var endorsement string
	cmd := &cobra.Command{
		Use:   "add NAME FILE",
		Short: "Register a maker's CA, or with --endorsement a TPM maker's root",
		Long: `Register an authority by its certificate (PEM). A maker's CA signs device
certificates; it speaks only for groups that name it and ids registered there. An
endorsement root says what a TPM is: 'hardware', or 'software' for simulated ones,
which count as hardware roots only in groups marked --simulation.`,
		Example: `  holdfast ca add maker maker-root.pem
  holdfast ca add tpm-vendor ek-root.pem --endorsement hardware`,
		Args: nArgs(2),
	}
	cmd.Flags().StringVar(&endorsement, "endorsement", "", "the root of TPMs of this class: hardware or software")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		pem, err := os.ReadFile(a[1])
		if err != nil {
			return fmt.Errorf("read the certificate: %w", err)
		}
		ca := operator.CA{Name: a[0], Kind: "maker", PEM: string(pem)}
		if endorsement != "" {
			ca.Kind, ca.Class = "endorsement", endorsement
		}
		return ask(cmd, "add "+a[0], func(c *client.Client, ctx context.Context) (operator.CA, error) {
			return c.AddCA(ctx, ca)
		}, func(w writer, out operator.CA) {
			fmt.Fprintf(w, "registered %s: %s\n", out.Name, out.Subject)
			tellChallenge(io, out)
		})
	}
	return cmd
}

// tellChallenge says what a proof for a maker's CA has to certify.
func tellChallenge(io stdio, ca operator.CA) {
	if ca.Challenge != "" {
		fmt.Fprintf(io.Err, "to prove that its key is at hand, sign a certificate with this common name\nand give it to 'holdfast ca verify %s FILE':\n%s\n", ca.Name, ca.Challenge)
	}
}

// verified says whether possession of a maker's CA's key was proved.
func verified(ca operator.CA) string {
	switch {
	case ca.Kind != "maker":
		return "-"
	case ca.Verified.IsZero():
		return "no"
	}
	return ca.Verified.UTC().Format(time.DateOnly)
}

func caVerifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify NAME [FILE]",
		Short: "Prove that the key of a maker's CA is at hand",
		Long: `Prove possession of a maker's CA's key: FILE is a certificate (PEM) that the CA
signed over the challenge which 'ca add' printed, as its common name. A challenge is
good for one proof; without FILE a new one is made and printed. With openssl:

  openssl req -new -key proof.key -subj /CN=CHALLENGE -out proof.csr
  openssl x509 -req -in proof.csr -CA maker-root.pem -CAkey maker-root.key -days 1 -out proof.pem`,
		Example: "  holdfast ca verify maker proof.pem",
		Args:    fromTo(1, 2),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		var p operator.Proof
		if len(a) > 1 {
			pem, err := os.ReadFile(a[1])
			if err != nil {
				return fmt.Errorf("read the proof: %w", err)
			}
			p.PEM = string(pem)
		}
		return ask(cmd, "verify "+a[0], func(c *client.Client, ctx context.Context) (operator.CA, error) {
			return c.VerifyCA(ctx, a[0], p)
		}, func(w writer, out operator.CA) {
			if len(a) > 1 {
				fmt.Fprintf(w, "verified %s: whoever asked has the key of %s\n", out.Name, out.Subject)
				return
			}
			fmt.Fprintln(w, out.Challenge)
		})
	}
	return cmd
}

func caListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List registered authorities", Example: "  holdfast ca list", Args: noArgs}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list authorities", (*client.Client).CAs, func(w writer, cas []operator.CA) {
			fmt.Fprintln(w, "NAME\tKIND\tCLASS\tUNTIL\tVERIFIED\tSUBJECT")
			for _, ca := range cas {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", ca.Name, ca.Kind, ca.Class, ca.NotAfter.UTC().Format(time.DateOnly), verified(ca), plain(ca.Subject))
			}
		})
	}
	return cmd
}
