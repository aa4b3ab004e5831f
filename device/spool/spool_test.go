package spool_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/device/spool"
	"holdfast/logs"
)

func open(t *testing.T, dir string) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Config{Dir: dir, Boot: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func write(t *testing.T, s *spool.Spool, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if err := s.Append(logs.Record{Level: "info", Message: m}); err != nil {
			t.Fatal(err)
		}
	}
}

// batch returns the waiting records as "seq message".
func batch(t *testing.T, s *spool.Spool) []string {
	t.Helper()
	rs, err := s.Batch()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range rs {
		out = append(out, fmt.Sprint(r.Seq, " ", r.Message))
	}
	return out
}

func expect(t *testing.T, s *spool.Spool, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, batch(t, s)); diff != "" {
		t.Fatalf("waiting records (-want +got):\n%s", diff)
	}
}

func TestRecordsWaitUntilAcknowledged(t *testing.T) {
	s := open(t, t.TempDir())
	expect(t, s)
	write(t, s, "a", "b", "c")
	expect(t, s, "1 a", "2 b", "3 c")
	if err := s.Ack(2); err != nil {
		t.Fatal(err)
	}
	expect(t, s, "3 c")
	if err := s.Ack(1); err != nil { // late and harmless
		t.Fatal(err)
	}
	if err := s.Ack(99); err != nil { // of records that do not exist
		t.Fatal(err)
	}
	expect(t, s, "3 c")
}

func TestSequenceGrowsOverRestarts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, "a", "b")
	if err := s.Ack(2); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		expect(t, s)
		write(t, s, "c")
		expect(t, s, fmt.Sprint(i+3, " c"))
		if err := s.Ack(uint64(i + 3)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSequenceNeverFallsBehindTheAcknowledged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, "a", "b", "c")
	if err := s.Ack(3); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if err := os.Truncate(lastSegment(t, dir), 0); err != nil { // the disk lost what it had promised
		t.Fatal(err)
	}
	s = open(t, dir)
	write(t, s, "d")
	expect(t, s, "4 d")
}

func lastSegment(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	return names[len(names)-1]
}

// Every prefix of a segment must open, with exactly its whole records.
func TestEveryTruncatedTailOpens(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, "a", "b")
	_ = s.Close()
	whole, err := os.ReadFile(lastSegment(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		d := t.TempDir()
		if err := os.WriteFile(filepath.Join(d, filepath.Base(lastSegment(t, dir))), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, d)
		write(t, s, "new")
		got := batch(t, s)
		want := []string{"1 new"}
		if n >= len(whole)/2 {
			want = []string{"1 a", "2 new"}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%d of %d bytes (-want +got):\n%s", n, len(whole), diff)
		}
		_ = s.Close()
	}
}

func TestDamagedByteCutsTheTail(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, "a", "b")
	_ = s.Close()
	name := lastSegment(t, dir)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-3] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, open(t, dir), "1 a")
}

func TestFullSpoolDropsTheOldestAndCounts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	filler := strings.Repeat("x", 4000)
	for range 1000 { // four times what fits
		write(t, s, filler)
	}
	if size := diskUse(t, dir); size > 1<<20 {
		t.Errorf("spool takes %d bytes", size)
	}
	dropped := s.Dropped()
	rs, err := s.Batch()
	if err != nil || len(rs) == 0 {
		t.Fatal(err)
	}
	if rs[0].Seq != dropped+1 {
		t.Errorf("first record %d after %d dropped", rs[0].Seq, dropped)
	}
	_ = s.Close()
	if got := open(t, dir).Dropped(); got != dropped {
		t.Errorf("after a restart %d dropped, want %d", got, dropped)
	}
}

func TestAcknowledgedRecordsAreNotDropped(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 1000 {
		write(t, s, strings.Repeat("x", 4000))
		if err := s.Ack(uint64(i + 1)); err != nil {
			t.Fatal(err)
		}
	}
	if s.Dropped() != 0 {
		t.Errorf("%d dropped", s.Dropped())
	}
	if size := diskUse(t, dir); size > 200<<10 {
		t.Errorf("%d bytes kept of what is acknowledged", size)
	}
}

func diskUse(t *testing.T, dir string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

func TestBatchKeepsTheLimitsOfAShipment(t *testing.T) {
	s := open(t, t.TempDir())
	for range 300 {
		write(t, s, "short")
	}
	rs, err := s.Batch()
	if err != nil || len(rs) != logs.MaxRecords {
		t.Fatalf("%d records: %v", len(rs), err)
	}
	if err := s.Ack(300); err != nil {
		t.Fatal(err)
	}
	hostile := strings.Repeat("\x00\xff\"", 3000)
	for range 50 {
		if err := s.Append(logs.Record{Level: "info", Message: hostile, Attrs: map[string]string{hostile: hostile, "k": hostile}}); err != nil {
			t.Fatal(err)
		}
	}
	for got := 0; got < 50; {
		rs, err := s.Batch()
		if err != nil || len(rs) == 0 {
			t.Fatalf("after %d records: %v", got, err)
		}
		if _, err := logs.Parse(marshal(t, rs)); err != nil {
			t.Fatal(err)
		}
		got += len(rs)
		if err := s.Ack(rs[len(rs)-1].Seq); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnusableSpoolSaysSo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Open(spool.Config{Dir: filepath.Join(file, "x")}); err == nil {
		t.Error("a spool below a file opened")
	}
	if _, err := spool.Open(spool.Config{Dir: dir, Bytes: 5}); err == nil {
		t.Error("a spool of five bytes opened")
	}
}

func TestClosedSpoolRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	_ = s.Close()
	if err := s.Append(logs.Record{Level: "info"}); err == nil {
		t.Error("append after close")
	}
	if _, err := s.Batch(); err == nil {
		t.Error("batch after close")
	}
}

func TestHandlerKeepsAttributes(t *testing.T) {
	s := open(t, t.TempDir())
	var text strings.Builder
	log := slog.New(s.Handler(slog.NewTextHandler(&text, nil)))
	log.With("component", "link").WithGroup("peer").Warn("connection lost", "addr", "hub:8883", slog.Group("tls", "version", "1.3"))
	log.Debug("not kept")
	rs, err := s.Batch()
	if err != nil || len(rs) != 1 {
		t.Fatalf("%d records: %v", len(rs), err)
	}
	want := logs.Record{Seq: 1, Boot: 3, Level: "warn", Message: "connection lost", Time: rs[0].Time,
		Attrs: map[string]string{"component": "link", "peer.addr": "hub:8883", "peer.tls.version": "1.3"}}
	if diff := cmp.Diff(want, rs[0]); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if rs[0].Time.IsZero() || !strings.Contains(text.String(), "connection lost") {
		t.Errorf("time %v, text %q", rs[0].Time, text.String())
	}
}

func TestReadyTellsOfNewRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		select {
		case <-s.Ready():
			t.Error("an empty spool is ready")
		default:
		}
		write(t, s, "a")
		<-s.Ready()
		time.Sleep(2 * time.Second) // the late sync runs
		_ = s.Close()
		s = open(t, dir)
		<-s.Ready()
		_ = s.Close()
	})
}

// TestCrashBecomesARecord runs itself as a process that panics.
func TestCrashBecomesARecord(t *testing.T) {
	if dir := os.Getenv("SPOOL_CRASH"); dir != "" {
		s := open(t, dir)
		if err := s.CaptureCrashes(); err != nil {
			t.Fatal(err)
		}
		done := make(chan bool)
		go func() { panic("pump ran dry") }()
		<-done
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashBecomesARecord$")
	cmd.Env = append(os.Environ(), "SPOOL_CRASH="+dir)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("the child did not crash: %s", out)
	}
	for range 2 { // the second start must not report it again
		s := open(t, dir)
		if err := s.CaptureCrashes(); err != nil {
			t.Fatal(err)
		}
		rs, err := s.Batch()
		if err != nil || len(rs) != 1 || rs[0].Level != "crash" || !strings.Contains(rs[0].Message, "pump ran dry") {
			t.Fatalf("records %+v, %v", rs, err)
		}
		_ = s.Close()
	}
}

// TestKillLosesNoWarning kills a writer again and again: what it said was
// written must be there, in order and without a gap.
func TestKillLosesNoWarning(t *testing.T) {
	if dir := os.Getenv("SPOOL_KILL"); dir != "" {
		s := open(t, dir)
		for {
			if err := s.Append(logs.Record{Level: "warn", Message: "w"}); err != nil {
				t.Fatal(err)
			}
			fmt.Println("written")
		}
	}
	dir := t.TempDir()
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillLosesNoWarning$")
		cmd.Env = append(os.Environ(), "SPOOL_KILL="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 512)
		if _, err := out.Read(buf); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest := strings.Builder{}
		for {
			n, err := out.Read(buf)
			rest.Write(buf[:n])
			if err != nil {
				break
			}
		}
		_ = cmd.Wait()
		said := 1 + strings.Count(rest.String(), "written")
		s := open(t, dir)
		got := batch(t, s)
		if len(got) < min(said, logs.MaxRecords) {
			t.Fatalf("%d records, the writer said %d", len(got), said)
		}
		ackAll(t, s)
		_ = s.Close()
	}
}

func ackAll(t *testing.T, s *spool.Spool) {
	t.Helper()
	for {
		rs, err := s.Batch()
		if err != nil {
			t.Fatal(err)
		}
		if len(rs) == 0 {
			return
		}
		if err := s.Ack(rs[len(rs)-1].Seq); err != nil {
			t.Fatal(err)
		}
	}
}
