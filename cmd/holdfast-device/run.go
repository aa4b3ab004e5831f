package main

import (
	"github.com/spf13/cobra"

	"holdfast/device"
)

func runCmd(io stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Live: enrol where needed, attest, connect, renew",
		Long: `Run the device until it is told to stop. It enrols if it has not yet, proves what it
booted, gets its operational certificate, connects, and renews in time. In quarantine
it only attests, listens, takes updates and ships its logs. Log lines go to standard error and, once
the hub can be reached, to the hub.

The watchdog is armed at the start and fed only while the program is unchanged, the
measured boot is the one that runs, no memory is writable and executable, and the link
to the hub makes progress.`,
		Example: `  holdfast-device run
  holdfast-device run --state /data/holdfast --tpm /dev/tpmrm0`,
		Args: noArgs,
	}
	state, h := stateFlag(cmd), hardwareFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return with(io, *state, h, func(d *device.Device) error { return d.Run(cmd.Context()) })
	}
	return cmd
}
