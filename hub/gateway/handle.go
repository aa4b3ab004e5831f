package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"holdfast/access"
	"holdfast/iothub"
	"holdfast/logs"
	"holdfast/mqtt"
)

// The packets that end a session.
var (
	errSecondConnect = violation{errors.New("second CONNECT [MQTT-3.1.0-2]")}
	errExactlyOnce   = violation{errors.New("quality of service 2 is not served")}
	errCut           = errors.New("session is cut") // its cause is set already
)

// handle acts on one packet. An error ends the session.
func (s *Session) handle(ctx context.Context, p mqtt.Packet) error {
	switch p := p.(type) {
	case *mqtt.Publish:
		return s.publish(ctx, p)
	case *mqtt.Subscribe:
		s.subscribe(p)
	case *mqtt.Unsubscribe:
		s.unsubscribe(p)
	case *mqtt.Pingreq:
		s.send(&mqtt.Pingresp{})
	case *mqtt.Disconnect:
		return errLeft
	case *mqtt.Connect:
		return errSecondConnect
	case *mqtt.Puback: // nothing is sent that asks for it
	}
	return nil
}

// publish takes a message that the session may send and hands it on; it is
// acknowledged by finish.
func (s *Session) publish(ctx context.Context, p *mqtt.Publish) error {
	if p.QoS == mqtt.ExactlyOnce {
		return errExactlyOnce
	}
	topic, err := iothub.ParseTopic(p.Topic)
	if err != nil {
		return violation{fmt.Errorf("publish: %w", err)}
	}
	n, err := s.reserve(topic, p)
	if err != nil {
		return err
	}
	switch t := topic.(type) {
	case iothub.Events:
		return s.telemetry(t, p, n)
	case iothub.Logs:
		return s.logs(t, p, n)
	case iothub.Attest:
		s.exchange(ctx, t, bytes.Clone(p.Payload), n)
	}
	return nil
}

// reserve waits for room for a message and then, in one step with taking it,
// checks that the session may send it.
func (s *Session) reserve(t iothub.Topic, p *mqtt.Publish) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.unacked.full() && !s.closed {
		s.wake.Wait()
	}
	if s.closed {
		return 0, errCut
	}
	if err := access.Publish(s.device, s.mode, t); err != nil {
		return 0, violation{fmt.Errorf("publish to %.100q: %w", p.Topic, err)}
	}
	return s.unacked.add(p.ID, len(p.Payload)), nil
}

func (s *Session) telemetry(t iothub.Events, p *mqtt.Publish, n uint64) error {
	m, err := iothub.NewTelemetry(t, bytes.Clone(p.Payload), time.Now())
	if err != nil {
		return violation{fmt.Errorf("publish to %.100q: %w", p.Topic, err)}
	}
	if p.Retain {
		m.MarkRetained()
	}
	s.g.cfg.Telemetry.Append(m, func(err error) { s.finish(n, err) })
	return nil
}

func (s *Session) logs(t iothub.Logs, p *mqtt.Publish, n uint64) error {
	records, err := logs.Parse(p.Payload)
	if err != nil {
		return violation{fmt.Errorf("publish to %.100q: %w", p.Topic, err)}
	}
	if records[0].Seq != t.First {
		return violation{fmt.Errorf("publish to %.100q: first record is %d", p.Topic, records[0].Seq)}
	}
	m := iothub.Message{Device: s.device, Kind: iothub.Log, Time: time.Now().UTC(), Body: bytes.Clone(p.Payload)}
	s.g.cfg.Logs.AppendLogs(m, records, func(err error) { s.finish(n, err) })
	return nil
}

// finish is what a sink calls: message n is stored, or is not. Of a session
// that was cut meanwhile nothing is acknowledged.
func (s *Session) finish(n uint64, err error) {
	if err != nil {
		s.cut(Unstored, fmt.Errorf("store message: %w", err))
		return
	}
	if err := s.acknowledge(n); err != nil {
		s.cut(Slow, err)
	}
}

// acknowledge notes that message n is stored and queues what may now be
// acknowledged. An error says that the device does not read.
func (s *Session) acknowledge(n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.unacked.finish(n)
	for id, ok := s.unacked.next(); ok; id, ok = s.unacked.next() {
		if id == 0 {
			continue
		}
		if _, err := s.queue(&mqtt.Puback{ID: id}); err != nil {
			return err
		}
	}
	s.wake.Signal()
	return nil
}

// exchange answers a request on a goroutine of its own, one at a time.
func (s *Session) exchange(ctx context.Context, t iothub.Attest, payload []byte, n uint64) {
	ctx, cancel := context.WithTimeout(ctx, ExchangeTimeout)
	s.mu.Lock()
	busy, closed := s.cancel != nil, s.closed
	if !busy && !closed {
		s.cancel = cancel
	}
	s.mu.Unlock()
	if busy || closed {
		cancel()
		s.reply(t, http.StatusServiceUnavailable, []byte(busyBody))
		s.finish(n, nil)
		return
	}
	s.g.wg.Go(func() {
		defer cancel()
		defer s.recover(ctx)
		status, body := s.g.cfg.Exchange.Exchange(ctx, s, string(t.Op), payload)
		s.mu.Lock()
		s.cancel = nil
		s.mu.Unlock()
		s.reply(t, status, body)
		s.finish(n, nil)
	})
}

func (s *Session) reply(t iothub.Attest, status int, body []byte) {
	s.deliver(iothub.AttestResult{Status: status, RequestID: t.RequestID}.String(), body)
}

// busyBody is the error body of docs/PROTOCOL.md for a request that comes
// before the last one was answered.
const busyBody = `{"error":{"kind":"unavailable","message":"another request is being answered","id":""}}`

// subscribe answers each filter with what was granted. Messages go out at most
// once as yet, so any wish above quality of service 1 is cut to it
// (section 3.8.4 allows less than asked for).
func (s *Session) subscribe(p *mqtt.Subscribe) {
	codes := make([]byte, len(p.Filters))
	var granted []string
	s.mu.Lock()
	for i, f := range p.Filters {
		filter, err := access.Subscribe(s.device, s.mode, f.Filter)
		known := slices.Contains(s.subs, filter)
		if err != nil || !known && len(s.subs) >= access.MaxSubscriptions {
			codes[i] = mqtt.SubackFailure
			continue
		}
		if !known {
			s.subs = append(s.subs, filter)
		}
		codes[i] = byte(min(f.QoS, mqtt.AtLeastOnce))
		granted = append(granted, filter)
	}
	s.mu.Unlock()
	s.send(&mqtt.Suback{ID: p.ID, Codes: codes})
	for _, f := range granted {
		s.g.cfg.Observer.Subscribed(s, f)
	}
}

func (s *Session) unsubscribe(p *mqtt.Unsubscribe) {
	s.mu.Lock()
	for _, f := range p.Filters {
		// In Full, because quarantine does not keep a device from giving up.
		if filter, err := access.Subscribe(s.device, access.Full, f); err == nil {
			s.subs = slices.DeleteFunc(s.subs, func(have string) bool { return have == filter })
		}
	}
	s.mu.Unlock()
	s.send(&mqtt.Unsuback{ID: p.ID})
}
