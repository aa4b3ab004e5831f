package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/device"
	"holdfast/device/updater"
	"holdfast/release"
)

func statusCmd(io stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print what the device last knew of itself",
		Long: `Print what the device last knew of itself: its phase, identity, certificate, the
posture that the hub told it, its firmware and the update that it is in. It reads the state directory; the device need not run.`,
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
	for _, l := range updateLines(s.Update) {
		line(l[0], l[1])
	}
	if !s.Updated.IsZero() {
		line("as of", s.Updated.Format(time.RFC3339))
	}
	return t.Flush()
}

// updateLines say what the device knows of its firmware.
func updateLines(u updater.Status) (lines [][2]string) {
	switch {
	case u.Off != "":
		return [][2]string{{"updates", "none: " + u.Off}}
	case u.Product == "":
		return nil
	}
	firmware := fmt.Sprintf("%s %s, security version at least %d", u.Product, u.Running, u.Minimum)
	if u.Hardware != "" {
		firmware += ", hardware " + u.Hardware
	}
	lines = append(lines, [2]string{"firmware", firmware})
	if p := u.Progress; p != nil {
		lines = append(lines, [2]string{"update", progressLine(*p)})
	}
	return lines
}

// progressLine is an update in a line: "1.4.0: downloading, 40% of 170 kB (delta)".
func progressLine(p release.Progress) string {
	text := fmt.Sprintf("%s: %s", p.Version, p.State)
	if p.State == release.Downloading && p.Length > 0 {
		text += fmt.Sprintf(", %d%% of %d kB", 100*p.Bytes/p.Length, (p.Length+999)/1000)
		if p.Delta {
			text += " (delta)"
		}
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	if p.Reset != "" {
		text += " (reset: " + p.Reset + ")"
	}
	return text
}
