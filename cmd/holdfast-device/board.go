package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/device/board"
	"holdfast/device/board/bus"
	"holdfast/device/board/linux"
)

// hardware are the flags that say what the machine has.
type hardware struct{ tpm, watchdog string }

func hardwareFlags(cmd *cobra.Command) *hardware {
	def := linux.Default()
	h := &hardware{}
	cmd.Flags().StringVar(&h.tpm, "tpm", def.TPM, "TPM device, unix:PATH of a software TPM, or none: keys are then in files")
	cmd.Flags().StringVar(&h.watchdog, "watchdog", def.Watchdog, "watchdog device, or none")
	return h
}

// open returns the virtual board that this program is the firmware of, or this
// Linux machine.
func (h *hardware) open() (*board.Board, error) {
	if path := os.Getenv(bus.Variable); path != "" {
		return bus.Attach(path)
	}
	cfg := linux.Default()
	cfg.TPM = given(strings.TrimPrefix(h.tpm, "unix:"))
	cfg.Watchdog = given(h.watchdog)
	b := linux.Open(cfg)
	if cfg.TPM != "" && b.TPM == nil {
		defer func() { _ = b.Close() }() // the error below says what is wrong
		return nil, usagef("no TPM: %s (--tpm none keeps keys in files, which proves nothing about the device)", b.Missing["tpm"])
	}
	return b, nil
}

func given(s string) string {
	if s == "none" {
		return ""
	}
	return s
}
