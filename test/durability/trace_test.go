package durability_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/synctrace"
	"holdfast/internal/testkit"
)

// No acknowledgement leaves before the sync that covers it; and with the sync
// taken out, the same check finds each of them.
func TestAcknowledgementsFollowTheSync(t *testing.T) {
	for name, args := range map[string][]string{"synced": nil, "unsafe": {"unsafe"}} {
		t.Run(name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			const n = 50
			calls, windows := traceKeeper(t, dir, n, args...)
			byWindow, found := synctrace.Check(calls, synctrace.Rule{Dir: dir, Windows: windows})
			server := serverOf(calls, windows[0].Client)
			byServer, alsoFound := synctrace.Check(calls, synctrace.Rule{Dir: dir, Server: server})
			if byWindow != n || byServer != n {
				t.Errorf("%d and %d acknowledgements in the trace, want %d", byWindow, byServer, n)
			}
			if args == nil {
				for _, v := range append(found, alsoFound...) {
					t.Error(v)
				}
			} else if len(found) != n || len(alsoFound) != n {
				t.Errorf("the check found %d and %d of %d acknowledgements without sync", len(found), len(alsoFound), n)
			}
		})
	}
}

func serverOf(calls []synctrace.Call, client netip.AddrPort) netip.AddrPort {
	for _, c := range calls {
		if c.Remote == client {
			return c.Local
		}
	}
	return netip.AddrPort{}
}

// traceKeeper has n lines acknowledged by a keeper under strace.
func traceKeeper(t *testing.T, dir string, n int, args ...string) ([]synctrace.Call, []synctrace.Window) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "trace")
	command := append(synctrace.Args(out), keeperPath(t), "serve", dir)
	cmd := exec.Command(testkit.Need(t, "strace"), append(command, args...)...)
	windows := exchange(t, startKeeper(t, cmd), n)
	killGroup(cmd)
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	calls, err := synctrace.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return calls, windows
}

// A sync that fails is no acknowledgement, and ends the program: what the
// kernel could not write once it may never report again.
func TestFailedSyncIsNotAcknowledged(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	blocks := filepath.Join(dir, "jetstream", "$G", "streams", "MESSAGES", "msgs", "1.blk")
	cmd := exec.Command(testkit.Need(t, "strace"), "-f", "-o", os.DevNull, "-P", blocks,
		"-e", "trace=fsync", "-e", "inject=fsync:error=EIO", keeperPath(t), "serve", dir)
	address := startKeeper(t, cmd)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, "message")
	if answer, err := io.ReadAll(c); len(answer) > 0 {
		t.Errorf("answer %q, %v", answer, err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("keeper ended with %v", err)
	}
}

// startKeeper starts a keeper that serves, and returns its address.
func startKeeper(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // strace and keeper end together
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killGroup(cmd) })
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("keeper did not start: %v", err)
	}
	return strings.TrimSpace(address)
}

// killGroup kills strace and what it traces, unless they have been waited for.
func killGroup(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // killed
	}
}

// exchange sends n lines, one at a time.
func exchange(t *testing.T, address string, n int) []synctrace.Window {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	var windows []synctrace.Window
	for i := range n {
		w := synctrace.Window{Client: c.LocalAddr().(*net.TCPAddr).AddrPort(), Sent: time.Now()}
		fmt.Fprintln(c, "message", i)
		if _, err := answers.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		w.Received = time.Now()
		windows = append(windows, w)
	}
	return windows
}
