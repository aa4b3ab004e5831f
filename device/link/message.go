package link

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"holdfast/fault"
	"holdfast/iothub"
	"holdfast/mqtt"
	"holdfast/posture"
)

// Publish sends a message with quality of service 1 and waits for the hub's
// PUBACK: once it returns nil the hub has the message. At most 16 messages are
// on their way at a time; more callers wait.
func (s *Session) Publish(ctx context.Context, topic iothub.Topic, body []byte) error {
	if err := s.publish(ctx, topic, body); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}

func (s *Session) publish(ctx context.Context, topic iothub.Topic, body []byte) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-s.done:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	id, acked := s.expectAck()
	defer s.forgetAck(id)
	p := &mqtt.Publish{Topic: topic.String(), Payload: body, QoS: mqtt.AtLeastOnce, ID: id}
	if err := s.send(p); err != nil {
		return err
	}
	select {
	case <-acked:
		return nil
	case <-s.done:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// expectAck takes a packet identifier that is not in use.
func (s *Session) expectAck() (uint16, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		s.mu.lastID++
		if _, used := s.mu.acks[s.mu.lastID]; s.mu.lastID != 0 && !used {
			break
		}
	}
	acked := make(chan struct{})
	s.mu.acks[s.mu.lastID] = acked
	return s.mu.lastID, acked
}

func (s *Session) forgetAck(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.acks, id)
}

// Attest sends a request to $hub/attest and returns the hub's answer. An
// answer other than 200 is an error of the kind that its body names.
func (s *Session) Attest(ctx context.Context, op iothub.AttestOp, body []byte) ([]byte, error) {
	rid, answered := s.expectAnswer()
	defer s.forgetAnswer(rid)
	topic := iothub.Attest{Op: op, RequestID: rid}.String()
	if err := s.send(&mqtt.Publish{Topic: topic, Payload: body}); err != nil {
		return nil, fmt.Errorf("attest %s: %w", op, err)
	}
	select {
	case a := <-answered:
		if a.status != 200 {
			return nil, fmt.Errorf("attest %s: %w", op, failure(a))
		}
		return a.body, nil
	case <-s.done:
		return nil, fmt.Errorf("attest %s: %w", op, s.Err())
	case <-ctx.Done():
		return nil, fmt.Errorf("attest %s: %w", op, ctx.Err())
	}
}

// failure is the error that an answer's body tells.
func failure(a answer) error {
	var body struct {
		Error struct {
			Kind    fault.Kind `json:"kind"`
			Message string     `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(a.body, &body) != nil || body.Error.Kind == "" {
		return fault.New(fault.Internal, "hub answers %d", a.status)
	}
	return fault.New(body.Error.Kind, "%s", body.Error.Message)
}

func (s *Session) expectAnswer() (string, <-chan answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.lastRID++
	rid, answered := strconv.FormatUint(s.mu.lastRID, 10), make(chan answer, 1)
	s.mu.requests[rid] = answered
	return rid, answered
}

func (s *Session) forgetAnswer(rid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.requests, rid)
}

// handle takes one packet of an open session.
func (s *Session) handle(p mqtt.Packet) error {
	switch p := p.(type) {
	case *mqtt.Publish:
		return s.message(p)
	case *mqtt.Puback:
		s.acknowledge(p.ID)
	case *mqtt.Pingresp:
	default:
		return fmt.Errorf("hub sends packet type %d in an open session", p.Type())
	}
	return nil
}

// acknowledge wakes who waits for a PUBACK. One that nobody waits for any more
// is late, not wrong.
func (s *Session) acknowledge(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if acked := s.mu.acks[id]; acked != nil {
		close(acked)
		delete(s.mu.acks, id)
	}
}

func (s *Session) message(p *mqtt.Publish) error {
	topic, err := iothub.ParseTopic(p.Topic)
	if err != nil {
		return fmt.Errorf("hub sends to an unknown topic: %w", err)
	}
	switch t := topic.(type) {
	case iothub.AttestResult:
		s.answer(t, append([]byte(nil), p.Payload...))
	case iothub.Posture:
		if err := s.posture(p.Payload); err != nil {
			return err
		}
	}
	if p.QoS == mqtt.AtLeastOnce {
		return s.send(&mqtt.Puback{ID: p.ID})
	}
	return nil
}

func (s *Session) answer(t iothub.AttestResult, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answered := s.mu.requests[t.RequestID]; answered != nil {
		answered <- answer{t.Status, body}
		delete(s.mu.requests, t.RequestID)
	}
}

// posture replaces the report that waits to be taken.
func (s *Session) posture(body []byte) error {
	var r posture.Report
	if err := json.Unmarshal(body, &r); err != nil {
		return fmt.Errorf("hub sends a posture that cannot be read: %w", err)
	}
	select {
	case <-s.postures:
	default:
	}
	s.postures <- r // the reader is the only sender, so there is room
	return nil
}
