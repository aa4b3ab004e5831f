package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/fault"
)

// version is set by the linker for releases.
var version = "0.1.0-dev"

// stdio is where a command reads and writes: data to Out, talk to Err.
type stdio struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// usageError marks an error as a wrong call (exit code 2).
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode maps an error: 0 done, 1 failed, 2 usage, 3 verification refused.
func exitCode(err error) int {
	var u usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &u):
		return 2
	case fault.Of(err) == fault.Integrity:
		return 3
	}
	return 1
}

// hint says what to try, where something is known to help.
func hint(err error) string {
	var u usageError
	switch {
	case errors.As(err, &u):
		return "add --help to see how the command is called"
	case errors.Is(err, errNoProfile):
		return "make a hub with 'holdfast hub init', or name its operator profile with --profile or HOLDFAST_PROFILE"
	case fault.Of(err) == fault.Unavailable:
		return "is the hub running? 'holdfast hub run' starts it"
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has this port: choose others with --mqtt, --https and --operator, or in hub.json"
	case errors.Is(err, fs.ErrPermission):
		return "the file belongs to another user: run this as the one who made it"
	}
	return ""
}

// rootCmd is the whole command line.
func rootCmd(io stdio) *cobra.Command {
	root := &cobra.Command{
		Use:           "holdfast",
		Short:         "A self-hosted home for devices that can prove they are secure",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(io.In)
	root.SetOut(io.Out)
	root.SetErr(io.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().String("profile", "", "operator profile (default $HOLDFAST_PROFILE, the user's configuration, or the hub's own)")
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "steer", Title: "Steer a fleet:"}, &cobra.Group{ID: "firmware", Title: "Sign, roll out and audit firmware:"})
	for _, c := range []*cobra.Command{demoCmd(io), hubCmd(io), boardCmd(io)} {
		c.GroupID = "run"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{fleetCmd(io), alertCmd(), groupCmd(), policyCmd(), caCmd(io), enrollmentCmd(), twinCmd(), methodCmd(), messageCmd(), referenceCmd(), eventsCmd(io), ledgerCmd(io), operatorCmd(io), tokenCmd(io), loginCmd()} {
		c.GroupID = "steer"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{releaseCmd(io), rolloutCmd(io), auditCmd(io), auditorCmd()} {
		c.GroupID = "firmware"
		root.AddCommand(c)
	}
	return root
}

// noun is a command that only holds others.
func noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(verbs...)
	return c
}

// nArgs demands that many arguments.
func nArgs(n int) cobra.PositionalArgs { return fromTo(n, n) }

// fromTo demands at least least arguments and at most most.
func fromTo(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if len(a) < least || len(a) > most {
			return usagef("%d arguments instead of %s: the command is %q", len(a), span(least, most), cmd.UseLine())
		}
		return nil
	}
}

func span(least, most int) string {
	if least == most {
		return strconv.Itoa(least)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

func noArgs(cmd *cobra.Command, a []string) error {
	if len(a) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(a[0]); len(near) > 0 {
		return usagef("%q has no command %q; did you mean %q?", cmd.CommandPath(), a[0], near[0])
	}
	return usagef("unknown command or argument %q for %q", a[0], cmd.CommandPath())
}

// required makes a command, which it returns, refuse to run without these flags.
func required(cmd *cobra.Command, names ...string) *cobra.Command {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		for _, name := range names {
			if f := cmd.Flags().Lookup(name); f.Value.String() == f.DefValue {
				return usagef("--%s is required: %s", name, strings.TrimSuffix(f.Usage, " (required)"))
			}
		}
		return run(cmd, a)
	}
	return cmd
}

// jsonFlag adds --json.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

// show prints v as JSON or through text.
func show(w io.Writer, asJSON bool, v any, text func(io.Writer)) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	text(t)
	return t.Flush()
}
