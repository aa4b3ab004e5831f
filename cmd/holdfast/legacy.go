package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast/hub"
)

func hubRSACmd(io stdio) *cobra.Command {
	return noun("rsa", "RSA server certificates beside the ECDSA ones", hubRSAEnableCmd(io))
}

func hubRSAEnableCmd(io stdio) *cobra.Command {
	var state, out string
	cmd := &cobra.Command{
		Use:   "enable --root-out FILE",
		Short: "Make an RSA hierarchy for devices that verify nothing else",
		Long: `Make an RSA root and an RSA authority for the hub's own certificates. The device
listeners then answer with an RSA certificate where a device offers no ECDSA;
their protocol versions and suites stay as strong as before. Such devices trust
rsa-root.pem in place of root.pem. The hub must not be running.`,
		Example: "  holdfast hub rsa enable --root-out /media/usb/rsa-root.key",
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&state, "state", defaultState, "directory of the hub's state")
	cmd.Flags().StringVar(&out, "root-out", "", "file that receives the root key (required; must not exist)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if out == "" {
			return usagef("--root-out is required")
		}
		if err := hub.EnableRSA(cmd.Context(), state, out); err != nil {
			return fmt.Errorf("enable RSA: %w", err)
		}
		return showRoot(io, *asJSON, "", filepath.Join(state, "rsa-root.pem"), out)
	}
	return cmd
}

func hubLegacyCmd(io stdio) *cobra.Command {
	return noun("legacy", "The listener for stock ThreadX firmware", hubLegacyEnableCmd(io))
}

func hubLegacyEnableCmd(io stdio) *cobra.Command {
	var state string
	var l hub.LegacyConfig
	cmd := &cobra.Command{
		Use:   "enable --listen ADDRESS --root-out FILE",
		Short: "Open a listener with the cipher suites of stock ThreadX firmware",
		Long: `Open a second MQTT listener that speaks what stock ThreadX firmware speaks: TLS
1.2 with one of two CBC suites, one of them without forward secrecy. It is weak.
It takes devices of groups made with --legacy-threadx and nobody else, issues no
certificates, and has an RSA root and key that nothing else uses. The devices'
posture says what to change in their firmware to leave it. The firmware knows no
port but 8883, so the listener needs an address of its own. The hub must not be
running.`,
		Example: "  holdfast hub legacy enable --listen 192.0.2.8:8883 --host 192.0.2.8 --root-out /media/usb/legacy-root.key",
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&state, "state", defaultState, "directory of the hub's state")
	cmd.Flags().StringVar(&l.Listen, "listen", "", "address of the listener (required)")
	cmd.Flags().StringSliceVar(&l.Hosts, "host", nil, "name or address that devices reach it by (default: the hub's)")
	cmd.Flags().StringVar(&l.RootOut, "root-out", "", "file that receives the root key (required; must not exist)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if l.Listen == "" || l.RootOut == "" {
			return usagef("--listen and --root-out are required")
		}
		if err := hub.EnableLegacy(cmd.Context(), state, l); err != nil {
			return fmt.Errorf("enable the legacy listener: %w", err)
		}
		return showRoot(io, *asJSON, l.Listen, filepath.Join(state, "legacy-root.pem"), l.RootOut)
	}
	return cmd
}

// showRoot says where a new root is, and what the hub will listen on with it.
func showRoot(io stdio, asJSON bool, listen, root, key string) error {
	v := map[string]string{"root": root, "root_key": key}
	if listen != "" {
		v["listen"] = listen
	}
	return show(io.Out, asJSON, v, func(w writer) {
		if listen != "" {
			fmt.Fprintf(w, "the hub will listen on %s\n", listen)
		}
		fmt.Fprintf(w, "root certificate\t%s (give it to those devices)\nroot key\t%s (keep it offline; the hub has no copy)\n", root, key)
	})
}
