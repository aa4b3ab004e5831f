package azure_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/testkit"
	"holdfast/operator"
)

// program is a device program of somebody else's that tells what happens to
// it, one JSON array a line.
type program struct {
	t     testing.TB
	in    io.Writer
	lines chan string
}

// node starts a device program of test/clients: device.js is built with Azure's
// SDK for Node, mqtt5.js with MQTT.js.
func (w *world) node(t testing.TB, script, id string) *program {
	t.Helper()
	testkit.Need(t, "node")
	if _, err := os.Stat("../clients/node_modules"); err != nil {
		if os.Getenv("HOLDFAST_REQUIRE") != "" {
			t.Fatal("run 'npm ci --ignore-scripts' in test/clients")
		}
		t.Skip("the packages of test/clients are not installed")
	}
	dir := t.TempDir()
	cert, key := writePEM(t, dir, w.certificate(id))
	root := filepath.Join(w.state, "root.pem")
	_, port, _ := net.SplitHostPort(w.at.MQTT)
	cmd := exec.Command("node", script, "localhost:"+port, id, cert, key, root)
	cmd.Dir = "../clients"
	return w.start(t, cmd)
}

// start starts a device program.
func (w *world) start(t testing.TB, cmd *exec.Cmd) *program {
	t.Helper()
	cmd.Stderr = &logWriter{t: t}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, in: in, lines: make(chan string, 1000)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		_ = cmd.Wait() // killed
	})
	return p
}

// writePEM writes a certificate and its key and returns the files' names.
func writePEM(t testing.TB, dir string, c tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// do has the program do something.
func (p *program) do(verb string, argument any) {
	p.t.Helper()
	b, err := json.Marshal([]any{verb, argument})
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(p.in, "%s\n", b); err != nil {
		p.t.Fatal(err)
	}
}

// expect waits for an event and fails on an error or another one.
func (p *program) expect(want string) {
	p.t.Helper()
	if got := p.next(want); got != want {
		p.t.Fatalf("got %s, want %s", got, want)
	}
}

// next waits for the next event; a lost connection is none, for the client
// connects again by itself.
func (p *program) next(want string) string {
	p.t.Helper()
	late := time.After(patience)
	for {
		select {
		case got, ok := <-p.lines:
			switch {
			case !ok:
				p.t.Fatalf("the program ended, want %s", want)
			case got != `["disconnect"]`:
				return got
			}
		case <-late:
			p.t.Fatalf("waited in vain for %s", want)
		}
	}
}

func TestNodeSDK(t *testing.T) {
	w := newWorld(t)
	p := w.node(t, "device.js", "meter-7")
	p.expect(`["open"]`)
	p.expect(`["desired",{"$version":1}]`) // what there is, as the program begins to listen

	p.do("send", map[string]any{"t": 21.5})
	p.expect(`["sent"]`)
	e := checkEvents(t, w, "telemetry", 1)[0]
	if e.Body != `{"t":21.5}` || e.Properties["level"] != "a/b&c=ü" || e.System["message-id"] != "from-node" || e.System["content-type"] != "application/json" {
		t.Errorf("event %+v", e)
	}

	exercise(t, w, p, 1)

	// The client subscribes to twins once in its life: the hub has to remember.
	w.restart()
	exercise(t, w, p, 2)
	p.do("close", nil)
	p.expect(`["closed"]`)
}

// exercise has everything done that an operator and a device do to each other.
// It is done for the n-th time to this device.
func exercise(t *testing.T, w *world, p *program, n int) {
	t.Helper()
	p.do("report", map[string]any{"round": n, "gone": nil})
	p.expect(`["reported"]`)

	if _, err := w.operator.MergeTwin(t.Context(), "meter-7", operator.SetTwin{Desired: raw(fmt.Sprintf(`{"interval":%d}`, n))}, ""); err != nil {
		t.Fatal(err)
	}
	p.expect(fmt.Sprintf(`["desired",{"interval":%d,"$version":%d}]`, n, n+1))

	r, err := w.operator.CallMethod(t.Context(), "meter-7", "reboot", operator.CallMethod{Payload: raw(`{"delay":3}`), Timeout: 20})
	if err != nil || r.Status != 202 || string(r.Payload) != `{"rebooting":{"delay":3}}` {
		t.Errorf("method: %+v, %v", r, err)
	}
	p.expect(`["method","reboot",{"delay":3}]`)
	if r, err = w.operator.CallMethod(t.Context(), "meter-7", "reboot", operator.CallMethod{}); err != nil || r.Status != 202 {
		t.Errorf("method without payload: %+v, %v", r, err)
	}
	p.expect(`["method","reboot",null]`)
	id := fmt.Sprintf("m/%d", n)
	if _, err := w.operator.SendMessage(t.Context(), "meter-7", operator.SendMessage{ID: id, Body: "hello", Properties: map[string]string{"k/1": "v&ä"}, Ack: "full"}); err != nil {
		t.Fatal(err)
	}
	p.expect(fmt.Sprintf(`["message","%s","hello",[["iothub-ack","full"],["k/1","v&ä"]]]`, id))
	if e := checkEvents(t, w, "feedback", n)[n-1]; !strings.Contains(e.Body, `"Success"`) || !strings.Contains(e.Body, id) {
		t.Errorf("feedback %+v", e)
	}

	p.do("twin", nil)
	p.expect(fmt.Sprintf(`["desired",{"interval":%d,"$version":%d}]`, n, n+1)) // as after each GET
	p.expect(fmt.Sprintf(`["twin",{"interval":%d,"$version":%d},{"round":%d,"$version":%d}]`, n, n+1, n, n+1))
}
