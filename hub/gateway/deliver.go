package gateway

import (
	"holdfast/access"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// Delivery is a message to a device that asks for an acknowledgement.
type Delivery struct {
	Topic iothub.Topic
	Body  []byte
	// Again says that the message was sent before and not acknowledged.
	Again bool
	// Done is called once, from any goroutine and not under a lock of the
	// gateway's, unless Deliver returned an error: with nil when the device
	// acknowledged the message (or, having subscribed with quality of service
	// 0, was sent it), with an error when its session ended before.
	Done func(error)
}

// ErrUnacknowledged is what Done of a Delivery gets when the session ended
// before the device acknowledged the message. It may have arrived.
var ErrUnacknowledged = fault.New(fault.Unavailable, "the session ended before the device acknowledged the message")

// ErrRejected is what Done gets when the device, with MQTT 5, refused the
// message: it arrived and is not wanted.
var ErrRejected = fault.New(fault.Denied, "the device refused the message")

// Deliver sends a message to a device. The error is of kind fault.NotFound when
// the device has no session with a subscription that selects the topic and that
// its mode leaves open, fault.Unavailable when as many messages as there may be
// wait for the device's acknowledgement already.
func (g *Gateway) Deliver(d identity.Device, m Delivery) error {
	err := error(fault.New(fault.NotFound, "device %s is not there", d))
	for _, s := range g.reg.of(d) {
		if err = s.deliver(m); err == nil {
			return nil
		}
	}
	return err
}

// inflight has the messages that a device has not acknowledged.
type inflight struct {
	last  uint16 // packet identifier
	waits map[uint16]func(error)
}

// take returns a packet identifier for a message, or false when too many wait.
func (f *inflight) take(limit int, done func(error)) (uint16, bool) {
	if len(f.waits) >= limit {
		return 0, false
	}
	if f.waits == nil {
		f.waits = map[uint16]func(error){}
	}
	for {
		if f.last++; f.last != 0 && f.waits[f.last] == nil {
			f.waits[f.last] = done
			return f.last, true
		}
	}
}

// release takes out a message that was acknowledged, nil if there is none.
func (f *inflight) release(id uint16) func(error) {
	done := f.waits[id]
	delete(f.waits, id)
	if len(f.waits) == 0 {
		f.waits = nil
	}
	return done
}

func (s *Session) deliver(m Delivery) error {
	topic := m.Topic.String()
	s.mu.Lock()
	qos, ok := s.selected(topic)
	if !ok {
		s.mu.Unlock()
		return fault.New(fault.NotFound, "device %s has not subscribed", s.device)
	}
	p := &mqtt.Publish{Topic: topic, Payload: m.Body, QoS: qos}
	if s.version == mqtt.V5 {
		p.Properties = spread(m.Topic)
	}
	if qos == mqtt.AtLeastOnce {
		if p.ID, ok = s.sent.take(int(s.maxSent), m.Done); !ok {
			s.mu.Unlock()
			return fault.New(fault.Unavailable, "device %s has %d messages to acknowledge", s.device, s.maxSent)
		}
		p.Dup = m.Again
	}
	ok, err := s.queue(p)
	if !ok && qos == mqtt.AtLeastOnce {
		s.sent.release(p.ID)
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		s.cut(Slow, err)
		return fault.New(fault.Unavailable, "device %s does not read", s.device)
	case !ok:
		return fault.New(fault.Invalid, "message to %s is none that MQTT or the device can take", s.device)
	case qos == mqtt.AtMostOnce:
		m.Done(nil)
	}
	return nil
}

// acknowledged takes in a PUBACK. One that nothing waits for is of a message
// that an earlier connection brought, and means nothing any more.
func (s *Session) acknowledged(p *mqtt.Puback) {
	s.mu.Lock()
	done := s.sent.release(p.ID)
	s.mu.Unlock()
	switch {
	case done == nil:
	case p.Code >= mqtt.UnspecifiedError:
		done(ErrRejected)
	default:
		done(nil)
	}
}

// abandon gives up on what was not acknowledged, once the session has ended.
func (s *Session) abandon() {
	s.mu.Lock()
	waits := s.sent.waits
	s.sent.waits = nil
	s.mu.Unlock()
	for _, done := range waits {
		done(ErrUnacknowledged)
	}
}

// selected returns the highest quality of service with which a subscription
// selects a topic, if one does and the mode leaves it open. Before CONNACK none
// does, for nothing may come ahead of it. s.mu is held.
func (s *Session) selected(topic string) (qos mqtt.QoS, ok bool) {
	for _, sub := range s.subs {
		_, err := access.Subscribe(s.device, s.mode, sub.Filter)
		if err == nil && mqtt.Match(sub.Filter, topic) {
			qos, ok = max(qos, sub.QoS), true
		}
	}
	return qos, ok && s.live && !s.closed
}

// publishTo queues a message of quality of service 0 if a subscription selects
// it.
func (s *Session) publishTo(topic string, body []byte) bool {
	s.mu.Lock()
	_, ok := s.selected(topic)
	var err error
	if ok {
		ok, err = s.queue(&mqtt.Publish{Topic: topic, Payload: body})
	}
	s.mu.Unlock()
	if err != nil {
		s.cut(Slow, err)
	}
	return ok
}
