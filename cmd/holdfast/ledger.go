package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/ledger"
)

func ledgerCmd(io stdio) *cobra.Command {
	return noun("ledger", "Read and verify the record of everything relevant to security",
		ledgerListCmd(io), ledgerHeadCmd(), ledgerVerifyCmd(io), ledgerAcceptCmd(io))
}

func ledgerListCmd(io stdio) *cobra.Command {
	var from int64
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Print the ledger's records",
		Example: "  holdfast ledger list --from 100 --json",
		Args:    noArgs,
	}
	cmd.Flags().Int64Var(&from, "from", 1, "first record")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if from < 1 {
			return usagef("--from %d: records are counted from 1", from)
		}
		c, err := connect(cmd)
		if err != nil {
			return err
		}
		enc := json.NewEncoder(io.Out)
		for r, err := range records(cmd.Context(), c, from) {
			if err != nil {
				return fmt.Errorf("read the ledger: %w", err)
			}
			if *asJSON {
				err = enc.Encode(r)
			} else {
				_, err = fmt.Fprintln(io.Out, recordLine(r))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// recordLine shows a record on one line.
func recordLine(r ledger.Record) string {
	line := fmt.Sprintf("%d %s %s", r.Seq, r.Time.UTC().Format(time.RFC3339), r.Kind)
	for _, f := range []struct{ name, value string }{
		{"device", string(r.Device)}, {"group", string(r.Group)}, {"by", r.Actor}, {"reason", r.Reason},
	} {
		if f.value != "" {
			line += fmt.Sprintf(" %s=%q", f.name, f.value)
		}
	}
	return line + " " + plain(string(r.Details))
}

// records reads the ledger from a record on.
func records(ctx context.Context, c *client.Client, from int64) iter.Seq2[ledger.Record, error] {
	return ledger.Pages(from, func(from int64, limit int) ([]ledger.Record, error) { return c.Ledger(ctx, from, limit) })
}

func ledgerHeadCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "head",
		Short: "Print the ledger's signed head, to be kept elsewhere",
		Long: `Print the signed head of the ledger: how many records there are and the hash of
the last. Keep it where the hub's operators cannot reach it; 'ledger verify --head'
later proves that nothing up to it was changed.`,
		Example: "  holdfast ledger head > head-$(date +%F).json",
		Args:    noArgs,
	}
	jsonFlag(cmd) // as every reading command has it; there is no other form
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "read the ledger's head", (*client.Client).LedgerHead, headText)
	}
	return cmd
}

// headText prints a head as JSON: it is kept to be given back.
func headText(w writer, h ledger.Head) { _ = show(w, true, h, nil) }

func ledgerVerifyCmd(io stdio) *cobra.Command {
	var heads []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify the whole ledger against heads that were kept elsewhere",
		Long: `Read the whole ledger and verify its chain of hashes, and that it agrees with the
newest head this operator has seen and with those in --head files. A changed record,
a shortened chain and a rewritten chain are told apart; the exit code is then 3.
Without a kept head the ledger can only be found consistent with itself.`,
		Example: "  holdfast ledger verify --head head-2026-01-31.json",
		Args:    noArgs,
	}
	cmd.Flags().StringSliceVar(&heads, "head", nil, "file with a head that was kept elsewhere")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		kept, err := keptHeads(cmd, heads)
		if err != nil {
			return err
		}
		c, err := connect(cmd)
		if err != nil {
			return err
		}
		result, err := ledger.Verify(records(cmd.Context(), c, 1), kept...)
		var broken *ledger.ChainError
		if errors.As(err, &broken) {
			return fault.New(fault.Integrity, "the ledger does not verify: %w", err)
		}
		if err != nil {
			return fmt.Errorf("verify the ledger: %w", err)
		}
		return show(io.Out, *asJSON, result, func(w writer) { fmt.Fprintln(w, result) })
	}
	return cmd
}

func ledgerAcceptCmd(io stdio) *cobra.Command {
	var records uint64
	cmd := &cobra.Command{
		Use:   "accept --records N",
		Short: "Take a ledger that is shorter because its hub was restored",
		Long: `After 'hub restore' a hub's ledger ends where the backup did, and this profile,
which has seen more of it, refuses the hub: that is what a hub that hides records
looks like. Say here how many records the restored ledger has, as 'hub restore'
printed. The head that was seen is kept beside the profile as head-N.json.`,
		Example: "  holdfast ledger accept --records 1041",
		Args:    noArgs,
	}
	cmd.Flags().Uint64Var(&records, "records", 0, "records in the ledger that was restored (required)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, profile, err := loadProfile(cmd)
		if err != nil {
			return err
		}
		if err := profile.Accept(records); err != nil {
			return err
		}
		return show(io.Out, *asJSON, map[string]uint64{"records": records}, func(w writer) {
			fmt.Fprintln(w, "the next head of the hub is taken as it comes")
		})
	}
	return required(cmd, "records")
}

// keptHeads reads the head that the profile keeps and those in files, and
// verifies their signatures.
func keptHeads(cmd *cobra.Command, files []string) ([]ledger.Head, error) {
	_, profile, err := loadProfile(cmd)
	if err != nil {
		return nil, err
	}
	var kept []ledger.Head
	if h, ok, err := profile.Kept(); err != nil {
		return nil, err
	} else if ok {
		kept = append(kept, h)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read head: %w", err)
		}
		var h ledger.Head
		if err := json.Unmarshal(b, &h); err != nil {
			return nil, fmt.Errorf("head %s: %w", f, err)
		}
		if err := profile.VerifyHead(h); err != nil {
			return nil, fmt.Errorf("head %s: %w", f, err)
		}
		kept = append(kept, h)
	}
	return kept, nil
}
