package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast/hub"
)

func hubRecoverCmd(io stdio) *cobra.Command {
	var state, out string
	cmd := &cobra.Command{
		Use:   "recover NAME --out DIR",
		Short: "Make a certificate of an administrator, when nobody gets in any more",
		Long: `Make a certificate of an administrator and a profile with it, on the machine of
the hub, which must not run: for when every certificate has expired and every
passkey is lost. An account that does not exist is added; the ledger tells of it.`,
		Example: "  holdfast hub recover rescue --out rescue-profile",
		Args:    nArgs(1),
	}
	cmd.Flags().StringVar(&state, "state", defaultState, "directory of the hub's state")
	cmd.Flags().StringVar(&out, "out", "", "directory of the new profile (required)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if err := hub.Recover(cmd.Context(), state, a[0], out); err != nil {
			return fmt.Errorf("recover the hub: %w", err)
		}
		made := map[string]string{"name": a[0], "profile": filepath.Join(out, profileName)}
		return show(io.Out, *asJSON, made, func(w writer) { fmt.Fprintf(w, "profile of %s: %s\n", a[0], made["profile"]) })
	}
	return required(cmd, "out")
}
