package link_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/device/link"
	"holdfast/fault"
	"holdfast/iothub"
	"holdfast/mqtt"
	"holdfast/posture"
)

// plain is a connection without TLS, for tests that do not ask for it.
type plain struct{ net.Conn }

func (plain) ConnectionState() tls.ConnectionState { return tls.ConnectionState{} }

// broker is a hub that answers each packet by a function.
type broker struct {
	conn   net.Conn
	answer func(b *broker, p mqtt.Packet)

	mu  sync.Mutex
	got []mqtt.Packet
	err error
}

func (b *broker) run() {
	d := mqtt.NewDecoder(mqtt.FromClient, mqtt.DefaultLimit)
	buf := make([]byte, 4096)
	for {
		n, err := b.conn.Read(buf)
		for p, err := range d.Feed(buf[:n]) {
			if err != nil {
				b.fail(err)
				return
			}
			if pub, ok := p.(*mqtt.Publish); ok {
				pub.Payload = bytes.Clone(pub.Payload)
			}
			b.mu.Lock()
			b.got = append(b.got, p)
			b.mu.Unlock()
			b.answer(b, p)
		}
		if err != nil {
			return
		}
	}
}

func (b *broker) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	_ = b.conn.Close()
}

func (b *broker) send(ps ...mqtt.Packet) {
	var buf []byte
	for _, p := range ps {
		var err error
		if buf, err = p.Append(buf); err != nil {
			b.fail(err)
			return
		}
	}
	_, _ = b.conn.Write(buf)
}

// obliging is what a hub does when all is well.
func obliging(b *broker, p mqtt.Packet) {
	switch p := p.(type) {
	case *mqtt.Connect:
		b.send(&mqtt.Connack{})
	case *mqtt.Subscribe:
		b.send(&mqtt.Suback{ID: p.ID, Codes: make([]byte, len(p.Filters))})
	case *mqtt.Pingreq:
		b.send(&mqtt.Pingresp{})
	case *mqtt.Publish:
		if p.QoS == mqtt.AtLeastOnce {
			b.send(&mqtt.Puback{ID: p.ID})
		}
	}
}

// connect opens a session with a broker that answers so. Use it in a bubble.
func connect(t *testing.T, answer func(*broker, mqtt.Packet)) (*link.Session, *broker, error) {
	t.Helper()
	near, far := net.Pipe()
	b := &broker{conn: far, answer: answer}
	var wg sync.WaitGroup
	wg.Go(b.run)
	s, err := link.Open(t.Context(), plain{near}, link.Config{Device: "pump-01", Updates: true})
	t.Cleanup(func() {
		if s != nil {
			_ = s.Close()
		}
		_ = far.Close()
		wg.Wait()
		if b.err != nil {
			t.Errorf("the device broke the protocol: %v", b.err)
		}
	})
	return s, b, err
}

func (b *broker) packets(typ mqtt.Type) (found []mqtt.Packet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.got {
		if p.Type() == typ {
			found = append(found, p)
		}
	}
	return found
}

func TestOpenSaysWhoItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, err := connect(t, obliging)
		if err != nil {
			t.Fatal(err)
		}
		c := b.packets(mqtt.CONNECT)[0].(*mqtt.Connect)
		if c.ClientID != "pump-01" || c.Clean || c.KeepAlive != 60 || c.Username != nil || c.Password != nil {
			t.Errorf("CONNECT %+v", c)
		}
		s := b.packets(mqtt.SUBSCRIBE)[0].(*mqtt.Subscribe)
		if len(s.Filters) != 3 || s.Filters[0].Filter != "$hub/attest/res/#" || s.Filters[1].Filter != "$hub/posture/#" || s.Filters[2].Filter != "$hub/update/#" {
			t.Errorf("SUBSCRIBE %+v", s)
		}
	})
}

func TestOpenNamesTheRefusal(t *testing.T) {
	connack := func(c mqtt.Code) func(*broker, mqtt.Packet) {
		return func(b *broker, _ mqtt.Packet) { b.send(&mqtt.Connack{Code: c}) }
	}
	for name, tc := range map[string]struct {
		answer func(*broker, mqtt.Packet)
		kind   fault.Kind
	}{
		"forbidden":    {connack(mqtt.RefusedForbidden), fault.Denied},
		"client id":    {connack(mqtt.RefusedClientID), fault.Denied},
		"not now":      {connack(mqtt.RefusedNotNow), fault.Unavailable},
		"silence":      {func(*broker, mqtt.Packet) {}, fault.Internal},
		"hangs up":     {func(b *broker, _ mqtt.Packet) { _ = b.conn.Close() }, fault.Internal},
		"wrong packet": {func(b *broker, _ mqtt.Packet) { b.send(&mqtt.Pingresp{}) }, fault.Internal},
		"not MQTT":     {func(b *broker, _ mqtt.Packet) { _, _ = io.WriteString(b.conn, "HTTP/1.1 400\r\n") }, fault.Internal},
		"no subscribing": {func(b *broker, p mqtt.Packet) {
			if p.Type() == mqtt.CONNECT {
				b.send(&mqtt.Connack{})
				return
			}
			b.send(&mqtt.Suback{ID: 1, Codes: []byte{0, mqtt.SubackFailure, 0}})
		}, fault.Denied},
		"other's SUBACK": {func(b *broker, p mqtt.Packet) {
			if p.Type() == mqtt.CONNECT {
				b.send(&mqtt.Connack{})
				return
			}
			b.send(&mqtt.Suback{ID: 2, Codes: []byte{0, 0, 0}})
		}, fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if _, _, err := connect(t, tc.answer); err == nil || fault.Of(err) != tc.kind {
					t.Errorf("open: %v (%s), want %s", err, fault.Of(err), tc.kind)
				}
			})
		})
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		defer far.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := link.Open(ctx, plain{near}, link.Config{Device: "pump-01"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("open: %v", err)
		}
	})
}

func TestPublishWaitsForTheAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, err := connect(t, func(b *broker, p mqtt.Packet) {
			if p.Type() != mqtt.PUBLISH {
				obliging(b, p)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Publish(t.Context(), iothub.Events{Device: "pump-01"}, []byte("{}")) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("published without an acknowledgement: %v", err)
		default:
		}
		p := b.packets(mqtt.PUBLISH)[0].(*mqtt.Publish)
		if p.Topic != "devices/pump-01/messages/events/" || p.QoS != mqtt.AtLeastOnce || p.Dup || string(p.Payload) != "{}" {
			t.Errorf("PUBLISH %+v", p)
		}
		b.send(&mqtt.Puback{ID: 999}) // nobody waits for it
		b.send(&mqtt.Puback{ID: p.ID})
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPublishFailsWhenTheSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, err := connect(t, func(b *broker, p mqtt.Packet) {
			if p.Type() == mqtt.PUBLISH { // a forbidden one: never acknowledged
				_ = b.conn.Close()
				return
			}
			obliging(b, p)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(t.Context(), iothub.Events{Device: "pump-01"}, nil); err == nil {
			t.Error("published")
		}
		<-s.Done()
		if s.Err() == nil || len(b.packets(mqtt.PUBLISH)) != 1 {
			t.Errorf("session: %v", s.Err())
		}
		if err := s.Publish(t.Context(), iothub.Events{Device: "pump-01"}, nil); err == nil {
			t.Error("published after the end")
		}
	})
}

func TestWindowBoundsWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, err := connect(t, func(b *broker, p mqtt.Packet) {
			if p.Type() != mqtt.PUBLISH {
				obliging(b, p)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := s.Publish(t.Context(), iothub.Events{Device: "pump-01"}, nil); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		onTheirWay := b.packets(mqtt.PUBLISH)
		if len(onTheirWay) != 16 {
			t.Errorf("%d messages on their way, want 16", len(onTheirWay))
		}
		ids := map[uint16]bool{}
		for acked := 0; acked < 20; acked++ {
			synctest.Wait()
			p := b.packets(mqtt.PUBLISH)[acked].(*mqtt.Publish)
			ids[p.ID] = true
			b.send(&mqtt.Puback{ID: p.ID})
		}
		wg.Wait()
		if len(ids) != 20 {
			t.Errorf("%d different packet identifiers, want 20", len(ids))
		}
	})
}

func TestSilentHubEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, err := connect(t, func(b *broker, p mqtt.Packet) {
			if p.Type() != mqtt.PINGREQ {
				obliging(b, p)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		<-s.Done()
		if d := time.Since(start); d != 90*time.Second {
			t.Errorf("ended after %v, want 90s", d)
		}
		if n := len(b.packets(mqtt.PINGREQ)); n < 2 {
			t.Errorf("%d pings before giving up", n)
		}
	})
}

func TestIdleSessionStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, err := connect(t, obliging)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if s.Err() != nil {
			t.Errorf("after a day: %v", s.Err())
		}
	})
}

func TestAttestIsAnsweredByItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, err := connect(t, func(b *broker, p mqtt.Packet) {
			pub, ok := p.(*mqtt.Publish)
			if !ok {
				obliging(b, p)
				return
			}
			topic, err := iothub.ParseTopic(pub.Topic)
			if err != nil {
				t.Error(err)
				return
			}
			rid := topic.(iothub.Attest).RequestID
			other := iothub.AttestResult{Status: 200, RequestID: "x" + rid}.String()
			b.send(&mqtt.Publish{Topic: other, Payload: []byte("not yours")})
			if topic.(iothub.Attest).Op == iothub.AttestEvidence {
				b.send(&mqtt.Publish{Topic: iothub.AttestResult{Status: 409, RequestID: rid}.String(),
					Payload: []byte(`{"error":{"kind":"conflict","message":"nonce is gone","id":"1"}}`)})
				return
			}
			b.send(&mqtt.Publish{Topic: iothub.AttestResult{Status: 200, RequestID: rid}.String(), Payload: []byte(`{"nonce":"AA=="}`)})
		})
		if err != nil {
			t.Fatal(err)
		}
		if body, err := s.Attest(t.Context(), iothub.AttestNonce, nil); err != nil || string(body) != `{"nonce":"AA=="}` {
			t.Errorf("nonce: %s, %v", body, err)
		}
		if _, err := s.Attest(t.Context(), iothub.AttestEvidence, []byte("{}")); fault.Of(err) != fault.Conflict {
			t.Errorf("evidence: %v", err)
		}
	})
}

func TestPostureArrivesEvenBeforeTheSubscriptionIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := func(version int) *mqtt.Publish {
			body, _ := json.Marshal(posture.Report{Version: int64(version), Status: posture.Trusted})
			return &mqtt.Publish{Topic: iothub.Posture{Version: uint64(version)}.String(), Payload: body}
		}
		s, b, err := connect(t, func(b *broker, p mqtt.Packet) {
			if p.Type() == mqtt.SUBSCRIBE {
				b.send(report(1))
			}
			obliging(b, p)
		})
		if err != nil {
			t.Fatal(err)
		}
		if r := <-s.Postures(); r.Version != 1 || r.Status != posture.Trusted {
			t.Errorf("report %+v", r)
		}
		b.send(report(2))
		b.send(report(3))
		synctest.Wait()
		if r := <-s.Postures(); r.Version != 3 {
			t.Errorf("report %d, want the newest", r.Version)
		}
	})
}

func TestHubThatBreaksTheProtocolIsLeft(t *testing.T) {
	for name, p := range map[string]*mqtt.Publish{
		"unknown topic":      {Topic: "$hub/nonsense/1"},
		"unreadable posture": {Topic: "$hub/posture/?$version=1", Payload: []byte("[")},
		"too large":          {Topic: "$hub/posture/?$version=1", Payload: []byte(`"` + strings.Repeat("x", 65<<10) + `"`)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, b, err := connect(t, obliging)
				if err != nil {
					t.Fatal(err)
				}
				b.send(p)
				<-s.Done()
				if errors.Is(s.Err(), link.ErrClosed) || s.Err() == nil {
					t.Errorf("session: %v", s.Err())
				}
			})
		})
	}
}

func TestCloseSaysGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, err := connect(t, obliging)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(b.packets(mqtt.DISCONNECT)) != 1 || !errors.Is(s.Err(), link.ErrClosed) {
			t.Errorf("%d goodbyes, %v", len(b.packets(mqtt.DISCONNECT)), s.Err())
		}
	})
}

func TestBeatFollowsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		b := &broker{conn: far, answer: obliging}
		go b.run()
		beats := make(chan string, 1000)
		s, err := link.Open(t.Context(), plain{near}, link.Config{Device: "p", Beat: func() { beats <- "beat" }})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if len(beats) < 20 {
			t.Errorf("%d beats in ten minutes", len(beats))
		}
		_ = s.Close()
		_ = far.Close()
	})
}
