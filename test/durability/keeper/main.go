// Command keeper is the smallest program that keeps messages as the hub does:
// it appends to the hub's stream or ledger and says what is acknowledged. The
// tests of durability trace it and kill it.
//
//	keeper serve DIR [unsafe]  answers each line on a TCP connection with "ok"
//	                           once it is stored; prints its address
//	keeper load DIR FIRST      appends numbers from FIRST on for ever, and
//	                           prints each once it is stored
//	keeper ledger DIR          the same for the ledger, printing record numbers
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"holdfast/hub/store"
	"holdfast/hub/stream"
	"holdfast/iothub"
	"holdfast/ledger"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("want serve, load or ledger, and a directory")
	}
	if args[0] == "ledger" {
		return appendLedger(ctx, filepath.Join(args[1], "hub.db"))
	}
	s, err := stream.New(ctx, stream.Config{
		Dir:               args[1],
		MinFree:           -1,
		Log:               slog.New(slog.NewTextHandler(os.Stderr, nil)),
		WithoutSyncUnsafe: len(args) > 2 && args[2] == "unsafe",
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	switch {
	case args[0] == "serve":
		go func() { ended <- serve(s) }()
	case args[0] == "load" && len(args) == 3:
		first, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		go load(s, first)
	default:
		return fmt.Errorf("unknown command %q", args)
	}
	return <-ended
}

func message(n int) iothub.Message {
	return iothub.Message{Device: "pump-01", Kind: iothub.Telemetry, Time: time.Now(), Body: fmt.Append(nil, n)}
}

// load keeps 500 messages in flight.
func load(s *stream.Stream, first int) {
	slots := make(chan struct{}, 500)
	for n := first; ; n++ {
		slots <- struct{}{}
		s.Append(message(n), func(err error) {
			if err == nil {
				fmt.Println(n) // one write: whole or not at all
			}
			<-slots
		})
	}
}

func serve(s *stream.Stream) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go answer(s, c)
	}
}

func answer(s *stream.Stream, c net.Conn) {
	defer c.Close()
	lines := bufio.NewScanner(c)
	for n := 0; lines.Scan(); n++ {
		stored := make(chan error, 1)
		s.Append(message(n), func(err error) { stored <- err })
		if <-stored != nil {
			return
		}
		if _, err := io.WriteString(c, "ok\n"); err != nil {
			return
		}
	}
}

func appendLedger(ctx context.Context, path string) error {
	s, err := store.Open(ctx, path)
	if err != nil {
		return err
	}
	for {
		r, err := s.AppendLedger(ctx, ledger.Entry{Time: time.Now(), Kind: ledger.Verdict, Device: "pump-01"})
		if err != nil {
			return err
		}
		fmt.Println(r.Seq, r.Hash)
	}
}
