package durability_test

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/stream"
	"holdfast/iothub"
)

// A disk that is full is an error to the sender: nothing is acknowledged that
// is not kept, nothing acknowledged is lost, and messages are taken again as
// soon as there is room.
func TestFullDisk(t *testing.T) {
	t.Run("no space left", func(t *testing.T) {
		dir := smallDisk(t, 24<<20)
		ballast := filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		fillAndFree(t, stream.Config{Dir: filepath.Join(dir, "stream"), MinFree: -1}, func() { os.Remove(ballast) })
	})
	t.Run("some space kept for others", func(t *testing.T) {
		dir := smallDisk(t, 24<<20)
		ballast := filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		fillAndFree(t, stream.Config{Dir: filepath.Join(dir, "stream"), MinFree: 4 << 20}, func() {
			var fs syscall.Statfs_t
			if err := syscall.Statfs(dir, &fs); err != nil || int64(fs.Bavail)*fs.Bsize < 3<<20 {
				t.Errorf("%d blocks left, %v", fs.Bavail, err)
			}
			os.Remove(ballast)
		})
	})
	t.Run("file size limit", func(t *testing.T) {
		var old syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		restore := func() {
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
				t.Error(err)
			}
		}
		signal.Ignore(syscall.SIGXFSZ) // a write above the limit is then an error
		defer signal.Reset(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 3 << 20, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
		defer restore()
		fillAndFree(t, stream.Config{Dir: t.TempDir(), MinFree: -1}, restore)
	})
}

// smallDisk mounts a file system of so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+strconv.Itoa(size)); err != nil {
		t.Skipf("cannot mount a small file system here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func fillAndFree(t *testing.T, cfg stream.Config, free func()) {
	s, stop := open(t, cfg)
	followed := follow(t, s)
	pad := strings.Repeat("x", 100_000)
	n := 0
	acked := map[string]bool{}
	send := func() error {
		m := iothub.Message{Device: "pump-01", Kind: iothub.Telemetry, Time: time.Now(), Body: []byte(pad),
			Properties: map[string]string{"n": strconv.Itoa(n)}}
		n++
		result := make(chan error, 1)
		s.Append(m, func(err error) { result <- err })
		err := <-result
		if err == nil {
			acked[m.Properties["n"]] = true
		}
		return err
	}
	var err error
	for err == nil {
		if err = send(); n > 1000 {
			t.Fatal("the disk never fills")
		}
	}
	t.Logf("refused after %d messages: %v", len(acked), err)
	if fault.Of(err) != fault.Unavailable || len(acked) < 10 {
		t.Fatalf("after %d messages: %v", len(acked), err)
	}
	if err := send(); fault.Of(err) != fault.Unavailable {
		t.Errorf("while the disk is full: %v", err)
	}
	full := len(acked)
	free()
	began := time.Now()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for err = send(); err != nil; err = send() {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("still refused with room on the disk: %v", err)
		}
		<-retry.C
	}
	t.Logf("messages are taken again %v after there is room", time.Since(began))
	for range 20 {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acked) != full+21 {
		t.Errorf("%d acknowledged, %d of them before the disk was full", len(acked), full)
	}
	checkStored(t, s, acked)
	began = time.Now()
	for last := strconv.Itoa(n - 1); <-followed != last; {
		continue
	}
	t.Logf("who follows has caught up after %v", time.Since(began))
	stop()
	again, _ := open(t, cfg)
	checkStored(t, again, acked)
}

// follow reads the stream as "events --follow" does.
func follow(t *testing.T, s *stream.Stream) <-chan string {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	seen := make(chan string, 1000)
	go func() {
		defer close(seen)
		err := s.Read(ctx, stream.Query{Follow: true}, func(m iothub.Message, _ stream.Position) error {
			seen <- m.Properties["n"]
			return nil
		})
		if err != nil {
			t.Errorf("follow: %v", err)
		}
	}()
	return seen
}

func checkStored(t *testing.T, s *stream.Stream, acked map[string]bool) {
	t.Helper()
	stored := map[string]bool{}
	err := s.Read(t.Context(), stream.Query{}, func(m iothub.Message, _ stream.Position) error {
		stored[m.Properties["n"]] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range acked {
		if !stored[n] {
			t.Errorf("message %s was acknowledged and is lost", n)
		}
	}
}
