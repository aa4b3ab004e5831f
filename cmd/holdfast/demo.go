package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast/demo"
)

func demoCmd(io stdio) *cobra.Command {
	cfg := demo.Config{Talk: io.Err}
	var device string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play a hub and six devices on this machine",
		Long: `Start a hub and six devices on virtual boards, each a process of its own with a
software TPM of its own, and show how each proves itself. Two boards get their
flash modified on the way. The state directory keeps everything: the same command
resumes the same fleet, removing the directory starts afresh.

Needs swtpm, swtpm-tools and mosquitto-clients (Debian packages); 'make run'
installs them.`,
		Example: `  holdfast demo
  holdfast demo --once --state /tmp/story --json`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&cfg.State, "state", "var/demo", "directory of everything the demo keeps")
	cmd.Flags().BoolVar(&cfg.Once, "once", false, "end when every device arrived where it should; exit 1 if one does not")
	cmd.Flags().DurationVar(&cfg.Timeout, "timeout", 5*time.Minute, "longest time until every device arrived")
	cmd.Flags().StringVar(&device, "device-program", "", "the holdfast-device program (default: beside this program)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *asJSON && !cfg.Once {
			return usagef("--json goes with --once")
		}
		if err := findPrograms(&cfg, device); err != nil {
			return err
		}
		if f, ok := io.Out.(*os.File); ok && !cfg.Once && isTerminal(f) {
			cfg.Screen = f
		}
		report, err := demo.Run(cmd.Context(), cfg)
		if *asJSON && (err == nil || errors.Is(err, demo.ErrNotArrived)) {
			if e := show(io.Out, true, report, nil); e != nil {
				return e
			}
		}
		if err != nil && cmd.Context().Err() != nil {
			return errors.New("interrupted; the same command goes on from here")
		}
		return err
	}
	return cmd
}

// findPrograms fills in this program and the device program, which lies beside
// it unless named.
func findPrograms(cfg *demo.Config, device string) error {
	var err error
	if cfg.Program, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if device == "" {
		device = filepath.Join(filepath.Dir(cfg.Program), "holdfast-device")
	}
	if cfg.State, err = filepath.Abs(cfg.State); err != nil {
		return err
	}
	cfg.Device = device
	if _, err := os.Stat(device); err != nil {
		return fmt.Errorf("find the device program ('make build' makes it): %w", err)
	}
	return nil
}

// isTerminal tells whether f is a terminal.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
