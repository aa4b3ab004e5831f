// Command holdfast is the hub and the operator's toolbox: it runs the hub,
// steers a fleet through the hub's API, and plays the demo.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	err := rootCmd(stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}).ExecuteContext(ctx)
	if err != nil {
		explain(os.Stderr, err)
	}
	os.Exit(exitCode(err))
}

// explain prints an error and, where one is known, a hint.
func explain(w *os.File, err error) {
	fmt.Fprintln(w, "error:", err)
	if h := hint(err); h != "" {
		fmt.Fprintln(w, "hint:", h)
	}
}
