package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/operator"
)

func twinCmd() *cobra.Command {
	return noun("twin", "Show and change what is wanted of a device and what it reports",
		twinShowCmd(), twinSetCmd(), twinTagsCmd())
}

func twinShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show DEVICE",
		Short:   "Show a device's twin",
		Example: "  holdfast twin show meter-7 --json",
		Args:    nArgs(1),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "twin of "+a[0], func(c *client.Client, ctx context.Context) (operator.Twin, error) {
			return c.Twin(ctx, identity.Device(a[0]))
		}, twinSheet)
	}
	return cmd
}

func twinSheet(w writer, t operator.Twin) {
	fmt.Fprintf(w, "device\t%s\netag\t%s\ntags\t%s\ndesired\t%s\nreported\t%s\n", t.Device, t.ETag, printable(t.Tags), printable(t.Desired), printable(t.Reported))
}

func twinSetCmd() *cobra.Command {
	var desired, etag string
	var replace bool
	cmd := &cobra.Command{
		Use:   "set DEVICE --desired JSON",
		Short: "Change a device's desired properties",
		Long: `Merge a JSON object into a device's desired properties: members are added or
replaced, null takes one away. With --replace the object takes the place of all of
them. The device is told at once if it is connected. With --etag the twin is changed
only if nobody else has changed it since it was shown with that ETag.`,
		Example: `  holdfast twin set meter-7 --desired '{"interval":5,"debug":null}'
  holdfast twin set meter-7 --desired '{"interval":5}' --replace --etag 3q2-7w`,
		Args: nArgs(1),
	}
	cmd.Flags().StringVar(&desired, "desired", "", "JSON object (required)")
	cmd.Flags().StringVar(&etag, "etag", "", "change the twin only if it has this ETag")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace all desired properties")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		b, err := object("--desired", desired)
		if err != nil {
			return err
		}
		return changeTwin(cmd, a[0], operator.SetTwin{Desired: b}, replace, etag)
	}
	return cmd
}

func twinTagsCmd() *cobra.Command {
	var etag string
	var replace bool
	cmd := &cobra.Command{
		Use:   "tags DEVICE JSON",
		Short: "Change a device's tags, which it does not see",
		Long: `Merge a JSON object into a device's tags, or with --replace put it in their place.
The device does not see its tags.`,
		Example: `  holdfast twin tags meter-7 '{"site":"A"}'`,
		Args:    nArgs(2),
	}
	cmd.Flags().StringVar(&etag, "etag", "", "change the twin only if it has this ETag")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace all tags")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		b, err := object("tags", a[1])
		if err != nil {
			return err
		}
		return changeTwin(cmd, a[0], operator.SetTwin{Tags: b}, replace, etag)
	}
	return cmd
}

// object checks that a text is JSON at all; what it may hold the hub knows.
func object(what, text string) (json.RawMessage, error) {
	if text == "" {
		return nil, usagef("%s: want a JSON object", what)
	}
	if !json.Valid([]byte(text)) {
		return nil, usagef("%s: %q is no JSON", what, text)
	}
	return json.RawMessage(text), nil
}

func changeTwin(cmd *cobra.Command, id string, in operator.SetTwin, replace bool, etag string) error {
	return ask(cmd, "change the twin of "+id, func(c *client.Client, ctx context.Context) (operator.Twin, error) {
		change := c.MergeTwin
		if replace {
			change = c.ReplaceTwin
		}
		return change(ctx, identity.Device(id), in, etag)
	}, twinSheet)
}

// printable shows JSON on a terminal: what JSON leaves as it is and a terminal
// would obey (DEL and the C1 controls) is escaped.
func printable(b json.RawMessage) string {
	var out strings.Builder
	for _, r := range string(b) {
		if r >= 0x7f && r < 0xa0 {
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}
