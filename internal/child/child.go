// Package child runs programs that must not outlive this one, not even when
// this one is killed: the kernel ends them with their parent.
package child

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Child is a running program.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// Start starts cmd, which must not have been started. The program is killed
// when this process dies for whatever reason.
func Start(cmd *exec.Cmd) (*Child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	c := &Child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go c.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// run keeps the thread that forked alive as long as the program: Linux sends
// the death signal when that thread ends, not when the process does.
func (c *Child) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	err := c.cmd.Start()
	started <- err
	if err == nil {
		c.err = c.cmd.Wait()
	}
}

// Done is closed when the program has ended and been waited for.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err returns how the program ended: nil for exit code 0. It may be called
// only after Done is closed.
func (c *Child) Err() error { return c.err }

// PID returns the process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Kill ends the program at once and waits for it.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill() // fails only when it has ended
	<-c.done
}

// Stop asks the program to end (SIGTERM), waits up to grace, then kills it.
// It returns an error when it had to.
func (c *Child) Stop(grace time.Duration) error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		c.Kill()
		return errors.New(c.cmd.Path + " did not end when asked and was killed")
	}
}
