package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/operator"
)

func methodCmd() *cobra.Command {
	return noun("method", "Call methods on devices", methodCallCmd())
}

func methodCallCmd() *cobra.Command {
	var payload string
	var timeout, connectTimeout time.Duration
	cmd := &cobra.Command{
		Use:   "call DEVICE METHOD",
		Short: "Call a method and wait for the device's answer",
		Long: `Call a method of the program on a device and print what it answers. The device
has to be connected; with --connect-timeout it may take that long to come. The
status is the device's own: whatever it is, the call was answered.`,
		Example: `  holdfast method call meter-7 reboot --payload '{"delay":3}' --timeout 10s --json`,
		Args:    nArgs(2),
	}
	cmd.Flags().StringVar(&payload, "payload", "", "argument, JSON (default null)")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the answer, up to 5m")
	cmd.Flags().DurationVar(&connectTimeout, "connect-timeout", 0, "how long to wait for the device to connect, up to 5m")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		in := operator.CallMethod{Timeout: seconds(timeout), Connect: seconds(connectTimeout)}
		if payload != "" {
			var err error
			if in.Payload, err = object("--payload", payload); err != nil {
				return err
			}
		}
		if timeout <= 0 {
			return usagef("--timeout %s: want more than nothing", timeout)
		}
		return ask(cmd, fmt.Sprintf("call %s of %s", a[1], a[0]), func(c *client.Client, ctx context.Context) (operator.MethodResult, error) {
			return c.CallMethod(ctx, identity.Device(a[0]), a[1], in)
		}, func(w writer, r operator.MethodResult) {
			fmt.Fprintf(w, "status\t%d\nanswer\t%s\n", r.Status, answerText(r.Payload))
		})
	}
	return cmd
}

// seconds rounds up: a part of a second is not nothing.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func answerText(b json.RawMessage) string {
	if string(b) == "null" {
		return "-"
	}
	return printable(b)
}
