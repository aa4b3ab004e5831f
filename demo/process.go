package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// grace is how long a process may take to end before it is killed.
const grace = 15 * time.Second

// process is a child of the demo. It runs in a process group of its own, so
// that a Ctrl-C in the terminal reaches the demo alone, which then ends its
// children in order; it ends with the demo in any case.
type process struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; read after done
}

// start runs a program with its stderr going to logPath. lines, when not nil,
// is called with each line of stdout, on one goroutine.
func start(name, logPath string, lines func([]byte), program string, args ...string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, in: in, done: make(chan struct{})}
	go p.wait(out, lines)
	return p, nil
}

// wait reads the process's output to its end and then collects the process.
func (p *process) wait(out io.Reader, lines func([]byte)) {
	defer close(p.done)
	s := bufio.NewScanner(out)
	for s.Scan() {
		if lines != nil {
			lines(s.Bytes())
		}
	}
	_, _ = io.Copy(io.Discard, out) // a line too long must not block the child
	p.err = p.cmd.Wait()
}

// stop asks the process to end, waits, and kills its group if it does not.
func (p *process) stop() {
	_ = p.in.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// run runs a program to its end and returns its stdout.
func run(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	out, err := cmd.Output()
	if err != nil {
		if ee, ok := err.(*exec.ExitError); ok {
			return nil, fmt.Errorf("%s %v: %w: %s", program, args[:2], err, ee.Stderr)
		}
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return out, nil
}

// runJSON runs a program and reads its stdout as JSON.
func runJSON(ctx context.Context, into any, program string, args ...string) error {
	out, err := run(ctx, program, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("output of %s %v: %w", program, args[:2], err)
	}
	return nil
}
