package gateway_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/hub/gateway"
	"holdfast/internal/tally"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// counted returns what is not zero.
func counted(v *tally.Vec) map[string]float64 {
	m := map[string]float64{}
	v.Each(func(n float64, labels ...string) {
		if n != 0 {
			m[strings.Join(labels, "/")] = n
		}
	})
	return m
}

func TestStatsFollowSessions(t *testing.T) {
	b := start(t, &fakeHub{admit: func(_ context.Context, p gateway.Peer) (gateway.Admission, error) {
		if p.Device == "bad-01" {
			return gateway.Admission{}, fault.New(fault.Denied, "no")
		}
		return gateway.Admission{Mode: access.Full}, nil
	}, store: func(m iothub.Message, done func(error)) {
		if string(m.Body) == "bad" {
			done(fault.New(fault.Unavailable, "full"))
			return
		}
		done(nil)
	}})
	st := b.Stats()
	c := b.open(t, "pump-01")
	c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 1})
	expect[*mqtt.Puback](c)
	if d := cmp.Diff(map[string]float64{"full": 1}, counted(st.Sessions)); d != "" {
		t.Error(d)
	}
	b.SetMode("pump-01", access.Quarantine)
	b.SetMode("pump-01", access.Quarantine)
	if d := cmp.Diff(map[string]float64{"quarantine": 1}, counted(st.Sessions)); d != "" {
		t.Error(d)
	}
	b.SetMode("pump-01", access.Full)
	c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 2, Payload: []byte("bad")})
	c.expectEnd()
	b.hub.awaitClosed(t, gateway.Unstored, "")

	bad := b.dial(t, "bad-01")
	bad.send(&mqtt.Connect{ClientID: "bad-01"})
	expect[*mqtt.Connack](bad)
	bad.expectEnd()
	raw, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write([]byte("GET / HTTP/1.1\r\n")); err != nil {
		t.Fatal(err)
	}
	b.hub.await(t, "refusals", func() bool { return len(b.hub.refusals) == 2 })

	for name, tt := range map[string]struct {
		of   *tally.Vec
		want map[string]float64
	}{
		"sessions":    {st.Sessions, map[string]float64{}},
		"ended":       {st.Ended, map[string]float64{"unstored": 1}},
		"connections": {st.Connections, map[string]float64{"session": 1, "denied": 1, "not-tls": 1}},
		"messages":    {st.Messages, map[string]float64{"telemetry/ok": 1, "telemetry/failed": 1}},
	} {
		late := time.Now().Add(patience)
		for !cmp.Equal(tt.want, counted(tt.of)) && time.Now().Before(late) { // some is counted after it was told
			runtime.Gosched()
		}
		if d := cmp.Diff(tt.want, counted(tt.of)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if n := st.Acknowledged.Snapshot().Count; n != 1 {
		t.Errorf("%d acknowledgements were timed", n)
	}
	if n := st.Handshakes.Snapshot().Count; n != 2 {
		t.Errorf("%d handshakes were timed", n)
	}
	if n := b.Pending(); n > 1 {
		t.Errorf("%d connections are on their way", n)
	}
}
