package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/hub"
	"holdfast/operator"
)

func hubCmd(io stdio) *cobra.Command {
	return noun("hub", "Make, run and show a hub", hubInitCmd(io), hubRunCmd(io), hubShowCmd(), hubCheckCmd(io), hubDoctorCmd(io), hubBackupCmd(io), hubRestoreCmd(io), hubRSACmd(io), hubLegacyCmd(io), hubRecoverCmd(io))
}

func hubInitCmd(io stdio) *cobra.Command {
	var cfg hub.InitConfig
	cmd := &cobra.Command{
		Use:   "init --host NAME --root-out FILE",
		Short: "Make a hub: its authorities, its keys and its first operator",
		Long: `Make a hub's state directory. The key of the root authority is written to
--root-out and nowhere else: keep that file offline, the running hub never needs
it. The keys of the four intermediate authorities are sealed with the secret in
--seal-file. The first operator's certificate is put into the directory's profile.`,
		Example: `  holdfast hub init --host hub.example --host 192.0.2.7 --root-out /media/usb/root.key
  holdfast hub init --state var/hub --host localhost --root-out root.key`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&cfg.State, "state", defaultState, "directory of the hub's state")
	cmd.Flags().StringSliceVar(&cfg.Hosts, "host", nil, "name or address that devices reach the hub by (required, repeatable)")
	cmd.Flags().StringVar(&cfg.RootOut, "root-out", "", "file that receives the root key (required; must not exist)")
	cmd.Flags().StringVar(&cfg.RSARootOut, "rsa-root-out", "", "make RSA certificates too, and write the key of their root to this file (see 'hub rsa enable')")
	cmd.Flags().StringVar(&cfg.SealFile, "seal-file", "", "file with the secret that seals keys at rest (default: made in the state directory)")
	cmd.Flags().StringVar(&cfg.Operator, "operator", "", "address of the operator API, for the profile (default 127.0.0.1:9443)")
	cmd.Flags().StringVar(&cfg.Admin, "admin", "admin", "name of the first operator")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := hub.Init(cmd.Context(), cfg); err != nil {
			return fmt.Errorf("make the hub: %w", err)
		}
		made := madeHub{State: cfg.State, Root: filepath.Join(cfg.State, "root.pem"), RootKey: cfg.RootOut,
			Profile: filepath.Join(cfg.State, "operator", profileName)}
		return show(io.Out, *asJSON, made, made.print)
	}
	return required(cmd, "host", "root-out")
}

// madeHub says where the parts of a new hub are.
type madeHub struct {
	State   string `json:"state"`            // directory of its state
	Root    string `json:"root"`             // file with its root certificate
	RootKey string `json:"root_key"`         // file with the root's key, the only one
	Profile string `json:"operator_profile"` // file of its first operator
}

func (m madeHub) print(w writer) {
	fmt.Fprintf(w, "made a hub in %s\n", m.State)
	fmt.Fprintf(w, "  root certificate\t%s (give it to devices)\n", m.Root)
	fmt.Fprintf(w, "  root key\t%s (keep it offline; the hub has no copy)\n", m.RootKey)
	fmt.Fprintf(w, "  operator profile\t%s\n", m.Profile)
	fmt.Fprintf(w, "start it:  holdfast hub run --state %s\n", m.State)
}

func hubRunCmd(io stdio) *cobra.Command {
	var o hub.Options
	var state, level, format string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the hub until it is told to stop",
		Long: `Run the hub. Configuration is in hub.json of the state directory; the flags
override its addresses. Logs go to stderr: text to a terminal, JSON otherwise.`,
		Example: "  holdfast hub run --state /var/lib/holdfast",
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&state, "state", defaultState, "directory of the hub's state")
	cmd.Flags().StringVar(&o.MQTT, "mqtt", "", "address of the MQTT listener")
	cmd.Flags().StringVar(&o.HTTPS, "https", "", "address of the device HTTPS listener")
	cmd.Flags().StringVar(&o.Operator, "operator", "", "address of the operator API")
	cmd.Flags().StringVar(&o.Legacy, "legacy", "", "address of the legacy listener (see 'hub legacy enable')")
	cmd.Flags().StringVar(&o.Stream, "stream", "", "URL of an external NATS cluster that keeps messages and events, in place of the embedded one")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().StringVar(&format, "log-format", "", "text or json (default: text to a terminal, JSON otherwise)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var l slog.Level
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return usagef("--log-level: %w", err)
		}
		var err error
		if o.Log, err = logger(io, l, format); err != nil {
			return err
		}
		o.Version = version
		return hub.Run(cmd.Context(), state, o)
	}
	return cmd
}

// logger logs to stderr: in the format that is asked for, otherwise as text to
// a terminal and as JSON to all else.
func logger(io stdio, level slog.Level, format string) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: level}
	if f, ok := io.Err.(*os.File); ok && isTerminal(f) && format == "" {
		format = "text"
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(io.Err, o)), nil
	case "json", "":
		return slog.New(slog.NewJSONHandler(io.Err, o)), nil
	}
	return nil, usagef("--log-format %q: want text or json", format)
}

func hubShowCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "show", Short: "Show the hub: version, addresses, devices", Example: "  holdfast hub show --json", Args: noArgs}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "show the hub", (*client.Client).Hub, hubSheet)
	}
	return cmd
}

func hubSheet(w writer, h operator.Hub) {
	fmt.Fprintf(w, "version\t%s\nhosts\t%s\nMQTT\t%s\nHTTPS\t%s\nid scope\t%s\n", h.Version, strings.Join(h.Hosts, " "), h.MQTT, h.HTTPS, h.Scope)
	if h.Legacy != "" {
		fmt.Fprintf(w, "legacy\t%s (weak: groups marked legacy-threadx alone)\n", h.Legacy)
	}
	fmt.Fprintf(w, "devices\t%d, %d connected\n", h.Devices, h.Connected)
}
