package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"holdfast/hub"
	"holdfast/internal/atomicfile"
)

func hubBackupCmd(std stdio) *cobra.Command {
	var out, state string
	cmd := &cobra.Command{
		Use:   "backup --out FILE",
		Short: "Back up a hub while it runs",
		Long: `Write everything that a hub is to one file: authorities, registry, ledger,
accounts and stored messages. The hub goes on working; what it acknowledged
before the backup began is in it. With --state the directory of a hub that does
not run is backed up, without asking it.

The secret that opens the keys (seal_file in hub.json) is not in the backup, nor
is any operator's key: keep the secret somewhere else, a backup is worth nothing
without it. Messages and the registry are in the clear: keep the file to
yourself. Where messages are kept in an external NATS cluster, back that up by
its own means.`,
		Example: `  holdfast hub backup --out holdfast-$(date +%F).backup
  holdfast hub backup --state /var/lib/holdfast --out stopped.backup`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&out, "out", "", `file that receives the backup; "-" is standard output (required)`)
	cmd.Flags().StringVar(&state, "state", "", "state directory of a hub that does not run")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		write := func(w io.Writer) error { return hub.Backup(cmd.Context(), state, version, w) }
		if state == "" {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			write = func(w io.Writer) error { return c.Backup(cmd.Context(), w) }
		}
		if out == "-" {
			return write(std.Out)
		}
		done := madeBackup{File: out}
		begun := time.Now()
		err := atomicfile.WriteFrom(out, 0o600, func(w io.Writer) error {
			counted := &counter{to: w}
			err := write(counted)
			done.Bytes = counted.n
			return err
		})
		if err != nil {
			return fmt.Errorf("back up the hub: %w", err)
		}
		done.Seconds = time.Since(begun).Seconds()
		return show(std.Out, *asJSON, done, done.print)
	}
	return required(cmd, "out")
}

// madeBackup says what was made.
type madeBackup struct {
	File    string  `json:"file"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

func (m madeBackup) print(w writer) {
	fmt.Fprintf(w, "wrote %s (%d bytes, %.1f s)\n", m.File, m.Bytes, m.Seconds)
	fmt.Fprintln(w, "keep the hub's seal file elsewhere: without it this cannot be restored")
}

type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.n += int64(n)
	return n, err
}

func hubRestoreCmd(std stdio) *cobra.Command {
	var in hub.RestoreConfig
	cmd := &cobra.Command{
		Use:   "restore FILE --state DIR --seal-file FILE",
		Short: "Make a hub of a backup, here or on another machine",
		Long: `Make a hub's state directory of a backup. Everything is checked before the
directory is there: that the backup is whole and of the hub that the seal file
belongs to, the database, the whole ledger. A backup that fails leaves nothing.

Two hubs must not run from one backup: stop the old one for good first.

What happened after the backup is not in it. Devices that got a certificate since
come back with their birth certificate and attest; operators' programs find a
ledger that is shorter than the one they saw and refuse it until
'holdfast ledger accept' says that this is meant.`,
		Example: `  holdfast hub restore holdfast-2026-11-01.backup --state /var/lib/holdfast --seal-file /etc/holdfast/seal.key
  holdfast hub restore - --state var/hub --seal-file seal.key < holdfast.backup`,
		Args: nArgs(1),
	}
	cmd.Flags().StringVar(&in.State, "state", "", "directory that becomes the hub's state; missing or empty (required)")
	cmd.Flags().StringVar(&in.SealFile, "seal-file", "", "file with the secret of the hub that was backed up (required)")
	cmd.Flags().StringVar(&in.Admin, "admin", "", "make a new certificate for this operator, and a profile in the state directory")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		from, err := reader(std, a[0])
		if err != nil {
			return err
		}
		defer from.Close()
		m, err := hub.Restore(cmd.Context(), in, from)
		if err != nil {
			return fmt.Errorf("restore %s: %w", a[0], err)
		}
		return show(std.Out, *asJSON, m, func(w writer) {
			fmt.Fprintf(w, "restored the hub %v as it was at %s, with %d records in its ledger, into %s\n", m.Hosts, m.Time.Format(time.RFC3339), m.Head.Seq, in.State)
			if !m.Messages {
				fmt.Fprintf(w, "messages are kept in %s and are not in the backup\n", m.External)
			}
			fmt.Fprintf(w, "start it:  holdfast hub run --state %s\n", in.State)
		})
	}
	return required(cmd, "state", "seal-file")
}

// reader opens a file; "-" is standard input.
func reader(std stdio, path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(std.In), nil
	}
	return os.Open(path)
}
