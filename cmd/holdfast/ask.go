package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/client"
)

// ask is what most commands do: it asks the hub one thing and shows the answer,
// as JSON with --json and through text otherwise. doing is what an error says
// was being done, as "show pump-01".
func ask[T any](cmd *cobra.Command, doing string, call func(*client.Client, context.Context) (T, error), text func(writer, T)) error {
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	answer, err := call(c, cmd.Context())
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	return show(cmd.OutOrStdout(), asJSON, answer, func(w writer) { text(w, answer) })
}
