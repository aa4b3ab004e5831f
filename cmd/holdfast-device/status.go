package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/device"
)

func statusCmd(io stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print what the device last knew of itself",
		Long: `Print what the device last knew of itself: its phase, identity, certificate and the
posture that the hub told it. It reads the state directory; the device need not run.`,
		Example: "  holdfast-device status\n  holdfast-device status --json",
		Args:    noArgs,
	}
	state := stateFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(*cobra.Command, []string) error {
		s, err := device.LoadStatus(*state)
		if err != nil {
			return err
		}
		if *asJSON {
			enc := json.NewEncoder(io.Out)
			enc.SetIndent("", "  ")
			return enc.Encode(s)
		}
		return printStatus(io.Out, s)
	}
	return cmd
}

func printStatus(w io.Writer, s device.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name string, value any) { fmt.Fprintf(t, "%s\t%v\n", name, value) }
	line("hub", s.Hub)
	line("phase", s.Phase)
	if s.Reason != "" {
		line("reason", s.Reason)
	}
	if s.Device != "" {
		line("device", fmt.Sprintf("%s in group %s", s.Device, s.Group))
	}
	if c := s.Certificate; c != nil {
		line("certificate", fmt.Sprintf("until %s, issued for %v", c.NotAfter.Format(time.RFC3339), time.Duration(c.Seconds)*time.Second))
	}
	if s.Posture != nil {
		line("posture", s.Posture.Status)
		for _, o := range s.Posture.Decision.Outcomes {
			line("  "+string(o.Measure), fmt.Sprintf("%s: %s", o.Standing, o.Reason))
		}
	}
	if !s.Updated.IsZero() {
		line("as of", s.Updated.Format(time.RFC3339))
	}
	return t.Flush()
}
