// Command holdfast-device runs on a device: it gives the device its identity
// and keeps it connected to its hub.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], stdio{Out: os.Stdout, Err: os.Stderr}))
}
