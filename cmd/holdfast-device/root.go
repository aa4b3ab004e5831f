package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"holdfast/device/provision"
	"holdfast/fault"
)

// version and built are set by the linker for releases. built is an RFC 3339
// time.
var (
	version = "0.1.0-dev"
	built   = ""
)

// oldest is the build time of a program that does not know its own.
var oldest = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// stdio is where a command writes: data to Out, talk to Err.
type stdio struct{ Out, Err io.Writer }

// usageError marks an error as a wrong call.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, io stdio) int {
	root := rootCmd(io)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(io.Err, "error:", err)
		if h := hint(err); h != "" {
			fmt.Fprintln(io.Err, "hint:", h)
		}
	}
	return exitCode(err)
}

// exitCode maps an error: 0 done, 1 failed, 2 usage, 3 one side refused the
// other.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	switch fault.Of(err) {
	case fault.Denied, fault.Integrity:
		return 3
	}
	return 1
}

// hint says what to try, where something is known to help.
func hint(err error) string {
	_, usage := errors.AsType[usageError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case usage:
		return "add --help to see how the command is called"
	case errors.Is(err, provision.ErrNone):
		return "provision it with 'holdfast-device enroll --hub HOST --trust root.pem'"
	case errors.Is(err, fs.ErrPermission):
		return "run as the user that owns the state directory and may use the TPM"
	case untrusted:
		return "is this the root certificate of that hub? 'holdfast hub show' prints it"
	}
	return ""
}

func rootCmd(io stdio) *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast-device",
		Short: "Give this device an identity and keep it connected to its hub",
		Long: `holdfast-device runs on a device. It makes the device's keys in its TPM, proves to
the hub what the device is and what it booted, gets short-lived certificates for it,
and keeps it connected: telemetry, logs and renewal.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(io.Out)
	root.SetErr(io.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(enrollCmd(io), runCmd(io), statusCmd(io), ekCmd(io), versionCmd(io))
	return root
}

func noArgs(cmd *cobra.Command, a []string) error {
	if len(a) > 0 {
		return usagef("unknown command or argument %q for %q", a[0], cmd.CommandPath())
	}
	return nil
}

// stateFlag adds --state.
func stateFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("state", "/var/lib/holdfast-device", "directory with all that the device keeps")
}

func versionCmd(io stdio) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version and the build time",
		Example: "  holdfast-device version",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(io.Out, "holdfast-device %s (%s)\n", version, buildTime().Format(time.RFC3339))
			return err
		},
	}
}

// buildTime is when the program was built, or the time of the commit that it
// was built from: the least that the device's clock can be.
func buildTime() time.Time {
	stamps := []string{built}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				stamps = append(stamps, s.Value)
			}
		}
	}
	for _, stamp := range stamps {
		if t, err := time.Parse(time.RFC3339, stamp); err == nil && t.After(oldest) {
			return t.UTC()
		}
	}
	return oldest
}
