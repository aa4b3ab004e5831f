// Package scripts_test runs the two command lines as their users do: each
// .txtar file here is a story of commands, outputs and exit codes.
package scripts_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // the hub's database, for tamper

	"holdfast/internal/child"
	"holdfast/ledger"
)

// patience bounds every wait.
const patience = time.Minute

func TestScripts(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "holdfast/cmd/holdfast", "holdfast/cmd/holdfast-device")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir: ".",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			return addresses(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "start": start, "stop": stop, "tamper": tamper, "maker": maker, "signed": signed, "program": program,
		},
	})
}

// scripts counts the scripts of this run.
var scripts atomic.Uint32

// addresses sets $HOST to a loopback address that no other script has, so that
// a hub finds its ports free when it is started again, and $MQTT, $HTTPS,
// $OPERATOR and $LEGACY to free ports of it.
func addresses(env *testscript.Env) error {
	host := fmt.Sprintf("127.77.%d.%d", os.Getpid()%250, scripts.Add(1))
	env.Setenv("HOST", host)
	for _, name := range []string{"MQTT", "HTTPS", "OPERATOR", "LEGACY"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return err
		}
		defer l.Close() // all are held until all are chosen
		env.Setenv(name, l.Addr().String())
	}
	return nil
}

// exits CODE PROGRAM ARGS runs a program that has to end with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\n%s%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// running has the hub (a *child.Child) that a script has started, by its
// directory: scripts run side by side.
var running sync.Map

// start runs the hub in $WORK/hub until stop or the end of the script.
func start(ts *testscript.TestScript, _ bool, _ []string) {
	dir := ts.MkAbs("hub")
	var log bytes.Buffer
	program, err := exec.LookPath(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "holdfast"))
	ts.Check(err)
	cmd := exec.Command(program, "hub", "run", "--state", dir, "--mqtt", ts.Getenv("MQTT"), "--https", ts.Getenv("HTTPS"), "--operator", ts.Getenv("OPERATOR"))
	cmd.Stdout, cmd.Stderr = &log, &log
	c, err := child.Start(cmd)
	ts.Check(err)
	running.Store(dir, c)
	ts.Defer(func() { c.Kill(); running.Delete(dir) })
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", ts.Getenv("OPERATOR"))
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-c.Done():
			ts.Fatalf("the hub ended: %v\n%s", c.Err(), &log)
		case <-time.After(20 * time.Millisecond):
			if time.Now().After(deadline) {
				ts.Fatalf("the hub does not answer: %v", err)
			}
		}
	}
}

// stop ends the hub in order.
func stop(ts *testscript.TestScript, _ bool, _ []string) {
	c, ok := running.Load(ts.MkAbs("hub"))
	if !ok {
		ts.Fatalf("no hub runs")
	}
	ts.Check(c.(*child.Child).Stop(patience))
}

// tamper changes the ledger of the stopped hub, as whoever owns its machine
// can: one record, the end, or all of it so that it is a chain again.
func tamper(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(ts.MkAbs("hub"), "holdfast.db"))
	ts.Check(err)
	defer db.Close()
	ctx := context.Background()
	switch args[0] {
	case "change":
		_, err = db.ExecContext(ctx, `UPDATE ledger SET actor = 'nobody' WHERE seq = 2`)
	case "remove":
		_, err = db.ExecContext(ctx, `DELETE FROM ledger WHERE seq = 2`)
	case "shorten":
		_, err = db.ExecContext(ctx, `DELETE FROM ledger WHERE seq > 2`)
	case "rewrite":
		err = rewrite(ctx, db)
	default:
		ts.Fatalf("tamper change, remove, shorten or rewrite")
	}
	ts.Check(err)
}

// rewrite makes the first record another and chains all that follow anew.
func rewrite(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, `SELECT time, kind, device, grp, actor, reason, details FROM ledger ORDER BY seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var chain []ledger.Record
	var tip ledger.Tip
	for rows.Next() {
		var e ledger.Entry
		var at int64
		var details string
		if err := rows.Scan(&at, &e.Kind, &e.Device, &e.Group, &e.Actor, &e.Reason, &details); err != nil {
			return err
		}
		e.Time, e.Details = time.Unix(0, at), json.RawMessage(details)
		if len(chain) == 0 {
			e.Actor = "nobody"
		}
		r, err := ledger.Next(tip, e)
		if err != nil {
			return err
		}
		chain, tip = append(chain, r), r.Tip()
	}
	if err := rows.Err(); err != nil || len(chain) == 0 {
		return fmt.Errorf("%d records: %w", len(chain), errors.Join(err, io.ErrUnexpectedEOF))
	}
	for _, r := range chain {
		if _, err := db.ExecContext(ctx, `UPDATE ledger SET actor = ?, prev = ?, hash = ? WHERE seq = ?`, r.Actor, r.Prev[:], r.Hash[:], int64(r.Seq)); err != nil {
			return err
		}
	}
	return nil
}
