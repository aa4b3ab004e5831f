package linux

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/device/board"
)

func TestWatchdog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := findWatchdog(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Arm(time.Minute); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("armed a plain file: %v", err)
	}
	var got int
	w.setTimeout = func(_, seconds int) error { got = seconds; return nil }
	if err := w.Feed(); !errors.Is(err, board.ErrNotArmed) {
		t.Errorf("fed before it was armed: %v", err)
	}
	if err := w.Arm(time.Millisecond); err == nil {
		t.Error("armed with a millisecond")
	}
	if err := errors.Join(w.Arm(1500*time.Millisecond), w.Feed(), w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if got != 2 {
		t.Errorf("timeout %d s, want 2", got)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "\x00V" {
		t.Errorf("the device was told %q, %v", text, err)
	}
}

func TestResetCause(t *testing.T) {
	for text, want := range map[string]string{"0\n": board.Unknown, "32\n": board.Expired, "0x20\n": board.Expired, "64\n": board.Unknown, "x": ""} {
		path := filepath.Join(t.TempDir(), "bootstatus")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := resetCause(path); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestRTCTime(t *testing.T) {
	want := time.Date(2026, 2, 28, 23, 59, 58, 0, time.UTC)
	got, err := fromRTC(toRTC(want.In(time.FixedZone("", 3600))))
	if err != nil || !got.Equal(want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for name, r := range map[string]unix.RTCTime{
		"zero":        {},
		"30 February": {Year: 126, Mon: 1, Mday: 30},
		"60 seconds":  {Year: 126, Mon: 1, Mday: 1, Sec: 60},
	} {
		if got, err := fromRTC(&r); err == nil {
			t.Errorf("%s: took it for %v", name, got)
		}
	}
	if fields, err := fromRTC(&unix.RTCTime{Year: 126, Mday: 1, Wday: 4, Yday: 9, Isdst: -1}); err != nil {
		t.Errorf("fields that rtc(4) says are not used: %v, %v", fields, err)
	}
}
