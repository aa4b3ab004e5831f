package hub_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/mqtt"
	"holdfast/operator"
)

// meter is a session of a device that sends telemetry.
func (h *house) meter(t *testing.T, id string) *tls.Conn {
	t.Helper()
	conn, code, err := h.dial(t, h.at.MQTT, "root.pem", id, tls.CurveP256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	if err != nil || code != mqtt.Accepted {
		t.Fatalf("%s: code %d, %v", id, code, err)
	}
	return conn
}

// send publishes telemetry with quality of service 1 and waits for PUBACK.
func send(t *testing.T, conn *tls.Conn, id, body string) {
	t.Helper()
	b := must((&mqtt.Publish{ID: 1, QoS: mqtt.AtLeastOnce, Topic: "devices/" + id + "/messages/events/", Payload: []byte(body)}).Append(nil))(t)
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	var ack [4]byte
	if n, err := conn.Read(ack[:]); err != nil || n != 4 || ack[0] != 0x40 {
		t.Fatalf("PUBACK: % x, %v", ack[:n], err)
	}
}

var errEnough = errors.New("enough")

// events reads n events.
func events(t *testing.T, c *client.Client, q operator.EventQuery, n int) []operator.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	q.Follow = true
	var es []operator.Event
	err := c.Events(ctx, q, func(e operator.Event) error {
		es = append(es, e)
		if len(es) == n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("%d of %d events, %v: %+v", len(es), n, err, es)
	}
	return es
}

func TestEventsTellOfSessionsAndSecurity(t *testing.T) {
	h := newHouse(t)
	conn := h.meter(t, "meter-1")
	send(t, conn, "meter-1", "21.5")
	conn.Close()
	es := events(t, h.client, operator.EventQuery{Device: "meter-1", Kind: "lifecycle"}, 2)
	for i, op := range []string{"deviceConnected", "deviceDisconnected"} {
		if es[i].Properties["opType"] != op || es[i].Body == "" || es[i].System["iothub-message-source"] != "deviceConnectionStateEvents" {
			t.Errorf("%s: %+v", op, es[i])
		}
	}
	telemetry := events(t, h.client, operator.EventQuery{Device: "meter-1", Kind: "telemetry"}, 1)[0]
	if telemetry.Body != "21.5" || telemetry.ID == "" {
		t.Errorf("%+v", telemetry)
	}
	// The acts of the operator and the hub, those of no device too.
	want := map[string]bool{"hub.start": true, "ca.add": true, "group.set": true, "device.add": true}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	last := 0
	err := h.client.Events(ctx, operator.EventQuery{Kind: "security", Follow: true}, func(e operator.Event) error {
		seq := must(strconv.Atoi(e.Properties["seq"]))(t)
		if seq != last+1 {
			t.Errorf("record %d after %d", seq, last)
		}
		last = seq
		if delete(want, e.Properties["opType"]); len(want) == 0 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("no events of %v: %v", want, err)
	}
}

func TestEventsGoOnWhereAReaderStopped(t *testing.T) {
	h := newHouse(t)
	conn := h.meter(t, "meter-1")
	q := operator.EventQuery{Device: "meter-1", Kind: "telemetry"}
	for _, body := range []string{"1", "2", "3"} {
		send(t, conn, "meter-1", body)
	}
	first := events(t, h.client, q, 1)[0]
	q.After = first.ID
	rest := events(t, h.client, q, 2)
	if first.Body != "1" || rest[0].Body != "2" || rest[1].Body != "3" {
		t.Errorf("%+v, %+v", first, rest)
	}
	if e := h.lastEventID(t, rest[0].ID); e.Body != "3" {
		t.Errorf("after Last-Event-ID %s: %+v", rest[0].ID, e)
	}
	for after, kind := range map[string]fault.Kind{"nonsense": fault.Invalid, "1000000-0": fault.Invalid} {
		q.After = after
		if err := h.client.Events(t.Context(), q, func(operator.Event) error { return nil }); err == nil || fault.Of(err) != kind {
			t.Errorf("after %q: %v", after, err)
		}
	}
}

// lastEventID reads the next telemetry as a program does that knows HTTP only.
func (h *house) lastEventID(t *testing.T, id string) operator.Event {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+h.at.Operator+"/v1/events?device=meter-1&kind=telemetry", nil))(t)
	req.Header.Set("Last-Event-ID", id)
	resp := must(h.http(t).Do(req))(t)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-ndjson" || !lines.Scan() {
		t.Fatalf("%s, %v", resp.Status, lines.Err())
	}
	var e operator.Event
	if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// http is a client with the operator's certificate.
func (h *house) http(t *testing.T) *http.Client {
	t.Helper()
	return &http.Client{Transport: &http.Transport{TLSClientConfig: h.operatorTLS(t)}}
}

// The same hub with its stream in a cluster: nothing is kept here.
func TestEventsOfAnExternalCluster(t *testing.T) {
	n, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(n.Shutdown)
	if !n.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS server does not start")
	}
	h := (&house{stream: n.ClientURL()}).build(t)
	conn := h.meter(t, "meter-1")
	send(t, conn, "meter-1", "21.5")
	first := events(t, h.client, operator.EventQuery{Device: "meter-1"}, 2)
	send(t, conn, "meter-1", "21.6")
	if e := events(t, h.client, operator.EventQuery{Device: "meter-1", Kind: "telemetry", After: first[1].ID}, 1)[0]; e.Body != "21.6" && e.Body != "21.5" {
		t.Errorf("%+v", e)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "stream")); err == nil {
		t.Error("the hub keeps a stream of its own")
	}
	if _, err := h.client.Act(t.Context(), "meter-1", "revoke", "test"); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the session outlived its revocation")
	}
}
