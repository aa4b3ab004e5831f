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
	case *mqtt.Puback:
		s.acknowledged(p.ID)
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
	case iothub.MethodResult:
		s.g.cfg.Methods.Answered(s, t, bytes.Clone(p.Payload))
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
	s.mu.Lock()
	err = s.acknowledge(n)
	s.mu.Unlock()
	if err != nil {
		s.cut(Slow, err)
	}
}

// acknowledge notes that message n is stored and queues what may now be
// acknowledged. An error says that the device does not read. s.mu is held.
func (s *Session) acknowledge(n uint64) error {
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

// subscription is a filter that was granted.
type subscription struct {
	filter string
	qos    mqtt.QoS
}

func (s *Session) subscribed(filter string) int {
	return slices.IndexFunc(s.subs, func(have subscription) bool { return have.filter == filter })
}

// subscribe answers each filter with what was granted: quality of service 1 at
// most (section 3.8.4 allows less than asked for).
func (s *Session) subscribe(p *mqtt.Subscribe) {
	codes := make([]byte, len(p.Filters))
	var granted []string
	s.mu.Lock()
	for i, f := range p.Filters {
		filter, err := access.Subscribe(s.device, s.mode, f.Filter)
		have := s.subscribed(filter)
		if err != nil || have < 0 && len(s.subs) >= access.MaxSubscriptions {
			codes[i] = mqtt.SubackFailure
			continue
		}
		sub := subscription{filter: filter, qos: min(f.QoS, mqtt.AtLeastOnce)}
		if have >= 0 {
			s.subs[have] = sub
		} else {
			s.subs = append(s.subs, sub)
		}
		codes[i] = byte(sub.qos)
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
		if filter, err := access.Subscribe(s.device, cmp.Or(s.provision(), access.Full), f); err == nil {
			s.subs = slices.DeleteFunc(s.subs, func(have subscription) bool { return have.filter == filter })
		}
	}
	s.mu.Unlock()
	s.send(&mqtt.Unsuback{ID: p.ID})
}
