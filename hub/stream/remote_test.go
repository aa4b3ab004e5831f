package stream_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"holdfast/fault"
	"holdfast/hub/stream"
	"holdfast/identity"
	"holdfast/iothub"
)

// cluster is a NATS server on a loopback port, as somebody else runs it.
func cluster(t testing.TB, dir string, port int) (*server.Server, int) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS server does not start")
	}
	t.Cleanup(s.Shutdown)
	return s, s.Addr().(*net.TCPAddr).Port
}

// anyPort lets the system choose.
const anyPort = -1

// added appends a message and returns what became of it.
func added(s *stream.Stream, m iothub.Message) error {
	done := make(chan error, 1)
	s.Append(m, func(err error) { done <- err })
	return <-done
}

func TestExternalCluster(t *testing.T) {
	dir := t.TempDir()
	n, port := cluster(t, dir, anyPort)
	cfg := stream.Config{URL: n.ClientURL(), MaxAge: time.Hour, MaxBytes: 32 << 20}
	s, stop := start(t, cfg)
	store(t, s, message("pump-01", 1), message("pump-02", 2), message("pump-01", 3))
	if got, _ := read(t, s, stream.Query{Device: "pump-01"}); len(got) != 2 {
		t.Errorf("%d messages", len(got))
	}
	serve(t, s.Bus(), func(identity.Device, string, []byte) ([]byte, bool) { return []byte("here"), true })
	if got, err := s.Bus().Request(t.Context(), "pump-01", stream.VerbRevoke, nil); err != nil || string(got) != "here" {
		t.Errorf("%q, %v", got, err)
	}

	// Away: nothing is promised, and sessions of this process are reached still.
	n.Shutdown()
	n.WaitForShutdown()
	if err := added(s, message("pump-01", 4)); fault.Of(err) != fault.Unavailable {
		t.Errorf("without a cluster: %v", err)
	}
	if got, err := s.Bus().Request(quick(t), "pump-01", stream.VerbRevoke, nil); err != nil || string(got) != "here" {
		t.Errorf("without a cluster: %q, %v", got, err)
	}
	// Back: messages are taken again, and those from before are there.
	cluster(t, dir, port)
	for deadline := time.Now().Add(30 * time.Second); added(s, message("pump-01", 5)) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("messages are refused after the cluster came back")
		}
	}
	if got := readBack(t, s, "pump-01"); len(got) < 3 {
		t.Errorf("%d messages after the cluster came back", len(got))
	}
	stop()
	s, _ = start(t, cfg) // another process goes on
	if got, _ := read(t, s, stream.Query{Device: "pump-02"}); len(got) != 1 {
		t.Errorf("%d messages for the next process", len(got))
	}
}

// readBack reads a device's messages once the hub's connection for readers, which finds
// the cluster by itself and not when that for writers does, is back.
func readBack(t *testing.T, s *stream.Stream, d identity.Device) []iothub.Message {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		var got []iothub.Message
		err := s.Read(t.Context(), stream.Query{Device: d}, func(m iothub.Message, _ stream.Position) error {
			got = append(got, m)
			return nil
		})
		switch {
		case err == nil:
			return got
		case fault.Of(err) != fault.Unavailable || time.Now().After(deadline):
			t.Fatal(err)
		}
	}
}

// quick is a context that ends before the test does.
func quick(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// What the cluster's operators set on the stream stays; retention is the hub's.
func TestExternalStreamKeepsItsSettings(t *testing.T) {
	n, _ := cluster(t, t.TempDir(), anyPort)
	nc, err := nats.Connect(n.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	made := jetstream.StreamConfig{Name: "MESSAGES", Subjects: []string{"messages"}, Description: "ours", Metadata: map[string]string{"team": "pumps"}}
	if _, err := js.CreateStream(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	start(t, stream.Config{URL: n.ClientURL(), MaxAge: time.Hour, MaxBytes: 32 << 20})
	s, err := js.Stream(t.Context(), "MESSAGES")
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	if c.Description != "ours" || c.Metadata["team"] != "pumps" || c.MaxAge != time.Hour || c.MaxBytes != 32<<20 {
		t.Errorf("%+v", c)
	}
}

func TestExternalClusterIsRefused(t *testing.T) {
	small, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: anyPort, MaxPayload: 64 << 10, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	small.Start()
	t.Cleanup(small.Shutdown)
	if !small.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS server does not start")
	}
	for url, want := range map[string]string{
		"nats://nats.example:4222":                 "tls://",
		"tls://nats.example:4222,nats://192.0.2.1": "tls://",
		"nats://pump:secret@127.0.0.1:4222":        "credentials",
		"http://127.0.0.1:4222":                    "tls://",
		"nonsense":                                 "want tls://",
		small.ClientURL():                          "max_payload",
		"nats://127.0.0.1:1":                       "connect",
	} {
		if _, err := stream.New(context.Background(), stream.Config{URL: url}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

// A message that no publish of the cluster can hold is refused by itself.
func TestMessageThatTheClusterCannotTake(t *testing.T) {
	n, _ := cluster(t, t.TempDir(), anyPort) // max_payload is 1 MiB
	s, _ := start(t, stream.Config{URL: n.ClientURL()})
	m := message("pump-01", 1)
	m.Body = make([]byte, 1<<20-400)
	if err := added(s, m); fault.Of(err) != fault.Invalid {
		t.Errorf("%v", err)
	}
	if err := added(s, message("pump-01", 2)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
