package bench_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"holdfast/mqtt"
)

// TestSoak holds connections for as long as HOLDFAST_SOAK says ("1h"), 10,000
// or as many as HOLDFAST_SOAK_CONNS says; each sends a message a minute, and in
// each tenth of a shorter time. The hub's memory has to stay flat. Then all are lost and
// come back at once.
func TestSoak(t *testing.T) {
	if os.Getenv("HOLDFAST_SOAK") == "" {
		t.Skip("takes as long as HOLDFAST_SOAK says, which is not set: see 'make soak'")
	}
	d, err := time.ParseDuration(os.Getenv("HOLDFAST_SOAK"))
	if err != nil {
		t.Fatal(err)
	}
	conns, err := strconv.Atoi(os.Getenv("HOLDFAST_SOAK_CONNS"))
	if err != nil {
		conns = 10_000
	}
	allowFiles(t)
	a := newAuthority(t)
	hub, ds := startHub(t, a), a.devices(t, "sensor", conns)
	began := time.Now()
	ss := hub.openAll(t, ds)
	t.Logf("%d new devices are connected after %v", conns, time.Since(began))
	for _, s := range ss {
		if err := s.subscribe("devices/"+s.id+"/messages/devicebound/#", mqtt.AtMostOnce); err != nil {
			t.Fatal(err)
		}
	}
	hold(t, &hub.peer, ss, d)
	for _, s := range ss {
		s.drop()
	}
	began = time.Now()
	for _, s := range hub.openAll(t, ds) {
		defer s.drop()
	}
	t.Logf("after a storm of reconnects the last one is back in %v", time.Since(began))
}

// hold sends over the sessions in turn, and demands that the memory after the
// last round is at most a tenth above that after the first fifth of the time.
func hold(t *testing.T, hub *peer, ss []*session, d time.Duration) {
	t.Helper()
	tick := time.NewTicker(min(time.Minute, d/10) / time.Duration(len(ss)))
	defer tick.Stop()
	start, first := time.Now(), 0
	for report := d / 5; ; {
		for _, s := range ss {
			<-tick.C
			if err := s.message(); err != nil {
				t.Fatal(err)
			}
		}
		since := time.Since(start)
		if since < report {
			continue
		}
		report += d / 5
		now := hub.resident(t)
		t.Logf("after %v: %d KiB resident, %.1f for each connection", since.Round(time.Second), now, float64(now)/float64(len(ss)))
		if first == 0 {
			first = now
		}
		if since >= d {
			if now > first+first/10 {
				t.Errorf("%d KiB after a fifth of the time, %d at its end", first, now)
			}
			return
		}
	}
}

// message sends one message and waits for its acknowledgement.
func (s *session) message() error {
	_, err := ask[*mqtt.Puback](s, telemetry(s.id, 1))
	return err
}
