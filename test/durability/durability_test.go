// Package durability_test kills, starves and traces what keeps the hub's
// promises: an acknowledgement means that the message is on disk.
package durability_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/hub/store"
	"holdfast/hub/stream"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/ledger"
)

// runAndKill runs keeper, kills it after a while, and returns the lines that
// it printed. The while begins with the first line, or with the start.
func runAndKill(t *testing.T, fromStart bool, while time.Duration, args ...string) []string {
	t.Helper()
	cmd := exec.Command(keeperPath(t), args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { time.AfterFunc(while, func() { cmd.Process.Kill() }) }
	if fromStart {
		kill()
	}
	var got []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if len(got) == 0 && !fromStart {
			kill()
		}
		got = append(got, lines.Text())
	}
	_ = cmd.Wait() // killed
	if !fromStart && len(got) == 0 {
		t.Fatalf("keeper %v said nothing: %s", args, stderr.String())
	}
	return got
}

const rounds = 8

// Killed at any moment under load, also while it starts, the stream keeps each
// message that was acknowledged, once and in order.
func TestStreamSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[int]bool{}
	next := 0
	for round := range rounds {
		fromStart := round%4 == 3
		while := time.Duration(rand.Int64N(int64(400 * time.Millisecond)))
		for _, line := range runAndKill(t, fromStart, while, "load", dir, strconv.Itoa(next)) {
			n, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			acked[n] = true
		}
		stored := readNumbers(t, dir)
		missing := len(acked)
		for i, n := range stored {
			if i > 0 && n <= stored[i-1] {
				t.Fatalf("round %d: %d stands after %d", round, n, stored[i-1])
			}
			if acked[n] {
				missing--
			}
		}
		if missing > 0 {
			t.Fatalf("round %d: %d of %d acknowledged messages are lost", round, missing, len(acked))
		}
		t.Logf("killed after %v (from start: %v): %d acknowledged, %d stored", while, fromStart, len(acked), len(stored))
		if len(stored) > 0 {
			next = stored[len(stored)-1] + 1
		}
	}
}

// readNumbers opens a stream, returns what keeper stored there, and closes it.
func readNumbers(t *testing.T, dir string) []int {
	t.Helper()
	s, stop := open(t, stream.Config{Dir: dir})
	defer stop()
	var got []int
	err := s.Read(t.Context(), stream.Query{}, func(m iothub.Message, _ stream.Position) error {
		n, err := strconv.Atoi(string(m.Body))
		got = append(got, n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func open(t *testing.T, cfg stream.Config) (*stream.Stream, func()) {
	t.Helper()
	s, err := stream.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// Killed at any moment, the ledger has each record that was acknowledged, and
// its chain holds.
func TestLedgerSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	var heads []ledger.Head
	for round := range rounds {
		while := time.Duration(rand.Int64N(int64(300 * time.Millisecond)))
		for _, line := range runAndKill(t, round%4 == 3, while, "ledger", dir) {
			var h ledger.Head
			var hash string
			if _, err := fmt.Sscan(line, &h.Seq, &hash); err != nil {
				t.Fatal(err)
			}
			var err error
			if h.Hash, err = identity.ParseDigest(hash); err != nil {
				t.Fatal(err)
			}
			heads = append(heads, h)
		}
		res, err := verifyLedger(t, filepath.Join(dir, "hub.db"), heads)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		t.Logf("killed after %v: %d acknowledged; %v", while, len(heads), res)
	}
}

func verifyLedger(t *testing.T, path string, heads []ledger.Head) (ledger.Result, error) {
	t.Helper()
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	records, err := s.LedgerRecords(t.Context(), 1, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Verify(func(yield func(ledger.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}, heads...)
}
