package sdnotify_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"holdfast/internal/sdnotify"
)

func TestNotifyReachesTheSocket(t *testing.T) {
	for name, path := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "n"),
		"abstract": "@holdfast-test-" + strconv.Itoa(os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			t.Setenv("NOTIFY_SOCKET", path)
			if err := sdnotify.Notify(sdnotify.Ready); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 64)
			l.SetReadDeadline(time.Now().Add(30 * time.Second))
			n, err := l.Read(b)
			if err != nil || string(b[:n]) != "READY=1" {
				t.Errorf("systemd hears %q, %v", b[:n], err)
			}
		})
	}
}

func TestNotifyWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := sdnotify.Notify(sdnotify.Ready); err != nil {
		t.Error(err)
	}
}

func TestNotifyNamesWhatIsWrong(t *testing.T) {
	for _, path := range []string{"relative", filepath.Join(t.TempDir(), "nobody")} {
		t.Setenv("NOTIFY_SOCKET", path)
		if err := sdnotify.Notify(sdnotify.Ready); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}

func TestWatchdog(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, tt := range []struct {
		µs, pid string
		want    time.Duration
	}{
		{"", "", 0}, {"0", "", 0}, {"-5", "", 0}, {"much", "", 0}, {"99999999999999999", "", 0},
		{"30000000", "", 15 * time.Second}, {"30000000", own, 15 * time.Second}, {"30000000", "1", 0},
	} {
		t.Setenv("WATCHDOG_USEC", tt.µs)
		t.Setenv("WATCHDOG_PID", tt.pid)
		if got := sdnotify.Watchdog(); got != tt.want {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %s, want %s", tt.µs, tt.pid, got, tt.want)
		}
	}
}
