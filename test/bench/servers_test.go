package bench_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/internal/child"
	"holdfast/internal/testkit"
	"holdfast/operator"
)

// patience is how long a benchmark waits for what must happen.
const patience = time.Minute

// program is where hubProgram put the hub.
var program struct {
	sync.Mutex
	dir string
}

// hubProgram compiles the hub as 'make build' does, once; where HOLDFAST_HUB
// names a hub that is built already, it is that one.
func hubProgram(b testing.TB) string {
	b.Helper()
	if path := os.Getenv("HOLDFAST_HUB"); path != "" {
		return path
	}
	program.Lock()
	defer program.Unlock()
	path := filepath.Join(program.dir, "holdfast")
	if program.dir != "" {
		return path
	}
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		b.Fatal(err)
	}
	program.dir, path = dir, filepath.Join(dir, "holdfast")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "holdfast/cmd/holdfast")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build the hub: %v\n%s", err, out)
	}
	return path
}

func removePrograms() {
	if program.dir != "" {
		_ = os.RemoveAll(program.dir) // only what was built
	}
}

// output keeps what a program prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// line returns the first whole line with a phrase, or "".
func (o *output) line(phrase string) string {
	for l := range strings.Lines(o.String()) {
		if strings.Contains(l, phrase) && strings.HasSuffix(l, "\n") {
			return l
		}
	}
	return ""
}

// peer is a server under load, in a process of its own.
type peer struct {
	name  string
	addr  string // of MQTT over TLS
	roots *x509.CertPool
	proc  *child.Child
	out   *output
	start func() // starts it anew with the state that it has
}

// run runs a program as the peer until the benchmark ends.
func (p *peer) run(b testing.TB, env []string, name string, args ...string) {
	b.Helper()
	p.out = &output{}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), p.out, p.out
	var err error
	if p.proc, err = child.Start(cmd); err != nil {
		b.Fatal(err)
	}
	proc, out := p.proc, p.out
	b.Cleanup(func() {
		proc.Kill()
		if text := out.String(); b.Failed() {
			b.Logf("--- %s\n%s", p.name, text[max(0, len(text)-3000):])
		}
	})
}

// await waits until ok.
func (p *peer) await(b testing.TB, what string, ok func() bool) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-p.proc.Done():
			b.Fatalf("%s ended (%v) before %s", p.name, p.proc.Err(), what)
		case <-late:
			b.Fatalf("%s: %s: not in time", p.name, what)
		}
	}
}

func (p *peer) restart(b testing.TB) {
	b.Helper()
	if err := p.proc.Stop(patience); err != nil {
		b.Logf("%s: %v", p.name, err)
	}
	p.start()
}

// resident is the resident memory of the process in KiB.
func (p *peer) resident(b testing.TB) int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.proc.PID()))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				b.Fatal(err)
			}
			return kib
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// processor is the time that the server and this process, which is its
// clients, have had of the processors.
func (p *peer) processor(b testing.TB) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.proc.PID()))
	if err != nil {
		b.Fatal(err)
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	spent := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	_, rest, _ := strings.Cut(string(text), ") ") // proc_pid_stat(5): fields 14 and 15, in hundredths of a second
	for _, ticks := range strings.Fields(rest)[11:13] {
		n, err := strconv.Atoi(ticks)
		if err != nil {
			b.Fatal(err)
		}
		spent += time.Duration(n) * 10 * time.Millisecond
	}
	return spent
}

// station is a hub whose group "sensors" takes the authority's devices.
type station struct {
	peer
	operator *client.Client
	scope    string
	state    string   // its directory
	env      []string // for when it starts the next time
}

// startHub makes a hub and runs it.
func startHub(b testing.TB, a *authority) *station {
	b.Helper()
	s := &station{peer: peer{name: "holdfast", roots: x509.NewCertPool()}}
	path, dir := hubProgram(b), b.TempDir()
	state := filepath.Join(dir, "hub")
	s.state = state
	if out, err := exec.Command(path, "hub", "init", "--state", state, "--host", "localhost", "--host", "127.0.0.1",
		"--root-out", filepath.Join(dir, "root.key")).CombinedOutput(); err != nil {
		b.Fatalf("hub init: %v: %s", err, out)
	}
	root, err := os.ReadFile(filepath.Join(state, "root.pem"))
	if err != nil {
		b.Fatal(err)
	}
	s.roots.AppendCertsFromPEM(root)
	const free = "127.0.0.1:0"
	s.start = func() {
		s.run(b, s.env, path, "hub", "run", "--state", state, "--mqtt", free, "--https", free, "--operator", free)
		var up struct{ MQTT, Operator string }
		s.await(b, "it is up", func() bool { return json.Unmarshal([]byte(s.out.line(`"hub is up"`)), &up) == nil })
		s.addr = up.MQTT
		if s.operator, err = client.OpenAt(filepath.Join(state, "operator", "profile.json"), "https://"+up.Operator); err != nil {
			b.Fatal(err)
		}
	}
	s.start()
	ca := operator.CA{Name: "sensor-maker", Kind: "maker", PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.leaf.Certificate[0]}))}
	if _, err := s.operator.AddCA(b.Context(), ca); err != nil {
		b.Fatal(err)
	}
	g := operator.SetGroup{PolicyName: "lenient", MakerCAs: []string{ca.Name}, IDs: []string{"sensor-*", "meter-*"}}
	if _, err := s.operator.SetGroup(b.Context(), "sensors", g); err != nil {
		b.Fatal(err)
	}
	h, err := s.operator.Hub(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	s.scope = h.Scope
	return s
}

// startMosquitto runs Debian's mosquitto.
func startMosquitto(b testing.TB, a *authority) *peer {
	b.Helper()
	p := &peer{name: "mosquitto", roots: a.pool}
	path, dir := testkit.Need(b, "mosquitto"), b.TempDir()
	f, config := a.writeServer(b, dir), filepath.Join(dir, "mosquitto.conf")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	p.addr = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(p.addr)
	text := fmt.Sprintf("listener %s 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\nuse_identity_as_username true\n"+
		"tls_version tlsv1.3\npersistence false\n", port, f.ca, f.cert, f.key)
	if os.Getuid() == 0 {
		text += "user root\n" // it may not read the key otherwise
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	p.start = func() {
		p.run(b, nil, path, "-c", config)
		p.await(b, "it listens", func() bool { return p.out.line("running") != "" })
	}
	p.start()
	return p
}

// startOwn runs this test binary as a server.
func startOwn(b testing.TB, a *authority, kind string) *peer {
	b.Helper()
	p := &peer{name: kind, roots: a.pool}
	dir := b.TempDir()
	a.writeServer(b, dir)
	p.start = func() {
		p.run(b, []string{serveVariable + "=" + kind}, os.Args[0], dir)
		p.await(b, "it listens", func() bool { return p.out.line("address ") != "" })
		p.addr = strings.TrimSpace(strings.TrimPrefix(p.out.line("address "), "address "))
	}
	p.start()
	return p
}

// allowFiles lets this process and the servers hold as many connections as the
// machine permits.
func allowFiles(b testing.TB) {
	b.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		b.Fatal(err)
	}
	l.Cur = l.Max // set, or else the servers would not inherit it
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		b.Fatal(err)
	}
}

// startAll runs all four servers, the hub first.
func startAll(b testing.TB, a *authority) []*peer {
	b.Helper()
	allowFiles(b)
	nats := startOwn(b, a, "nats")
	keep(b, a, nats)
	return []*peer{&startHub(b, a).peer, startMosquitto(b, a), nats, startOwn(b, a, "bare")}
}

func (p *peer) tls(cert tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: p.roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}}
}
