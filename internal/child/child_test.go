package child_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/child"
)

// TestMain lets the test binary be the programs that the tests run.
func TestMain(m *testing.M) {
	switch os.Getenv("CHILD_TEST") {
	case "stubborn": // says so once it ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		<-time.After(time.Hour)
	case "parent": // starts a stubborn one and tells its id
		c, out := start("stubborn")
		_, _ = out.ReadString('\n')
		fmt.Println(c.PID())
		select {}
	case "fail":
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func start(part string) (*child.Child, *bufio.Reader) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CHILD_TEST="+part)
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	cmd.Stdout = w
	c, err := child.Start(cmd)
	if err != nil {
		panic(err)
	}
	_ = w.Close()
	return c, bufio.NewReader(r)
}

func TestStop(t *testing.T) {
	c, err := child.Start(exec.Command("/bin/sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(time.Minute); err != nil {
		t.Error(err)
	}
	if c.Err() == nil {
		t.Error("ended by a signal, without an error")
	}
	if err := c.Stop(time.Minute); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

func TestStopKillsTheStubborn(t *testing.T) {
	c, out := start("stubborn")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(10 * time.Millisecond); err == nil {
		t.Error("it ended when asked")
	}
	select {
	case <-c.Done():
	default:
		t.Error("it runs on")
	}
}

func TestErr(t *testing.T) {
	c, _ := start("fail")
	<-c.Done()
	if err := c.Err(); err == nil || err.Error() != "exit status 3" {
		t.Errorf("got %v", err)
	}
	if _, err := child.Start(exec.Command("/nowhere/program")); err == nil {
		t.Error("started what is not there")
	}
}

func TestDiesWithKilledParent(t *testing.T) {
	parent, out := start("parent")
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	parent.Kill()
	// The orphan holds the other end of no pipe of ours, so look for it.
	for deadline := time.Now().Add(30 * time.Second); alive(pid); {
		if time.Now().After(deadline) {
			t.Fatal("the child outlived its parent")
		}
		<-time.After(time.Millisecond)
	}
}

// alive reports whether a process runs: not gone and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
