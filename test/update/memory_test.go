package update_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// maxGrowth is how much more anonymous memory a device may take during an
// update than before, in bytes.
const maxGrowth = 8e6

// watchMemory watches what the firmware takes until the function it returns is
// called, which checks it. A boot begins anew.
func (w *world) watchMemory() (check func()) {
	w.t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	var first, most, before int64
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		pid := ""
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if pid == "" {
				pid = w.firmware()
				first = anonymous(pid)
			}
			now := anonymous(pid)
			if now == 0 && before > 0 {
				return // it was reset
			}
			before, most = now, max(most, now)
		}
	}()
	return func() {
		close(stop)
		<-done
		w.t.Logf("%.1f MB of anonymous memory before the update, %.1f MB at most during it", float64(first)/1e6, float64(most)/1e6)
		if first == 0 || most-first > maxGrowth {
			w.t.Errorf("an update takes %d bytes", most-first)
		}
	}
}

// firmware returns the process that runs on the board.
func (w *world) firmware() string {
	files, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, f := range files {
		if exe, err := os.Readlink(f); err == nil && strings.HasPrefix(exe, w.dir) {
			return filepath.Base(filepath.Dir(f))
		}
	}
	return ""
}

// anonymous returns the anonymous memory of a process in bytes; 0: it is gone.
func anonymous(pid string) int64 {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64) // 0 when it is no number
			return kb << 10
		}
	}
	return 0
}
