package azure_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/hub"
	"holdfast/identity"
	"holdfast/internal/child"
	"holdfast/operator"
)

// build compiles the hub's program.
func build(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdfast")
	cmd := exec.Command("go", "build", "-o", path, "holdfast/cmd/holdfast")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the hub: %v\n%s", err, out)
	}
	return path
}

// spawn runs the hub as a process of its own, where it was before; stop kills it.
func (w *world) spawn(program string) {
	w.t.Helper()
	if w.at.MQTT == "" {
		w.at = hub.Addresses{MQTT: steadyAddress(w.t), HTTPS: steadyAddress(w.t), Operator: steadyAddress(w.t)}
	}
	cmd := exec.Command(program, "hub", "run", "--state", w.state, "--mqtt", w.at.MQTT, "--https", w.at.HTTPS, "--operator", w.at.Operator)
	r, log, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	process, err := child.Start(cmd)
	log.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	up, read := make(chan hub.Addresses, 1), make(chan struct{})
	go func() {
		defer close(read)
		defer close(up)
		tell(w.t, r, up)
	}()
	w.stop = func() {
		process.Kill()
		<-read
	}
	w.t.Cleanup(w.stop)
	select {
	case at, ok := <-up:
		if !ok {
			w.t.Fatal("the hub ended before it was up")
		}
		w.at = at
	case <-time.After(patience):
		w.t.Fatal("the hub is not up")
	}
	w.open()
}

// steadyAddress returns an address that is free now and that no connection of
// anybody's takes while the hub is down: its port is below those that the kernel
// gives out.
func steadyAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.N(10000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// tell copies a hub's log to a test's and tells where the hub listens.
func tell(t testing.TB, r io.ReadCloser, up chan<- hub.Addresses) {
	defer r.Close()
	for s := bufio.NewScanner(r); s.Scan(); {
		t.Logf("%s", s.Bytes())
		var line struct{ Msg, MQTT, HTTPS, Operator string }
		if json.Unmarshal(s.Bytes(), &line) == nil && line.Msg == "hub is up" {
			up <- hub.Addresses{MQTT: line.MQTT, HTTPS: line.HTTPS, Operator: line.Operator}
		}
	}
}

// stored returns the bodies of a device's telemetry.
func (w *world) stored(id identity.Device) map[string]bool {
	w.t.Helper()
	bodies := map[string]bool{}
	err := w.operator.Events(w.t.Context(), operator.EventQuery{Kind: "telemetry", Device: id}, func(e operator.Event) error {
		bodies[e.Body] = true
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return bodies
}

// awaitLoad waits until more of a device's telemetry is stored than was.
func (w *world) awaitLoad(id identity.Device, was int) int {
	w.t.Helper()
	late, tick := time.After(patience), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for {
		if n := len(w.stored(id)); n >= was+20 {
			return n
		}
		select {
		case <-tick.C:
		case <-late:
			w.t.Fatalf("%s does not send", id)
		}
	}
}

// Killed under load and started again, the hub has all that it acknowledged to
// clients that connect again by themselves, and still serves subscriptions that
// they have made once in their lives.
func TestKillUnderClients(t *testing.T) {
	w := emptyWorld(t)
	program := build(t)
	w.spawn(program)
	w.register()
	sdk, js := w.node(t, "device.js", "meter-7"), w.node(t, "mqtt5.js", "meter-8")
	sdk.expect(`["open"]`)
	sdk.expect(`["desired",{"$version":1}]`)
	exercise(t, w, sdk, 1)
	js.expect(`["open",false,8]`)
	js.do("subscribe", []string{desiredOnes, methodCalls, "devices/meter-8/messages/devicebound/#"})
	js.expect(`["subscribed",1,1,1]`)
	devices := map[identity.Device]*loaded{"meter-7": {program: sdk}, "meter-8": {program: js}}
	for _, p := range devices {
		p.do("load", 4)
		p.expect(`["loading"]`)
	}
	for range 2 {
		for id, p := range devices {
			p.stored = w.awaitLoad(id, p.stored)
		}
		w.stop()
		w.spawn(program)
	}
	for id, p := range devices {
		w.awaitLoad(id, p.stored) // it is back
		w.nothingLost(p.program, id)
	}
	exercise(t, w, sdk, 2)
	exerciseKept(t, w, js)
}

// loaded is a program under load, of which so much has been seen stored.
type loaded struct {
	*program
	stored int
}

// nothingLost ends a program's load and demands that all of it is stored that
// the program has had acknowledged.
func (w *world) nothingLost(p *program, id identity.Device) {
	w.t.Helper()
	p.do("stop", nil)
	line := p.next("what was acknowledged")
	numbers, ok := strings.CutPrefix(strings.TrimSuffix(line, "]"), `["acked",`)
	if !ok {
		w.t.Fatalf("got %.100s", line)
	}
	acked := strings.Split(numbers, ",")
	stored := w.stored(id)
	w.t.Logf("%s: %d messages acknowledged, %d stored", id, len(acked), len(stored))
	for _, n := range acked {
		if !stored[n] {
			w.t.Errorf("%s: message %s was acknowledged and is lost", id, n)
		}
	}
}

// exerciseKept has a device served that subscribed before the hub was killed.
func exerciseKept(t *testing.T, w *world, p *program) {
	t.Helper()
	if _, err := w.operator.MergeTwin(t.Context(), "meter-8", operator.SetTwin{Desired: raw(`{"interval":5}`)}, ""); err != nil {
		t.Fatal(err)
	}
	p.expect(`["message","$iothub/twin/PATCH/properties/desired/?$version=2","{\"interval\":5,\"$version\":2}",{}]`)
	r, err := w.operator.CallMethod(t.Context(), "meter-8", "reboot", operator.CallMethod{Payload: raw(`3`), Timeout: 20})
	if err != nil || r.Status != 200 || string(r.Payload) != `{"ok":true}` {
		t.Errorf("method: %+v, %v", r, err)
	}
	p.expect(`["method","reboot",3]`)
	if _, err := w.operator.SendMessage(t.Context(), "meter-8", operator.SendMessage{ID: "1", Body: "hello", Properties: map[string]string{"k": "v/&"}}); err != nil {
		t.Fatal(err)
	}
	var event []any
	line := p.next("a message")
	if err := json.Unmarshal([]byte(line), &event); err != nil || len(event) != 4 || event[0] != "message" || event[1] != "devicebound" || event[2] != "hello" {
		t.Fatalf("got %s, %v", line, err)
	}
	user := event[3].(map[string]any)
	if user["k"] != "v/&" || user["$.mid"] != "1" {
		t.Errorf("user properties %v", slices.Sorted(maps.Keys(user)))
	}
}
