package durability_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/hub"
	"holdfast/internal/child"
)

// built keeps what the tests have compiled, for all of them.
var built struct {
	sync.Mutex
	dir   string
	paths map[string]string
}

// build compiles a program as 'make build' does, once.
func build(t testing.TB, pkg, tags string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if path, ok := built.paths[pkg+tags]; ok {
		return path
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-durability-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.paths = dir, map[string]string{}
	}
	path := filepath.Join(built.dir, filepath.Base(pkg)+tags)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-tags", tags, "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	built.paths[pkg+tags] = path
	return path
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

func keeperPath(t testing.TB) string { return build(t, "holdfast/test/durability/keeper", "") }

// process is a program under test, in a process group of its own.
type process struct {
	*child.Child
	log *watch
}

// watch keeps what a program prints, and tells of lines.
type watch struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed and made anew with each write
}

func (w *watch) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.more)
	w.more = make(chan struct{})
	return w.text.Write(b)
}

func (w *watch) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// line returns the first whole line that has a phrase.
func (w *watch) line(phrase string) (line string, ok bool, more <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range strings.Lines(w.text.String()) {
		if strings.Contains(l, phrase) && strings.HasSuffix(l, "\n") {
			return l, true, w.more
		}
	}
	return "", false, w.more
}

// start starts a program; it ends with the test.
func start(t testing.TB, program string, args ...string) *process {
	t.Helper()
	p := &process{log: &watch{more: make(chan struct{})}}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.Child, err = child.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			text := p.log.String()
			t.Logf("--- %s %s\n%s", filepath.Base(program), strings.Join(args, " "), text[max(0, len(text)-6000):])
		}
	})
	return p
}

// kill ends the program and its children at once, as a power cut would.
func (p *process) kill() {
	select {
	case <-p.Done():
	default:
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
		<-p.Done()
	}
}

// await waits until the program prints a line with a phrase, and returns it.
func (p *process) await(t testing.TB, phrase string) string {
	t.Helper()
	late := time.After(time.Minute)
	for {
		line, ok, more := p.log.line(phrase)
		if ok {
			return line
		}
		select {
		case <-more:
		case <-p.Done():
			t.Fatalf("the program ended (%v) before it said %q", p.Err(), phrase)
		case <-late:
			t.Fatalf("the program never said %q", phrase)
		}
	}
}

// run runs a program to its end and returns what it printed.
func run(t testing.TB, program string, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).Output()
	if err != nil {
		var said []byte
		if ee, ok := errors.AsType[*exec.ExitError](err); ok {
			said = ee.Stderr
		}
		t.Fatalf("%s %v: %v: %s", filepath.Base(program), args, err, said)
	}
	return out
}

// station is a hub's state directory and the hub that runs on it, always at
// the same addresses.
type station struct {
	dir     string // with links resolved
	program string
	at      hub.Addresses
	proc    *process
}

// newStation makes a hub in a directory.
func newStation(t testing.TB, dir, program string) *station {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	const free = "127.0.0.1:0"
	s := &station{dir: filepath.Join(dir, "hub"), program: program, at: hub.Addresses{MQTT: free, HTTPS: free, Operator: free}}
	run(t, program, "hub", "init", "--state", s.dir, "--host", "localhost", "--host", "127.0.0.1",
		"--root-out", filepath.Join(t.TempDir(), "root.key"))
	return s
}

func (s *station) args() []string {
	return []string{"hub", "run", "--state", s.dir, "--mqtt", s.at.MQTT, "--https", s.at.HTTPS, "--operator", s.at.Operator}
}

// start runs the hub, behind a command that traces it where one is given, and
// waits until it is up.
func (s *station) start(t testing.TB, tracer ...string) {
	t.Helper()
	command := append(append(tracer, s.program), s.args()...)
	s.proc = start(t, command[0], command[1:]...)
	var up struct{ MQTT, HTTPS, Operator string }
	if err := json.Unmarshal([]byte(s.proc.await(t, `"hub is up"`)), &up); err != nil {
		t.Fatal(err)
	}
	s.at = hub.Addresses{MQTT: up.MQTT, HTTPS: up.HTTPS, Operator: up.Operator}
}

// eventually waits until ok.
func eventually(t testing.TB, within time.Duration, what string, ok func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, within, err)
		case <-tick.C:
		}
	}
}
