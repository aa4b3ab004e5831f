package swtpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"holdfast/internal/child"
	"holdfast/internal/sockdir"
)

// startTime bounds how long a TPM may take to listen.
const startTime = 20 * time.Second

// TPM is a software TPM with its power on. It dies with this process.
type TPM struct {
	child   *child.Child
	socket  string
	log     *bytes.Buffer
	cleanup func() // removes the sockets' directory, where it is not the state's
}

// Start powers on the TPM in dir: its PCRs are zero and its resetCount has
// grown. Powering a TPM off and on is Stop and Start. The TPM runs until Stop
// or Kill; ctx bounds only the start.
func Start(ctx context.Context, dir string) (*TPM, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		t, err := start(ctx, dir)
		if !errors.Is(err, errEnded) {
			return t, err
		}
		// A TPM whose parent was killed a moment ago may still hold the lock
		// on the state.
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

var errEnded = errors.New("swtpm ended at once")

func start(ctx context.Context, dir string) (*TPM, error) {
	if _, err := os.Stat(filepath.Join(dir, "tpm2-00.permall")); err != nil {
		return nil, fmt.Errorf("start software TPM: none in %s: %w", dir, err)
	}
	run, cleanup, err := sockdir.Choose(dir, "ctrl.sock")
	if err != nil {
		return nil, fmt.Errorf("start software TPM: %w", err)
	}
	t := &TPM{log: &bytes.Buffer{}, cleanup: cleanup}
	t.socket = filepath.Join(run, "tpm.sock")
	_ = os.Remove(t.socket) // a stale one would look like a listener
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,mode=0600,path="+t.socket,
		"--ctrl", "type=unixio,mode=0600,path="+filepath.Join(run, "ctrl.sock"),
		"--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = t.log, t.log
	if t.child, err = child.Start(cmd); err != nil {
		t.cleanup()
		return nil, err
	}
	if err := t.await(ctx); err != nil {
		t.Kill()
		return nil, err
	}
	return t, nil
}

// await returns when the TPM accepts connections.
func (t *TPM) await(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("unix", t.socket); err == nil {
			return c.Close()
		}
		select {
		case <-t.child.Done():
			return fmt.Errorf("%w: %s", errEnded, lastLine(t.log.Bytes()))
		case <-ctx.Done():
			return fmt.Errorf("start software TPM: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// Socket is the path of the Unix socket that takes TPM commands: one
// connection at a time, any number of commands on each.
func (t *TPM) Socket() string { return t.socket }

// Done is closed when the TPM has ended.
func (t *TPM) Done() <-chan struct{} { return t.child.Done() }

// Open returns a connection to the TPM. It is not safe for concurrent use,
// but several may be open: each command is a connection of its own.
func (t *TPM) Open() (transport.TPMCloser, error) {
	tpm, err := linuxudstpm.Open(t.socket)
	if err != nil {
		return nil, fmt.Errorf("open software TPM: %w", err)
	}
	return tpm, nil
}

// Stop shuts the TPM down in order (TPM2_Shutdown) and cuts its power.
func (t *TPM) Stop() error {
	defer t.cleanup()
	tpm, err := t.Open()
	if err == nil {
		_, err = tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(tpm)
	}
	return errors.Join(err, t.child.Stop(5*time.Second))
}

// Kill cuts the TPM's power without a warning.
func (t *TPM) Kill() {
	t.child.Kill()
	t.cleanup()
}
