package linux_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/device/board"
	"holdfast/device/board/linux"
	"holdfast/internal/swtpm/swtpmtest"
)

func TestNothingThere(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for name, cfg := range map[string]linux.Config{
		"not configured": {},
		"absent": {TPM: none, Noise: none, RTC: none, Watchdog: none, WatchdogStatus: none,
			EventLog: none, CPU: none, Release: none},
	} {
		t.Run(name, func(t *testing.T) {
			b := linux.Open(cfg)
			if b.TPM != nil || b.RTC != nil || b.Watchdog != nil || b.Reset != nil || b.Boot.PCRs != nil {
				t.Errorf("found %+v", b)
			}
			for _, what := range []string{"tpm", "noise", "rtc", "watchdog", "reset", "reset-cause", "event-log", "version"} {
				if b.Missing[what] == "" {
					t.Errorf("no reason why there is no %s", what)
				}
			}
			if b.EntropySource != "getrandom" || b.Boot.ResetCause != board.Unknown {
				t.Errorf("entropy %s, reset cause %s", b.EntropySource, b.Boot.ResetCause)
			}
			if _, err := io.ReadFull(b.Entropy, make([]byte, 32)); err != nil {
				t.Error(err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// write puts recorded text where the kernel would show it.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRecorded(t *testing.T) {
	cfg := linux.Config{
		Noise:          write(t, "0123456789abcdefnoise of the machine"),
		RTC:            write(t, "not a clock"),
		Watchdog:       write(t, ""),
		WatchdogStatus: write(t, "32\n"),
		EventLog:       write(t, "log"),
		CPU:            write(t, "flags : fpu aes\n"),
		Release:        write(t, "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"),
		TPM:            write(t, "not a TPM"),
	}
	b := linux.Open(cfg)
	want := board.Boot{ResetCause: board.Expired, EventLog: []byte("log"), Version: "debian 12"}
	if diff := cmp.Diff(want, b.Boot); diff != "" {
		t.Errorf("boot (-want +got):\n%s", diff)
	}
	noise, err := io.ReadAll(b.Entropy)
	if err != nil || string(noise) != "noise of the machine" || b.EntropySource != cfg.Noise {
		t.Errorf("noise %q, %v, of %s", noise, err, b.EntropySource)
	}
	if b.Watchdog == nil || b.RTC != nil || b.TPM != nil || !slices.Equal(b.Features, []string{"aes"}) {
		t.Errorf("found %+v", b)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestLongEventLogIsRefused(t *testing.T) {
	b := linux.Open(linux.Config{EventLog: write(t, string(bytes.Repeat([]byte{0}, 1<<20+1)))})
	if len(b.Boot.EventLog) != 0 || b.Missing["event-log"] == "" {
		t.Errorf("took a log of %d bytes", len(b.Boot.EventLog))
	}
}

func TestTPMThroughASocket(t *testing.T) {
	m := swtpmtest.New(t)
	b := linux.Open(linux.Config{TPM: m.Socket()})
	if b.TPM == nil || !slices.Equal(b.Features, []string{"tpm"}) || len(b.Boot.PCRs) == 0 {
		t.Fatalf("no TPM: %s", b.Missing["tpm"])
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	m.Kill()
	if b := linux.Open(linux.Config{TPM: m.Socket()}); b.TPM != nil || b.Missing["tpm"] == "" {
		t.Error("found a TPM that has no power")
	}
}
