package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/access"
	"holdfast/iothub"
	"holdfast/logs"
	"holdfast/mqtt"
)

// The packets that end a session.
var (
	errSecondConnect = violation{reasoned{mqtt.ProtocolError, errors.New("second CONNECT [MQTT-3.1.0-2]")}}
	errExactlyOnce   = violation{reasoned{mqtt.QoSNotSupported, errors.New("quality of service 2 is not served")}}
	errCut           = errors.New("session is cut") // its cause is set already
)

// handle acts on one packet. An error ends the session.
func (s *Session) handle(ctx context.Context, p mqtt.Packet) error {
	switch p.(type) {
	case *mqtt.Subscribe, *mqtt.Unsubscribe, *mqtt.Pingreq: // count as messages; publish counts its own
		if err := s.shape(ctx, 0, false); err != nil {
			return err
		}
	}
	switch p := p.(type) {
	case *mqtt.Publish:
		return s.publish(ctx, p)
	case *mqtt.Subscribe:
		return s.subscribe(ctx, p)
	case *mqtt.Unsubscribe:
		return s.unsubscribe(ctx, p)
	case *mqtt.Pingreq:
		s.send(&mqtt.Pingresp{})
	case *mqtt.Disconnect:
		return s.disconnect(p)
	case *mqtt.Connect:
		return errSecondConnect
	case *mqtt.Puback:
		s.acknowledged(p)
	}
	return nil
}

// disconnect takes leave of a client, which with MQTT 5 may still change its
// mind on its session and its will.
func (s *Session) disconnect(p *mqtt.Disconnect) error {
	if n, ok := p.Properties.Number(mqtt.SessionExpiry); ok {
		if s.expiry == 0 && n > 0 {
			return violation{errExpiryChanged}
		}
		s.expiry = n
	}
	if p.Code != mqtt.Success {
		return errGone
	}
	return errLeft
}

// publish takes a message that the session may send and hands it on; it is
// acknowledged by finish.
func (s *Session) publish(ctx context.Context, p *mqtt.Publish) error {
	if p.QoS == mqtt.ExactlyOnce {
		return errExactlyOnce
	}
	if p.Retain && s.version == mqtt.V5 {
		return violation{errRetained}
	}
	if err := s.resolve(p); err != nil {
		return violation{err}
	}
	topic, err := iothub.ParseTopic(p.Topic)
	if err != nil {
		return violation{fmt.Errorf("publish: %w", err)}
	}
	_, isEvents := topic.(iothub.Events)
	if isEvents && len(p.Payload) > s.limits.MaxMessageBytes {
		return errMessageSize
	}
	if err := s.shape(ctx, len(p.Topic)+len(p.Payload), isEvents); err != nil {
		return err
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
	case iothub.MethodResult:
		s.g.cfg.Methods.Answered(s, t, bytes.Clone(p.Payload))
		s.g.stats.outcome(countResult, nil)
		s.finish(n, nil)
	case iothub.Request:
		s.request(ctx, job{topic: t, payload: bytes.Clone(p.Payload), number: n})
	}
	return nil
}

// reserve waits for room for a message and then, in one step with taking it,
// checks that the session may send it.
func (s *Session) reserve(t iothub.Topic, p *mqtt.Publish) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version == mqtt.V5 && p.QoS > mqtt.AtMostOnce && len(s.unacked.entries) >= s.limits.InFlight && s.unacked.owed() >= s.limits.InFlight {
		return 0, errInFlight
	}
	for s.unacked.full(s.limits.InFlight) && !s.closed {
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
	now := time.Now()
	var err error
	if t.Bag, err = joined(t.Bag, p.Properties, now); err != nil {
		return violation{fmt.Errorf("publish to %.100q: %w", p.Topic, err)}
	}
	m, err := iothub.NewTelemetry(t, bytes.Clone(p.Payload), now)
	if err != nil {
		return violation{fmt.Errorf("publish to %.100q: %w", p.Topic, err)}
	}
	m.MarkModel(s.model)
	if p.Retain {
		m.MarkRetained()
	}
	s.g.cfg.Telemetry.Append(m, func(err error) {
		s.g.stats.stored(now, err)
		s.finish(n, err)
	})
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
	s.g.cfg.Logs.AppendLogs(m, records, func(err error) {
		s.g.stats.outcome(countLog, err)
		s.finish(n, err)
	})
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

func (s *Session) subscribed(filter string) int {
	return slices.IndexFunc(s.subs, func(have Subscription) bool { return have.Filter == filter })
}

// subscribe answers each filter with what was granted: quality of service 1 at
// most (section 3.8.4 allows less than asked for).
func (s *Session) subscribe(ctx context.Context, p *mqtt.Subscribe) error {
	if _, ok := p.Properties.Number(mqtt.SubscriptionID); ok {
		return violation{errSubscribeID}
	}
	codes := make([]byte, len(p.Filters))
	var granted []string
	changed := false
	s.mu.Lock()
	for i, f := range p.Filters {
		filter, err := access.Subscribe(s.device, s.mode, f.Filter)
		have := s.subscribed(filter)
		if full := have < 0 && len(s.subs) >= access.MaxSubscriptions; err != nil || full {
			codes[i] = s.refusedFilter(f.Filter, err == nil)
			continue
		}
		sub := Subscription{Filter: filter, QoS: min(f.QoS, mqtt.AtLeastOnce)}
		switch {
		case have < 0:
			s.subs, changed = append(s.subs, sub), true
		case s.subs[have] != sub:
			s.subs[have], changed = sub, true
		}
		codes[i] = byte(sub.QoS)
		granted = append(granted, filter)
	}
	s.mu.Unlock()
	if changed {
		if err := s.keep(ctx); err != nil {
			return unstored{err}
		}
	}
	s.send(&mqtt.Suback{ID: p.ID, Codes: codes})
	for _, f := range granted {
		s.g.cfg.Observer.Subscribed(s, f)
	}
	return nil
}

func (s *Session) unsubscribe(ctx context.Context, p *mqtt.Unsubscribe) error {
	codes := make([]byte, len(p.Filters))
	changed := false
	s.mu.Lock()
	for i, f := range p.Filters {
		// In Full, because quarantine does not keep a device from giving up.
		filter, err := access.Subscribe(s.device, cmp.Or(s.provision(), access.Full), f)
		have := s.subscribed(filter)
		if err != nil || have < 0 {
			codes[i] = byte(mqtt.NoSubscriptionExisted)
			continue
		}
		s.subs, changed = slices.Delete(s.subs, have, have+1), true
	}
	s.mu.Unlock()
	if changed {
		if err := s.keep(ctx); err != nil {
			return unstored{err}
		}
	}
	ack := &mqtt.Unsuback{ID: p.ID}
	if s.version == mqtt.V5 {
		ack.Codes = codes
	}
	s.send(ack)
	return nil
}
