package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"holdfast/operator"
)

func caCmd(io stdio) *cobra.Command {
	return noun("ca", "Register the authorities that others sign with", caAddCmd(io), caListCmd(io))
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
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		pem, err := os.ReadFile(a[1])
		if err != nil {
			return fmt.Errorf("read the certificate: %w", err)
		}
		ca := operator.CA{Name: a[0], Kind: "maker", PEM: string(pem)}
		if endorsement != "" {
			ca.Kind, ca.Class = "endorsement", endorsement
		}
		c, err := connect(cmd)
		if err != nil {
			return err
		}
		out, err := c.AddCA(cmd.Context(), ca)
		if err != nil {
			return fmt.Errorf("add %s: %w", a[0], err)
		}
		return show(io.Out, *asJSON, out, func(w writer) { fmt.Fprintf(w, "registered %s: %s\n", out.Name, out.Subject) })
	}
	return cmd
}

func caListCmd(io stdio) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List registered authorities", Example: "  holdfast ca list", Args: noArgs}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect(cmd)
		if err != nil {
			return err
		}
		cas, err := c.CAs(cmd.Context())
		if err != nil {
			return fmt.Errorf("list authorities: %w", err)
		}
		return show(io.Out, *asJSON, cas, func(w writer) {
			fmt.Fprintln(w, "NAME\tKIND\tCLASS\tUNTIL\tSUBJECT")
			for _, ca := range cas {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", ca.Name, ca.Kind, ca.Class, ca.NotAfter.UTC().Format(time.DateOnly), plain(ca.Subject))
			}
		})
	}
	return cmd
}
