package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/operator"
)

func messageCmd() *cobra.Command {
	return noun("message", "Send messages that wait until a device takes them",
		messageSendCmd(), messageListCmd(), messagePurgeCmd())
}

func messageSendCmd() *cobra.Command {
	var in operator.SendMessage
	var properties []string
	var file string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "send DEVICE",
		Short: "Queue a message to a device",
		Long: `Queue a message to a device. It waits until the device has acknowledged it, and
is dropped when it expires (an hour unless --expires says otherwise, two days at
most) or was sent ten times in vain. With --ack what became of it is told by an
event of kind feedback.`,
		Example: `  holdfast message send meter-7 --body hello --property k=v --id 42 --expires 1h
  holdfast message send meter-7 --file config.bin --ack full`,
		Args: nArgs(1),
	}
	cmd.Flags().StringVar(&in.Body, "body", "", "text of the message")
	cmd.Flags().StringVar(&file, "file", "", "file with the body, in place of --body")
	cmd.Flags().StringArrayVar(&properties, "property", nil, "property as key=value; may be given again")
	cmd.Flags().StringVar(&in.ID, "id", "", "message id (default: made up)")
	cmd.Flags().StringVar(&in.CorrelationID, "correlation-id", "", "id of what the message answers")
	cmd.Flags().StringVar(&in.ContentType, "content-type", "", "type of the body")
	cmd.Flags().DurationVar(&expires, "expires", time.Hour, "how long the message may wait, 1m to 48h")
	cmd.Flags().StringVar(&in.Ack, "ack", "", "tell of its fate: none, positive, negative or full")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if err := readMessage(&in, properties, file, expires); err != nil {
			return err
		}
		return ask(cmd, "send to "+a[0], func(c *client.Client, ctx context.Context) (operator.Message, error) {
			return c.SendMessage(ctx, identity.Device(a[0]), in)
		}, func(w writer, m operator.Message) {
			fmt.Fprintf(w, "message %s waits for %s until %s\n", m.ID, a[0], m.Until.UTC().Format(time.RFC3339))
		})
	}
	return cmd
}

// readMessage reads the flags of message send.
func readMessage(in *operator.SendMessage, properties []string, file string, expires time.Duration) error {
	for _, p := range properties {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return usagef("--property %q: want key=value", p)
		}
		if in.Properties == nil {
			in.Properties = map[string]string{}
		}
		in.Properties[k] = v
	}
	if expires <= 0 {
		return usagef("--expires %s: want 1m to 48h", expires)
	}
	in.Expires = seconds(expires)
	if file == "" && utf8.ValidString(in.Body) {
		return nil
	}
	if file != "" && in.Body != "" {
		return usagef("give --body or --file, not both")
	}
	in.Base64, in.Body = []byte(in.Body), ""
	if file == "" {
		return nil
	}
	var err error
	if in.Base64, err = os.ReadFile(file); err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	return nil
}

func messageListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list DEVICE",
		Short:   "List the messages that wait for a device",
		Example: "  holdfast message list meter-7",
		Args:    nArgs(1),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "messages to "+a[0], func(c *client.Client, ctx context.Context) ([]operator.Message, error) {
			return c.Messages(ctx, identity.Device(a[0]))
		}, func(w writer, ms []operator.Message) {
			fmt.Fprintln(w, "ID\tQUEUED\tEXPIRES\tSENT\tBYTES")
			for _, m := range ms {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\n", m.ID, m.Enqueued.UTC().Format(time.RFC3339), m.Until.UTC().Format(time.RFC3339), m.Deliveries, m.Bytes)
			}
		})
	}
	return cmd
}

func messagePurgeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "purge DEVICE",
		Short:   "Take all messages that wait for a device out of its queue",
		Example: "  holdfast message purge meter-7",
		Args:    nArgs(1),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "purge the messages to "+a[0], func(c *client.Client, ctx context.Context) (operator.Purged, error) {
			return c.PurgeMessages(ctx, identity.Device(a[0]))
		}, func(w writer, p operator.Purged) { fmt.Fprintf(w, "%d messages taken out\n", p.Messages) })
	}
	return cmd
}
