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
	Topic  iothub.Topic
	Body   []byte
	Number int64 // names the message, of those to this device
	// Packet is the packet identifier under which the device was sent the
	// message before, zero if it was not: a session that goes on gets it under
	// the same, with DUP (MQTT-4.4.0-1); in another one it is a new message.
	Packet uint16
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

// Deliver sends a message to a device and returns its packet identifier, zero
// where quality of service is 0. What the device's connection has on its way
// already is sent once more under MQTT 3.1.1, and only waited for under MQTT 5,
// which forbids the former. The error is of kind fault.NotFound when
// the device has no session with a subscription that selects the topic and that
// its mode leaves open, fault.Unavailable when as many messages as there may be
// wait for the device's acknowledgement already.
func (g *Gateway) Deliver(d identity.Device, m Delivery) (packet uint16, err error) {
	err = fault.New(fault.NotFound, "device %s is not there", d)
	for _, s := range g.reg.of(d) {
		if packet, err = s.deliver(m); err == nil {
			return packet, nil
		}
	}
	return 0, err
}

// inflight has the messages that a device has not acknowledged.
type inflight struct {
	last  uint16 // packet identifier
	waits map[uint16]flight
}

// flight is a message on its way.
type flight struct {
	number int64
	done   func(error)
}

// find returns what is on its way of a message, if it is.
func (f *inflight) find(m Delivery) (flight, bool) {
	w, ok := f.waits[m.Packet]
	return w, ok && w.number == m.Number
}

// take returns a packet identifier for a message, or false when too many wait:
// the one that is wanted, if it is free, otherwise a new one.
func (f *inflight) take(limit int, want uint16, m Delivery) (uint16, bool) {
	if len(f.waits) >= limit {
		return 0, false
	}
	if f.waits == nil {
		f.waits = map[uint16]flight{}
	}
	id := want
	for used := id == 0; used || f.waits[id].done != nil; used = false {
		if f.last++; f.last == 0 {
			f.last = 1
		}
		id = f.last
	}
	f.waits[id] = flight{m.Number, m.Done}
	return id, true
}

// release takes out a message that was acknowledged, nil if there is none.
func (f *inflight) release(id uint16) func(error) {
	done := f.waits[id].done
	delete(f.waits, id)
	if len(f.waits) == 0 {
		f.waits = nil
	}
	return done
}

func (s *Session) deliver(m Delivery) (packet uint16, err error) {
	topic := m.Topic.String()
	s.mu.Lock()
	qos, ok := s.selected(topic)
	if !ok {
		s.mu.Unlock()
		return 0, fault.New(fault.NotFound, "device %s has not subscribed", s.device)
	}
	p := &mqtt.Publish{Topic: topic, Payload: m.Body, QoS: qos}
	if s.version == mqtt.V5 {
		p.Properties = spread(m.Topic)
	}
	if old, on := s.sent.find(m); on && qos == mqtt.AtLeastOnce {
		err := s.repeat(p, m)
		s.mu.Unlock()
		old.done(ErrUnacknowledged)
		return m.Packet, s.slow(err)
	}
	if qos == mqtt.AtLeastOnce {
		want := m.Packet
		if !s.resumed {
			want = 0
		}
		if p.ID, ok = s.sent.take(int(s.maxSent), want, m); !ok {
			s.mu.Unlock()
			return 0, fault.New(fault.Unavailable, "device %s has %d messages to acknowledge", s.device, s.maxSent)
		}
		p.Dup = want != 0
	}
	ok, err = s.queue(p)
	if !ok && qos == mqtt.AtLeastOnce {
		s.sent.release(p.ID)
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		return 0, s.slow(err)
	case !ok:
		return 0, fault.New(fault.Invalid, "message to %s is none that MQTT or the device can take", s.device)
	case qos == mqtt.AtMostOnce:
		m.Done(nil)
	}
	return p.ID, nil
}

// repeat takes over a message that this connection has on its way, and sends it
// again where that is allowed. s.mu is held.
func (s *Session) repeat(p *mqtt.Publish, m Delivery) error {
	s.sent.waits[m.Packet] = flight{m.Number, m.Done}
	if s.version == mqtt.V5 {
		return nil
	}
	p.ID, p.Dup = m.Packet, true
	_, err := s.queue(p)
	return err
}

// slow ends the session of a device for which too much waits, if err says so.
func (s *Session) slow(err error) error {
	if err == nil {
		return nil
	}
	s.cut(Slow, err)
	return fault.New(fault.Unavailable, "device %s does not read", s.device)
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
	for _, w := range waits {
		w.done(ErrUnacknowledged)
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
// it. One that does not fit ends the session.
func (s *Session) publishTo(topic string, body []byte) bool {
	ok, err := s.publishUpTo(topic, body, maxBacklog)
	if err != nil {
		s.cut(Slow, err)
	}
	return ok
}

// publishUpTo queues a message of quality of service 0 if a subscription selects it.
// An error says that more than limit bytes would wait then.
func (s *Session) publishUpTo(topic string, body []byte, limit int) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.selected(topic); !ok {
		return false, nil
	}
	return s.queueUpTo(&mqtt.Publish{Topic: topic, Payload: body}, limit)
}

// Publish sends a message of quality of service 0 to this session and no other
// of its device, and reports whether it was queued: it is open, and has a
// subscription that selects the topic and that its mode leaves open.
func (s *Session) Publish(topic string, body []byte) bool { return s.publishTo(topic, body) }
