package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"holdfast/device"
	"holdfast/internal/atomicfile"
)

func ekCmd(io stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ek [--out FILE]",
		Short: "Print the TPM's endorsement key, to register this device by",
		Long: `Print the public area (TPMT_PUBLIC, binary) of the TPM's endorsement key. A hub whose
group has it registered admits this device and no other under its id.`,
		Example: `  holdfast-device ek --out pump-01.ek
  holdfast fleet add pump-01 --group pumps --ek pump-01.ek     # where the operator is`,
		Args: noArgs,
	}
	out := cmd.Flags().String("out", "", "file to write instead of standard output")
	state, h := stateFlag(cmd), hardwareFlags(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		if f, ok := io.Out.(*os.File); *out == "" && ok && terminal(f) {
			return usagef("the key is binary: name a file with --out, or redirect the output")
		}
		b, err := h.open()
		if err != nil {
			return err
		}
		ek, err := device.EK(b, *state)
		if err = errors.Join(err, b.Close()); err != nil {
			return fmt.Errorf("read endorsement key: %w", err)
		}
		if *out != "" {
			return atomicfile.Write(*out, ek, 0o644)
		}
		_, err = io.Out.Write(ek)
		return err
	}
	return cmd
}

// terminal reports whether f is a character device, as terminals are.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
